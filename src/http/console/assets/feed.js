// The one feed of figures that all views share: the last fifteen minutes from the node's memory, then the newest ones as they come.

import { call, stream } from "./api.js";

const SPAN_MS = 15 * 60_000;
/** What is drawn at least. */
const LEAST_MS = 60_000;

/** What is known now. `samples` are the figures, oldest first; `now` is the newest event; `kept` is how many fifteen minutes hold. */
export const feed = { samples: [], now: undefined, kept: 450, interval: 2000, state: "connecting", error: undefined };

/** How long ago drawings begin: fifteen minutes, or as long as the node has kept figures where that is less. */
export function spanned() {
  const whole = Math.ceil((feed.samples.length * feed.interval) / LEAST_MS) * LEAST_MS;
  return Math.min(SPAN_MS, Math.max(LEAST_MS, whole));
}

const listeners = new Set();
let running = new AbortController();

const tell = () => listeners.forEach((told) => told(feed));

/** Hears of everything new until `signal` ends it, and of what is known at once. */
export function listen(signal, told) {
  listeners.add(told);
  signal.addEventListener("abort", () => listeners.delete(told));
  told(feed);
}

/** Begins again with nothing, with the token of now. */
export function start() {
  Object.assign(feed, { samples: [], now: undefined, state: "connecting", error: undefined });
  tell();
  return resume();
}

/** A page that nobody sees hears nothing: a browser has few connections to a node, and all its tabs share them. */
export const pause = () => running.abort();

/** Goes on, with what came meanwhile from the node's memory. */
export async function resume() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  try {
    await stream("GET", "/v1/live", {
      signal,
      before: () => fill(signal),
      state: (word) => {
        feed.state = word;
        tell();
      },
      told: add,
    });
  } catch (error) {
    if (signal.aborted) return;
    Object.assign(feed, { state: "ended", error });
    tell();
  }
}

/** What the node kept, also of the time in which this page heard nothing. What only this page saw of the nodes stays. */
async function fill(signal) {
  const { samples, interval_ms } = await call("GET", "/v1/history", { signal });
  const seen = new Map(feed.samples.map((sample) => [sample.time, sample]));
  feed.interval = interval_ms;
  feed.kept = Math.round(SPAN_MS / interval_ms);
  feed.samples = samples.map((sample) => seen.get(sample.time) ?? sample);
}

function add(now) {
  feed.now = now;
  const newest = feed.samples.at(-1);
  if (newest?.time === now.figures.time) newest.nodes = now.nodes;
  else feed.samples.push({ ...now.figures, nodes: now.nodes });
  if (feed.samples.length > feed.kept) feed.samples.shift();
  tell();
}
