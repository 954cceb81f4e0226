import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { backoff } from "../src/backoff.ts";
import { type Channel, Link } from "../src/connection.ts";
import { PERIOD, Refetcher } from "../src/refetch.ts";
import { deferred, settled } from "./helpers.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("waiting", () => {
  test("doubles up to a limit and varies by half", () => {
    const longest = [0, 1, 2, 3, 10, 1_000].map((attempt) => backoff(attempt, 500, 30_000, () => 1));
    expect(longest).toEqual([500, 1_000, 2_000, 4_000, 30_000, 30_000]);
    expect(backoff(2, 500, 30_000, () => 0)).toBe(1_000);
  });
});

/** A server that can be away; its open connections can be dropped. */
class Server {
  away = false;
  opened = 0;
  drop: () => void = () => {};
  send: (views: unknown) => void = () => {};

  open = async (receive: (views: unknown) => void): Promise<Channel> => {
    this.opened += 1;
    if (this.away) throw new Error("away");
    const { promise: closed, resolve } = deferred<void>();
    this.drop = () => resolve();
    this.send = receive;
    return { closed, close: () => resolve() };
  };
}

function linkTo(server: Server, delay = (attempt: number) => 1_000 * 2 ** attempt) {
  const events: string[] = [];
  const link = new Link(
    server.open,
    {
      onState: (state) => events.push(state),
      onConnected: (first) => events.push(first ? "first" : "again"),
      onFailure: (_, times) => events.push(`failure ${times}`),
      onViews: (views) => events.push(`views ${views}`),
    },
    delay,
  );
  void link.run();
  return { link, events };
}

describe("the connection", () => {
  test("is made again after it is lost", async () => {
    const server = new Server();
    const { events } = linkTo(server);
    await settled();
    server.send(1);
    server.drop();
    await settled();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(events).toEqual(["connected", "first", "views 1", "reconnecting", "connected", "again"]);
  });

  test("is tried for ever, ever more slowly", async () => {
    const server = new Server();
    server.away = true;
    const { events } = linkTo(server, (attempt) => Math.min(30_000, 1_000 * 2 ** attempt));
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(server.opened).toBeGreaterThan(100);
    expect(server.opened).toBeLessThan(130);
    server.away = false;
    await vi.advanceTimersByTimeAsync(30_000);
    expect(events.slice(-2)).toEqual(["connected", "first"]);
  });

  test("that is accepted and dropped does not hammer the server", async () => {
    const server = new Server();
    linkTo(server);
    for (let time = 0; time < 60; time += 1) {
      server.drop();
      await vi.advanceTimersByTimeAsync(1_000);
    }
    expect(server.opened).toBeLessThan(8);
  });

  test("that has lasted is made again without a long wait", async () => {
    const server = new Server();
    const { link } = linkTo(server);
    for (let turn = 1; turn < 6; turn += 1) {
      await vi.advanceTimersByTimeAsync(15_000);
      expect(server.opened).toBe(turn);
      server.drop();
      await vi.advanceTimersByTimeAsync(1_000);
    }
    link.stop();
  });

  test("is tried at once when the viewer is back", async () => {
    const server = new Server();
    server.away = true;
    const { link, events } = linkTo(server, () => 30_000);
    await settled();
    server.away = false;
    link.wake();
    await settled();
    expect(events.at(-1)).toBe("first");
  });

  test("is made anew at once on demand", async () => {
    const server = new Server();
    const { link, events } = linkTo(server, () => 30_000);
    await settled();
    link.restart();
    await settled();
    expect(events.at(-1)).toBe("again");
  });

  test("ends when it is stopped", async () => {
    const server = new Server();
    const { link } = linkTo(server);
    await settled();
    link.stop();
    await vi.advanceTimersByTimeAsync(600_000);
    expect(server.opened).toBe(1);
  });
});

describe("refetching", () => {
  test("happens every minute", async () => {
    const fetchAll = vi.fn(async () => {});
    const refetcher = new Refetcher(fetchAll, () => {});
    refetcher.now();
    await vi.advanceTimersByTimeAsync(3 * PERIOD);
    expect(fetchAll).toHaveBeenCalledTimes(4);
    refetcher.stop();
  });

  test("on demand gives up the fetch under way and says nothing of its end", async () => {
    const running: { signal: AbortSignal; end: (error?: unknown) => void }[] = [];
    const results: unknown[] = [];
    const fetchAll = (signal: AbortSignal) =>
      new Promise<void>((resolve, reject) =>
        running.push({ signal, end: (error) => (error ? reject(error) : resolve()) }),
      );
    const refetcher = new Refetcher(fetchAll, (error) => results.push(error));
    refetcher.now();
    refetcher.now();
    expect(running.map(({ signal }) => signal.aborted)).toEqual([true, false]);
    running[0]?.end(new Error("aborted"));
    running[1]?.end();
    await settled();
    expect(results).toEqual([null]);
    refetcher.stop();
  });

  test("that fails is tried again sooner, but ever more slowly", async () => {
    const fetchAll = vi.fn(() => Promise.reject(new Error("away")));
    const results: unknown[] = [];
    const refetcher = new Refetcher(fetchAll, (error) => results.push(error));
    refetcher.now();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(fetchAll.mock.calls.length).toBeGreaterThanOrEqual(3);
    expect(fetchAll.mock.calls.length).toBeLessThanOrEqual(6);
    expect(results[0]).toBeInstanceOf(Error);
    refetcher.stop();
  });

  test("ends when it is stopped", async () => {
    const fetchAll = vi.fn(async () => {});
    const refetcher = new Refetcher(fetchAll, () => {});
    refetcher.now();
    await settled();
    refetcher.stop();
    await vi.advanceTimersByTimeAsync(10 * PERIOD);
    expect(fetchAll).toHaveBeenCalledTimes(1);
  });
});
