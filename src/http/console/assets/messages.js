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

/** Messages that one look backwards asks for, and the looks after which a search rests. */
const WINDOW = 1000;
const LOOKS = 20;

export async function browse(root, channel, signal) {
  const path = { channel: channel.name };
  if (channel.durability === "ephemeral") {
    root.append(h("p", { class: "empty" }, "An ephemeral channel keeps no messages. ",
      h("a", { href: `#/channels/${encodeURIComponent(channel.name)}/live` }, "See them as they come"), "."));
    return;
  }
  const place = select(PLACES, "latest", { "data-testid": "place" });
  const seq = h("input", { type: "number", min: "0", step: "1", value: String(channel.first_seq), "data-testid": "seq" });
  const ago = h("input", { type: "text", value: "15m", "data-testid": "ago" });
  const at = h("input", { type: "datetime-local", step: "1", "data-testid": "at" });
  const filter = h("input", { type: "text", class: "code", spellcheck: "false", placeholder: 'amount >= 100 and status == "paid"', "data-testid": "filter" });
  const limit = select([["20", "20"], ["50", "50"], ["200", "200"]], "50");
  const inputs = { seq: field("Sequence number", seq), ago: field("How long ago", ago, "Such as 15m"), at: field("Time", at, "In your zone") };
  const choose = () => Object.entries(inputs).forEach(([name, element]) => (element.hidden = place.value !== name));
  place.addEventListener("change", choose);
  choose();
  const shown = h("div", { "data-testid": "messages" });
  const range = h("span", { class: "quiet", "data-testid": "range" });
  // Of what is shown: where it begins, where it ends, and whether it came from the end.
  let bounds = { from: 0, to: 0, backwards: true };

  const page = (from, most) => call("GET", "/v1/channels/{channel}/messages", {
    path, signal, query: { from, limit: most, filter: filter.value.trim(), if_changed: "notice" },
  });
  const show = ({ messages, from, to, first_seq, end_seq, notice }, backwards) => {
    bounds = { from, to, backwards };
    shown.replaceChildren(notice ? h("p", { role: "status" }, notice.detail) : "", rows(backwards ? messages.toReversed() : messages, filter.value.trim()));
    older.disabled = from <= first_seq;
    newer.disabled = to >= end_seq;
    const searched = to > from ? `${number(from)} to ${number(to - 1)}` : "nothing";
    range.textContent = `${messages.length} found in ${searched}; ${backwards ? "the newest" : "the oldest"} first`;
    say(`${messages.length} messages`);
  };
  const forwards = async (start) => {
    const wanted = Number(limit.value);
    const one = await page(start, wanted);
    const first = one.messages[0]?.seq ?? one.next_seq;
    const from = filter.value.trim() ? Math.min(first, Number(start) || first) : first;
    show({ ...one, from, to: one.next_seq }, false);
  };
  /** The newest that match before `end`: pages are read forwards, so windows are looked through from the end to the beginning. */
  const backwards = async (end) => {
    const wanted = Number(limit.value);
    const { first_seq, next_seq } = await call("GET", "/v1/channels/{channel}", { path, signal });
    const stop = Math.min(end ?? next_seq, next_seq);
    const window = filter.value.trim() ? WINDOW : wanted;
    let messages = [];
    let from = stop;
    for (let look = 0; look < LOOKS && from > first_seq && messages.length < wanted; look += 1) {
      const to = from;
      from = Math.max(first_seq, to - window);
      const part = [];
      for (let next = from; next < to;) {
        const one = await page(next, to - next);
        part.push(...one.messages.filter((message) => message.seq < to));
        if (one.next_seq <= next) break;
        next = one.next_seq;
      }
      messages = [...part, ...messages];
    }
    if (messages.length > wanted) {
      messages = messages.slice(-wanted);
      from = messages[0].seq;
    }
    show({ messages, from, to: stop, first_seq, end_seq: next_seq }, true);
  };
  const load = () => {
    switch (place.value) {
      case "seq": return forwards(seq.value || "0");
      case "ago": return forwards(ago.value);
      case "at": {
        if (!at.value) throw new Error("Choose a time.");
        return forwards(`${Math.max(0, Math.round((Date.now() - new Date(at.value).getTime()) / 1000))}s`);
      }
      case "earliest": return forwards("earliest");
      default: return backwards();
    }
  };
  const search = form({ class: "bar", "data-testid": "browse" }, load,
    field("Begin at", place), Object.values(inputs),
    h("div", { class: "grow" }, field("Only where", filter, "A predicate over the payload, key or headers")),
    field("Up to", limit),
    h("button", { type: "submit", class: "primary" }, "Show"));
  const step = (text, move) => {
    const element = form({ class: "step" }, move, h("button", { type: "submit" }, text));
    return [element, element.querySelector("button")];
  };
  const [back, older] = step("Older", () => backwards(bounds.from));
  const [on, newer] = step("Newer", () => forwards(bounds.to));
  root.append(search, h("div", { class: "buttons steps" }, back, on, range), shown);
  await load();
}

function rows(messages, filter) {
  if (messages.length === 0) return h("p", { class: "empty" }, filter ? "No message here for which the predicate holds." : "No messages here.");
  return h("ol", { class: "messages" }, messages.map(message));
}

/** One line, which opens to the whole message. */
export function message(one) {
  const inside = h("div", { class: "inside" });
  const details = h("details", { "data-seq": String(one.seq) },
    h("summary", {},
      h("span", { class: "seq" }, String(one.seq)), time(one.timestamp),
      one.key && h("span", { class: "key", title: `Key ${one.key}` }, one.key),
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
  const shown = h("ol", { class: "messages", "aria-label": "New messages, the newest first", "data-testid": "tail" });
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
      state: (word) => (state.textContent = { open: "Following: what is published from now on appears here", lost: "The connection broke. Trying again.", ended: "Ended" }[word]),
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
