/**
 * What the page is told from outside: `config.json` beside index.html, and the address's fragment.
 *
 * config.json: `{"apiBaseUrl": "https://app.example", "staleAfterSeconds": 60, "signIn": {"authority":
 * "https://login.microsoftonline.com/TENANT", "clientId": "...", "scope": "api://.../user_impersonation"}}`; each may be
 * missing, and so may the file.
 * Fragment: `#key=READ_KEY` where reading needs a key. A fragment never leaves the browser by itself.
 */
import { isObject } from "./device.ts";

export interface Config {
  /** Where the API is, without a slash at its end; "" is the page's own origin. */
  readonly apiBaseUrl: string;
  /** After how many ms a reading is stale. */
  readonly staleAfter: number;
  /** Where viewers sign in; null where they need not. */
  readonly signIn: SignIn | null;
}

/** An app registration at Entra ID, and what the API wants of it. */
export interface SignIn {
  readonly authority: string;
  readonly clientId: string;
  readonly scope: string;
}

export const DEFAULT_CONFIG: Config = { apiBaseUrl: "", staleAfter: 60_000, signIn: null };

/** A config.json that is there and cannot be used; the message says what is wrong. */
export class ConfigError extends Error {}

/** Loads config.json; a missing one means the defaults. Throws ConfigError. */
export async function loadConfig(get: typeof fetch = fetch): Promise<Config> {
  const answer = await get("config.json", { cache: "no-cache" }).catch(() => null);
  const isJson = answer?.headers.get("content-type")?.includes("json") ?? false;
  if (!answer?.ok || !isJson) return DEFAULT_CONFIG; // absent, or a static site's page for unknown addresses
  return parseConfig(await answer.text());
}

/** Reads the text of config.json. Throws ConfigError. */
export function parseConfig(text: string): Config {
  const { apiBaseUrl = "", staleAfterSeconds = DEFAULT_CONFIG.staleAfter / 1000, signIn } = parseObject(text);
  if (typeof apiBaseUrl !== "string" || !/^(https?:\/\/[^\s/]+.*)?$/.test(apiBaseUrl)) {
    throw new ConfigError('"apiBaseUrl" must be "" or an http(s) address.');
  }
  if (typeof staleAfterSeconds !== "number" || !(staleAfterSeconds > 0)) {
    throw new ConfigError('"staleAfterSeconds" must be a number above 0.');
  }
  return {
    apiBaseUrl: apiBaseUrl.replace(/\/+$/, ""),
    staleAfter: staleAfterSeconds * 1000,
    signIn: signIn === undefined ? null : parseSignIn(signIn),
  };
}

function parseSignIn(value: unknown): SignIn {
  const { authority, clientId, scope } = isObject(value) ? value : {};
  if (typeof authority !== "string" || !/^https:\/\/[^\s/]+\/[^\s/]+$/.test(authority)) {
    throw new ConfigError('"signIn.authority" must be an https address and a tenant.');
  }
  if (typeof clientId !== "string" || clientId === "" || typeof scope !== "string" || scope === "") {
    throw new ConfigError('"signIn" must name clientId and scope.');
  }
  return { authority, clientId, scope };
}

/** The key in an address's fragment; null where there is none. */
export function keyOf(fragment: string): string | null {
  return new URLSearchParams(fragment.replace(/^#/, "")).get("key") || null;
}

/** 128 random bits as 32 hexadecimal digits: nobody can guess another viewer's name. */
export function newViewer(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const body: unknown = JSON.parse(text);
    if (isObject(body)) return body;
  } catch {
    // falls through: not JSON and not an object are the same mistake to whoever wrote the file
  }
  throw new ConfigError("It must hold one JSON object.");
}
