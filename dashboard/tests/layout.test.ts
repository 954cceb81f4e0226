// @vitest-environment happy-dom
import { describe, expect, test } from "vitest";
import { Bars } from "../src/bars.ts";
import { barAt, barsInView, layOut } from "../src/chart-layout.ts";
import { summarise } from "../src/figures.ts";
import { ThemeChoice } from "../src/theme.ts";
import { rowsInView } from "../src/virtual.ts";
import { device, NOW } from "./helpers.ts";

const fresh = () => false;
const old = () => true;

describe("the layout of bars", () => {
  test("fits a thousand into a desktop's width", () => {
    const layout = layOut(1000, 1100, 60);
    expect(layout.content).toBeCloseTo(1100);
    expect(layout.names).toBe("none");
  });

  test("scrolls where a bar would have less than a pixel", () => {
    expect(layOut(1000, 340, 60).content).toBe(1000);
  });

  test("writes names level, slanted or not at all", () => {
    expect(layOut(6, 1100, 90).names).toBe("level");
    expect(layOut(6, 320, 90).names).toBe("slanted");
    expect(layOut(20, 1100, 40).names).toBe("level");
    expect(layOut(200, 1100, 40).names).toBe("none");
  });

  test("keeps one device's bar slim, and survives none", () => {
    expect(layOut(1, 1100, 50).bar).toBeLessThan(60);
    expect(layOut(0, 1100, 0).content).toBe(0);
  });

  test("finds the bar under the pointer, and none beside them", () => {
    const layout = layOut(10, 1000, 50);
    expect([barAt(0, layout, 10), barAt(999, layout, 10)]).toEqual([0, 9]);
    expect([barAt(-1, layout, 10), barAt(1000, layout, 10)]).toEqual([null, null]);
  });

  test("draws only what is in view", () => {
    expect(barsInView(layOut(1000, 340, 60), 1000, 300, 340)).toEqual({ first: 300, end: 640 });
  });
});

describe("bars", () => {
  test("appear at once, then move smoothly, then stand still", () => {
    const bars = new Bars();
    bars.setMetric("temperature");
    bars.setDevices([device("a", 1, { temperature: 0 })], fresh);
    expect(bars.step(16, 0.1)).toBe(false);
    expect(bars.list[0]?.shown).toBe(0);
    bars.update([device("a", 2, { temperature: 10 })], fresh);
    expect(bars.step(16, 0.1)).toBe(true);
    expect(bars.list[0]?.shown).toBeGreaterThan(0);
    expect(bars.list[0]?.shown).toBeLessThan(10);
    for (let frame = 0; frame < 60; frame += 1) bars.step(16, 0.1);
    expect(bars.list[0]?.shown).toBe(10);
  });

  test("jump where the viewer wants no motion", () => {
    const bars = new Bars();
    bars.setMetric("temperature");
    bars.setDevices([device("a", 1, { temperature: 0 })], fresh);
    bars.step(16, 0.1);
    bars.update([device("a", 2, { temperature: 10 })], fresh);
    bars.step(Number.POSITIVE_INFINITY, 0.1);
    expect(bars.list[0]?.shown).toBe(10);
  });

  test("have a gap where there is no value, never a zero", () => {
    const bars = new Bars();
    bars.setMetric("pressure");
    bars.setDevices([device("a", 1, { temperature: 20 })], fresh);
    expect(bars.step(16, 0.1)).toBe(false);
    expect(bars.list[0]?.shown).toBeNaN();
  });

  test("keep what they show when the order changes", () => {
    const bars = new Bars();
    const [a, b] = [device("a", 1, { temperature: 1 }), device("b", 1, { temperature: 2 })];
    bars.setMetric("temperature");
    bars.setDevices([a, b], fresh);
    const before = bars.list[0];
    bars.setDevices([b, a], fresh);
    expect(bars.list[1]).toBe(before);
  });

  test("tell when one has become stale", () => {
    const bars = new Bars();
    bars.setMetric("temperature");
    bars.setDevices([device("a", 1, { temperature: 1 }), device("b", 1)], fresh);
    expect(bars.age(fresh)).toBe(false);
    expect(bars.age(old)).toBe(true);
    expect(bars.list.map(({ stale }) => stale)).toEqual([true, false]);
  });
});

describe("the figures", () => {
  test("sum up what is there; zero is a value and a gap is not", () => {
    const fleet = [device("a", 1, { temperature: 0 }), device("b", 1, { temperature: 9 }), device("c", 1)];
    const isStale = (time: number) => time > NOW;
    expect(summarise(fleet, "temperature", isStale)).toEqual({
      ...{ devices: 3, lowest: 0, median: 4.5, highest: 9, stale: 0, absent: 1 },
    });
  });

  test("of nothing are nothing", () => {
    expect(summarise([], "temperature", old)).toMatchObject({ devices: 0, lowest: null, median: null });
  });
});

describe("rows in the document", () => {
  test("are all of a short table", () =>
    expect(rowsInView(100, 56, -5000, 800)).toEqual({ first: 0, end: 100 }));

  test("are those in view and some around of a long one", () => {
    expect(rowsInView(1000, 50, -5000, 800)).toEqual({ first: 90, end: 126 });
    expect(rowsInView(1000, 50, 400, 800).first).toBe(0);
    expect(rowsInView(1000, 50, -100_000, 800)).toEqual({ first: 1000, end: 1000 });
  });
});

describe("the theme", () => {
  test("is the system's until another is chosen, which is remembered", () => {
    localStorage.clear();
    const choice = new ThemeChoice(localStorage, () => "light");
    expect(choice.theme).toBe("light");
    choice.toggle();
    expect(new ThemeChoice(localStorage, () => "light").theme).toBe("dark");
  });

  test("follows the system again once the same is chosen", () => {
    localStorage.clear();
    const choice = new ThemeChoice(localStorage, () => "light");
    choice.toggle();
    choice.toggle();
    expect(new ThemeChoice(localStorage, () => "dark").theme).toBe("dark");
  });

  test("works without storage", () => {
    const choice = new ThemeChoice(null, () => "dark");
    expect(choice.toggle()).toBe("light");
  });
});
