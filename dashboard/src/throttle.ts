/** Gathers requests to write to the page: at most one pass per `PACE` ms, in a frame; none begins in a hidden tab. */
const PACE = 100;

export class Throttle {
  readonly #write: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #frame: number | undefined;
  #written = Number.NEGATIVE_INFINITY;

  constructor(write: () => void) {
    this.#write = write;
  }

  /** Writes soon; one pass serves all that is requested until then. */
  request(): void {
    if (this.#timer !== undefined || this.#frame !== undefined) return;
    const wait = Math.max(0, this.#written + PACE - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (!document.hidden) this.#frame = requestAnimationFrame(() => this.now());
    }, wait);
  }

  /** Writes at once, which serves what was requested. */
  now(): void {
    clearTimeout(this.#timer);
    if (this.#frame !== undefined) cancelAnimationFrame(this.#frame);
    this.#timer = undefined;
    this.#frame = undefined;
    this.#written = performance.now();
    this.#write();
  }
}
