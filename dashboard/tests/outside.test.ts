import { afterEach, describe, expect, test, vi } from "vitest";
import { keyAccess, tokenAccess } from "../src/access.ts";
import { Api, ApiError } from "../src/api.ts";
import { ServerClock } from "../src/clock.ts";
import { ConfigError, DEFAULT_CONFIG, keyOf, loadConfig, newViewer, parseConfig } from "../src/config.ts";
import { explain } from "../src/problem.ts";

const json = (body: unknown, status = 200) => Response.json(body, { status });
const never = new AbortController().signal;

function apiWith(
  answer: (url: string, options: RequestInit) => Response | Promise<Response>,
  key: string | null = null,
) {
  const fetched = vi.fn(async (url: string, options: RequestInit) => answer(url, options));
  vi.stubGlobal("fetch", fetched);
  return {
    api: new Api(
      "https://api.example",
      keyAccess(() => (key === null ? "" : `#key=${key}`)),
      () => 1000,
    ),
    fetched,
  };
}
afterEach(() => vi.unstubAllGlobals());

describe("config.json", () => {
  test("may be missing, or be a static site's page for unknown addresses", async () => {
    expect(await loadConfig(async () => new Response("", { status: 404 }))).toEqual(DEFAULT_CONFIG);
    const page = new Response("<!doctype html>", { headers: { "content-type": "text/html" } });
    expect(await loadConfig(async () => page)).toEqual(DEFAULT_CONFIG);
    expect(await loadConfig(() => Promise.reject(new TypeError("no network")))).toEqual(DEFAULT_CONFIG);
  });

  test("names the API and the threshold", async () => {
    const text = { apiBaseUrl: "https://app.example/", staleAfterSeconds: 300 };
    expect(await loadConfig(async () => json(text))).toEqual({
      apiBaseUrl: "https://app.example",
      staleAfter: 300_000,
      signIn: null,
    });
    expect(parseConfig("{}")).toEqual(DEFAULT_CONFIG);
  });

  test("names where to sign in", () => {
    const signIn = { authority: "https://login.example/tenant", clientId: "c", scope: "api://c/read" };
    expect(parseConfig(JSON.stringify({ signIn })).signIn).toEqual(signIn);
  });

  test.each([
    { authority: "http://login.example/tenant", clientId: "c", scope: "s" },
    { authority: "https://login.example", clientId: "c", scope: "s" },
    { authority: "https://login.example/tenant", clientId: "", scope: "s" },
    { authority: "https://login.example/tenant", clientId: "c" },
    null,
  ])("that names no place to sign in is refused: %j", (signIn) =>
    expect(() => parseConfig(JSON.stringify({ signIn }))).toThrow(ConfigError),
  );

  test.each(["", "[]", "null", '{"apiBaseUrl": 7}', '{"apiBaseUrl": "ftp://x"}', '{"staleAfterSeconds": 0}'])(
    "that holds %s is refused",
    (text) => expect(() => parseConfig(text)).toThrow(ConfigError),
  );
});

describe("the address", () => {
  test("may hold a key in its fragment", () => {
    expect(keyOf("#key=a%2Fb")).toBe("a/b");
    expect([keyOf(""), keyOf("#"), keyOf("#key="), keyOf("#other")]).toEqual([null, null, null, null]);
  });

  test("names a viewer by 128 bits that nobody can guess", () => {
    expect(newViewer()).toMatch(/^[0-9a-f]{32}$/);
    expect(newViewer()).not.toBe(newViewer());
  });
});

describe("the API", () => {
  test("is read page by page", async () => {
    const { api, fetched } = apiWith((url) =>
      url.includes("after") ? json({ devices: [2], next: null }) : json({ devices: [1], next: "a b&" }),
    );
    const views: unknown[] = [];
    for await (const page of api.pages(never)) views.push(page.views);
    expect(views).toEqual([[1], [2]]);
    expect(fetched.mock.calls[1]?.[0]).toBe("https://api.example/api/devices?after=a+b%26");
  });

  test("is not read in a circle", async () => {
    const { api } = apiWith(() => json({ devices: [], next: "same" }));
    const read = async () => {
      for await (const _ of api.pages(never));
    };
    await expect(read()).rejects.toMatchObject({ kind: "broken" });
  });

  test("is asked what a pace costs, and must answer with an estimate", async () => {
    const prices = { compiled: "2026-11-24", region: "East US" };
    const told = { perMonth: 8, currency: "USD", fitsFreeTier: false, reasons: [], lines: [], prices };
    const { api, fetched } = apiWith(() => json(told));
    expect(await api.cost(6, 0.09)).toMatchObject({ perMonth: 8, ...prices });
    expect(fetched.mock.calls[0]?.[0]).toBe("https://api.example/api/cost?devices=6&rate=0.0900&viewers=1");
    await expect(apiWith(() => json({})).api.cost(6, 0.09)).rejects.toMatchObject({ kind: "broken" });
  });

  test("gets the key in a header, and none where there is none", async () => {
    const { api, fetched } = apiWith(() => json({ url: "u", accessToken: "t" }), "secret");
    await api.negotiate("viewer");
    expect(fetched.mock.calls[0]?.[1].headers).toEqual({ "x-enviromon-key": "secret" });
    const open = apiWith(() => new Response(null, { status: 202 }));
    await open.api.requestSnapshot("viewer");
    expect(open.fetched.mock.calls[0]?.[1]).toMatchObject({
      ...{ method: "POST", body: '{"viewer":"viewer"}', headers: { "content-type": "application/json" } },
    });
  });

  test("gets the token of whoever signed in, a fresh one at each request", async () => {
    const { fetched } = apiWith(() => json({ metrics: [] }));
    const tokens = ["first", "second"];
    const access = tokenAccess(async () => tokens.shift() ?? "");
    const api = new Api("https://api.example", access, () => 1000);
    await api.negotiate("viewer").catch(() => {});
    await api.negotiate("viewer").catch(() => {});
    expect(fetched.mock.calls.map(([, options]) => options.headers)).toEqual([
      { authorization: "Bearer first" },
      { authorization: "Bearer second" },
    ]);
  });

  test("is not asked without the token that it wants", async () => {
    const { fetched } = apiWith(() => json({}));
    const access = tokenAccess(() => Promise.reject(new Error("signed out")));
    const api = new Api("https://api.example", access, () => 1000);
    await expect(api.metrics()).rejects.toMatchObject({ kind: "access", message: "signed out" });
    expect(fetched).not.toHaveBeenCalled();
  });

  test.each([
    [() => json({ detail: "reading needs a key" }, 401), "access", "reading needs a key"],
    [() => json({}, 403), "access", "status 403"],
    [() => json({ detail: "the store is away" }, 503), "refused", "the store is away"],
    [() => new Response("<html>", { status: 502 }), "refused", "status 502"],
    [() => Promise.reject(new TypeError("Failed to fetch")), "unreachable", "Failed to fetch"],
    [() => new Response("<html>"), "broken", "/api/metrics-catalogue did not answer with JSON"],
  ] as const)("that fails says who must act (%#)", async (answer, kind, message) => {
    await expect(apiWith(answer).api.metrics()).rejects.toMatchObject({ kind, message });
  });
});

describe("an explanation", () => {
  const kinds = ["access", "unreachable", "refused", "broken", "service"] as const;
  test.each(kinds)("of %s says what happened and what to do", (kind) => {
    const problem = explain(new ApiError(kind, "why", 500), "", "nothing");
    expect(problem.title).toMatch(/[a-z0-9]\.$/);
    expect(problem.advice.length).toBeGreaterThan(20);
    expect(problem.needsKey).toBe(kind === "access");
  });

  test("tells a missing key from a wrong one, and from a sign-in", () => {
    const told = (["nothing", "key", "token"] as const).map((shown) =>
      explain(new ApiError("access", "no"), "", shown),
    );
    expect(told.map(({ title }) => title)).toEqual([
      "This dashboard needs a read key.",
      "The read key was refused.",
      "Your sign-in does not open this dashboard.",
    ]);
    expect(told.map(({ needsKey }) => needsKey)).toEqual([true, true, false]);
  });

  test("of a foreign API thinks of CORS, of the own one of the command", () => {
    const error = new ApiError("unreachable", "");
    expect(explain(error, "https://x", "nothing").advice).toContain("CORS");
    expect(explain(error, "", "nothing").advice).toContain("enviromon up");
  });

  test("names the file that is wrong", () => {
    expect(explain(new ConfigError("It must hold one JSON object."), "", "nothing").title).toContain(
      "config.json",
    );
    expect(explain(new Error("boom"), "", "nothing").advice).toContain("boom");
  });
});

describe("the server's clock", () => {
  test("corrects the viewer's by the middle of the request", () => {
    let local = 1_000;
    const clock = new ServerClock(() => local);
    const sent = clock.local();
    local = 1_200;
    clock.observe(51_100, sent);
    expect(clock.now()).toBe(51_200);
    local = 2_200;
    expect(clock.now()).toBe(52_200);
  });
});
