/**
 * What the page knows of a device, parsed once at the edge; nothing invalid passes.
 *
 * Rules: 0 is a value; a metric that is null, missing or not a finite number is absent (a gap).
 * Every sample carries the time of its own reading, since a device may send its metrics apart.
 */

/** One row of GET /api/metrics-catalogue. */
export interface Metric {
  readonly name: string;
  readonly label: string;
  readonly unit: string;
  /** The valid range; null where the metric has no bound. */
  readonly minimum: number | null;
  readonly maximum: number | null;
  readonly decimals: number;
}

/** The newest reading of one metric; time is the reading's own, in unix ms. */
export interface Sample {
  readonly value: number;
  /** Before calibration; null where the server did not say. */
  readonly raw: number | null;
  readonly time: number;
}

export interface Device {
  readonly id: string;
  readonly name: string;
  readonly geo: string;
  readonly count: number;
  /** All readings that came of it, those refused included. */
  readonly received: number;
  readonly revision: number;
  /** Event time of the newest reading in unix ms; null where unknown. */
  readonly updated: number | null;
  readonly samples: ReadonlyMap<string, Sample>;
}

type Json = Readonly<Record<string, unknown>>;

/** Reads one view as the API and SignalR send it; null when it is not one. */
export function parseDevice(view: unknown, metrics: readonly Metric[]): Device | null {
  if (!isObject(view)) return null;
  const { deviceId, revision } = view;
  if (typeof deviceId !== "string" || deviceId === "" || !isNumber(revision)) return null;
  const updated = parseTime(view["eventTime"]);
  return {
    id: deviceId,
    name: text(view["name"]) || deviceId,
    geo: text(view["geo"]),
    count: isNumber(view["count"]) ? view["count"] : 0,
    received: receivedOf(view),
    revision,
    updated,
    samples: parseSamples(view, metrics, updated),
  };
}

/** Reads many views and leaves out what is not one. */
export function parseDevices(views: unknown, metrics: readonly Metric[]): Device[] {
  if (!Array.isArray(views)) return [];
  return views.map((view) => parseDevice(view, metrics)).filter((device) => device !== null);
}

/** Reads the catalogue; throws a TypeError when it has no metric that can be shown. */
export function parseMetrics(body: unknown): Metric[] {
  const rows = isObject(body) && Array.isArray(body["metrics"]) ? body["metrics"] : [];
  const metrics = rows.map(parseMetric).filter((metric) => metric !== null);
  if (metrics.length === 0) throw new TypeError("the metrics catalogue is empty");
  return metrics;
}

function receivedOf(view: Json): number {
  const ledger = isObject(view["ledger"]) ? view["ledger"] : {};
  const received = ledger["received"] ?? view["count"];
  return isNumber(received) ? received : 0;
}

function parseMetric(row: unknown): Metric | null {
  if (!isObject(row) || typeof row["name"] !== "string") return null;
  return {
    name: row["name"],
    label: text(row["label"]) || row["name"],
    unit: text(row["unit"]),
    minimum: isNumber(row["minimum"]) ? row["minimum"] : null,
    maximum: isNumber(row["maximum"]) ? row["maximum"] : null,
    decimals: isNumber(row["decimals"]) ? Math.min(6, Math.max(0, Math.trunc(row["decimals"]))) : 1,
  };
}

function parseSamples(view: Json, metrics: readonly Metric[], updated: number | null): Map<string, Sample> {
  const times = isObject(view["times"]) ? view["times"] : {};
  const raws = isObject(view["raw"]) ? view["raw"] : {};
  const samples = new Map<string, Sample>();
  for (const { name } of metrics) {
    const value = view[name];
    const time = parseTime(times[name]) ?? updated;
    if (!isNumber(value) || time === null) continue;
    const raw = raws[name];
    samples.set(name, { value, raw: isNumber(raw) ? raw : null, time });
  }
  return samples;
}

/** An ISO 8601 time in unix ms; null when it is not one. */
export function parseTime(value: unknown): number | null {
  if (typeof value !== "string") return null;
  const time = Date.parse(value);
  return Number.isNaN(time) ? null : time;
}

export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

/** A string as it is, "" for anything else. */
export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
