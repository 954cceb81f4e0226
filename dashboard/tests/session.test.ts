import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Api, ApiError, type Page } from "../src/api.ts";
import { ServerClock } from "../src/clock.ts";
import type { Channel } from "../src/connection.ts";
import { PERIOD } from "../src/refetch.ts";
import { Session } from "../src/session.ts";
import { judge } from "../src/status.ts";
import { deferred, METRICS, NOW, settled, view } from "./helpers.ts";

const STALE_AFTER = 60_000;

/** A whole server: what GET answers, and a connection that can be dropped. */
class Server {
  fleet: object[] = [];
  failure: ApiError | null = null;
  snapshots = 0;
  fetches = 0;
  /** Set: a fetch waits for it before its last page. */
  gate: Promise<void> | null = null;
  send: (views: unknown) => void = () => {};
  drop: () => void = () => {};
  serverTime = NOW;

  async metrics() {
    this.#check();
    return METRICS;
  }

  async *pages(): AsyncGenerator<Page> {
    this.#check();
    this.fetches += 1;
    const { fleet, serverTime } = this;
    yield { views: fleet.slice(0, 1), next: "x", serverTime, sent: Date.now() };
    await this.gate;
    yield { views: fleet.slice(1), next: null, serverTime, sent: Date.now() };
  }

  async requestSnapshot() {
    this.snapshots += 1;
    this.#check();
    this.send(this.fleet);
  }

  open = async (receive: (views: unknown) => void): Promise<Channel> => {
    this.#check();
    const { promise: closed, resolve } = deferred<void>();
    this.send = receive;
    this.drop = () => resolve();
    return { closed, close: () => resolve() };
  };

  #check() {
    if (this.failure) throw this.failure;
  }
}

let server: Server;
let session: Session;
let updated: string[];

beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
  server = new Server();
  server.fleet = [view("a", 1), view("b", 1)];
  updated = [];
  session = new Session(server as unknown as Api, server.open, "viewer", new ServerClock(), {
    onMetrics: () => {},
    onUpdated: (devices) => updated.push(...devices.map(({ id, revision }) => `${id}@${revision}`)),
    onReplaced: () => {},
    onChanged: () => {},
  });
});
afterEach(() => {
  session.stop();
  vi.useRealTimers();
});

async function start() {
  void session.run();
  await settled();
}
const revisions = () =>
  Object.fromEntries(Array.from(session.model.devices.values(), ({ id, revision }) => [id, revision]));
const state = () => judge(session.facts(true, STALE_AFTER)).state;

describe("a session", () => {
  test("fetches the fleet, connects, and asks once for a snapshot", async () => {
    await start();
    expect(revisions()).toEqual({ a: 1, b: 1 });
    expect([server.fetches, server.snapshots, state()]).toEqual([1, 1, "live"]);
  });

  test("merges updates by revision and tells only the news", async () => {
    await start();
    updated = [];
    server.send([view("a", 3), view("b", 1)]);
    server.send([view("a", 2)]);
    expect(updated).toEqual(["a@3"]);
    expect(revisions()).toEqual({ a: 3, b: 1 });
  });

  test("loses no update that arrives while a refetch is in flight", async () => {
    await start();
    const gate = deferred<void>();
    server.gate = gate.promise;
    await vi.advanceTimersByTimeAsync(PERIOD);
    server.send([view("a", 7), view("b", 8), view("new", 1)]);
    gate.resolve();
    await settled();
    expect(server.fetches).toBe(2);
    expect(revisions()).toEqual({ a: 7, b: 8, new: 1 });
  });

  test("replaces everything after a reconnect, without a second snapshot", async () => {
    await start();
    server.fleet = [view("b", 1)];
    server.drop();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(revisions()).toEqual({ b: 1 });
    expect([server.fetches, server.snapshots]).toEqual([2, 1]);
  });

  test("gives up a fetch that began before the reconnect", async () => {
    await start();
    const gate = deferred<void>();
    server.gate = gate.promise;
    await vi.advanceTimersByTimeAsync(PERIOD);
    server.drop();
    server.gate = null;
    server.fleet = [view("a", 20), view("b", 20)];
    await vi.advanceTimersByTimeAsync(5_000);
    gate.resolve();
    await settled();
    expect(revisions()).toEqual({ a: 20, b: 20 });
  });

  test("fetches where the snapshot is refused", async () => {
    const refusal = new ApiError("refused", "too soon", 429);
    vi.spyOn(server, "requestSnapshot").mockRejectedValue(refusal);
    await start();
    expect(server.fetches).toBe(2);
    expect(session.problem).toBeNull();
  });

  test("fetches at once when the viewer comes back after long", async () => {
    await start();
    vi.setSystemTime(NOW + 10 * PERIOD); // a tab that slept: no timer ran
    session.wake();
    await settled();
    expect(server.fetches).toBe(2);
    session.wake();
    await settled();
    expect(server.fetches).toBe(2);
  });

  test("measures ages by the server's clock", async () => {
    server.serverTime = NOW + 3_600_000;
    await start();
    expect(session.facts(true, STALE_AFTER).now).toBe(NOW + 3_600_000);
    expect(state()).toBe("stale");
  });
});

describe("its status", () => {
  test("is never live after the connection dropped, nor before something came through the new one", async () => {
    await start();
    server.drop();
    await settled();
    expect(state()).toBe("reconnecting");
    await vi.advanceTimersByTimeAsync(5_000);
    expect(state()).toBe("waiting");
    server.send([view("a", 9)]);
    expect(state()).toBe("live");
  });

  test("is waiting while there are no devices", async () => {
    server.fleet = [];
    vi.spyOn(server, "requestSnapshot").mockResolvedValue();
    await start();
    expect(state()).toBe("waiting");
  });

  test("goes stale when nothing new comes, though the connection stands", async () => {
    await start();
    server.serverTime = NOW + STALE_AFTER + 1;
    await vi.advanceTimersByTimeAsync(STALE_AFTER + 1);
    expect(state()).toBe("stale");
  });

  test("goes offline when the server is away for long, and recovers by itself", async () => {
    await start();
    server.failure = new ApiError("unreachable", "away");
    server.drop();
    await vi.advanceTimersByTimeAsync(STALE_AFTER + 30_000);
    expect(state()).toBe("offline");
    server.failure = null;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(["waiting", "stale"]).toContain(state());
    expect(session.problem).toBeNull();
  });
});

describe("its problem", () => {
  test("is a missing key at once, and gone once the key is right", async () => {
    server.failure = new ApiError("access", "needs a key", 401);
    await start();
    expect([session.problem, state()]).toEqual([server.failure, "offline"]);
    server.failure = null;
    session.restart();
    await settled();
    expect([session.problem, state()]).toEqual([null, "live"]);
  });

  test("is not a connection that fails only once", async () => {
    await start();
    server.failure = new ApiError("service", "away");
    server.drop();
    await settled();
    await vi.advanceTimersByTimeAsync(500);
    expect(session.problem).toBeNull();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(session.problem).toBe(server.failure);
  });
});
