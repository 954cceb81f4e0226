/**
 * The chart's value axis.
 *
 * Rules: where zero is within the metric's valid range the axis holds it, and bars grow from zero, so that
 * their lengths can be compared; elsewhere (air pressure) the axis is narrowed to the data and the chart says
 * where it starts. The axis grows at once when a value leaves it and shrinks only after the data have been
 * much smaller for a while: it stands still under bars that move.
 */
import type { Metric } from "./device.ts";

export interface Domain {
  readonly low: number;
  readonly high: number;
}

export interface Extent {
  readonly least: number;
  readonly greatest: number;
}

const STEPS = 5;
const SHRINK_BELOW = 0.6;
const SHRINK_AFTER = 10_000;
/** Where the axis is narrowed: at least this share of the valid range, so that noise does not look like weather. */
const LEAST_SHARE = 0.02;

/** The least and greatest of some values; null where there is none. */
export function extent(values: Iterable<number>): Extent | null {
  let least = Number.POSITIVE_INFINITY;
  let greatest = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (value < least) least = value;
    if (value > greatest) greatest = value;
  }
  return least <= greatest ? { least, greatest } : null;
}

/** Tells whether bars of this metric grow from zero. */
export function growsFromZero({ minimum, maximum }: Metric): boolean {
  return (minimum ?? 0) <= 0 && (maximum ?? 0) >= 0;
}

/** Round bounds that hold the data, within the metric's valid range where the data are. */
export function niceDomain(data: Extent | null, metric: Metric): Domain {
  if (data === null) return { low: metric.minimum ?? 0, high: metric.maximum ?? (metric.minimum ?? 0) + 1 };
  const { low, high } = growsFromZero(metric) ? withZero(data) : widened(data, metric);
  const step = niceStep((high - low) / STEPS);
  const bounds = { low: Math.floor(low / step) * step, high: Math.ceil(high / step) * step };
  return {
    low: clampedLow(bounds.low, data.least, metric.minimum),
    high: clampedHigh(bounds.high, data.greatest, metric.maximum),
  };
}

/** Round values from low to high, about `count` of them. */
export function ticks({ low, high }: Domain, count: number = STEPS): number[] {
  const step = niceStep((high - low) / count);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => exact((first + index) * step));
}

/** A domain that stands still; one per metric shown. */
export class StableDomain {
  readonly #metric: Metric;
  #domain: Domain | null = null;
  #smallSince: number | null = null;

  constructor(metric: Metric) {
    this.#metric = metric;
  }

  /** The domain for these data; `now` in ms, of any clock that goes forward. */
  update(data: Extent | null, now: number): Domain {
    if (data === null) return this.#domain ?? niceDomain(null, this.#metric);
    const fresh = niceDomain(data, this.#metric);
    const current = this.#domain;
    if (current === null || fresh.low < current.low || fresh.high > current.high) {
      return this.#take(current === null ? fresh : union(current, fresh));
    }
    if (span(fresh) >= SHRINK_BELOW * span(current)) {
      this.#smallSince = null;
      return current;
    }
    this.#smallSince ??= now;
    return now - this.#smallSince >= SHRINK_AFTER ? this.#take(fresh) : current;
  }

  #take(domain: Domain): Domain {
    this.#smallSince = null;
    this.#domain = domain;
    return domain;
  }
}

function withZero({ least, greatest }: Extent): Domain {
  const domain = { low: Math.min(0, least), high: Math.max(0, greatest) };
  return span(domain) > 0 ? domain : { low: 0, high: 1 };
}

function widened({ least, greatest }: Extent, { minimum, maximum }: Metric): Domain {
  const range = minimum !== null && maximum !== null ? maximum - minimum : Math.abs(greatest) || 1;
  const wanted = Math.max((greatest - least) * 1.5, range * LEAST_SHARE);
  const middle = (least + greatest) / 2;
  return { low: middle - wanted / 2, high: middle + wanted / 2 };
}

function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 2.5, 5, 10].find((candidate) => candidate * power >= rough * (1 - 1e-9)) ?? 10;
  return exact(factor * power);
}

function clampedLow(low: number, least: number, minimum: number | null): number {
  return minimum !== null && minimum <= least ? Math.max(exact(low), minimum) : exact(low);
}

function clampedHigh(high: number, greatest: number, maximum: number | null): number {
  return maximum !== null && maximum >= greatest ? Math.min(exact(high), maximum) : exact(high);
}

function union(a: Domain, b: Domain): Domain {
  return { low: Math.min(a.low, b.low), high: Math.max(a.high, b.high) };
}

function span({ low, high }: Domain): number {
  return high - low;
}

/** Drops the last binary digits' noise: 0.30000000000000004 is 0.3. */
function exact(value: number): number {
  return Number(value.toPrecision(12));
}
