/** How long to wait before the next try: it doubles up to a limit, and varies so that viewers do not return all at once. */

/** Milliseconds before try number `attempt` (from 0), between half and all of min(limit, base * 2^attempt). */
export function backoff(
  attempt: number,
  base = 500,
  limit = 15_000,
  random: () => number = Math.random,
): number {
  const full = Math.min(limit, base * 2 ** Math.min(attempt, 30));
  return full * (0.5 + random() / 2);
}
