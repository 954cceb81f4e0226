/**
 * The chart: one bar per device for the metric chosen, on a canvas, in the table's order.
 *
 * Rules: nothing is drawn but in an animation frame, and no frame is asked for unless something changed or still moves
 * (a hidden tab has no frames, so it draws nothing); above `MANY` bars every second frame is enough. The chart is one
 * control for the keyboard: arrows, Page Up and Down, Home and End go from device to device, Enter chooses, Escape leaves.
 */
import { Bars } from "./bars.ts";
import { barAt, barsInView, type Layout, layOut } from "./chart-layout.ts";
import { type Palette, paint, type Scene, SMALL, TOP } from "./chart-paint.ts";
import type { Device, Metric } from "./device.ts";
import { byId, setAttribute } from "./dom.ts";
import { formatNumber } from "./format.ts";
import { type Domain, extent, growsFromZero, StableDomain, ticks } from "./scale.ts";

export interface ChartListener {
  /** The device pointed at or reached by keys; null for none. */
  onPoint(id: string | null): void;
  /** The device clicked or entered. */
  onChoose(id: string): void;
  /** How a device reads aloud. */
  describe(device: Device): string;
}

const MANY = 150;
const MANY_FRAME = 30;
const PAGE = 10;

export class Chart {
  readonly #root = byId("chart");
  readonly #spacer = byId("chart-width");
  readonly #canvas = byId<HTMLCanvasElement>("canvas");
  readonly #context = this.#canvas.getContext("2d");
  readonly #bars = new Bars();
  readonly #listener: ChartListener;
  readonly #calm: () => boolean;
  #metric: Metric;
  #stable: StableDomain;
  #domain: Domain | null = null;
  #layout: Layout = layOut(0, 1, 0);
  #palette: Palette | null = null;
  #size = { width: 0, height: 0, gutter: 0 };
  #pointed: number | null = null;
  #chosen: string | null = null;
  #frame = 0;
  #painted = 0;

  /** `calm` tells whether the viewer wants no motion. */
  constructor(metric: Metric, listener: ChartListener, calm: () => boolean) {
    this.#metric = metric;
    this.#stable = new StableDomain(metric);
    this.#listener = listener;
    this.#calm = calm;
    this.#listen();
  }

  setMetric(metric: Metric): void {
    this.#metric = metric;
    this.#stable = new StableDomain(metric);
    this.#domain = null;
    this.#bars.setMetric(metric.name);
    setAttribute(this.#root, "data-metric", metric.name);
    this.resize();
  }

  /** Shows these devices in this order. */
  setDevices(devices: readonly Device[], isStale: (time: number) => boolean): void {
    const pointed = this.#bars.list[this.#pointed ?? -1]?.device.id;
    this.#bars.setDevices(devices, isStale);
    const index = devices.findIndex(({ id }) => id === pointed);
    this.#pointed = index < 0 ? null : index;
    setAttribute(this.#root, "aria-valuemax", String(Math.max(1, devices.length)));
    setAttribute(this.#root, "data-devices", String(devices.length));
    this.resize();
  }

  update(devices: Iterable<Device>, isStale: (time: number) => boolean): void {
    this.#bars.update(devices, isStale);
    this.#request();
  }

  /** Once a second: stale bars are seen to be, and the spoken text keeps up. */
  tick(isStale: (time: number) => boolean): void {
    if (this.#bars.age(isStale)) this.#request();
    this.#speak();
  }

  choose(id: string | null): void {
    this.#chosen = id;
    this.#request();
  }

  /** The theme has changed: read the colours anew. */
  repaint(): void {
    this.#palette = null;
    this.#request();
  }

  /** Fits the canvas to its room. */
  resize(): void {
    const { clientWidth: width, clientHeight: height } = this.#root;
    if (width === 0 || this.#context === null) return;
    const gutter = this.#gutter(this.#context);
    this.#size = { width, height, gutter };
    this.#layout = layOut(this.#bars.list.length, width - gutter, this.#widestName(this.#context));
    this.#spacer.style.width = `${Math.max(width, Math.floor(gutter + this.#layout.content))}px`;
    this.#canvas.style.width = `${width}px`;
    this.#canvas.style.height = `${height}px`;
    this.#fitPixels();
    this.#request();
  }

  #fitPixels(): void {
    const width = Math.round(this.#size.width * devicePixelRatio);
    const height = Math.round(this.#size.height * devicePixelRatio);
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
  }

  #request(): void {
    if (this.#frame === 0) this.#frame = requestAnimationFrame((time) => this.#draw(time));
  }

  #draw(time: number): void {
    this.#frame = 0;
    const elapsed = time - this.#painted;
    if (this.#bars.list.length > MANY && elapsed < MANY_FRAME) {
      this.#request();
      return;
    }
    this.#painted = time;
    if (this.#context === null || this.#size.width === 0 || this.#bars.list.length === 0) return;
    const moving = this.#move(time, Math.min(elapsed, 100));
    paint(this.#context, this.#scene());
    if (moving) this.#request();
  }

  /** Moves the bars and the axis on; true while they still move. */
  #move(time: number, elapsed: number): boolean {
    const target = this.#stable.update(extent(valuesOf(this.#bars)), time);
    const pixel = (target.high - target.low) / this.#size.height;
    const duration = this.#calm() ? Number.POSITIVE_INFINITY : elapsed;
    const axisMoves = this.#moveAxis(target, pixel, duration);
    return this.#bars.step(duration, pixel * 0.3) || axisMoves;
  }

  #moveAxis(target: Domain, pixel: number, elapsed: number): boolean {
    const from = this.#domain ?? target;
    const far = Math.max(Math.abs(target.low - from.low), Math.abs(target.high - from.high)) > pixel * 0.3;
    const share = far ? 1 - Math.exp(-elapsed / 160) : 1;
    this.#domain = {
      low: from.low + (target.low - from.low) * share,
      high: from.high + (target.high - from.high) * share,
    };
    return far && share < 1;
  }

  #scene(): Scene {
    const { width, height, gutter } = this.#size;
    const domain = this.#domain ?? { low: 0, high: 1 };
    const scroll = this.#root.scrollLeft;
    const bars = this.#bars.list;
    const { decimals } = this.#metric;
    this.#palette ??= readPalette(this.#root);
    return {
      ...{ width, height, gutter, scroll, domain, bars },
      pixelRatio: devicePixelRatio,
      layout: this.#layout,
      view: barsInView(this.#layout, bars.length, scroll, width - gutter),
      base: this.#base(domain),
      ticks: this.#ticks(domain),
      format: (value) => formatNumber(value, decimals),
      active: this.#active(),
      palette: this.#palette,
    };
  }

  #base({ low, high }: Domain): number {
    return growsFromZero(this.#metric) ? Math.min(high, Math.max(low, 0)) : low;
  }

  #ticks(domain: Domain): { value: number; text: string }[] {
    const values = ticks(domain, (this.#size.height - TOP) / 52);
    const decimals = Math.min(
      4,
      Math.max(0, ...values.map((value) => (String(value).split(".")[1] ?? "").length)),
    );
    return values.map((value) => ({ value, text: formatNumber(value, decimals) }));
  }

  #active(): number | null {
    if (this.#pointed !== null) return this.#pointed;
    const index =
      this.#chosen === null ? -1 : this.#bars.list.findIndex(({ device }) => device.id === this.#chosen);
    return index < 0 ? null : index;
  }

  #gutter(context: CanvasRenderingContext2D): number {
    context.font = `${SMALL}px ${getComputedStyle(this.#root).fontFamily}`;
    const { minimum, maximum } = this.#metric;
    const widest = [minimum ?? 0, maximum ?? 99_999].map(
      (bound) => context.measureText(`${formatNumber(bound, 0)}.5`).width,
    );
    return Math.ceil(Math.max(30, ...widest) + 12);
  }

  #widestName(context: CanvasRenderingContext2D): number {
    const longest = this.#bars.list.reduce(
      (name, { device }) => (device.name.length > name.length ? device.name : name),
      "",
    );
    return context.measureText(longest).width;
  }

  #listen(): void {
    new ResizeObserver(() => this.resize()).observe(this.#root);
    this.#root.addEventListener("scroll", () => this.#request(), { passive: true });
    this.#root.addEventListener("pointermove", (event) => this.#point(this.#barUnder(event)));
    this.#root.addEventListener("pointerleave", () => this.#point(null));
    this.#root.addEventListener("blur", () => this.#point(null));
    this.#root.addEventListener("click", (event) => this.#enter(this.#barUnder(event)));
    this.#root.addEventListener("keydown", (event) => this.#onKey(event));
  }

  #barUnder(event: MouseEvent): number | null {
    const x = event.clientX - this.#root.getBoundingClientRect().left - this.#size.gutter;
    return x < 0 ? null : barAt(x + this.#root.scrollLeft, this.#layout, this.#bars.list.length);
  }

  #point(index: number | null): void {
    if (index === this.#pointed) return;
    this.#pointed = index;
    this.#listener.onPoint(this.#bars.list[index ?? -1]?.device.id ?? null);
    this.#speak();
    this.#request();
  }

  #enter(index: number | null): void {
    const bar = this.#bars.list[index ?? -1];
    if (bar !== undefined) this.#listener.onChoose(bar.device.id);
  }

  #onKey(event: KeyboardEvent): void {
    const last = this.#bars.list.length - 1;
    const at = this.#active();
    const steps: Record<string, number> = {
      ArrowRight: (at ?? -1) + 1,
      ArrowUp: (at ?? -1) + 1,
      ArrowLeft: (at ?? last + 1) - 1,
      ArrowDown: (at ?? last + 1) - 1,
      PageUp: (at ?? -1) + PAGE,
      PageDown: (at ?? last + 1) - PAGE,
      Home: 0,
      End: last,
    };
    const step = steps[event.key];
    if (event.key === "Enter" || event.key === " ") this.#enter(this.#pointed);
    else if (event.key === "Escape") this.#point(null);
    else if (step !== undefined && last >= 0) this.#goTo(Math.min(last, Math.max(0, step)));
    else return;
    event.preventDefault();
  }

  #goTo(index: number): void {
    this.#point(index);
    const left = index * this.#layout.slot;
    const room = this.#size.width - this.#size.gutter;
    const { scrollLeft } = this.#root;
    if (left < scrollLeft) this.#root.scrollLeft = left;
    else if (left + this.#layout.slot > scrollLeft + room)
      this.#root.scrollLeft = left + this.#layout.slot - room;
  }

  #speak(): void {
    const index = this.#active();
    const bar = this.#bars.list[index ?? -1];
    setAttribute(this.#root, "aria-valuenow", String((index ?? 0) + 1));
    setAttribute(
      this.#root,
      "aria-valuetext",
      bar ? this.#listener.describe(bar.device) : "No device chosen. Use the arrow keys.",
    );
  }
}

function* valuesOf(bars: Bars): Generator<number> {
  for (const { value } of bars.list) if (!Number.isNaN(value)) yield value;
}

/** The theme's colours as the canvas needs them: resolved. */
function readPalette(root: HTMLElement): Palette {
  const probe = document.createElement("span");
  root.append(probe);
  const colour = (name: string): string => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const palette: Palette = {
    ink: colour("ink"),
    muted: colour("muted"),
    line: colour("line"),
    bar: colour("bar"),
    barStale: colour("bar-stale"),
    barActive: colour("bar-active"),
    font: getComputedStyle(root).fontFamily,
  };
  probe.remove();
  return palette;
}
