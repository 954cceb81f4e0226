/**
 * All devices, as the newest revision of each that the page has seen.
 *
 * Two ways in: `merge` takes updates, where only a higher revision counts; a `Replacement` takes the whole
 * fleet as the server has it and then replaces everything, so that what was removed, or what started again
 * from revision 1, is shown as it is. What is merged while a replacement is under way wins over the fetched
 * pages where it is newer: an update that arrives during a refetch is never lost.
 */
import type { Device } from "./device.ts";

export class Model {
  #devices: ReadonlyMap<string, Device> = new Map();
  #replacement: Replacement | null = null;

  get devices(): ReadonlyMap<string, Device> {
    return this.#devices;
  }

  /** Merges updates by revision and returns those that were news. */
  merge(updates: Iterable<Device>): Device[] {
    const news: Device[] = [];
    const devices = this.#devices as Map<string, Device>;
    for (const device of updates) {
      this.#replacement?.overtake(device);
      if (!mergeInto(devices, device)) continue;
      news.push(device);
    }
    return news;
  }

  /** Begins to replace everything; a replacement that is still under way is given up. */
  startReplacing(): Replacement {
    this.#replacement = new Replacement((replacement, devices) => {
      if (this.#replacement !== replacement) return false;
      this.#replacement = null;
      this.#devices = devices;
      return true;
    });
    return this.#replacement;
  }
}

/** The fleet as it is being fetched, page by page. */
export class Replacement {
  readonly #fetched = new Map<string, Device>();
  readonly #meanwhile = new Map<string, Device>();
  readonly #replace: (replacement: Replacement, devices: Map<string, Device>) => boolean;

  constructor(replace: (replacement: Replacement, devices: Map<string, Device>) => boolean) {
    this.#replace = replace;
  }

  add(page: Iterable<Device>): void {
    for (const device of page) mergeInto(this.#fetched, device);
  }

  /** Notes an update that arrived while pages were being fetched. */
  overtake(device: Device): void {
    mergeInto(this.#meanwhile, device);
  }

  /** Replaces the model's devices; false when a later replacement has taken its place. */
  commit(): boolean {
    for (const device of this.#meanwhile.values()) mergeInto(this.#fetched, device);
    return this.#replace(this, this.#fetched);
  }
}

function mergeInto(devices: Map<string, Device>, device: Device): boolean {
  const known = devices.get(device.id);
  if (known !== undefined && known.revision >= device.revision) return false;
  devices.set(device.id, device);
  return true;
}
