/** Devices and metrics for the tests. */
import { type Device, type Metric, parseDevice } from "../src/device.ts";

export const NOW = Date.parse("2026-03-04T12:00:00Z");

export const TEMPERATURE: Metric = {
  ...{ name: "temperature", label: "Temperature", unit: "°C" },
  ...{ minimum: -40, maximum: 80, decimals: 1 },
};
export const PRESSURE: Metric = {
  ...{ name: "pressure", label: "Pressure", unit: "hPa" },
  ...{ minimum: 600, maximum: 1600, decimals: 1 },
};
export const LIGHT: Metric = {
  ...{ name: "light", label: "Light", unit: "lx" },
  ...{ minimum: null, maximum: null, decimals: 0 },
};
export const METRICS = [TEMPERATURE, PRESSURE, LIGHT];

/** A view as the API sends it. */
export function view(deviceId: string, revision: number, rest: object = {}): Record<string, unknown> {
  const eventTime = new Date(NOW).toISOString();
  return {
    deviceId,
    name: deviceId,
    geo: null,
    count: revision,
    revision,
    eventTime,
    times: {},
    raw: {},
    ...rest,
  };
}

export function device(id: string, revision: number, rest: object = {}): Device {
  const parsed = parseDevice(view(id, revision, rest), METRICS);
  if (parsed === null) throw new Error("a test's device is not valid");
  return parsed;
}

/** Lets everything that is already settled run on. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

/** A promise and what settles it. */
export function deferred<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
} {
  let resolve: (value: T) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
