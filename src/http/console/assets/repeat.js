// Looking again and again while a view is open.

import { Refused } from "./api.js";
import { show } from "./dom.js";

/**
 * Does something until `signal` ends it, with a time between, or what a function says before each. A page that nobody sees does not ask. A node that does not
 * answer is asked again; what it refuses ends this.
 */
export async function repeat(signal, ms, act) {
  let lost = false;
  while (!signal.aborted) {
    try {
      if (!document.hidden) await act();
      if (lost) document.getElementById("notice").replaceChildren();
      lost = false;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Refused) || error.problem.code) throw error;
      if (!lost) show(error);
      lost = true;
    }
    await new Promise((resolve) => setTimeout(resolve, typeof ms === "function" ? ms() : ms));
  }
}
