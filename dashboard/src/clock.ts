/**
 * The server's time, by which every age is measured: a viewer's clock may be wrong.
 *
 * The server's word is taken to be from the middle of the request that brought it.
 */
export class ServerClock {
  readonly #now: () => number;
  #skew = 0;

  /** `now` is the viewer's clock in unix ms. */
  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** The server's time in unix ms, as far as it is known. */
  now(): number {
    return this.#now() + this.#skew;
  }

  /** Takes the server's time out of an answer to a request sent at `sent` (the viewer's clock). */
  observe(serverTime: number, sent: number): void {
    this.#skew = serverTime - (sent + this.#now()) / 2;
  }

  /** The viewer's clock, for `observe`. */
  local(): number {
    return this.#now();
  }
}
