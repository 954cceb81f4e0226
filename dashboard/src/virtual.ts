/** Which rows of a long table are worth having in the document. */

export interface Rows {
  readonly first: number;
  /** One past the last. */
  readonly end: number;
}

/** Up to here all rows are there: the browser's own search finds them, a screen reader reads on without a break. */
const ALL = 100;
const SPARE = 10;

/** The rows in view and some around them. `top` is the first row's distance below the viewport's top (negative: scrolled past). */
export function rowsInView(count: number, rowHeight: number, top: number, viewport: number): Rows {
  if (count <= ALL || rowHeight <= 0) return { first: 0, end: Math.min(count, ALL) };
  const first = Math.floor(-top / rowHeight) - SPARE;
  const end = Math.ceil((viewport - top) / rowHeight) + SPARE;
  return { first: clamp(first, 0, count), end: clamp(end, 0, count) };
}

function clamp(value: number, least: number, greatest: number): number {
  return Math.min(greatest, Math.max(least, value));
}
