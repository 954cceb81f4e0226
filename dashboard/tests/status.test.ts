import { describe, expect, test } from "vitest";
import { type Facts, judge } from "../src/status.ts";
import { NOW } from "./helpers.ts";

const LIVE: Facts = {
  ...{ link: "connected", online: true, heard: true, barred: false, silence: 0 },
  ...{ newest: NOW - 2_000, staleAfter: 60_000, now: NOW },
};
const stateOf = (facts: Partial<Facts>) => judge({ ...LIVE, ...facts }).state;

describe("the page is", () => {
  test("live when connected, something has come through, and the newest reading is recent", () => {
    expect(judge(LIVE)).toEqual({ state: "live", label: "Live", detail: "newest reading just now" });
  });

  test("not live before anything has come through this connection", () => {
    expect(stateOf({ heard: false })).toBe("waiting");
  });

  test("not live without any device", () => {
    expect(judge({ ...LIVE, newest: null })).toMatchObject({
      state: "waiting",
      detail: "waiting for the first reading",
    });
  });

  test("stale when the newest reading is older than the threshold, not at it", () => {
    expect(stateOf({ newest: NOW - 60_000 })).toBe("live");
    expect(judge({ ...LIVE, newest: NOW - 180_000 })).toMatchObject({
      state: "stale",
      detail: "newest reading 3 min ago",
    });
  });

  test("reconnecting from the moment the connection is lost, however fresh the values are", () => {
    expect(stateOf({ link: "reconnecting" })).toBe("reconnecting");
    expect(judge({ ...LIVE, link: "reconnecting" }).detail).toMatch(/^showing values up to /);
  });

  test("offline when the server has not answered for the threshold", () => {
    expect(stateOf({ link: "reconnecting", silence: 60_001 })).toBe("offline");
    expect(stateOf({ link: "connecting", silence: 60_001, newest: null })).toBe("offline");
  });

  test("offline when the browser is, and when the key is refused", () => {
    expect(stateOf({ link: "reconnecting", online: false })).toBe("offline");
    expect(judge({ ...LIVE, link: "connecting", barred: true, newest: null })).toMatchObject({
      ...{ state: "offline", detail: "not allowed to read" },
    });
  });

  test("connecting at first", () => {
    expect(judge({ ...LIVE, link: "connecting", newest: null })).toMatchObject({
      state: "connecting",
      detail: "",
    });
  });
});
