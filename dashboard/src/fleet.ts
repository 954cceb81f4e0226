/** The part of the page that shows the fleet: figures, chart and table, in one order and for one metric. */
import { arrange, DEFAULT_SORT, nextSort, type Sort } from "./arrange.ts";
import { Chart } from "./chart.ts";
import type { Device, Metric } from "./device.ts";
import { byId, h, setText } from "./dom.ts";
import { Figures, summarise } from "./figures.ts";
import { formatAgo, formatValue, plural } from "./format.ts";
import type { History } from "./history.ts";
import type { Model } from "./model.ts";
import { growsFromZero } from "./scale.ts";
import { Table } from "./table.ts";
import { Throttle } from "./throttle.ts";

/** What the fleet's view is given from outside. */
export interface Surroundings {
  readonly metrics: readonly Metric[];
  readonly model: Model;
  readonly history: History;
  /** The server's time, in unix ms. */
  readonly now: () => number;
  readonly staleAfter: number;
}

export class Fleet {
  readonly #given: Surroundings;
  readonly #chart: Chart;
  readonly #table: Table;
  readonly #figures = new Figures();
  readonly #writing = new Throttle(() => this.#write());
  #metric: Metric;
  #sort: Sort = DEFAULT_SORT;
  #query = "";
  #shown: readonly string[] = [];
  #pointed: string | null = null;
  #chosen: string | null = null;
  #outdated = false;
  #loaded = false;

  constructor(given: Surroundings, first: Metric) {
    this.#given = given;
    this.#metric = first;
    this.#chart = new Chart(first, this, () => window.matchMedia("(prefers-reduced-motion: reduce)").matches);
    this.#table = new Table(
      given.metrics,
      (id) => given.model.devices.get(id),
      () => this.#context(),
      this,
    );
    this.#table.setSort(this.#sort);
    this.setMetric(first);
  }

  setMetric(metric: Metric): void {
    this.#metric = metric;
    this.#chart.setMetric(metric);
    this.#table.showMetric(metric);
    setText(byId("chart-title"), metric.unit === "" ? metric.label : `${metric.label}, ${metric.unit}`);
    this.#arrange();
  }

  search(query: string): void {
    this.#query = query;
    this.#arrange();
  }

  /** What the search has found, as a sentence. */
  get found(): string {
    return `${this.#shown.length} of ${plural(this.#given.model.devices.size, "device")} shown`;
  }

  /** The whole fleet has come anew. */
  replaced(): void {
    this.#loaded = true;
    this.#arrange();
  }

  /** These devices have news. Whoever is new gets a place at once; a changed order waits for the tick. */
  updated(devices: readonly Device[]): void {
    this.#outdated ||= devices.length > 0;
    this.#chart.update(devices, this.#isStale);
    this.#table.update(devices);
    if (devices.some(({ id }) => !this.#known.has(id))) this.#arrange();
    else if (devices.length > 0) this.#writing.request();
  }

  /** Once a second, in a tab that is seen. */
  tick(): void {
    if (this.#outdated) this.#arrange();
    else this.#writing.now();
    this.#chart.tick(this.#isStale);
    this.#table.tick();
    this.#read();
  }

  /** The room or the colours have changed. */
  refresh(): void {
    this.#chart.resize();
    this.#chart.repaint();
    this.#table.refresh();
  }

  onSort(key: Sort["key"]): void {
    this.#sort = nextSort(this.#sort, key);
    this.#table.setSort(this.#sort);
    this.#arrange();
  }

  onPoint(id: string | null): void {
    this.#pointed = id;
    this.#read();
  }

  onChoose(id: string): void {
    this.#chosen = this.#chosen === id ? null : id;
    this.#chart.choose(this.#chosen);
    this.#table.choose(this.#chosen);
    this.#read();
  }

  describe(device: Device): string {
    const sample = device.samples.get(this.#metric.name);
    const place = device.geo === "" ? "" : `, ${device.geo}`;
    if (sample === undefined) return `${device.name}${place}: no ${this.#metric.label.toLowerCase()} yet`;
    const stale = this.#isStale(sample.time) ? "stale, " : "";
    const age = formatAgo(this.#given.now() - sample.time);
    return `${device.name}${place}: ${formatValue(sample.value, this.#metric)}, ${stale}${age}`;
  }

  #known = new Set<string>();

  readonly #isStale = (time: number): boolean => this.#given.now() - time > this.#given.staleAfter;

  #context() {
    const { metrics, history, staleAfter, now } = this.#given;
    const series = history.series.bind(history);
    return { metrics, metric: this.#metric, now: now(), staleAfter, series };
  }

  #arrange(): void {
    const { devices } = this.#given.model;
    const shown = arrange(devices.values(), this.#query, this.#sort);
    this.#outdated = false;
    this.#known = new Set(devices.keys());
    this.#showParts(devices.size, shown.length);
    const ids = shown.map(({ id }) => id);
    const same = ids.length === this.#shown.length && ids.every((id, index) => id === this.#shown[index]);
    if (!same) this.#table.setOrder(ids);
    this.#shown = ids;
    this.#table.update(shown);
    this.#chart.setDevices(shown, this.#isStale);
    this.#writing.now();
    this.#note();
    this.#read();
  }

  /** Table and figures in one pass, so that they say the same. */
  #write(): void {
    this.#table.write();
    const { devices } = this.#given.model;
    const shown = this.#shown.map((id) => devices.get(id)).filter((device) => device !== undefined);
    const summary = summarise(shown, this.#metric.name, this.#isStale);
    this.#figures.show(summary, devices.size, this.#metric);
  }

  #showParts(total: number, shown: number): void {
    byId("controls").hidden = total === 0;
    byId("none").hidden = !this.#loaded || total > 0;
    byId("no-match").hidden = total === 0 || shown > 0;
    byId("fleet").hidden = shown === 0;
    setText(byId("no-match-query"), this.#query.trim());
  }

  #note(): void {
    const { label } = this.#metric;
    setText(
      byId("chart-note"),
      growsFromZero(this.#metric) ? "" : `${label}: the axis does not begin at zero.`,
    );
  }

  /** The line beside the chart's title: the device pointed at, else the one chosen. */
  #read(): void {
    const device = this.#given.model.devices.get(this.#pointed ?? this.#chosen ?? "");
    const parts = device === undefined ? [this.#hint()] : this.#sentence(device);
    byId("readout").replaceChildren(...parts);
  }

  #sentence(device: Device): (Node | string)[] {
    return [h("strong", {}, device.name), this.describe(device).slice(device.name.length)];
  }

  #hint(): string {
    return this.#shown.length > 12 ? "Point at a bar to read it" : "";
  }
}
