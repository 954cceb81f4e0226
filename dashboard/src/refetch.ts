/**
 * Fetches the whole fleet again and again: every minute, and whenever `now` says so (after a reconnect).
 *
 * Rules: one fetch at a time; `now` gives up the running one and begins anew, since what it has read may predate
 * the reason for asking; a failed fetch is tried again by `backoff`, no later than a minute after.
 */
import { backoff } from "./backoff.ts";

export const PERIOD = 60_000;

export class Refetcher {
  readonly #fetchAll: (signal: AbortSignal) => Promise<void>;
  readonly #onResult: (error: unknown) => void;
  #running: AbortController | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;

  /** `onResult` gets null after a success, else the error. */
  constructor(fetchAll: (signal: AbortSignal) => Promise<void>, onResult: (error: unknown) => void) {
    this.#fetchAll = fetchAll;
    this.#onResult = onResult;
  }

  /** Begins a fetch now. */
  now(): void {
    this.stop();
    void this.#fetch();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#running?.abort();
    this.#running = null;
  }

  async #fetch(): Promise<void> {
    const running = new AbortController();
    this.#running = running;
    const error = await this.#fetchAll(running.signal).then(
      () => null,
      (reason: unknown) => reason ?? new Error("failed"),
    );
    if (this.#running !== running) return; // given up
    this.#running = null;
    this.#failures = error === null ? 0 : this.#failures + 1;
    this.#onResult(error);
    const wait = error === null ? PERIOD : backoff(this.#failures, 1000, PERIOD);
    this.#timer = setTimeout(() => this.now(), wait);
  }
}
