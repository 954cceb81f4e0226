/** The few numbers above the chart: how many devices, lowest, median and highest value, how many are stale or silent. */
import type { Device, Metric } from "./device.ts";
import { byId, h, setAttribute, setText } from "./dom.ts";
import { formatNumber } from "./format.ts";

/** What the fleet amounts to; values are null where no device has one. */
export interface Summary {
  readonly devices: number;
  readonly lowest: number | null;
  readonly median: number | null;
  readonly highest: number | null;
  /** Devices whose reading of this metric is too old to be taken for the present. */
  readonly stale: number;
  /** Devices that have never sent this metric. */
  readonly absent: number;
}

/** Sums up the devices shown. */
export function summarise(
  devices: readonly Device[],
  metric: string,
  isStale: (time: number) => boolean,
): Summary {
  const samples = devices
    .map((device) => device.samples.get(metric))
    .filter((sample) => sample !== undefined);
  const values = Float64Array.from(samples, ({ value }) => value).sort();
  return {
    devices: devices.length,
    lowest: values[0] ?? null,
    median: medianOf(values),
    highest: values[values.length - 1] ?? null,
    stale: samples.filter(({ time }) => isStale(time)).length,
    absent: devices.length - samples.length,
  };
}

/** Writes the figures; `total` is the size of the fleet before the search. */
export class Figures {
  readonly #root = byId("figures");
  readonly #items = new Map<string, { number: HTMLElement; note: HTMLElement; root: HTMLElement }>();

  constructor() {
    for (const label of ["Devices", "Lowest", "Median", "Highest", "Stale", "No value"]) {
      const number = h("span", { class: "figure-number" });
      const note = h("span", { class: "figure-note" });
      const root = h("div", { class: "figure" }, h("dt", {}, label), h("dd", {}, number, note));
      this.#items.set(label, { number, note, root });
      this.#root.append(root);
    }
  }

  show(summary: Summary, total: number, metric: Metric): void {
    const unit = metric.unit;
    this.#write(
      "Devices",
      formatNumber(summary.devices, 0),
      summary.devices === total ? "" : `of ${formatNumber(total, 0)}`,
    );
    for (const [label, value] of [
      ["Lowest", summary.lowest],
      ["Median", summary.median],
      ["Highest", summary.highest],
    ] as const) {
      this.#write(label, formatNumber(value, metric.decimals), value === null ? "" : unit);
    }
    this.#count("Stale", summary.stale);
    this.#count("No value", summary.absent);
  }

  /** A count that matters only when it is above zero. */
  #count(label: string, count: number): void {
    this.#write(label, formatNumber(count, 0), "");
    const root = this.#items.get(label)?.root;
    if (root) setAttribute(root, "data-some", count > 0 ? "true" : null);
  }

  #write(label: string, number: string, note: string): void {
    const item = this.#items.get(label);
    if (item === undefined) return;
    setText(item.number, number);
    setText(item.note, note);
  }
}

function medianOf(sorted: Float64Array): number | null {
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)];
  const lower = sorted[Math.ceil(middle) - 1];
  return upper === undefined || lower === undefined ? null : (upper + lower) / 2;
}
