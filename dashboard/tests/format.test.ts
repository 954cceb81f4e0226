import { describe, expect, test } from "vitest";
import { formatAge, formatAgo, formatNumber, formatTime, formatValue, plural } from "../src/format.ts";
import { LIGHT, NOW, TEMPERATURE } from "./helpers.ts";

describe("numbers", () => {
  test.each([
    [0, "0.0 °C"],
    [-0, "0.0 °C"],
    [-0.04, "0.0 °C"],
    [-5, "−5.0 °C"],
    [21.349, "21.3 °C"],
    [null, "–"],
    [undefined, "–"],
  ])("%s is %s", (value, text) => expect(formatValue(value, TEMPERATURE)).toBe(text));

  test("have the metric's decimals and thousands apart", () => {
    expect(formatValue(12345.6, LIGHT)).toBe("12,346 lx");
    expect(formatNumber(3, 2)).toBe("3.00");
  });

  test("without a unit stand alone", () => expect(formatValue(1, { ...LIGHT, unit: "" })).toBe("1"));

  test("count in singular and plural", () => {
    expect([0, 1, 2000].map((count) => plural(count, "device"))).toEqual([
      "0 devices",
      "1 device",
      "2,000 devices",
    ]);
  });
});

describe("ages", () => {
  test.each([
    [-60_000, "now"],
    [0, "now"],
    [4_999, "now"],
    [5_000, "5 s"],
    [59_999, "59 s"],
    [60_000, "1 min"],
    [3_599_999, "59 min"],
    [3_600_000, "1 h"],
    [86_399_999, "23 h"],
    [86_400_000, "1 d"],
    [400 * 86_400_000, "400 d"],
  ])("%s ms is %s", (age, text) => expect(formatAge(age)).toBe(text));

  test("in a sentence", () => expect([0, 42_000].map(formatAgo)).toEqual(["just now", "42 s ago"]));

  test("have a date where the day is another", () => {
    expect(formatTime(NOW, NOW)).toMatch(/^\d\d:\d\d:\d\d$/);
    expect(formatTime(NOW - 3 * 86_400_000, NOW)).toMatch(/2026/);
  });
});
