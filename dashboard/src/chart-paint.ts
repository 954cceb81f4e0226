/** Paints one frame of the chart onto a canvas: what is given, and nothing remembered. */
import type { Bar } from "./bars.ts";
import { type Layout, SLANT, type Span } from "./chart-layout.ts";
import type { Domain } from "./scale.ts";

export interface Palette {
  readonly ink: string;
  readonly muted: string;
  readonly line: string;
  readonly bar: string;
  readonly barStale: string;
  readonly barActive: string;
  readonly font: string;
}

export interface Scene {
  readonly width: number;
  readonly height: number;
  readonly pixelRatio: number;
  readonly gutter: number;
  readonly scroll: number;
  readonly layout: Layout;
  readonly view: Span;
  readonly bars: readonly Bar[];
  readonly domain: Domain;
  /** Where bars begin: zero, or the axis's lower end. */
  readonly base: number;
  readonly ticks: readonly { readonly value: number; readonly text: string }[];
  readonly format: (value: number) => string;
  /** The bar pointed at or chosen. */
  readonly active: number | null;
  readonly palette: Palette;
}

export const TOP = 22;
export const SMALL = 12;
const VALUE_ROOM = 34;
const ROUND_FROM = 10;
const CAP = 3;

/** Paints the scene. */
export function paint(context: CanvasRenderingContext2D, scene: Scene): void {
  const { width, height, pixelRatio } = scene;
  context.setTransform(pixelRatio, 0, 0, pixelRatio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.textBaseline = "alphabetic";
  paintGrid(context, scene);
  context.save();
  context.beginPath();
  context.rect(scene.gutter, 0, width - scene.gutter, height);
  context.clip();
  paintActiveBand(context, scene);
  paintBars(context, scene);
  paintBase(context, scene);
  if (scene.layout.names !== "none") paintNames(context, scene);
  if (scene.layout.slot >= VALUE_ROOM) paintValues(context, scene);
  context.restore();
}

/** The height of a value in CSS pixels from the top. */
export function heightOf(
  value: number,
  { height, domain, layout }: Pick<Scene, "height" | "domain" | "layout">,
): number {
  const bottom = height - layout.bottom;
  return bottom - ((value - domain.low) / (domain.high - domain.low)) * (bottom - TOP);
}

function paintGrid(context: CanvasRenderingContext2D, scene: Scene): void {
  const { gutter, width, palette } = scene;
  context.font = `${SMALL}px ${palette.font}`;
  context.textAlign = "right";
  context.strokeStyle = palette.line;
  context.lineWidth = 1;
  context.fillStyle = palette.muted;
  for (const { value, text } of scene.ticks) {
    const y = Math.round(heightOf(value, scene)) + 0.5;
    strokeAcross(context, gutter, width, y);
    context.fillText(text, gutter - 8, y + 4);
  }
}

function paintBase(context: CanvasRenderingContext2D, scene: Scene): void {
  const y = Math.round(heightOf(scene.base, scene)) + 0.5;
  context.strokeStyle = scene.palette.muted;
  context.lineWidth = 1;
  if (scene.base !== 0) context.setLineDash([2, 4]); // the axis does not start at zero
  strokeAcross(context, scene.gutter, scene.width, y);
  context.setLineDash([]);
}

function paintActiveBand(context: CanvasRenderingContext2D, scene: Scene): void {
  if (scene.active === null) return;
  context.fillStyle = scene.palette.line;
  const slot = Math.max(2, scene.layout.slot);
  context.fillRect(leftOf(scene.active, scene), TOP - 14, slot, scene.height - TOP + 14);
}

function paintBars(context: CanvasRenderingContext2D, scene: Scene): void {
  const base = heightOf(scene.base, scene);
  for (let index = scene.view.first; index < scene.view.end; index += 1) {
    const bar = scene.bars[index];
    if (bar === undefined || Number.isNaN(bar.shown)) continue;
    paintBar(context, scene, index, bar, base);
  }
}

function paintBar(
  context: CanvasRenderingContext2D,
  scene: Scene,
  index: number,
  bar: Bar,
  base: number,
): void {
  const { palette, pixelRatio } = scene;
  const middle = leftOf(index, scene) + scene.layout.slot / 2;
  const left = snap(middle - scene.layout.bar / 2, pixelRatio);
  const width = Math.max(1 / pixelRatio, snap(middle + scene.layout.bar / 2, pixelRatio) - left);
  const tip = heightOf(bar.shown, scene);
  // A value on the base line still shows: a thin bar, where a gap has none.
  const extent = Math.max(2, Math.abs(tip - base));
  const top = tip <= base ? base - extent : base;
  context.fillStyle = index === scene.active ? palette.barActive : bar.stale ? palette.barStale : palette.bar;
  if (width < ROUND_FROM) {
    paintThinBar(context, { left, top, width, extent, down: tip > base, stale: bar.stale });
    return;
  }
  paintRoomyBar(context, { left, top, width, extent, down: tip > base, stale: bar.stale });
}

interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly extent: number;
  readonly down: boolean;
  readonly stale: boolean;
}

/** A stale one is faint with a firm end, so that it differs by more than its hue. */
function paintThinBar(
  context: CanvasRenderingContext2D,
  { left, top, width, extent, down, stale }: Box,
): void {
  if (!stale) {
    context.fillRect(left, top, width, extent);
    return;
  }
  context.globalAlpha = 0.5;
  context.fillRect(left, top, width, extent);
  context.globalAlpha = 1;
  context.fillRect(left, down ? top + extent - CAP : top, width, CAP);
}

/** Rounded at the value's end; a stale one is an outline, so that it differs by more than its colour. */
function paintRoomyBar(
  context: CanvasRenderingContext2D,
  { left, top, width, extent, down, stale }: Box,
): void {
  const radius = Math.min(5, width / 3, extent);
  const corners = down ? [0, 0, radius, radius] : [radius, radius, 0, 0];
  context.beginPath();
  if (!stale) {
    context.roundRect(left, top, width, extent, corners);
    context.fill();
    return;
  }
  context.roundRect(left + 1, top + 1, width - 2, Math.max(1, extent - 1), corners);
  context.strokeStyle = context.fillStyle;
  context.lineWidth = 1.5;
  context.setLineDash([4, 3]);
  context.stroke();
  context.setLineDash([]);
}

function paintValues(context: CanvasRenderingContext2D, scene: Scene): void {
  const { palette, base } = scene;
  context.font = `600 ${scene.layout.slot >= 60 ? 14 : SMALL}px ${palette.font}`;
  context.textAlign = "center";
  for (let index = scene.view.first; index < scene.view.end; index += 1) {
    const bar = scene.bars[index];
    if (bar === undefined) continue;
    const gap = Number.isNaN(bar.value);
    const x = leftOf(index, scene) + scene.layout.slot / 2;
    const tip = heightOf(gap ? base : bar.shown, scene);
    const below = !gap && bar.value < base;
    context.fillStyle = gap || bar.stale ? palette.muted : palette.ink;
    context.fillText(gap ? "–" : scene.format(bar.value), x, below ? tip + 16 : tip - 7);
  }
}

function paintNames(context: CanvasRenderingContext2D, scene: Scene): void {
  const { palette, layout } = scene;
  context.font = `${SMALL}px ${palette.font}`;
  context.textAlign = layout.names === "slanted" ? "right" : "center";
  for (let index = scene.view.first; index < scene.view.end; index += 1) {
    const bar = scene.bars[index];
    if (bar === undefined) continue;
    context.fillStyle = index === scene.active ? palette.ink : palette.muted;
    const x = leftOf(index, scene) + layout.slot / 2;
    paintName(context, shortened(context, bar.device.name, layout.nameRoom), x, scene);
  }
}

function paintName(
  context: CanvasRenderingContext2D,
  name: string,
  x: number,
  { height, layout }: Scene,
): void {
  if (layout.names === "level") {
    context.fillText(name, x, height - 8);
    return;
  }
  context.save();
  context.translate(x + 4, height - layout.bottom + 16);
  context.rotate(-SLANT);
  context.fillText(name, 0, 0);
  context.restore();
}

function shortened(context: CanvasRenderingContext2D, name: string, room: number): string {
  if (context.measureText(name).width <= room) return name;
  let length = Math.floor((name.length * room) / context.measureText(name).width);
  while (length > 1 && context.measureText(`${name.slice(0, length)}…`).width > room) length -= 1;
  return `${name.slice(0, length)}…`;
}

function leftOf(index: number, { gutter, scroll, layout }: Scene): number {
  return gutter + index * layout.slot - scroll;
}

function strokeAcross(context: CanvasRenderingContext2D, from: number, to: number, y: number): void {
  context.beginPath();
  context.moveTo(from, y);
  context.lineTo(to, y);
  context.stroke();
}

/** To the grid of device pixels: thin bars stay crisp. */
function snap(x: number, pixelRatio: number): number {
  return Math.round(x * pixelRatio) / pixelRatio;
}
