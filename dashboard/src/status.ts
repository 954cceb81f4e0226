/**
 * The one word that says how far the page can be trusted.
 *
 * | state        | it is true that                                                                        |
 * |--------------|----------------------------------------------------------------------------------------|
 * | connecting   | the first connection is being made                                                     |
 * | waiting      | connected, but nothing has come through this connection yet                            |
 * | live         | connected, something came through this connection, the newest reading is recent         |
 * | stale        | connected, but the newest reading is older than the threshold                          |
 * | reconnecting | not connected, trying; the server answered not long ago                                |
 * | offline      | not connected: no answer for the threshold, the browser is off, or the key was refused   |
 */
import { formatAgo, formatTime } from "./format.ts";

export type State = "connecting" | "waiting" | "live" | "stale" | "reconnecting" | "offline";
export type LinkState = "connecting" | "connected" | "reconnecting";

export interface Facts {
  readonly link: LinkState;
  /** The browser's own word; false is reliable, true is not. */
  readonly online: boolean;
  /** Whether something has come through the present connection. */
  readonly heard: boolean;
  /** The server refuses us for want of the right key or token. */
  readonly barred: boolean;
  /** For how many ms the server has not answered anything. */
  readonly silence: number;
  /** Event time of the newest reading of all devices, unix ms; null where there is none. */
  readonly newest: number | null;
  /** After how many ms a reading is stale. */
  readonly staleAfter: number;
  /** The server's time, unix ms. */
  readonly now: number;
}

export interface Status {
  readonly state: State;
  readonly label: string;
  readonly detail: string;
}

const LABELS: Readonly<Record<State, string>> = {
  connecting: "Connecting",
  waiting: "Connected",
  live: "Live",
  stale: "Stale",
  reconnecting: "Reconnecting",
  offline: "Offline",
};

/** Judges the facts. */
export function judge(facts: Facts): Status {
  const state = stateOf(facts);
  return { state, label: LABELS[state], detail: detailOf(state, facts) };
}

function stateOf({ link, online, heard, barred, silence, newest, staleAfter, now }: Facts): State {
  if (link !== "connected") return barred || !online || silence > staleAfter ? "offline" : link;
  if (newest !== null && now - newest > staleAfter) return "stale";
  return heard && newest !== null ? "live" : "waiting";
}

function detailOf(state: State, { newest, now, barred }: Facts): string {
  if (state === "offline" && barred) return "not allowed to read";
  if (newest === null) return state === "waiting" ? "waiting for the first reading" : "";
  if (state === "live" || state === "stale") return `newest reading ${formatAgo(now - newest)}`;
  if (state === "waiting") return "waiting for news";
  return `showing values up to ${formatTime(newest, now)}`;
}
