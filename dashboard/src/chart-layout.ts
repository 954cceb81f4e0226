/**
 * Where the bars stand.
 *
 * Rules: all bars fit the width while each has a pixel, then the chart scrolls; names stand below the bars while there
 * is room to read them; widths are even, so that bars can be compared.
 */

export interface Layout {
  /** The width that one device has, and that of its bar, in CSS pixels. */
  readonly slot: number;
  readonly bar: number;
  /** The width of all bars together; more than the room means that the chart scrolls. */
  readonly content: number;
  readonly names: boolean;
}

export interface Span {
  readonly first: number;
  /** One past the last. */
  readonly end: number;
}

const LEAST_SLOT = 1;
const GREATEST_SLOT = 150;
const GREATEST_BAR = 56;
const READABLE_NAME = 48;
const SEPARATE_BARS = 3;
const ROOMY = 14;

/** Lays out `count` bars in `width` CSS pixels; `widestName` is how wide the longest name is drawn. */
export function layOut(count: number, width: number, widestName: number): Layout {
  const slot = Math.min(GREATEST_SLOT, Math.max(LEAST_SLOT, width / Math.max(1, count)));
  return {
    slot,
    bar: barWidth(slot),
    content: slot * count,
    names: slot >= Math.min(widestName + 8, READABLE_NAME),
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

function barWidth(slot: number): number {
  if (slot >= ROOMY) return Math.min(GREATEST_BAR, slot * 0.6);
  return slot >= SEPARATE_BARS ? slot - 1 : slot;
}
