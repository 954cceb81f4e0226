/** What the viewer sets: the metric, the search, and whether chart, table or both are shown. */
import type { Metric } from "./device.ts";
import { byId, h } from "./dom.ts";

export interface ControlsListener {
  onMetric(metric: Metric): void;
  onSearch(query: string): void;
  /** The viewer has stopped typing. */
  onSearched(): void;
  /** Other parts are shown than before. */
  onView(): void;
}

const VIEW_KEY = "enviromon.view";
const STOPPED_TYPING = 700;

/** The metric to begin with: temperature, as the seed's page, else the catalogue's first. */
export function firstMetric(metrics: readonly Metric[]): Metric {
  const [first] = metrics;
  if (first === undefined) throw new RangeError("a catalogue has at least one metric");
  return metrics.find(({ name }) => name === "temperature") ?? first;
}

/** Builds the switch for the metrics and wires everything else. */
export function setUpControls(
  metrics: readonly Metric[],
  storage: Storage | null,
  listener: ControlsListener,
): void {
  setUpMetrics(metrics, listener);
  setUpSearch(listener);
  setUpViews(storage, listener);
}

function setUpMetrics(metrics: readonly Metric[], listener: ControlsListener): void {
  const first = firstMetric(metrics);
  for (const metric of metrics) {
    const input = h("input", {
      type: "radio",
      name: "metric",
      value: metric.name,
      "data-metric": metric.name,
    });
    input.checked = metric === first;
    input.addEventListener("change", () => listener.onMetric(metric));
    byId("metrics").append(h("label", {}, input, h("span", {}, metric.label)));
  }
}

function setUpSearch(listener: ControlsListener): void {
  const input = byId<HTMLInputElement>("search");
  let timer: ReturnType<typeof setTimeout> | undefined;
  const search = (): void => {
    listener.onSearch(input.value);
    clearTimeout(timer);
    timer = setTimeout(() => listener.onSearched(), STOPPED_TYPING);
  };
  input.addEventListener("input", search);
  byId("clear-search").addEventListener("click", () => {
    input.value = "";
    search();
    input.focus();
  });
}

function setUpViews(storage: Storage | null, listener: ControlsListener): void {
  const inputs = Array.from(document.querySelectorAll<HTMLInputElement>('input[name="view"]'));
  const show = (input: HTMLInputElement): void => {
    input.checked = true;
    document.body.dataset["view"] = input.value;
    listener.onView();
  };
  for (const input of inputs) {
    input.addEventListener("change", () => {
      storage?.setItem(VIEW_KEY, input.value);
      show(input);
    });
  }
  const saved = inputs.find(({ value }) => value === storage?.getItem(VIEW_KEY)) ?? inputs[0];
  if (saved !== undefined) show(saved);
}
