// @vitest-environment happy-dom
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { firstMetric, setUpControls } from "../src/controls.ts";
import type { Device } from "../src/device.ts";
import { Figures } from "../src/figures.ts";
import { Fleet } from "../src/fleet.ts";
import { Banner, StatusView } from "../src/header.ts";
import { History } from "../src/history.ts";
import { Model } from "../src/model.ts";
import { device, METRICS, NOW, PRESSURE, TEMPERATURE } from "./helpers.ts";

const INDEX = readFileSync("index.html", "utf8");

let now: number;
let model: Model;
let fleet: Fleet;

beforeEach(() => {
  // A real timer that a test leaves behind would run when its document is gone.
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  document.body.innerHTML = INDEX.slice(INDEX.indexOf("<body>") + 6, INDEX.indexOf("</body>"));
  now = NOW;
  model = new Model();
  const given = { metrics: METRICS, model, history: new History(), now: () => now, staleAfter: 60_000 };
  fleet = new Fleet(given, TEMPERATURE);
});

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

function load(...devices: Device[]): void {
  const replacement = model.startReplacing();
  replacement.add(devices);
  replacement.commit();
  fleet.replaced();
}
const element = (selector: string) => {
  const found = document.querySelector<HTMLElement>(selector);
  if (found === null) throw new Error(`nothing is ${selector}`);
  return found;
};
const rows = () =>
  Array.from(document.querySelectorAll("[data-device-id]"), (row) => row.getAttribute("data-device-id"));
const cell = (id: string, metric: string) => element(`[data-device-id="${id}"] [data-metric="${metric}"]`);
const key = (name: string) => element("#chart").dispatchEvent(new KeyboardEvent("keydown", { key: name }));

describe("the table", () => {
  test("shows 0.0 as a value and absence as a dash", () => {
    load(device("a", 1, { temperature: 0.0 }));
    expect(cell("a", "temperature").querySelector(".main")?.textContent).toBe("0.0");
    expect(cell("a", "temperature").dataset["value"]).toBe("0");
    expect(cell("a", "pressure").querySelector(".main")?.textContent).toBe("–");
    expect(cell("a", "pressure").hasAttribute("data-value")).toBe(false);
  });

  test("gives every number its own age, and marks what is stale", () => {
    load(
      device("a", 1, {
        temperature: 1,
        pressure: 1013,
        times: { pressure: new Date(NOW - 300_000).toISOString() },
      }),
    );
    now += 10_000;
    fleet.tick();
    expect(cell("a", "temperature").querySelector(".note")?.textContent).toBe("10 s");
    expect(cell("a", "pressure").querySelector(".note")?.textContent).toBe("5 min");
    expect([cell("a", "temperature"), cell("a", "pressure")].map(({ dataset }) => dataset["stale"])).toEqual([
      undefined,
      "true",
    ]);
  });

  test("follows an update, with the count and the raw value", async () => {
    load(device("a", 1, { temperature: 1 }));
    fleet.updated(model.merge([device("a", 2, { temperature: 7.25, count: 1234, raw: { temperature: 7 } })]));
    await vi.waitFor(() => expect(cell("a", "temperature").dataset["value"]).toBe("7.25"));
    expect(element("[data-device-id=a] .count").textContent).toBe("1,234");
    expect(cell("a", "temperature").title).toContain("before calibration 7.0");
  });

  test("takes in a new device at once and drops one that is gone", () => {
    load(device("a", 1));
    fleet.updated(model.merge([device("b", 1)]));
    expect(rows()).toEqual(["a", "b"]);
    load(device("b", 2));
    expect(rows()).toEqual(["b"]);
  });

  test("sorts by a click on a column and says so", () => {
    load(device("a", 1, { temperature: 5 }), device("b", 1, { temperature: 9 }), device("c", 1));
    element('[data-sort="metric:temperature"]').click();
    expect(rows()).toEqual(["b", "a", "c"]);
    expect(element('th[data-metric="temperature"]').getAttribute("aria-sort")).toBe("descending");
    expect(document.querySelectorAll("[aria-sort]")).toHaveLength(1);
  });

  test("of a thousand devices has only some rows, but counts all", () => {
    load(...Array.from({ length: 1000 }, (_, index) => device(`sim-${index}`, 1)));
    expect(rows().length).toBeLessThan(100);
    expect(element("#table").getAttribute("aria-rowcount")).toBe("1001");
    expect(element("[data-device-id=sim-3]").getAttribute("aria-rowindex")).toBe("5");
  });

  test("takes text as text", () => {
    load(device("a", 1, { name: "<img src=x>", geo: "<b>" }));
    expect(element("[data-device-id=a] .name .main").textContent).toBe("<img src=x>");
    expect(document.querySelector("#table-body img, #table-body b")).toBeNull();
  });
});

describe("the chart", () => {
  test("names the metric and, where it does not begin at zero, says so", () => {
    load(device("a", 1, { temperature: 1, pressure: 1013 }));
    expect([element("#chart").dataset["metric"], element("#chart-note").textContent]).toEqual([
      "temperature",
      "",
    ]);
    fleet.setMetric(PRESSURE);
    expect(element("#chart-title").textContent).toBe("Pressure, hPa");
    expect(element("#chart-note").textContent).toContain("does not begin at zero");
    expect(cell("a", "pressure").dataset["current"]).toBe("true");
  });

  test("is walked through by keys, in the table's order, and reads each device aloud", () => {
    load(device("a", 1, { temperature: -3, geo: "Perth" }), device("b", 1));
    key("ArrowRight");
    expect(element("#chart").getAttribute("aria-valuetext")).toBe("a, Perth: −3.0 °C, just now");
    key("End");
    expect(element("#readout").textContent).toBe("b: no temperature yet");
    key("Escape");
    expect(element("#readout").textContent).toBe("");
  });

  test("marks the chosen device in the table, and lets it go again", () => {
    load(device("a", 1), device("b", 1));
    key("ArrowRight");
    key("Enter");
    expect(element("[data-chosen]").dataset["deviceId"]).toBe("a");
    element("[data-device-id=a] td").click();
    expect(document.querySelector("[data-chosen]")).toBeNull();
  });
});

describe("the page", () => {
  const seen = () => ["none", "no-match", "fleet", "controls"].filter((id) => !element(`#${id}`).hidden);

  test("says how to add a device, but not before it knows that there is none", () => {
    expect(seen()).toEqual([]);
    load();
    expect(seen()).toEqual(["none"]);
    expect(element("#none").textContent).toContain("enviromon device add my-first-sensor");
    load(device("a", 1));
    expect(seen()).toEqual(["fleet", "controls"]);
  });

  test("searches, and says when nothing matches", () => {
    load(device("a", 1), device("b", 1));
    fleet.search("b");
    expect([rows(), fleet.found]).toEqual([["b"], "1 of 2 devices shown"]);
    fleet.search("zzz");
    expect(seen()).toEqual(["no-match", "controls"]);
    fleet.search("");
    expect(rows()).toEqual(["a", "b"]);
  });

  test("sums up what is shown", () => {
    load(device("a", 1, { temperature: 0 }), device("b", 1, { temperature: 10 }), device("c", 1));
    const figures = Array.from(document.querySelectorAll("#figures dd"), ({ textContent }) => textContent);
    expect(figures).toEqual(["3", "0.0°C", "5.0°C", "10.0°C", "0", "1"]);
  });

  test("sums up at most ten times a second whatever arrives, and once for an update with a new device", () => {
    vi.useFakeTimers();
    load(device("a", 1));
    const sums = vi.spyOn(Figures.prototype, "show");
    for (let revision = 2; revision <= 61; revision += 1) {
      fleet.updated(model.merge([device("a", revision, { temperature: revision })]));
      vi.advanceTimersByTime(1000 / 60);
    }
    vi.advanceTimersByTime(200);
    expect(sums.mock.calls.length).toBeGreaterThan(5);
    expect(sums.mock.calls.length).toBeLessThanOrEqual(10);
    expect(element("#figures").textContent).toContain("Highest61.0");
    sums.mockClear();
    fleet.updated(model.merge([device("a", 62, { temperature: 62 })]));
    fleet.updated(model.merge([device("b", 1)]));
    vi.advanceTimersByTime(200);
    expect(sums).toHaveBeenCalledTimes(1);
    expect(element("#figures").textContent).toContain("Highest62.0");
  });

  test("counts what becomes stale though nothing arrives", () => {
    load(device("a", 1, { temperature: 0 }));
    now += 61_000;
    fleet.tick();
    expect(element("#figures").textContent).toContain("Stale1");
  });

  test("begins with temperature and remembers what it shows", () => {
    localStorage.clear();
    const listener = { onMetric: vi.fn(), onSearch: vi.fn(), onSearched: vi.fn(), onView: vi.fn() };
    expect(firstMetric([PRESSURE, TEMPERATURE])).toBe(TEMPERATURE);
    setUpControls(METRICS, localStorage, listener);
    element('#metrics [data-metric="pressure"]').click();
    expect(listener.onMetric).toHaveBeenCalledWith(PRESSURE);
    element('[name="view"][value="table"]').click();
    expect([document.body.dataset["view"], localStorage.getItem("enviromon.view")]).toEqual([
      "table",
      "table",
    ]);
  });
});

describe("the head", () => {
  test("shows the state by word and sign, and reads aloud only a state that lasts", () => {
    vi.useFakeTimers();
    const status = new StatusView();
    status.show({ state: "live", label: "Live", detail: "newest reading just now" });
    expect([element("#status").dataset["state"], element("#status-icon").getAttribute("href")]).toEqual([
      "live",
      "#icon-live",
    ]);
    status.show({ state: "reconnecting", label: "Reconnecting", detail: "" });
    status.show({ state: "live", label: "Live", detail: "newest reading 6 s ago" });
    vi.advanceTimersByTime(5_000);
    expect(element("#announcer").textContent).toBe("Live, newest reading 6 s ago");
    status.show({ state: "stale", label: "Stale", detail: "" });
    status.show({ state: "live", label: "Live", detail: "newest reading 9 s ago" });
    vi.advanceTimersByTime(5_000);
    expect(element("#announcer").textContent).toBe("Live, newest reading 6 s ago");
    vi.useRealTimers();
  });

  test("asks for a key where one is needed", () => {
    const onKey = vi.fn();
    const banner = new Banner(onKey);
    banner.show({ title: "Needs a key.", advice: "Enter it.", needsKey: true });
    element("#key").setAttribute("value", " secret ");
    element("#key-form").dispatchEvent(new Event("submit", { cancelable: true }));
    expect([element("#banner").hidden, onKey.mock.calls]).toEqual([false, [["secret"]]]);
    banner.show(null);
    expect(element("#banner").hidden).toBe(true);
  });
});
