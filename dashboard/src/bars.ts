/**
 * The bars' values as they are shown: each moves smoothly to where its device's newest value is.
 *
 * Rules: a gap (NaN) has no bar and is never a value between; a first value and one after a gap appear at once;
 * a moving bar nears its target by the same share per time, whatever the frame rate.
 */
import type { Device } from "./device.ts";

export interface Bar {
  device: Device;
  /** NaN is a gap. */
  value: number;
  shown: number;
  stale: boolean;
}

/** Milliseconds in which a bar goes about two thirds of its way. */
const PACE = 110;

export class Bars {
  #bars: Bar[] = [];
  #byId = new Map<string, Bar>();
  #metric = "";

  get list(): readonly Bar[] {
    return this.#bars;
  }

  /** Shows another metric: the bars appear at its values at once. */
  setMetric(metric: string): void {
    this.#metric = metric;
    for (const bar of this.#bars) {
      bar.value = this.#read(bar.device);
      bar.shown = bar.value;
    }
  }

  /** Shows these devices in this order; bars that were there keep what they show. */
  setDevices(devices: readonly Device[], isStale: (time: number) => boolean): void {
    const known = this.#byId;
    this.#byId = new Map();
    this.#bars = devices.map((device) => {
      const bar = known.get(device.id) ?? { device, value: Number.NaN, shown: Number.NaN, stale: false };
      this.#byId.set(device.id, bar);
      this.#aim(bar, device, isStale);
      return bar;
    });
  }

  /** Takes new readings of devices that are shown. */
  update(devices: Iterable<Device>, isStale: (time: number) => boolean): void {
    for (const device of devices) {
      const bar = this.#byId.get(device.id);
      if (bar !== undefined) this.#aim(bar, device, isStale);
    }
  }

  /** Judges anew which bars are stale; true when one changed. */
  age(isStale: (time: number) => boolean): boolean {
    let changed = false;
    for (const bar of this.#bars) {
      const stale = this.#staleness(bar.device, isStale);
      changed ||= stale !== bar.stale;
      bar.stale = stale;
    }
    return changed;
  }

  /** Moves every bar on by `elapsed` ms; differences below `least` are made up at once. True while something still moves. */
  step(elapsed: number, least: number): boolean {
    const share = 1 - Math.exp(-elapsed / PACE);
    let moving = false;
    for (const bar of this.#bars) {
      const rest = bar.value - bar.shown;
      if (Math.abs(rest) > least) {
        bar.shown += rest * share;
        moving = true;
      } else bar.shown = bar.value; // also where either is a gap: comparisons with NaN are false
    }
    return moving;
  }

  #aim(bar: Bar, device: Device, isStale: (time: number) => boolean): void {
    bar.device = device;
    bar.value = this.#read(device);
    bar.stale = this.#staleness(device, isStale);
  }

  #read(device: Device): number {
    return device.samples.get(this.#metric)?.value ?? Number.NaN;
  }

  #staleness(device: Device, isStale: (time: number) => boolean): boolean {
    const sample = device.samples.get(this.#metric);
    return sample !== undefined && isStale(sample.time);
  }
}
