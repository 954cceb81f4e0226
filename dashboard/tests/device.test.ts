import { describe, expect, test } from "vitest";
import { parseDevice, parseDevices, parseMetrics } from "../src/device.ts";
import { device, METRICS, NOW, view } from "./helpers.ts";

describe("a view", () => {
  test("with 0.0 has a value", () => {
    expect(device("a", 1, { temperature: 0.0 }).samples.get("temperature")?.value).toBe(0);
  });

  test.each([null, undefined, "21", true, Number.NaN, Number.POSITIVE_INFINITY])(
    "with %s has a gap",
    (value) => {
      expect(device("a", 1, { temperature: value }).samples.has("temperature")).toBe(false);
    },
  );

  test("keeps each metric's own time, else the device's", () => {
    const { samples } = device("a", 1, {
      ...{ temperature: 20, pressure: 1013, times: { temperature: "2026-03-04T11:00:00Z" } },
    });
    expect(samples.get("temperature")?.time).toBe(NOW - 3_600_000);
    expect(samples.get("pressure")?.time).toBe(NOW);
  });

  test("keeps raw beside calibrated", () => {
    const { samples } = device("a", 1, { temperature: 21, raw: { temperature: 20.5 } });
    expect(samples.get("temperature")?.raw).toBe(20.5);
  });

  test("without a name shows its id", () => {
    expect(device("a", 1, { name: null }).name).toBe("a");
  });

  test("is refused without an id or a revision", () => {
    expect(parseDevice({ revision: 1 }, METRICS)).toBeNull();
    expect(parseDevice({ deviceId: "", revision: 1 }, METRICS)).toBeNull();
    expect(parseDevice({ deviceId: "a" }, METRICS)).toBeNull();
    expect(parseDevice(null, METRICS)).toBeNull();
  });

  test("that is bad harms no neighbour", () => {
    expect(parseDevices([view("a", 1), 7, view("b", 1)], METRICS).map(({ id }) => id)).toEqual(["a", "b"]);
    expect(parseDevices("nonsense", METRICS)).toEqual([]);
  });
});

describe("the catalogue", () => {
  test("may leave a metric without bounds", () => {
    const [light] = parseMetrics({ metrics: [{ name: "light", minimum: null, decimals: 0 }] });
    expect(light).toEqual({
      name: "light",
      label: "light",
      unit: "",
      minimum: null,
      maximum: null,
      decimals: 0,
    });
  });

  test("without a metric is refused", () => {
    expect(() => parseMetrics({ metrics: [] })).toThrow(TypeError);
    expect(() => parseMetrics(null)).toThrow(TypeError);
  });
});
