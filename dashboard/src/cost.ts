/**
 * The tile that says what this would cost on Azure, at the pace that the page has seen.
 *
 * Rules: asked for rarely (after half a minute, then every ten), since asking costs as well; an estimate that cannot be
 * had anew is not shown any more; nothing is read aloud, for it is no news.
 */
import type { Api } from "./api.ts";
import type { Device } from "./device.ts";
import { byId, h, setText } from "./dom.ts";
import type { CostLine, Estimate } from "./estimate.ts";
import { formatAge, formatNumber, plural } from "./format.ts";
import { type Pace, PaceMeter } from "./pace.ts";

/** Three digits that count: an estimate has no more. */
const about = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

const FIRST = 30_000;
const PERIOD = 600_000;

export class CostTile {
  readonly #api: Pick<Api, "cost">;
  readonly #pace = new PaceMeter();
  readonly #root = byId("cost");
  #wait = FIRST;

  constructor(api: Pick<Api, "cost">) {
    this.#api = api;
  }

  record(devices: Iterable<Device>, now: number): void {
    for (const device of devices) this.#pace.record(device, now);
  }

  /** Once a second: asks when it is time to. `devices` is the size of the fleet. */
  tick(devices: number, now: number): void {
    if (devices === 0 || this.#pace.over(now) < this.#wait) return;
    this.#wait = PERIOD;
    void this.#ask(devices, this.#pace.take(now));
  }

  async #ask(devices: number, pace: Pace): Promise<void> {
    const estimate = await this.#api.cost(devices, pace.rate).catch(() => null);
    this.#root.hidden = estimate === null;
    if (estimate !== null) this.#show(estimate, devices, pace);
  }

  #show(estimate: Estimate, devices: number, { rate, over }: Pace): void {
    setText(byId("cost-number"), `about ${money(estimate.perMonth, estimate.currency)}`);
    const readings = `${formatNumber(rate, rate < 1 ? 2 : 1)} readings a second`;
    const late = estimate.newsWaits > 0 ? `, news up to ${formatNumber(estimate.newsWaits, 0)} s late` : "";
    setText(
      byId("cost-basis"),
      `for ${readings}, as in the last ${formatAge(over)}, from ${plural(devices, "device")} to one dashboard${late}`,
    );
    const { advice } = estimate;
    const advised = advice === null ? "" : `${money(advice.perMonth, estimate.currency)} with ${advice.what}`;
    setText(byId("cost-advice"), advised);
    setText(
      byId("cost-verdict"),
      estimate.fitsFreeTier ? "Fits the free tiers, but for storage" : "Does not fit the free tiers",
    );
    byId("cost-reasons").replaceChildren(...estimate.reasons.map((reason) => h("li", {}, `${reason}.`)));
    byId("cost-lines").replaceChildren(...estimate.lines.map((line) => row(line, estimate.currency)));
    setText(
      byId("cost-note"),
      `Prices of ${estimate.compiled}, ${estimate.region}, not read from Azure: an estimate, not an offer. ` +
        "enviromon cost tells more.",
    );
  }
}

function row(line: CostLine, currency: string): HTMLElement {
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, line.service),
    h("td", {}, `${about.format(line.perDay)} ${line.unit}`),
    h("td", {}, line.tier),
    h("td", {}, line.free ? "free" : money(line.perMonth, currency)),
  );
}

/** Whole dollars from a hundred on, cents below, and no 0.00 for what is not nothing. */
export function money(amount: number, currency: string): string {
  const digits = amount >= 100 ? 0 : 2;
  const format = new Intl.NumberFormat("en", {
    style: "currency",
    currency,
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
  return amount > 0 && amount < 0.01 ? `less than ${format.format(0.01)}` : format.format(amount);
}
