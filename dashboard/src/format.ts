/**
 * Numbers and ages as people read them.
 *
 * Rules: decimals are the metric's own; a minus is a true minus sign; no number is "-0.0"; an absent value
 * is an en dash; ages are whole units rounded down, "now" for the first five seconds.
 */
import type { Metric } from "./device.ts";

export const ABSENT = "–";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const NOW = 5 * SECOND;

const formats = new Map<number, Intl.NumberFormat>();

/** A number with fixed decimals, without unit. */
export function formatNumber(value: number | null | undefined, decimals: number): string {
  if (value === null || value === undefined) return ABSENT;
  return numberFormat(decimals).format(value).replace("-", "−");
}

/** A value of a metric with its unit, e.g. "21.4 °C". */
export function formatValue(value: number | null | undefined, metric: Metric): string {
  const number = formatNumber(value, metric.decimals);
  return value === null || value === undefined || metric.unit === "" ? number : `${number} ${metric.unit}`;
}

/** How long ago, short: "now", "42 s", "3 min", "5 h", "2 d". Times ahead of the clock are "now". */
export function formatAge(milliseconds: number): string {
  if (milliseconds < NOW) return "now";
  if (milliseconds < MINUTE) return `${Math.floor(milliseconds / SECOND)} s`;
  if (milliseconds < HOUR) return `${Math.floor(milliseconds / MINUTE)} min`;
  if (milliseconds < DAY) return `${Math.floor(milliseconds / HOUR)} h`;
  return `${Math.floor(milliseconds / DAY)} d`;
}

/** The same as part of a sentence: "just now", "42 s ago". */
export function formatAgo(milliseconds: number): string {
  return milliseconds < NOW ? "just now" : `${formatAge(milliseconds)} ago`;
}

const timeOfDay = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const dayAndTime = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const fullTime = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long" });

/** The viewer's local time; with the date where it is more than a day from `now`. */
export function formatTime(time: number, now: number): string {
  return (Math.abs(now - time) < DAY ? timeOfDay : dayAndTime).format(time);
}

/** Date, time and zone, for tooltips. */
export function formatFullTime(time: number): string {
  return fullTime.format(time);
}

/** "1 device", "2 devices". */
export function plural(count: number, one: string): string {
  return `${formatNumber(count, 0)} ${one}${count === 1 ? "" : "s"}`;
}

function numberFormat(decimals: number): Intl.NumberFormat {
  let format = formats.get(decimals);
  if (format === undefined) {
    format = new Intl.NumberFormat("en", {
      minimumFractionDigits: decimals,
      maximumFractionDigits: decimals,
      signDisplay: "negative",
    });
    formats.set(decimals, format);
  }
  return format;
}
