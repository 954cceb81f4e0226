/** The composition root: reads what the page is told and ties session and views together. */
import { type Access, keyAccess, signIn } from "./access.ts";
import { Api } from "./api.ts";
import { ServerClock } from "./clock.ts";
import { type Config, DEFAULT_CONFIG, loadConfig, newViewer } from "./config.ts";
import { firstMetric, setUpControls } from "./controls.ts";
import { CostTile } from "./cost.ts";
import type { Metric } from "./device.ts";
import { Fleet } from "./fleet.ts";
import { Banner, StatusView, setUpTheme, storage } from "./header.ts";
import { History } from "./history.ts";
import { explain } from "./problem.ts";
import { Session, type SessionListener } from "./session.ts";
import { signalR } from "./signalr.ts";
import { judge } from "./status.ts";

class Page implements SessionListener {
  readonly #config: Config;
  readonly #access: Access;
  readonly #clock = new ServerClock();
  readonly #history = new History();
  readonly #status = new StatusView();
  readonly #banner = new Banner((key) => {
    location.hash = new URLSearchParams({ key }).toString();
  });
  readonly #session: Session;
  readonly #cost: CostTile;
  #fleet: Fleet | null = null;

  constructor(config: Config, access: Access) {
    this.#config = config;
    this.#access = access;
    const api = new Api(config.apiBaseUrl, access, Date.now);
    this.#cost = new CostTile(api);
    const viewer = newViewer();
    this.#session = new Session(api, signalR(api, viewer), viewer, this.#clock, this);
  }

  start(): void {
    setUpTheme(() => this.#fleet?.refresh());
    setInterval(() => this.#tick(), 1000);
    document.addEventListener("visibilitychange", () => this.#wake());
    window.addEventListener("online", () => this.#wake());
    window.addEventListener("offline", () => this.onChanged());
    window.addEventListener("hashchange", () => this.#session.restart());
    this.onChanged();
    void this.#session.run();
  }

  onMetrics(metrics: readonly Metric[]): void {
    const { model } = this.#session;
    const given = { metrics, model, history: this.#history, now: () => this.#clock.now() };
    const fleet = new Fleet({ ...given, staleAfter: this.#config.staleAfter }, firstMetric(metrics));
    setUpControls(metrics, storage(), {
      onMetric: (metric) => fleet.setMetric(metric),
      onSearch: (query) => fleet.search(query),
      onSearched: () => this.#status.announce(fleet.found),
      onView: () => fleet.refresh(),
    });
    this.#fleet = fleet;
  }

  onUpdated(devices: Parameters<SessionListener["onUpdated"]>[0]): void {
    for (const device of devices) this.#history.record(device);
    this.#cost.record(devices, this.#clock.local());
    this.#fleet?.updated(devices);
  }

  onReplaced(): void {
    const { devices } = this.#session.model;
    this.#history.keep(devices);
    for (const device of devices.values()) this.#history.record(device);
    this.#cost.record(devices.values(), this.#clock.local());
    this.#fleet?.replaced();
  }

  onChanged(): void {
    const { problem } = this.#session;
    const { apiBaseUrl, staleAfter } = this.#config;
    this.#status.show(judge(this.#session.facts(navigator.onLine, staleAfter)));
    this.#banner.show(problem === null ? null : explain(problem, apiBaseUrl, this.#access.shown()));
  }

  #tick(): void {
    if (document.hidden) return;
    this.onChanged();
    this.#fleet?.tick();
    this.#cost.tick(this.#session.model.devices.size, this.#clock.local());
  }

  #wake(): void {
    if (document.hidden) return;
    this.#session.wake();
    this.#tick();
  }
}

async function main(): Promise<void> {
  try {
    const config = await loadConfig();
    const access = config.signIn === null ? keyAccess(() => location.hash) : await signIn(config.signIn);
    new Page(config, access).start();
  } catch (error) {
    setUpTheme(() => {});
    new Banner(() => {}).show(explain(error, DEFAULT_CONFIG.apiBaseUrl, "nothing"));
  }
}

void main();
