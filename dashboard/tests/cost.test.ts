// @vitest-environment happy-dom
import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, test } from "vitest";
import { CostTile, money } from "../src/cost.ts";
import { parseEstimate } from "../src/estimate.ts";
import { PaceMeter } from "../src/pace.ts";
import { device, NOW, settled } from "./helpers.ts";

const INDEX = readFileSync("index.html", "utf8");
const received = (id: string, count: number) => device(id, count, { ledger: { received: count } });

describe("the pace", () => {
  test("is what the devices received while the page looked on, over that time", () => {
    const pace = new PaceMeter();
    pace.record(received("a", 1000), NOW);
    pace.record(received("b", 5), NOW + 1000);
    pace.record(received("a", 1012), NOW + 5000);
    pace.record(received("b", 13), NOW + 9000);
    expect(pace.take(NOW + 10_000)).toEqual({ rate: 2, over: 10_000 });
    pace.record(received("b", 14), NOW + 11_000);
    expect(pace.take(NOW + 12_000)).toEqual({ rate: 0.5, over: 2000 });
  });

  test("does not run backwards when a device counts anew", () => {
    const pace = new PaceMeter();
    pace.record(received("a", 1000), NOW);
    pace.record(received("a", 2), NOW + 1000);
    pace.record(received("a", 4), NOW + 2000);
    expect(pace.take(NOW + 2000).rate).toBe(1);
  });

  test("is nothing before the first device", () => {
    expect(new PaceMeter().take(NOW)).toEqual({ rate: 0, over: 0 });
  });
});

describe("the tile", () => {
  const answer = {
    perMonth: 145.9,
    currency: "USD",
    fitsFreeTier: false,
    reasons: ["IoT Hub: 518,400 messages of 0.5 KB a day, 8,000 are free"],
    lines: [
      {
        service: "IoT Hub",
        unit: "messages of 4 KB",
        perDay: 518400,
        tier: "S1, 2 units",
        perMonth: 50,
        free: false,
      },
      {
        service: "Functions",
        unit: "executions",
        perDay: 100,
        tier: "Flex Consumption",
        perMonth: 0,
        free: true,
      },
      {
        service: "Table storage",
        unit: "transactions",
        perDay: 9,
        tier: "Standard",
        perMonth: 0.0001,
        free: null,
      },
    ],
    advice: { what: "news that may wait 5 s", perMonth: 73.1 },
    prices: { compiled: "2026-11-24", region: "East US" },
  };
  let given: unknown;
  let asked: [number, number][];
  let tile: CostTile;

  beforeEach(() => {
    document.body.innerHTML = INDEX.slice(INDEX.indexOf("<body>") + 6, INDEX.indexOf("</body>"));
    given = answer;
    asked = [];
    tile = new CostTile({
      cost: async (devices, rate) => {
        asked.push([devices, rate]);
        const estimate = parseEstimate(given);
        if (estimate === null) throw new Error("no answer");
        return estimate;
      },
    });
    tile.record([received("a", 10)], NOW);
  });
  const text = (id: string) => document.getElementById(id)?.textContent;
  const root = () => document.getElementById("cost") as HTMLElement;

  test("asks after half a minute and then every ten minutes, with the pace since it last asked", async () => {
    tile.tick(1, NOW + 29_000);
    expect(asked).toEqual([]);
    expect(root().hidden).toBe(true);
    tile.record([received("a", 190)], NOW + 30_000);
    tile.tick(1, NOW + 30_000);
    tile.tick(1, NOW + 31_000);
    tile.tick(1, NOW + 629_000);
    tile.tick(1, NOW + 630_000);
    expect(asked).toEqual([
      [1, 6],
      [1, 0],
    ]);
  });

  test("says how much, on what that rests, and why it is not free", async () => {
    tile.record([received("a", 190)], NOW + 30_000);
    tile.tick(1, NOW + 30_000);
    await settled();
    expect(root().hidden).toBe(false);
    expect(text("cost-number")).toBe("about $146");
    expect(text("cost-basis")).toBe(
      "for 6.0 readings a second, as in the last 30 s, from 1 device to one dashboard",
    );
    expect(text("cost-verdict")).toBe("Does not fit the free tiers");
    expect(text("cost-advice")).toBe("$73.10 with news that may wait 5 s");
    expect(text("cost-reasons")).toBe("IoT Hub: 518,400 messages of 0.5 KB a day, 8,000 are free.");
    expect(
      Array.from(document.querySelectorAll("#cost-lines tr td:last-child"), (cell) => cell.textContent),
    ).toEqual(["$50.00", "free", "less than $0.01"]);
    expect(text("cost-note")).toContain("2026-11-24");
  });

  test("says how late news may be where it waits for a batch to fill", async () => {
    given = { ...answer, workload: { batching: { minimum: 100, maximum: 1000, maxWait: 5 } } };
    tile.tick(1, NOW + 30_000);
    await settled();
    expect(text("cost-basis")).toContain("to one dashboard, news up to 5 s late");
    given = { ...answer, workload: { batching: { minimum: 1, maximum: 1000, maxWait: 60 } } };
    tile.tick(1, NOW + 630_000);
    await settled();
    expect(text("cost-basis")).toMatch(/to one dashboard$/);
  });

  test("says that it fits where it fits", async () => {
    given = { ...answer, fitsFreeTier: true, reasons: [], advice: null };
    tile.tick(1, NOW + 30_000);
    await settled();
    expect(text("cost-verdict")).toBe("Fits the free tiers, but for storage");
    expect(text("cost-advice")).toBe("");
    expect(text("cost-reasons")).toBe("");
  });

  test("is not shown any more when there is no answer", async () => {
    tile.tick(1, NOW + 30_000);
    await settled();
    expect(root().hidden).toBe(false);
    given = null;
    tile.tick(1, NOW + 700_000);
    await settled();
    expect(root().hidden).toBe(true);
  });

  test.each([
    null,
    7,
    {},
    { ...answer, lines: 1 },
    { ...answer, perMonth: "much" },
    { ...answer, currency: "" },
  ])("is shown no estimate in %j", (body) => expect(parseEstimate(body)).toBeNull());
});

test("money is whole dollars from a hundred on, and never nothing where it is something", () => {
  expect([0, 0.004, 6.5, 99.99, 1825.11].map((amount) => money(amount, "USD"))).toEqual([
    "$0.00",
    "less than $0.01",
    "$6.50",
    "$99.99",
    "$1,825",
  ]);
});
