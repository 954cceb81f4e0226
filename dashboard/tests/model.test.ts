import { beforeEach, describe, expect, test } from "vitest";
import { Model } from "../src/model.ts";
import { device } from "./helpers.ts";

let model: Model;
beforeEach(() => {
  model = new Model();
});

const revisions = () =>
  Object.fromEntries(Array.from(model.devices.values(), ({ id, revision }) => [id, revision]));

describe("merging", () => {
  test("takes a higher revision and says that it is news", () => {
    model.merge([device("a", 1)]);
    expect(model.merge([device("a", 2)]).map(({ revision }) => revision)).toEqual([2]);
    expect(revisions()).toEqual({ a: 2 });
  });

  test("ignores the same and a lower revision, in whatever order they come", () => {
    model.merge([device("a", 3), device("a", 2)]);
    expect(model.merge([device("a", 3), device("a", 1)])).toEqual([]);
    expect(revisions()).toEqual({ a: 3 });
  });

  test("takes a higher revision whose readings are older: a late one counts", () => {
    model.merge([device("a", 1, { temperature: 20 })]);
    model.merge([device("a", 2, { temperature: 20, count: 2, eventTime: "2026-03-04T11:00:00Z" })]);
    expect(model.devices.get("a")?.count).toBe(2);
  });
});

describe("replacing everything", () => {
  test("drops what the server no longer has", () => {
    model.merge([device("a", 1), device("gone", 9)]);
    const replacement = model.startReplacing();
    replacement.add([device("a", 1)]);
    replacement.commit();
    expect(revisions()).toEqual({ a: 1 });
  });

  test("takes a lower revision: the server has begun anew", () => {
    model.merge([device("a", 500)]);
    const replacement = model.startReplacing();
    replacement.add([device("a", 2)]);
    replacement.commit();
    expect(revisions()).toEqual({ a: 2 });
    expect(model.merge([device("a", 3)])).toHaveLength(1);
  });

  test("changes nothing before it is complete", () => {
    model.merge([device("a", 1)]);
    model.startReplacing().add([device("b", 1)]);
    expect(revisions()).toEqual({ a: 1 });
  });

  test("loses no update that arrives before its page", () => {
    const replacement = model.startReplacing();
    model.merge([device("a", 5)]);
    replacement.add([device("a", 4), device("b", 1)]);
    replacement.commit();
    expect(revisions()).toEqual({ a: 5, b: 1 });
  });

  test("loses no update that arrives after its page", () => {
    const replacement = model.startReplacing();
    replacement.add([device("a", 4)]);
    model.merge([device("a", 5)]);
    replacement.add([device("b", 1)]);
    replacement.commit();
    expect(revisions()).toEqual({ a: 5, b: 1 });
  });

  test("prefers a page that is newer than an update that came meanwhile", () => {
    const replacement = model.startReplacing();
    model.merge([device("a", 4)]);
    replacement.add([device("a", 6)]);
    replacement.commit();
    expect(revisions()).toEqual({ a: 6 });
  });

  test("keeps a device that appears meanwhile", () => {
    const replacement = model.startReplacing();
    model.merge([device("new", 1)]);
    replacement.commit();
    expect(revisions()).toEqual({ new: 1 });
  });

  test("keeps an update below the old revision but above the fetched one: the server has begun anew meanwhile", () => {
    model.merge([device("a", 500)]);
    const replacement = model.startReplacing();
    replacement.add([device("a", 2)]);
    model.merge([device("a", 3)]);
    replacement.commit();
    expect(revisions()).toEqual({ a: 3 });
  });

  test("yields to a replacement that began later", () => {
    const early = model.startReplacing();
    early.add([device("early", 1)]);
    const late = model.startReplacing();
    late.add([device("late", 1)]);
    expect(late.commit()).toBe(true);
    expect(early.commit()).toBe(false);
    expect(revisions()).toEqual({ late: 1 });
  });
});
