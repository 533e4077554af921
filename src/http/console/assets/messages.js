// Browsing the stored messages of a channel, and following new ones.

import { call, stream } from "./api.js";
import { field, form, h, problem, say, select } from "./dom.js";
import { json, number, payload, preview, time } from "./format.js";

const PLACES = [
  ["latest", "The newest"],
  ["earliest", "The oldest"],
  ["seq", "A sequence number"],
  ["ago", "A time ago"],
  ["at", "A time"],
];

export async function browse(root, channel, signal) {
  const path = { channel: channel.name };
  const place = select(PLACES, "latest", { "data-testid": "place" });
  const seq = h("input", { type: "number", min: "0", step: "1", value: String(channel.first_seq), "data-testid": "seq" });
  const ago = h("input", { type: "text", value: "15m", "data-testid": "ago" });
  const at = h("input", { type: "datetime-local", step: "1", "data-testid": "at" });
  const filter = h("input", { type: "text", class: "code", spellcheck: "false", "data-testid": "filter" });
  const limit = select([["20", "20"], ["50", "50"], ["200", "200"]], "50");
  const inputs = { seq: field("Sequence number", seq), ago: field("How long ago", ago, "Such as 15m"), at: field("Time", at, "In your zone") };
  const choose = () => Object.entries(inputs).forEach(([name, element]) => (element.hidden = place.value !== name));
  place.addEventListener("change", choose);
  choose();
  const shown = h("div", { "data-testid": "messages" });
  let bounds = { first: channel.first_seq, next: channel.first_seq, from: channel.first_seq };

  const load = async (from) => {
    const page = await call("GET", "/v1/channels/{channel}/messages", {
      path, signal, query: { from, limit: limit.value, filter: filter.value.trim(), if_changed: "notice" },
    });
    const first = page.messages[0]?.seq ?? page.next_seq;
    bounds = { first: page.first_seq, next: page.next_seq, from: Math.min(first, Number(from) || first) };
    shown.replaceChildren(page.notice ? h("p", { role: "status" }, page.notice.detail) : "", rows(page.messages));
    older.disabled = bounds.from <= page.first_seq;
    newer.disabled = page.next_seq >= page.end_seq;
    say(`${page.messages.length} messages`);
  };
  const start = async () => {
    switch (place.value) {
      case "seq": return seq.value || "0";
      case "ago": return ago.value;
      case "at": return `${Math.max(0, Math.round((Date.now() - new Date(at.value).getTime()) / 1000)) || 0}s`;
      case "earliest": return "earliest";
      default: {
        const { first_seq, next_seq } = await call("GET", "/v1/channels/{channel}", { path, signal });
        return Math.max(first_seq, next_seq - Number(limit.value));
      }
    }
  };
  const search = form({ class: "bar", "data-testid": "browse" }, async () => load(await start()),
    field("Begin at", place), Object.values(inputs),
    field("Only where", filter, 'A predicate, such as action == "opened"'),
    field("Up to", limit),
    h("button", { type: "submit", class: "primary" }, "Show"));
  const step = (text, where) => {
    const move = form({ class: "step" }, () => load(where()), h("button", { type: "submit" }, text));
    return [move, move.querySelector("button")];
  };
  const [back, older] = step("Older", () => Math.max(bounds.first, bounds.from - Number(limit.value)));
  const [on, newer] = step("Newer", () => bounds.next);
  root.append(search, h("div", { class: "buttons" }, back, on), shown);
  if (channel.durability === "ephemeral") {
    shown.append(h("p", {}, "An ephemeral channel keeps no messages: look at Live."));
    return;
  }
  await load(await start());
}

function rows(messages) {
  if (messages.length === 0) return h("p", { class: "empty" }, "No messages here.");
  return h("ol", { class: "messages" }, messages.map(message));
}

/** One line, which opens to the whole message. */
export function message(one) {
  const inside = h("div", { class: "inside" });
  const details = h("details", { "data-seq": String(one.seq) },
    h("summary", {},
      h("span", { class: "seq" }, String(one.seq)), time(one.timestamp),
      h("span", { class: "key" }, one.key ?? ""),
      h("code", { class: "preview" }, preview(one))),
    inside);
  details.addEventListener("toggle", () => {
    if (details.open && !inside.hasChildNodes()) inside.append(whole(one));
  });
  return h("li", {}, details);
}

/** Everything about a message. */
export function whole(one) {
  const { payload: _p, payload_base64: _b, headers, ...rest } = one;
  const facts = Object.entries(rest).filter(([, value]) => value !== null && typeof value !== "object");
  return h("div", {},
    h("dl", { class: "facts" }, facts.map(([term, value]) => h("div", {}, h("dt", {}, term.replaceAll("_", " ")), h("dd", {}, String(value))))),
    Object.keys(headers ?? {}).length > 0 && [h("h3", {}, "Headers"), h("pre", { class: "json", tabindex: "0" }, json(headers))],
    one.trace_context && [h("h3", {}, "Trace context"), h("pre", { class: "json", tabindex: "0" }, json(one.trace_context))],
    h("h3", {}, "Payload"), payload(one));
}

/** So many of the newest are shown. */
const SHOWN = 200;
const FLUSH_MS = 250;

export async function tail(root, channel, signal) {
  const filter = h("input", { type: "text", class: "code", spellcheck: "false", "data-testid": "tail-filter" });
  const pause = h("button", { type: "button", "aria-pressed": "false", "data-testid": "pause" }, "Pause");
  const state = h("p", { class: "state", role: "status", "data-testid": "tail-state" }, "Connecting");
  const shown = h("ol", { class: "messages", reversed: true, "data-testid": "tail" });
  let follows = new AbortController();
  let held = [];
  let missed = 0;
  const paused = () => pause.getAttribute("aria-pressed") === "true";
  // What came is shown a few times in a second, however much it is: what is too much is counted.
  const flush = () => {
    if (paused() || held.length === 0) return;
    held.forEach((one) => shown.prepend(message(one)));
    while (shown.children.length > SHOWN) shown.lastElementChild.remove();
    state.textContent = missed > 0 ? `Following; ${number(missed)} messages were too many to be shown` : "Following";
    held = [];
  };
  const flushing = setInterval(flush, FLUSH_MS);
  signal.addEventListener("abort", () => clearInterval(flushing));
  pause.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(!paused()));
    state.textContent = paused() ? "Paused" : "Following";
    flush();
  });
  const told = (one, name) => {
    if (name === "notice") {
      state.textContent = one.detail;
      return;
    }
    held.push(one);
    if (held.length > SHOWN) {
      held.shift();
      missed += 1;
    }
  };
  const follow = () => {
    follows.abort();
    follows = new AbortController();
    return stream("GET", "/v1/channels/{channel}/events", {
      path: { channel: channel.name },
      query: { from: "latest", filter: filter.value.trim() },
      signal: AbortSignal.any([signal, follows.signal]),
      state: (word) => (state.textContent = { open: "Following", lost: "The connection broke. Trying again.", ended: "Ended" }[word]),
      told,
    });
  };
  const start = () => follow().catch((error) => signal.aborted || state.replaceChildren(problem(error)));
  const choice = form({ class: "bar" }, async () => {
    shown.replaceChildren();
    [held, missed] = [[], 0];
    start();
  }, field("Only where", filter, "A predicate"), h("button", { type: "submit" }, "Apply"), pause);
  root.append(choice, state, shown);
  start();
}
