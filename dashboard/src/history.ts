/**
 * The recent values of every device and metric since the page opened, for the sparklines.
 *
 * Rules: points are in order of event time; the same time again corrects the last point (a calibration
 * changed); an older time is ignored; at most `capacity` points are kept, the oldest go first.
 */
import type { Device } from "./device.ts";

const CAPACITY = 90;

export class Series {
  readonly #times: Float64Array;
  readonly #values: Float64Array;
  #start = 0;
  #length = 0;

  constructor(capacity: number = CAPACITY) {
    this.#times = new Float64Array(capacity);
    this.#values = new Float64Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  time(index: number): number {
    return this.#times[this.#slot(index)] ?? Number.NaN;
  }

  value(index: number): number {
    return this.#values[this.#slot(index)] ?? Number.NaN;
  }

  push(time: number, value: number): void {
    const last = this.#length > 0 ? this.time(this.#length - 1) : Number.NEGATIVE_INFINITY;
    if (time < last) return;
    if (time > last) this.#grow();
    const slot = this.#slot(this.#length - 1);
    this.#times[slot] = time;
    this.#values[slot] = value;
  }

  #grow(): void {
    if (this.#length < this.#times.length) this.#length += 1;
    else this.#start = this.#slot(1);
  }

  #slot(index: number): number {
    return (this.#start + index) % this.#times.length;
  }
}

export class History {
  readonly #devices = new Map<string, Map<string, Series>>();

  /** Takes each sample of the device as a point of its metric's series. */
  record(device: Device): void {
    let metrics = this.#devices.get(device.id);
    if (metrics === undefined) {
      metrics = new Map();
      this.#devices.set(device.id, metrics);
    }
    for (const [metric, { time, value }] of device.samples) {
      let series = metrics.get(metric);
      if (series === undefined) {
        series = new Series();
        metrics.set(metric, series);
      }
      series.push(time, value);
    }
  }

  series(id: string, metric: string): Series | undefined {
    return this.#devices.get(id)?.get(metric);
  }

  /** Forgets the devices that are gone. */
  keep(ids: { has(id: string): boolean }): void {
    for (const id of this.#devices.keys()) if (!ids.has(id)) this.#devices.delete(id);
  }
}
