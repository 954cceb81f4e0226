/** One device's row of the table: built once, then only what changed is written. */
import type { Device, Metric, Sample } from "./device.ts";
import { h, setAttribute, setText } from "./dom.ts";
import { formatAge, formatFullTime, formatNumber, formatTime, plural } from "./format.ts";
import type { Series } from "./history.ts";
import { sparkline } from "./sparkline.ts";

/** What a row needs to know beside its device. */
export interface Context {
  readonly metrics: readonly Metric[];
  readonly metric: Metric;
  /** The server's time, in unix ms. */
  readonly now: number;
  readonly staleAfter: number;
  readonly series: (id: string, metric: string) => Series | undefined;
}

const SVG = "http://www.w3.org/2000/svg";
const TREND = { width: 104, height: 28, inset: 2 };
/** A trend whose span is below this many steps of the last decimal is drawn flatter. */
const LEAST_STEPS = 8;

interface Cell {
  readonly cell: HTMLTableCellElement;
  readonly main: HTMLElement;
  readonly note: HTMLElement;
}

export class Row {
  readonly element: HTMLTableRowElement;
  readonly #name: Cell;
  readonly #place = h("span", { class: "place" });
  readonly #small = h("span", { class: "small-count" });
  readonly #values = new Map<string, Cell>();
  readonly #trend = document.createElementNS(SVG, "path");
  readonly #updated: Cell;
  readonly #count = h("td", { class: "number count" });
  #drawn = "";

  constructor(id: string, metrics: readonly Metric[]) {
    this.#name = newCell(h("th", { scope: "row", class: "name" }));
    this.#name.note.append(this.#place, this.#small);
    this.#updated = newCell(h("td", { class: "number updated" }));
    this.element = h("tr", { "data-device-id": id }, this.#name.cell);
    for (const { name } of metrics) {
      const value = newCell(h("td", { class: "number value", "data-metric": name }));
      this.#values.set(name, value);
      this.element.append(value.cell);
    }
    this.element.append(this.#trendCell(), this.#updated.cell, this.#count);
  }

  /** Writes a device's newest state. */
  show(device: Device, context: Context): void {
    setText(this.#name.main, device.name);
    setAttribute(this.#name.main, "title", device.name === device.id ? null : device.id);
    setText(this.#place, device.geo || (device.name === device.id ? "" : device.id));
    setText(this.#small, plural(device.count, "reading"));
    setText(this.#count, formatNumber(device.count, 0));
    setAttribute(this.element, "data-revision", String(device.revision));
    for (const metric of context.metrics) this.#showValue(metric, device.samples.get(metric.name), context);
    this.age(device, context);
  }

  /** Writes what the time changes: ages, what is stale, and the trend. */
  age(device: Device, context: Context): void {
    for (const metric of context.metrics) this.#showAge(metric, device.samples.get(metric.name), context);
    this.#showUpdated(device, context);
    this.#showTrend(device, context);
  }

  #showValue(metric: Metric, sample: Sample | undefined, context: Context): void {
    const found = this.#values.get(metric.name);
    if (found === undefined) return;
    setText(found.main, formatNumber(sample?.value, metric.decimals));
    setAttribute(found.cell, "data-value", sample === undefined ? null : String(sample.value));
    setAttribute(found.cell, "data-current", metric === context.metric ? "true" : null);
    setAttribute(found.cell, "title", sample === undefined ? "no reading yet" : titleOf(sample, metric));
  }

  #showAge(metric: Metric, sample: Sample | undefined, context: Context): void {
    const found = this.#values.get(metric.name);
    if (found === undefined) return;
    writeAge(found, sample?.time ?? null, context);
  }

  #showUpdated(device: Device, context: Context): void {
    const { updated } = device;
    setText(this.#updated.note, updated === null ? "" : formatTime(updated, context.now));
    setAttribute(this.#updated.cell, "title", updated === null ? null : formatFullTime(updated));
    setText(this.#updated.main, updated === null ? "–" : formatAge(context.now - updated));
    markStale(this.#updated.cell, updated, context);
    markStale(this.element, updated, context);
  }

  #showTrend(device: Device, { series, metric, staleAfter }: Context): void {
    const points = series(device.id, metric.name);
    const drawn = points ? `${metric.name} ${points.length} ${points.time(points.length - 1)}` : "";
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    const leastSpan = LEAST_STEPS / 10 ** metric.decimals;
    setAttribute(this.#trend, "d", points ? sparkline(points, { ...TREND, gap: staleAfter, leastSpan }) : "");
  }

  #trendCell(): HTMLTableCellElement {
    const svg = document.createElementNS(SVG, "svg");
    setAttribute(svg, "viewBox", `0 0 ${TREND.width} ${TREND.height}`);
    setAttribute(svg, "aria-hidden", "true");
    setAttribute(svg, "focusable", "false");
    svg.append(this.#trend);
    return h("td", { class: "trend" }, svg);
  }
}

function newCell(cell: HTMLTableCellElement): Cell {
  const main = h("span", { class: "main" });
  const note = h("span", { class: "note" });
  cell.append(main, note);
  return { cell, main, note };
}

function writeAge({ cell, note }: Cell, time: number | null, context: Context): void {
  setText(note, time === null ? "" : formatAge(context.now - time));
  markStale(cell, time, context);
}

function markStale(element: Element, time: number | null, { now, staleAfter }: Context): void {
  setAttribute(element, "data-stale", time !== null && now - time > staleAfter ? "true" : null);
}

function titleOf(sample: Sample, metric: Metric): string {
  const raw =
    sample.raw === null || sample.raw === sample.value
      ? ""
      : `, before calibration ${formatNumber(sample.raw, metric.decimals)}`;
  return `${formatFullTime(sample.time)}${raw}`;
}
