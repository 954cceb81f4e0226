/**
 * The live connection, which never gives up.
 *
 * Rules: one loop makes every connection, the first and all later ones, each freshly negotiated; after an end or a failure
 * it waits by `backoff`, and `wake` ends the wait at once (the browser is online again, the tab is back). The waits start
 * from the shortest again only after a connection has lasted, so that a server which accepts and drops is not hammered.
 */
import { backoff } from "./backoff.ts";
import { Nap } from "./nap.ts";
import type { LinkState } from "./status.ts";

/** An open connection: `closed` settles when it has ended, for whatever reason. */
export interface Channel {
  readonly closed: Promise<void>;
  close(): void;
}

/** Opens a connection and hands over what comes in; rejects when it cannot. */
export type Open = (receive: (views: unknown) => void) => Promise<Channel>;

export interface LinkListener {
  onState(state: LinkState): void;
  /** Connected; `first` is true once in a page's life. */
  onConnected(first: boolean): void;
  /** A connection could not be made, for the `times`th time in a row. */
  onFailure(error: unknown, times: number): void;
  onViews(views: unknown): void;
}

const LASTED = 10_000;

export class Link {
  readonly #open: Open;
  readonly #listener: LinkListener;
  readonly #delay: (attempt: number) => number;
  readonly #nap = new Nap();
  #channel: Channel | null = null;
  #stopped = false;
  #connections = 0;
  #failures = 0;

  constructor(open: Open, listener: LinkListener, delay: (attempt: number) => number = backoff) {
    this.#open = open;
    this.#listener = listener;
    this.#delay = delay;
  }

  /** Connects, and connects again, until `stop`. */
  async run(): Promise<void> {
    for (let attempt = 0; !this.#stopped; attempt += 1) {
      if ((await this.#connectOnce()) >= LASTED) attempt = 0;
      if (this.#stopped) return;
      this.#listener.onState("reconnecting");
      await this.#nap.sleep(this.#delay(attempt));
    }
  }

  /** Tries again now, if it is waiting. */
  wake(): void {
    if (this.#channel === null) this.#nap.wake();
  }

  /** Drops the connection and makes a new one at once, with whatever key holds now. */
  restart(): void {
    this.#nap.wake();
    this.#channel?.close();
  }

  stop(): void {
    this.#stopped = true;
    this.restart();
  }

  /** One connection from beginning to end; how many ms it lasted. */
  async #connectOnce(): Promise<number> {
    const channel = await this.#tryToOpen();
    if (channel === null) return 0;
    const opened = performance.now();
    this.#channel = channel;
    this.#failures = 0;
    this.#connections += 1;
    this.#listener.onState("connected");
    this.#listener.onConnected(this.#connections === 1);
    await channel.closed;
    this.#channel = null;
    return performance.now() - opened;
  }

  async #tryToOpen(): Promise<Channel | null> {
    try {
      return await this.#open((views) => this.#listener.onViews(views));
    } catch (error) {
      this.#failures += 1;
      this.#listener.onFailure(error, this.#failures);
      return null;
    }
  }
}
