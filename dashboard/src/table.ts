/**
 * The table: the chart's twin, with every metric, its age, the trend, the last update and the count of each device.
 *
 * Rules: the same devices in the same order as the chart; only rows near the view are in the document, all of them up
 * to a hundred; what changes is gathered until `write`.
 */
import type { Sort, SortKey } from "./arrange.ts";
import type { Device, Metric } from "./device.ts";
import { arrangeChildren, byId, h, setAttribute } from "./dom.ts";
import { type Context, Row } from "./row.ts";
import { rowsInView } from "./virtual.ts";

export interface TableListener {
  onSort(key: SortKey): void;
  onChoose(id: string): void;
}

const ROW_HEIGHT = 56;

export class Table {
  readonly #head = byId<HTMLTableRowElement>("table-head");
  readonly #body = byId<HTMLTableSectionElement>("table-body");
  readonly #above = spacer();
  readonly #below = spacer();
  readonly #columns = new Map<SortKey, HTMLElement>();
  readonly #metrics: readonly Metric[];
  readonly #listener: TableListener;
  readonly #device: (id: string) => Device | undefined;
  readonly #context: () => Context;
  readonly #changed = new Set<string>();
  #rows = new Map<string, Row>();
  #ids: readonly string[] = [];
  #chosen: string | null = null;
  #rowHeight = ROW_HEIGHT;

  constructor(
    metrics: readonly Metric[],
    device: (id: string) => Device | undefined,
    context: () => Context,
    listener: TableListener,
  ) {
    this.#metrics = metrics;
    this.#device = device;
    this.#context = context;
    this.#listener = listener;
    this.#buildHead();
    this.#listen();
  }

  setSort(sort: Sort): void {
    for (const [key, column] of this.#columns) {
      const direction = sort.descending ? "descending" : "ascending";
      setAttribute(column, "aria-sort", key === sort.key ? direction : null);
    }
  }

  /** Shows these devices in this order. */
  setOrder(ids: readonly string[]): void {
    this.#ids = ids;
    setAttribute(byId("table"), "aria-rowcount", String(ids.length + 1));
    this.#place();
  }

  /** Another metric is the chart's: its column is marked, the trends are its. */
  showMetric(metric: Metric): void {
    for (const [key, column] of this.#columns) {
      if (key.startsWith("metric:")) {
        setAttribute(column, "data-current", key === `metric:${metric.name}` ? "true" : null);
      }
    }
    for (const id of this.#rows.keys()) this.#changed.add(id);
  }

  /** These devices have news, for the next `write`. */
  update(devices: Iterable<Device>): void {
    for (const { id } of devices) if (this.#rows.has(id)) this.#changed.add(id);
  }

  /** Writes what has changed. */
  write(): void {
    const context = this.#context();
    for (const id of this.#changed) {
      const device = this.#device(id);
      if (device !== undefined) this.#rows.get(id)?.show(device, context);
    }
    this.#changed.clear();
  }

  /** Once a second: ages. */
  tick(): void {
    const context = this.#context();
    for (const [id, row] of this.#rows) {
      const device = this.#device(id);
      if (device !== undefined) row.age(device, context);
    }
  }

  choose(id: string | null): void {
    this.#chosen = id;
    for (const [each, row] of this.#rows) markChosen(row, each === id);
  }

  /** Brings into the document what has come into view. */
  refresh(): void {
    this.#place();
  }

  #place(): void {
    const { first, end } = rowsInView(this.#ids.length, this.#rowHeight, this.#top(), window.innerHeight);
    const context = this.#context();
    const rows = new Map<string, Row>();
    for (let index = first; index < end; index += 1) {
      const id = this.#ids[index];
      const device = id === undefined ? undefined : this.#device(id);
      if (id === undefined || device === undefined) continue;
      rows.set(id, this.#row(device, index, context));
    }
    this.#rows = rows;
    this.#above.style.height = `${first * this.#rowHeight}px`;
    this.#below.style.height = `${(this.#ids.length - end) * this.#rowHeight}px`;
    arrangeChildren(this.#body, [
      this.#above,
      ...Array.from(rows.values(), ({ element }) => element),
      this.#below,
    ]);
    this.#measure();
  }

  #row(device: Device, index: number, context: Context): Row {
    let row = this.#rows.get(device.id);
    if (row === undefined) {
      row = new Row(device.id, this.#metrics);
      row.show(device, context);
      markChosen(row, device.id === this.#chosen);
    }
    setAttribute(row.element, "aria-rowindex", String(index + 2));
    return row;
  }

  #top(): number {
    return this.#body.getBoundingClientRect().top;
  }

  #measure(): void {
    const height = this.#rows.values().next().value?.element.getBoundingClientRect().height ?? 0;
    if (height === 0 || height === this.#rowHeight) return;
    this.#rowHeight = height;
    this.#place();
  }

  #buildHead(): void {
    this.#addColumn("name", "Device", "");
    for (const metric of this.#metrics) this.#addMetricColumn(metric);
    this.#head.append(h("th", { scope: "col", class: "trend" }, "Trend"));
    this.#addColumn("updated", "Updated", "number updated");
    this.#addColumn("count", "Readings", "number count");
  }

  #addMetricColumn(metric: Metric): void {
    const column = this.#addColumn(`metric:${metric.name}`, metric.label, "number value");
    setAttribute(column, "data-metric", metric.name);
    column.querySelector("button")?.append(h("span", { class: "unit" }, metric.unit));
  }

  #addColumn(key: SortKey, label: string, classes: string): HTMLElement {
    const button = h("button", { type: "button", "data-sort": key }, h("span", { class: "label" }, label));
    button.addEventListener("click", () => this.#listener.onSort(key));
    const column = h("th", { scope: "col", class: classes }, button);
    this.#columns.set(key, column);
    this.#head.append(column);
    return column;
  }

  #listen(): void {
    let waiting = false;
    const later = (): void => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        this.#place();
      });
    };
    window.addEventListener("scroll", later, { passive: true });
    window.addEventListener("resize", later, { passive: true });
    this.#body.addEventListener("click", (event) => {
      const id =
        event.target instanceof Element ? event.target.closest("tr")?.dataset["deviceId"] : undefined;
      if (id !== undefined) this.#listener.onChoose(id);
    });
  }
}

function spacer(): HTMLTableRowElement {
  return h("tr", { class: "spacer", "aria-hidden": "true" }, h("td"));
}

function markChosen(row: Row, chosen: boolean): void {
  setAttribute(row.element, "data-chosen", chosen ? "true" : null);
}
