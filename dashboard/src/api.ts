/**
 * The HTTP API. What proves that the page may read goes into these requests alone, never to the SignalR service.
 */
import type { Access } from "./access.ts";
import { isObject, type Metric, parseMetrics, parseTime } from "./device.ts";
import { type Estimate, parseEstimate } from "./estimate.ts";

/** A request that failed, by who must act on it. */
export class ApiError extends Error {
  /**
   * unreachable: no answer; access: a key or token is missing or wrong; refused: any other status; broken: not what was agreed;
   * service: the API answered, but the SignalR service that it named did not.
   */
  readonly kind: "unreachable" | "access" | "refused" | "broken" | "service";
  readonly status: number | null;

  constructor(kind: ApiError["kind"], message: string, status: number | null = null) {
    super(message);
    this.kind = kind;
    this.status = status;
  }
}

/** One page of GET /api/devices, its views yet unread. */
export interface Page {
  readonly views: unknown;
  readonly next: string | null;
  /** The server's time in unix ms, and when the viewer asked. */
  readonly serverTime: number | null;
  readonly sent: number;
}

/** Where the SignalR service is, and the token that it wants. */
export interface Negotiated {
  readonly url: string;
  readonly accessToken: string;
}

const TIMEOUT = 15_000;

export class Api {
  readonly #base: string;
  readonly #access: Access;
  readonly #now: () => number;

  /** `now` is the viewer's clock in unix ms. */
  constructor(base: string, access: Access, now: () => number) {
    this.#base = base;
    this.#access = access;
    this.#now = now;
  }

  async metrics(): Promise<Metric[]> {
    const body = await this.#json("GET", "/api/metrics-catalogue");
    try {
      return parseMetrics(body);
    } catch (error) {
      throw new ApiError("broken", String(error));
    }
  }

  /** Every page of the fleet in turn. */
  async *pages(signal: AbortSignal): AsyncGenerator<Page> {
    const seen = new Set<string>();
    for (let after: string | null = ""; after !== null; ) {
      if (seen.has(after)) throw new ApiError("broken", "the pages of devices go round in a circle");
      seen.add(after);
      const page: Page = await this.#page(after, signal);
      yield page;
      after = page.next;
    }
  }

  async negotiate(viewer: string): Promise<Negotiated> {
    const body = await this.#json("POST", `/api/viewers/${viewer}/negotiate?negotiateVersion=1`);
    if (!isObject(body) || typeof body["url"] !== "string" || typeof body["accessToken"] !== "string") {
      throw new ApiError("broken", "negotiate answered without url and accessToken");
    }
    return { url: body["url"], accessToken: body["accessToken"] };
  }

  /** Asks that the state of all devices be sent to this viewer, by SignalR. */
  async requestSnapshot(viewer: string): Promise<void> {
    await this.#send("POST", "/api/getdevicestate", { body: JSON.stringify({ viewer }) });
  }

  /** What a month on Azure costs for that many devices, readings a second and one dashboard. */
  async cost(devices: number, rate: number): Promise<Estimate> {
    const query = new URLSearchParams({ devices: String(devices), rate: rate.toFixed(4), viewers: "1" });
    const estimate = parseEstimate(await this.#json("GET", `/api/cost?${query}`));
    if (estimate === null) throw new ApiError("broken", "/api/cost did not answer with an estimate");
    return estimate;
  }

  async #page(after: string, signal: AbortSignal): Promise<Page> {
    const sent = this.#now();
    const query = after === "" ? "" : `?${new URLSearchParams({ after })}`;
    const body = await this.#json("GET", `/api/devices${query}`, { signal });
    if (!isObject(body) || !Array.isArray(body["devices"]))
      throw new ApiError("broken", "a page without devices");
    const next = typeof body["next"] === "string" ? body["next"] : null;
    return { views: body["devices"], next, serverTime: parseTime(body["serverTime"]), sent };
  }

  async #json(method: string, path: string, options: RequestInit = {}): Promise<unknown> {
    const answer = await this.#send(method, path, options);
    try {
      return await answer.json();
    } catch {
      throw new ApiError("broken", `${path} did not answer with JSON`);
    }
  }

  async #send(method: string, path: string, options: RequestInit): Promise<Response> {
    const timeout = AbortSignal.timeout(TIMEOUT);
    const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
    const answer = await this.#fetch(`${this.#base}${path}`, {
      ...options,
      method,
      signal,
      headers: await this.#headers(options),
    });
    if (answer.ok) return answer;
    const kind = answer.status === 401 || answer.status === 403 ? "access" : "refused";
    throw new ApiError(kind, await problemOf(answer), answer.status);
  }

  async #fetch(url: string, options: RequestInit): Promise<Response> {
    try {
      return await fetch(url, { cache: "no-store", ...options });
    } catch (error) {
      throw new ApiError("unreachable", error instanceof Error ? error.message : String(error));
    }
  }

  async #headers(options: RequestInit): Promise<Record<string, string>> {
    const content = options.body ? { "content-type": "application/json" } : {};
    try {
      return { ...content, ...(await this.#access.headers()) };
    } catch (error) {
      throw new ApiError("access", error instanceof Error ? error.message : String(error));
    }
  }
}

/** What an RFC 9457 problem says, else the status. */
async function problemOf(answer: Response): Promise<string> {
  const body: unknown = await answer.json().catch(() => null);
  const said = isObject(body) ? (body["detail"] ?? body["title"]) : null;
  return typeof said === "string" && said !== "" ? said : `status ${answer.status}`;
}
