import { describe, expect, test } from "vitest";
import { arrange, DEFAULT_SORT, nextSort, type Sort } from "../src/arrange.ts";
import { device } from "./helpers.ts";

const fleet = [
  device("sim-10", 1, { name: "Attic", temperature: 0.0, count: 5 }),
  device("sim-2", 1, { name: "Café", geo: "Sydney", temperature: -4, count: 9 }),
  device("sim-1", 1, { name: "Cellar", geo: "Perth", count: 5, eventTime: null }),
  device("sim-3", 1, { name: "Barn", geo: "Perth", temperature: 21, count: 7 }),
];
const ids = (query: string, sort: Sort = DEFAULT_SORT) => arrange(fleet, query, sort).map(({ id }) => id);

describe("searching", () => {
  test("with nothing finds all", () => expect(ids("  ")).toHaveLength(4));
  test("finds by name, id and place", () => {
    expect(ids("barn")).toEqual(["sim-3"]);
    expect(ids("sim-10")).toEqual(["sim-10"]);
    expect(ids("perth")).toEqual(["sim-3", "sim-1"]);
  });
  test("ignores case and accents", () => expect(ids("CAFE")).toEqual(["sim-2"]));
  test("wants every word", () => {
    expect(ids("perth cellar")).toEqual(["sim-1"]);
    expect(ids("perth café")).toEqual([]);
  });
});

describe("sorting", () => {
  test("by name puts 2 before 10", () => {
    const numbered = [device("sim-10", 1), device("sim-2", 1)];
    expect(arrange(numbered, "", DEFAULT_SORT).map(({ id }) => id)).toEqual(["sim-2", "sim-10"]);
  });

  test("by a metric puts 0.0 between -4 and 21, and gaps last in either direction", () => {
    const key = "metric:temperature" as const;
    expect(ids("", { key, descending: false })).toEqual(["sim-2", "sim-10", "sim-3", "sim-1"]);
    expect(ids("", { key, descending: true })).toEqual(["sim-3", "sim-10", "sim-2", "sim-1"]);
  });

  test("by place or time puts what has none last", () => {
    expect(ids("", { key: "geo", descending: false }).at(-1)).toBe("sim-10");
    expect(ids("", { key: "updated", descending: true }).at(-1)).toBe("sim-1");
  });

  test("leaves equals in order of name", () => {
    expect(ids("", { key: "count", descending: true })).toEqual(["sim-2", "sim-3", "sim-10", "sim-1"]);
  });

  test("leaves its input as it is", () => {
    ids("", { key: "count", descending: true });
    expect(fleet[0]?.id).toBe("sim-10");
  });

  test("reverses on the second click, and begins with the greatest number", () => {
    const first = nextSort(DEFAULT_SORT, "count");
    expect(first).toEqual({ key: "count", descending: true });
    expect(nextSort(first, "count")).toEqual({ key: "count", descending: false });
    expect(nextSort(first, "name")).toEqual({ key: "name", descending: false });
  });
});
