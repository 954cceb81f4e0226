/**
 * A sparkline's path: recent values over time.
 *
 * Rules: time runs evenly from the first to the last point; where two points lie further apart than `gap` the line
 * breaks; the height spans the values, but at least `leastSpan`, so that noise stays small; one point is a dot.
 */

export interface Points {
  readonly length: number;
  time(index: number): number;
  value(index: number): number;
}

export interface Frame {
  readonly width: number;
  readonly height: number;
  /** Room for the line's own thickness. */
  readonly inset: number;
  /** Two points further apart than this many ms are not joined. */
  readonly gap: number;
  readonly leastSpan: number;
}

/** The `d` of an SVG path; "" without points. */
export function sparkline(points: Points, frame: Frame): string {
  const { length } = points;
  if (length === 0) return "";
  const x = across(points, frame);
  const y = upward(points, frame);
  let path = "";
  for (let index = 0; index < length; index += 1) {
    const joined = index > 0 && points.time(index) - points.time(index - 1) <= frame.gap;
    const next = index + 1 < length && points.time(index + 1) - points.time(index) <= frame.gap;
    path += `${joined ? "L" : "M"}${x(index)} ${y(index)}`;
    if (!joined && !next) path += "h0"; // a lone point: a round cap makes it a dot
  }
  return path;
}

function across(points: Points, { width, inset }: Frame): (index: number) => string {
  const first = points.time(0);
  const duration = points.time(points.length - 1) - first;
  const room = width - 2 * inset;
  return (index) =>
    round(duration === 0 ? inset + room : inset + ((points.time(index) - first) / duration) * room);
}

function upward(points: Points, { height, inset, leastSpan }: Frame): (index: number) => string {
  let least = Number.POSITIVE_INFINITY;
  let greatest = Number.NEGATIVE_INFINITY;
  for (let index = 0; index < points.length; index += 1) {
    least = Math.min(least, points.value(index));
    greatest = Math.max(greatest, points.value(index));
  }
  const span = Math.max(greatest - least, leastSpan);
  const low = (least + greatest - span) / 2;
  return (index) => round(height - inset - ((points.value(index) - low) / span) * (height - 2 * inset));
}

function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}
