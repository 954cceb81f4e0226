import { describe, expect, test } from "vitest";
import { History, Series } from "../src/history.ts";
import { sparkline } from "../src/sparkline.ts";
import { device } from "./helpers.ts";

const points = (series: Series) =>
  Array.from({ length: series.length }, (_, i) => [series.time(i), series.value(i)]);
const FRAME = { width: 100, height: 20, inset: 0, gap: 10, leastSpan: 1 };

function series(...given: [number, number][]): Series {
  const result = new Series();
  for (const [time, value] of given) result.push(time, value);
  return result;
}

describe("a series", () => {
  test("keeps the newest points", () => {
    const short = new Series(3);
    for (let time = 0; time < 5; time += 1) short.push(time, time * 10);
    expect(points(short)).toEqual([
      [2, 20],
      [3, 30],
      [4, 40],
    ]);
  });

  test("corrects the last point and ignores an older one", () => {
    expect(points(series([1, 10], [2, 20], [2, 21], [1, 99]))).toEqual([
      [1, 10],
      [2, 21],
    ]);
  });
});

describe("the history", () => {
  test("has a series per device and metric, of readings and not of messages", () => {
    const history = new History();
    const times = { temperature: "2026-03-04T12:00:00Z" };
    history.record(device("a", 1, { temperature: 1, times }));
    history.record(device("a", 2, { temperature: 1, times }));
    expect(history.series("a", "temperature")?.length).toBe(1);
    expect(history.series("a", "pressure")).toBeUndefined();
  });

  test("forgets devices that are gone", () => {
    const history = new History();
    history.record(device("a", 1, { temperature: 1 }));
    history.keep(new Set(["b"]));
    expect(history.series("a", "temperature")).toBeUndefined();
  });
});

describe("a sparkline", () => {
  test("spans time and values", () => {
    expect(sparkline(series([0, 0], [5, 5], [10, 10]), FRAME)).toBe("M0 20L50 10L100 0");
  });

  test("breaks where readings are missing", () => {
    expect(sparkline(series([0, 0], [5, 5], [95, 5], [100, 0]), FRAME)).toBe("M0 20L5 0M95 0L100 20");
  });

  test("shows a lone point as a dot", () => {
    expect(sparkline(series([0, 5]), FRAME)).toBe("M100 10h0");
    expect(sparkline(series([0, 0], [50, 5], [100, 0]), FRAME)).toBe("M0 20h0M50 0h0M100 20h0");
  });

  test("does not blow up noise", () => {
    expect(sparkline(series([0, 20], [10, 20.1]), FRAME)).toBe("M0 11L100 9");
  });

  test("of nothing is nothing", () => expect(sparkline(new Series(), FRAME)).toBe(""));
});
