/** The page's head: the status, the banner for problems, the theme. */
import { byId, setAttribute, setText } from "./dom.ts";
import type { Problem } from "./problem.ts";
import type { State, Status } from "./status.ts";
import { ThemeChoice } from "./theme.ts";

/** A state must hold this long before it is read aloud: a connection that blinks is no news. */
const SETTLED = 1500;

/** Shows the status; only a change of state that lasts is read aloud, never the ages. */
export class StatusView {
  readonly #root = byId("status");
  readonly #icon = byId<SVGUseElement>("status-icon");
  readonly #announcer = byId("announcer");
  #state: State | null = null;
  #announced: State | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  show(status: Status): void {
    setText(byId("status-label"), status.label);
    setText(byId("status-detail"), status.detail);
    if (status.state === this.#state) return;
    this.#state = status.state;
    setAttribute(this.#root, "data-state", status.state);
    setAttribute(this.#icon, "href", `#icon-${status.state}`);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#announceState(status), SETTLED);
  }

  #announceState({ state, label, detail }: Status): void {
    if (state === this.#announced) return; // it only blinked
    this.#announced = state;
    this.announce(detail === "" ? label : `${label}, ${detail}`);
  }

  /** Reads a sentence aloud, politely. */
  announce(text: string): void {
    setText(this.#announcer, text);
  }
}

/** Shows the most urgent problem, and takes a key where one is needed. */
export class Banner {
  readonly #root = byId("banner");
  readonly #form = byId<HTMLFormElement>("key-form");
  readonly #input = byId<HTMLInputElement>("key");

  constructor(onKey: (key: string) => void) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      onKey(this.#input.value.trim());
      this.#input.value = "";
    });
  }

  show(problem: Problem | null): void {
    if (problem !== null) {
      setText(byId("banner-title"), problem.title);
      setText(byId("banner-advice"), problem.advice);
      this.#form.hidden = !problem.needsKey;
    }
    this.#root.hidden = problem === null;
  }
}

/** Wires the theme's button; `onChange` follows every change, the system's too. */
export function setUpTheme(onChange: () => void): void {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const choice = new ThemeChoice(storage(), () => (system.matches ? "dark" : "light"));
  const button = byId("theme");
  const apply = (): void => {
    const other = choice.theme === "dark" ? "light" : "dark";
    setAttribute(document.documentElement, "data-theme", choice.theme);
    setAttribute(button, "aria-label", `Use the ${other} theme`);
    setAttribute(byId("theme-icon"), "href", `#icon-${other}`);
    onChange();
  };
  button.addEventListener("click", () => {
    choice.toggle();
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}

/** The browser's storage; null where it is forbidden. */
export function storage(): Storage | null {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}
