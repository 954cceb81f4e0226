/** What GET /api/cost answers, parsed once at the edge, as far as the page shows it. */
import { isNumber, isObject, text } from "./device.ts";

export interface Estimate {
  readonly perMonth: number;
  readonly currency: string;
  readonly fitsFreeTier: boolean;
  readonly reasons: readonly string[];
  readonly lines: readonly CostLine[];
  /** How long news may wait for a batch to fill, in seconds; 0 where it goes out at once. */
  readonly newsWaits: number;
  /** The change that would save most for least; null where none is worth it. */
  readonly advice: { readonly what: string; readonly perMonth: number } | null;
  readonly compiled: string;
  readonly region: string;
}

export interface CostLine {
  readonly service: string;
  readonly unit: string;
  readonly perDay: number;
  readonly tier: string;
  readonly perMonth: number;
  readonly free: boolean;
}

/** Reads an answer of GET /api/cost; null when it is not one. */
export function parseEstimate(body: unknown): Estimate | null {
  if (!isObject(body) || !Array.isArray(body["lines"]) || !Array.isArray(body["reasons"])) return null;
  const { perMonth, prices } = body;
  const currency = text(body["currency"]);
  if (!isNumber(perMonth) || currency === "" || !isObject(prices)) return null;
  return {
    perMonth,
    currency,
    fitsFreeTier: body["fitsFreeTier"] === true,
    reasons: body["reasons"].map(text),
    lines: body["lines"].map(parseLine).filter((line) => line !== null),
    newsWaits: parseWait(body["workload"]),
    advice: parseAdvice(body["advice"]),
    compiled: text(prices["compiled"]),
    region: text(prices["region"]),
  };
}

function parseAdvice(advice: unknown): Estimate["advice"] {
  if (!isObject(advice) || !isNumber(advice["perMonth"])) return null;
  return { what: text(advice["what"]), perMonth: advice["perMonth"] };
}

function parseWait(workload: unknown): number {
  const batching = isObject(workload) ? workload["batching"] : null;
  if (!isObject(batching) || !isNumber(batching["maxWait"]) || !isNumber(batching["minimum"])) return 0;
  return batching["minimum"] > 1 ? batching["maxWait"] : 0;
}

function parseLine(row: unknown): CostLine | null {
  if (!isObject(row) || !isNumber(row["perDay"]) || !isNumber(row["perMonth"])) return null;
  return {
    service: text(row["service"]),
    unit: text(row["unit"]),
    perDay: row["perDay"],
    tier: text(row["tier"]),
    perMonth: row["perMonth"],
    free: row["free"] === true,
  };
}
