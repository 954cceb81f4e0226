/**
 * Which devices are shown, in which order; the chart and the table share it.
 *
 * Rules: every word of the search must occur in name, id or place, whatever its case and accents; a gap comes
 * last in either direction; equals are in order of name, then id, so that nothing jumps.
 */
import type { Device } from "./device.ts";

/** "name", "geo", "updated", "count" or the name of a metric, as `metric:NAME`. */
export type SortKey = "name" | "geo" | "updated" | "count" | `metric:${string}`;

export interface Sort {
  readonly key: SortKey;
  readonly descending: boolean;
}

export const DEFAULT_SORT: Sort = { key: "name", descending: false };

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** The sort after a click on a column: again reverses; numbers and times begin with the greatest. */
export function nextSort(sort: Sort, key: SortKey): Sort {
  if (sort.key === key) return { key, descending: !sort.descending };
  return { key, descending: key !== "name" && key !== "geo" };
}

/** Searches and sorts; the input is left as it is. */
export function arrange(devices: Iterable<Device>, query: string, sort: Sort): Device[] {
  const matches = matcher(query);
  return Array.from(devices).filter(matches).sort(comparator(sort));
}

/** Tells whether a device matches the search. */
export function matcher(query: string): (device: Device) => boolean {
  const words = fold(query).split(/\s+/).filter(Boolean);
  if (words.length === 0) return () => true;
  return (device) => {
    const haystack = fold(`${device.name}\n${device.id}\n${device.geo}`);
    return words.every((word) => haystack.includes(word));
  };
}

function fold(text: string): string {
  return text
    .normalize("NFKD")
    .replace(/\p{Diacritic}/gu, "")
    .toLowerCase();
}

function comparator({ key, descending }: Sort): (a: Device, b: Device) => number {
  const sign = descending ? -1 : 1;
  if (key === "name") return (a, b) => sign * byName(a, b);
  if (key === "geo")
    return (a, b) => gapsLast(a.geo || null, b.geo || null, sign, collator.compare) || byName(a, b);
  const read = reader(key);
  return (a, b) => gapsLast(read(a), read(b), sign, (x, y) => x - y) || byName(a, b);
}

function reader(key: SortKey): (device: Device) => number | null {
  if (key === "count") return (device) => device.count;
  if (key === "updated") return (device) => device.updated;
  const metric = key.slice("metric:".length);
  return (device) => device.samples.get(metric)?.value ?? null;
}

function gapsLast<T>(a: T | null, b: T | null, sign: number, compare: (a: T, b: T) => number): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  return sign * compare(a, b);
}

function byName(a: Device, b: Device): number {
  return collator.compare(a.name, b.name) || collator.compare(a.id, b.id);
}
