/** A wait that can be cut short. */
export class Nap {
  #wake: (() => void) | null = null;
  #rested = false;

  /** Waits so many ms, or until `wake`; not at all when `wake` has come since the last wait. */
  async sleep(milliseconds: number): Promise<void> {
    if (!this.#rested) await this.#wait(milliseconds);
    this.#rested = false;
  }

  wake(): void {
    this.#rested = true;
    this.#wake?.();
  }

  #wait(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      this.#wake = done;
    });
  }
}
