/**
 * What goes on between the server and the model, without a view.
 *
 * The way of an update: connection -> parseDevices -> Model.merge, where a higher revision wins.
 * The way of a refetch: Refetcher -> Api.pages -> Replacement, which replaces everything; every minute, at the start,
 * and after every reconnect, when updates may have been missed. After the first connection a snapshot is asked for
 * instead: it comes through the connection itself and so leaves no gap between the first fetch and the updates.
 */
import { type Api, ApiError } from "./api.ts";
import { backoff } from "./backoff.ts";
import type { ServerClock } from "./clock.ts";
import { Link, type LinkListener, type Open } from "./connection.ts";
import { type Device, type Metric, parseDevices } from "./device.ts";
import { Model } from "./model.ts";
import { Nap } from "./nap.ts";
import { PERIOD, Refetcher } from "./refetch.ts";
import type { Facts, LinkState } from "./status.ts";

export interface SessionListener {
  /** The catalogue is there; comes once, before anything else. */
  onMetrics(metrics: readonly Metric[]): void;
  /** These devices have news. */
  onUpdated(devices: readonly Device[]): void;
  /** The whole fleet has come anew. */
  onReplaced(): void;
  /** The status or the problem may be another. */
  onChanged(): void;
}

type Source = "catalogue" | "devices" | "link";

/** A connection that fails once is no problem worth a banner; `Reconnecting` says it. */
const TROUBLESOME = 2;

export class Session implements LinkListener {
  readonly model = new Model();
  readonly #api: Api;
  readonly #viewer: string;
  readonly #clock: ServerClock;
  readonly #listener: SessionListener;
  readonly #link: Link;
  readonly #refetcher: Refetcher;
  readonly #nap = new Nap();
  readonly #problems = new Map<Source, unknown>();
  #metrics: readonly Metric[] = [];
  #state: LinkState = "connecting";
  #heard = false;
  #contact: number;
  #newest: number | null = null;
  #fetched = 0;

  constructor(api: Api, open: Open, viewer: string, clock: ServerClock, listener: SessionListener) {
    this.#api = api;
    this.#viewer = viewer;
    this.#clock = clock;
    this.#listener = listener;
    this.#contact = clock.local();
    this.#link = new Link(open, this);
    this.#refetcher = new Refetcher(
      (signal) => this.#fetchAll(signal),
      (error) => this.#settle("devices", error),
    );
  }

  /** Begins; resolves only when `stop` has ended the connection. */
  async run(): Promise<void> {
    this.#metrics = await this.#catalogue();
    this.#listener.onMetrics(this.#metrics);
    this.#refetcher.now();
    await this.#link.run();
  }

  stop(): void {
    this.#refetcher.stop();
    this.#link.stop();
  }

  /** The viewer is back, or online again: do now what is waiting or due. */
  wake(): void {
    this.#nap.wake();
    this.#link.wake();
    if (this.#metrics.length > 0 && this.#clock.local() - this.#fetched > PERIOD) this.#refetcher.now();
  }

  /** Another key holds: ask for everything again. */
  restart(): void {
    this.#nap.wake();
    if (this.#metrics.length === 0) return;
    this.#refetcher.now();
    this.#link.restart();
  }

  /** The most basic of the errors that hold now; null when all is well. */
  get problem(): unknown {
    for (const source of ["catalogue", "devices", "link"] as const) {
      const error = this.#problems.get(source);
      if (error !== undefined) return error;
    }
    return null;
  }

  /** What the status is judged by. */
  facts(online: boolean, staleAfter: number): Facts {
    const silence = this.#clock.local() - this.#contact;
    const now = this.#clock.now();
    const { problem } = this;
    const barred = problem instanceof ApiError && problem.kind === "access";
    return {
      link: this.#state,
      online,
      heard: this.#heard,
      barred,
      silence,
      newest: this.#newest,
      staleAfter,
      now,
    };
  }

  onState(state: LinkState): void {
    this.#state = state;
    this.#heard = false;
    this.#listener.onChanged();
  }

  onConnected(first: boolean): void {
    this.#settle("link", null);
    if (first) this.#api.requestSnapshot(this.#viewer).catch(() => this.#refetcher.now());
    else this.#refetcher.now();
  }

  onFailure(error: unknown, times: number): void {
    const isAccess = error instanceof ApiError && error.kind === "access";
    if (isAccess || times >= TROUBLESOME) this.#settle("link", error);
  }

  onViews(views: unknown): void {
    const first = !this.#heard;
    this.#heard = true;
    this.#contact = this.#clock.local();
    const news = this.model.merge(parseDevices(views, this.#metrics));
    for (const device of news) this.#newest = latest(this.#newest, device.updated);
    if (news.length > 0) this.#listener.onUpdated(news);
    if (first) this.#listener.onChanged();
  }

  async #catalogue(): Promise<Metric[]> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const metrics = await this.#api.metrics();
        this.#settle("catalogue", null);
        return metrics;
      } catch (error) {
        this.#settle("catalogue", error);
        await this.#nap.sleep(backoff(attempt));
      }
    }
  }

  async #fetchAll(signal: AbortSignal): Promise<void> {
    const replacement = this.model.startReplacing();
    for await (const { views, serverTime, sent } of this.#api.pages(signal)) {
      if (serverTime !== null) this.#clock.observe(serverTime, sent);
      replacement.add(parseDevices(views, this.#metrics));
    }
    if (!replacement.commit()) return;
    this.#newest = null;
    for (const { updated } of this.model.devices.values()) this.#newest = latest(this.#newest, updated);
    this.#fetched = this.#clock.local();
    this.#listener.onReplaced();
  }

  /** Notes how something ended; null is well. A refusal is an answer too, no answer is silence. */
  #settle(source: Source, error: unknown): void {
    if (error === null) this.#problems.delete(source);
    else this.#problems.set(source, error);
    const silent = error instanceof ApiError && (error.kind === "unreachable" || error.kind === "service");
    if (!silent) this.#contact = this.#clock.local();
    this.#listener.onChanged();
  }
}

function latest(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.max(a, b);
}
