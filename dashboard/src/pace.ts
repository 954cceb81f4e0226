/** How many readings arrive a second, by what the devices themselves have counted while the page looked on. */
import type { Device } from "./device.ts";

/** Readings a second, and over how many ms that was seen. */
export interface Pace {
  readonly rate: number;
  readonly over: number;
}

/**
 * Rules: a device counts from when it was first seen; one that counts anew (its hub was made anew) begins anew;
 * `take` begins the next stretch.
 */
export class PaceMeter {
  readonly #received = new Map<string, number>();
  #since: number | null = null;
  #arrived = 0;

  /** Takes note of a device as it is now, at `now` in unix ms. */
  record(device: Device, now: number): void {
    this.#since ??= now;
    const known = this.#received.get(device.id);
    this.#received.set(device.id, device.received);
    if (known !== undefined && device.received > known) this.#arrived += device.received - known;
  }

  /** For how many ms this stretch has been seen; 0 before the first device. */
  over(now: number): number {
    return this.#since === null ? 0 : now - this.#since;
  }

  /** The pace of this stretch, which ends here. */
  take(now: number): Pace {
    const over = this.over(now);
    const rate = over > 0 ? (this.#arrived * 1000) / over : 0;
    this.#since = now;
    this.#arrived = 0;
    return { rate, over };
  }
}
