/** What an error means to the person who sees it, and what they can do. */
import type { Access } from "./access.ts";
import { ApiError } from "./api.ts";
import { ConfigError } from "./config.ts";

export interface Problem {
  readonly title: string;
  readonly advice: string;
  /** A key would help: offer a field for it. */
  readonly needsKey: boolean;
}

/** Explains an error. `base` is the API's address, `shown` what it was shown. */
export function explain(error: unknown, base: string, shown: ReturnType<Access["shown"]>): Problem {
  if (error instanceof ConfigError) {
    return problem(
      "config.json cannot be used.",
      `${error.message} Correct the file beside index.html, then reload.`,
    );
  }
  if (!(error instanceof ApiError))
    return problem("The page met an error.", `${text(error)}. Reload the page.`);
  switch (error.kind) {
    case "access":
      if (shown === "token") {
        return problem(
          "Your sign-in does not open this dashboard.",
          `It says: ${sentence(error.message)} Reload the page to sign in again, or ask whoever runs Enviromon for access.`,
        );
      }
      return {
        title: shown === "key" ? "The read key was refused." : "This dashboard needs a read key.",
        advice:
          "Open it with #key=YOUR_KEY at the end of its address, or enter the key here. Whoever runs Enviromon has it as READ_KEY.",
        needsKey: true,
      };
    case "unreachable":
      return problem(
        base ? `The API at ${base} does not answer.` : "The API does not answer.",
        base
          ? "Check that the function app runs, that config.json names it, and that its CORS setting allows this page. Trying again by itself."
          : "Check that Enviromon runs: enviromon up. Trying again by itself.",
      );
    case "refused":
      return problem(
        `The API answered with status ${error.status}.`,
        `It says: ${sentence(error.message)} Trying again by itself.`,
      );
    case "service":
      return problem(
        "Live updates do not come through.",
        "The SignalR service that the API names cannot be reached from here. Values are fetched every minute meanwhile. Trying again by itself.",
      );
    case "broken":
      return problem(
        "The API gave an answer that this page does not understand.",
        `${sentence(error.message)} Check that config.json names an Enviromon of the same version. Trying again by itself.`,
      );
  }
}

function problem(title: string, advice: string): Problem {
  return { title, advice, needsKey: false };
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
