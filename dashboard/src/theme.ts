/**
 * Light or dark: the system's choice until the viewer makes another, which is remembered.
 *
 * Choosing what the system has anyway forgets the choice, so that the page follows the system again.
 */

export type Theme = "light" | "dark";

const KEY = "enviromon.theme";

export class ThemeChoice {
  readonly #storage: Storage | null;
  readonly #system: () => Theme;
  #chosen: Theme | null;

  /** Without a storage (private windows) the choice lasts as long as the page. */
  constructor(storage: Storage | null, system: () => Theme) {
    this.#storage = storage;
    this.#system = system;
    const saved = storage?.getItem(KEY);
    this.#chosen = saved === "light" || saved === "dark" ? saved : null;
  }

  get theme(): Theme {
    return this.#chosen ?? this.#system();
  }

  toggle(): Theme {
    const theme = this.theme === "dark" ? "light" : "dark";
    this.#chosen = theme === this.#system() ? null : theme;
    if (this.#chosen === null) this.#storage?.removeItem(KEY);
    else this.#storage?.setItem(KEY, this.#chosen);
    return theme;
  }
}
