/**
 * Where the bars stand.
 *
 * Rules: all bars fit the width while each has a pixel, then the chart scrolls; names stand below the bars while there
 * is room, level if they fit or can be shortened decently, else slanted; widths are even, so that bars can be compared.
 */

export type Names = "level" | "slanted" | "none";

/** The slant of names, in radians. */
export const SLANT = (40 * Math.PI) / 180;

export interface Layout {
  /** The width that one device has, and that of its bar, in CSS pixels. */
  readonly slot: number;
  readonly bar: number;
  /** The width of all bars together; more than the room means that the chart scrolls. */
  readonly content: number;
  readonly names: Names;
  /** How long a name may be drawn, and the height that names take below the bars. */
  readonly nameRoom: number;
  readonly bottom: number;
}

export interface Span {
  readonly first: number;
  /** One past the last. */
  readonly end: number;
}

const LEAST_SLOT = 1;
const GREATEST_SLOT = 200;
const GREATEST_BAR = 56;
const READABLE_NAME = 72;
const SLANTED_NAME = 17;
const GREATEST_SLANTED = 110;
const NO_NAMES_BOTTOM = 10;
const LEVEL_BOTTOM = 26;
const SEPARATE_BARS = 3;
const ROOMY = 14;

/** Lays out `count` bars in `width` CSS pixels; `widestName` is how wide the longest name is drawn. */
export function layOut(count: number, width: number, widestName: number): Layout {
  const slot = Math.min(GREATEST_SLOT, Math.max(LEAST_SLOT, width / Math.max(1, count)));
  const names = namesOf(slot, widestName);
  const nameRoom = names === "slanted" ? Math.min(widestName, GREATEST_SLANTED) : slot - 6;
  return {
    slot,
    bar: barWidth(slot),
    content: slot * count,
    names,
    nameRoom,
    bottom: bottomOf(names, nameRoom),
  };
}

/** The bar at this distance from the first one's edge; null beside them. */
export function barAt(x: number, { slot }: Layout, count: number): number | null {
  const index = Math.floor(x / slot);
  return index >= 0 && index < count ? index : null;
}

/** The bars in view, when the chart is scrolled by `scroll`. */
export function barsInView({ slot }: Layout, count: number, scroll: number, width: number): Span {
  return {
    first: Math.max(0, Math.floor(scroll / slot)),
    end: Math.min(count, Math.ceil((scroll + width) / slot)),
  };
}

function namesOf(slot: number, widestName: number): Names {
  if (slot >= Math.min(widestName + 8, READABLE_NAME)) return "level";
  return slot >= SLANTED_NAME ? "slanted" : "none";
}

function bottomOf(names: Names, nameRoom: number): number {
  if (names === "slanted") return Math.ceil(nameRoom * Math.sin(SLANT)) + 24;
  return names === "level" ? LEVEL_BOTTOM : NO_NAMES_BOTTOM;
}

function barWidth(slot: number): number {
  if (slot >= ROOMY) return Math.min(GREATEST_BAR, slot * 0.6);
  return slot >= SEPARATE_BARS ? slot - 1 : slot;
}
