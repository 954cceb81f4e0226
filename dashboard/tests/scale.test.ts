import { describe, expect, test } from "vitest";
import { extent, growsFromZero, niceDomain, StableDomain, ticks } from "../src/scale.ts";
import { LIGHT, PRESSURE, TEMPERATURE } from "./helpers.ts";

const between = (least: number, greatest: number) => ({ least, greatest });

describe("the axis", () => {
  test("of temperature holds zero and what is below it", () => {
    expect(niceDomain(between(18.2, 24.9), TEMPERATURE)).toEqual({ low: 0, high: 25 });
    expect(niceDomain(between(-7, 24.9), TEMPERATURE)).toEqual({ low: -10, high: 30 });
    expect(niceDomain(between(-12, -3), TEMPERATURE)).toEqual({ low: -12.5, high: 0 });
  });

  test("of pressure is narrowed to the data, but not to noise", () => {
    const { low, high } = niceDomain(between(1013, 1013.1), PRESSURE);
    expect(low).toBeGreaterThan(990);
    expect(high - low).toBeGreaterThanOrEqual(20);
  });

  test("stays within the valid range", () => {
    expect(niceDomain(between(0, 79), TEMPERATURE).high).toBe(80);
    expect(niceDomain(between(601, 1590), PRESSURE)).toEqual({ low: 600, high: 1600 });
  });

  test("without data is the valid range, and there always is one", () => {
    expect(niceDomain(null, TEMPERATURE)).toEqual({ low: -40, high: 80 });
    expect(niceDomain(null, LIGHT)).toEqual({ low: 0, high: 1 });
    expect(niceDomain(between(0, 0), LIGHT)).toEqual({ low: 0, high: 1 });
  });

  test("grows from zero where zero is valid", () => {
    expect([TEMPERATURE, LIGHT, PRESSURE].map(growsFromZero)).toEqual([true, true, false]);
  });

  test("has round ticks without binary noise", () => {
    expect(ticks({ low: -10, high: 30 })).toEqual([-10, 0, 10, 20, 30]);
    expect(ticks({ low: 0, high: 0.5 })).toEqual([0, 0.1, 0.2, 0.3, 0.4, 0.5]);
  });
});

describe("a stable axis", () => {
  test("stands still while the data move within it", () => {
    const axis = new StableDomain(TEMPERATURE);
    const first = axis.update(between(10, 24), 0);
    expect(axis.update(between(11, 22), 1000)).toBe(first);
  });

  test("grows at once, and never at one end by shrinking at the other", () => {
    const axis = new StableDomain(TEMPERATURE);
    axis.update(between(-20, 10), 0);
    expect(axis.update(between(5, 39), 1)).toEqual({ low: -20, high: 40 });
  });

  test("shrinks only after the data were much smaller for ten seconds", () => {
    const axis = new StableDomain(TEMPERATURE);
    axis.update(between(0, 70), 0);
    expect(axis.update(between(0, 20), 1_000).high).toBe(80);
    expect(axis.update(between(0, 20), 10_999).high).toBe(80);
    expect(axis.update(between(0, 20), 11_000).high).toBe(20);
  });

  test("forgets that it was to shrink when the data grow again", () => {
    const axis = new StableDomain(TEMPERATURE);
    axis.update(between(0, 70), 0);
    axis.update(between(0, 20), 1_000);
    axis.update(between(0, 60), 6_000);
    expect(axis.update(between(0, 20), 11_500).high).toBe(80);
  });

  test("stays where it is while there are no data", () => {
    const axis = new StableDomain(TEMPERATURE);
    const first = axis.update(between(0, 24), 0);
    expect(axis.update(null, 60_000)).toBe(first);
  });
});

test("the extent of nothing is nothing", () => {
  expect(extent([])).toBeNull();
  expect(extent([0])).toEqual({ least: 0, greatest: 0 });
});
