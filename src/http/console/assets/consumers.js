// Consumers: how far behind each is, and what became of the messages that it gave up.

import { call, list } from "./api.js";
import { bar } from "./chart.js";
import { button, confirmed, field, form, h, problem, refresh, say, select, table } from "./dom.js";
import { bytes, duration, number, time, span } from "./format.js";
import { whole } from "./messages.js";
import { repeat } from "./repeat.js";

const AGAIN_MS = 5000;

const nameOf = (channel, name) => `${channel}/${name}`;

/** Consumers whose oldest messages are looked up where the node's figures do not say how old they are. */
const LOOKS = 10;

/**
 * How old the oldest unsettled message of each consumer is, in seconds. The leader knows it of those that are furthest behind;
 * of a few others the message itself says it.
 */
async function ages(rows, signal) {
  const known = new Map();
  const may = async (act) => {
    try {
      await act();
    } catch (error) {
      // Who may not look there sees the lag in messages alone.
      if (!error.problem?.code) throw error;
    }
  };
  await may(async () => {
    const { metrics } = await call("GET", "/v1/node", { signal });
    for (const { labels, value } of metrics.consumer_oldest_age_seconds ?? []) known.set(nameOf(labels.channel, labels.consumer), value);
  });
  const unknown = rows.filter(({ channel, name, lag }) => lag > 0 && !known.has(nameOf(channel, name)));
  const furthest = unknown.toSorted((a, b) => b.lag - a.lag).slice(0, LOOKS);
  await Promise.all(furthest.map(({ channel, name, floor_seq }) => may(async () => {
    const query = { from: floor_seq, limit: 1, if_changed: "notice", consistency: "local" };
    const { messages } = await call("GET", "/v1/channels/{channel}/messages", { path: { channel }, query, signal });
    if (messages.length > 0) known.set(nameOf(channel, name), Math.max(0, (Date.now() - Date.parse(messages[0].timestamp)) / 1000));
  })));
  return known;
}

const inTime = (age, lag) => (age === undefined ? "–" : lag === 0 ? "0 s" : duration(age * 1000));

/** The consumers of all channels. */
export async function consumers(root, _rest, signal) {
  const name = h("input", { type: "search", "data-testid": "consumer-filter" });
  const shown = h("div", {});
  root.append(h("div", { class: "bar" }, field("Name or channel contains", name)), shown);
  let found = { all: [], more: false };
  let old = new Map();
  const draw = () => {
    const rows = found.all.filter((one) => one.name.includes(name.value) || one.channel.includes(name.value));
    refresh(shown, rowsOf(rows, old), found.more ? h("p", {}, "There are more: only the first ones are shown.") : "");
  };
  name.addEventListener("input", draw);
  await repeat(signal, AGAIN_MS, async () => {
    found = await list("GET", "/v1/consumers", "consumers", { signal });
    old = await ages(found.all, signal);
    draw();
  });
}

const address = ({ channel, name }) => `#/consumers/${encodeURIComponent(channel)}/${encodeURIComponent(name)}`;

function rowsOf(rows, old) {
  const most = Math.max(1, ...rows.map(({ lag }) => lag));
  const behind = ({ lag }) => [bar(lag, most), " ", number(lag)];
  const marked = (count) => (count > 0 ? h("strong", { class: "bad" }, number(count)) : "0");
  const sorted = rows.toSorted((a, b) => b.lag - a.lag);
  return table("Consumers, the furthest behind first", [
    { title: "Consumer", cell: (c) => h("a", { href: address(c) }, c.name) },
    { title: "Channel", cell: (c) => h("a", { href: `#/channels/${encodeURIComponent(c.channel)}` }, c.channel) },
    { title: "Lag", number: true, cell: behind },
    { title: "Behind by", number: true, cell: (c) => inTime(old.get(nameOf(c.channel, c.name)), c.lag) },
    { title: "In flight", number: true, cell: (c) => number(c.in_flight) },
    { title: "To come again", number: true, cell: (c) => number(c.waiting) },
    { title: "Redelivered", number: true, cell: (c) => number(c.redelivered) },
    { title: "Dead", number: true, cell: (c) => marked(c.dead) },
    { title: "Lost", number: true, cell: (c) => marked(c.lost ?? 0) },
  ], sorted, { id: "consumers", empty: "No consumers yet, or none that you may see. A channel's page makes them." });
}

/** Those of one channel, and a new one. */
export async function consumersOf(root, channel, signal) {
  const path = { channel: channel.name };
  const shown = h("div", {});
  const draw = async () => {
    const { all } = await list("GET", "/v1/channels/{channel}/consumers", "consumers", { path, signal });
    shown.replaceChildren(rowsOf(all, await ages(all, signal)));
  };
  const name = h("input", { type: "text", required: true, autocomplete: "off", "data-testid": "consumer-name" });
  const start = h("input", { type: "text", value: "earliest" });
  const order = select([["none", "None"], ["exclusive", "One member at a time"], ["key", "By key"]], "none");
  const attempts = h("input", { type: "number", min: "0", step: "1" });
  const filter = h("input", { type: "text", class: "code", spellcheck: "false" });
  const create = form({ class: "bar" }, async () => {
    const body = { name: name.value.trim(), start: start.value.trim(), order: order.value };
    if (attempts.value) body.max_attempts = Number(attempts.value);
    if (filter.value.trim()) body.filter = filter.value.trim();
    await call("POST", "/v1/channels/{channel}/consumers", { path, body });
    say("Consumer made");
    await draw();
  },
    field("Name", name), field("Begin at", start, "earliest, latest, a number or 15m"), field("Order", order),
    field("Attempts", attempts, "0: without end"), field("Only where", filter, "A predicate"),
    h("button", { type: "submit", class: "primary" }, "Make it"));
  root.append(shown, h("h2", {}, "New consumer"), create);
  await draw();
}

/** One consumer. */
export async function consumer(root, [channel, name], signal) {
  const path = { channel, consumer: name };
  root.prepend(h("nav", { class: "crumbs", "aria-label": "Up" }, h("a", { href: "#/consumers" }, "Consumers"), " /"));
  root.querySelector("h1").replaceChildren(name, " on ", h("a", { href: `#/channels/${encodeURIComponent(channel)}` }, channel));
  const shown = h("dl", { class: "facts", "data-testid": "consumer" });
  const draw = async () => {
    const info = await call("GET", "/v1/channels/{channel}/consumers/{consumer}", { path, signal });
    const old = await ages([info], signal);
    refresh(shown, ...facts(info, old.get(nameOf(channel, name))).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
    return info;
  };
  const holders = h("div", {});
  const drawAll = async () => {
    await draw();
    const { members } = await call("GET", "/v1/channels/{channel}/consumers/{consumer}/members", { path, signal });
    refresh(holders, memberRows(members));
  };
  root.append(shown, h("h2", {}, "Members that hold messages"), holders);
  const info = await draw();
  root.append(h("h2", {}, "Dead letters"), info.drop_dead ? h("p", {}, "Messages that were given up are dropped.") : letters(path, info, signal));
  root.append(h("h2", {}, "Moving and ending"), moving(path, drawAll));
  await repeat(signal, AGAIN_MS, drawAll);
}

function facts(info, age) {
  return [
    ["Lag", `${number(info.lag)} messages`],
    ["Behind by", inTime(age, info.lag)],
    ["In flight", `${number(info.in_flight)} of ${number(info.max_in_flight)} at most`],
    ["Waiting to come again", number(info.waiting)],
    ["Given up, not yet put away", number(info.dying)],
    ["Redelivered", number(info.redelivered)],
    ["Dead", number(info.dead)],
    ["Lost to retention", number(info.lost ?? 0)],
    ["Next", number(info.next_seq)],
    ["Settled before", number(info.floor_seq)],
    ["Ack timeout", span(info.ack_timeout_ms)],
    ["Attempts", info.max_attempts ? number(info.max_attempts) : "without end"],
    ["Order", info.order_header ? `by header ${info.order_header}` : info.order],
    ["Filter", h("code", {}, info.filter || "none")],
    ["Dead letters go to", info.dead_letter || "–"],
    ["Created", time(info.created)],
  ];
}

function memberRows(members) {
  return table("Members that hold messages", [
    { title: "Member", cell: ({ member }) => member ?? "all that pulled" },
    { title: "Holds", number: true, cell: ({ held }) => number(held) },
    { title: "From", number: true, cell: ({ first_seq }) => number(first_seq) },
    { title: "Attempts, at most", number: true, cell: ({ attempts }) => number(attempts) },
    { title: "Comes again", cell: ({ due }) => time(due) },
  ], members, { id: "members", empty: "No member holds a message." });
}

function letters(path, info, signal) {
  const filter = h("input", { type: "text", class: "code", spellcheck: "false", "data-testid": "letter-filter" });
  const target = h("input", { type: "text", value: path.channel });
  const shown = h("div", { "data-testid": "letters" });
  const outcome = h("div", { role: "status", "data-testid": "redriven" });
  let next = 0;
  const load = async (from) => {
    const page = await call("GET", "/v1/channels/{channel}/consumers/{consumer}/dead-letters", {
      path, signal, query: { filter: filter.value.trim(), from_seq: from, limit: 50 },
    });
    next = page.next_seq;
    const more = !page.done && button("More", () => load(next));
    shown.replaceChildren(
      page.letters.length > 0 ? h("ol", { class: "messages" }, page.letters.map(letter)) : h("p", { class: "empty" }, "No dead letters."),
      more || "");
    say(`${page.letters.length} dead letters`);
  };
  const wanted = () => ({ filter: filter.value.trim(), to: target.value.trim() });
  const act = async (submitter) => {
    outcome.replaceChildren();
    switch (submitter?.value) {
      case "count": {
        const { moved } = await redrive(path, { ...wanted(), dry_run: true });
        outcome.replaceChildren(h("p", {}, `${number(moved)} letters would be redriven.`));
        break;
      }
      case "redrive": {
        const text = `Letters ${wanted().filter ? `for which ${wanted().filter} holds ` : ""}go from ${info.dead_letter} to ${wanted().to}.`;
        if (!(await confirmed({ title: "Redrive dead letters?", text, action: "Redrive" }))) return;
        outcome.replaceChildren(told(await redrive(path, wanted())));
        await load(0);
        break;
      }
      default: await load(0);
    }
  };
  const search = form({ class: "bar", "data-testid": "letters-form" }, act,
    h("div", { class: "grow" }, field("Only where", filter, "A predicate, such as template == \"receipt\"; empty: all")), field("Redrive to", target),
    h("div", { class: "buttons beside" },
      h("button", { type: "submit", value: "show" }, "Show"),
      h("button", { type: "submit", value: "count" }, "Count"),
      h("button", { type: "submit", value: "redrive", class: "primary" }, "Redrive")));
  load(0).catch((error) => signal.aborted || outcome.replaceChildren(problem(error)));
  return h("div", {}, search, outcome, shown);
}

/** A call moves a bounded number; this goes on until there are no more. */
async function redrive(path, wanted) {
  const sum = { moved: 0, refused: 0, unsure: 0, refusals: [] };
  let from_seq = 0;
  for (;;) {
    const part = await call("POST", "/v1/channels/{channel}/consumers/{consumer}/redrive", { path, body: { ...wanted, from_seq } });
    for (const name of ["moved", "refused", "unsure"]) sum[name] += part[name];
    sum.refusals.push(...part.refusals.slice(0, 20 - sum.refusals.length));
    sum.stopped = part.stopped;
    if (part.done || part.stopped) return sum;
    from_seq = part.next_seq;
  }
}

function told({ moved, refused, unsure, refusals, stopped }) {
  return h("div", {}, h("p", {}, `${number(moved)} moved, ${number(refused)} refused, ${number(unsure)} of which no answer came.`),
    refusals.map(({ seq, error }) => h("div", {}, `Letter ${seq}: `, problem({ problem: error }))),
    stopped && problem({ problem: stopped }));
}

function letter(one) {
  const inside = h("div", { class: "inside" });
  const details = h("details", { "data-seq": String(one.seq) },
    h("summary", {}, h("span", { class: "seq" }, String(one.seq)), time(one.timestamp),
      h("span", { class: "quiet" }, `${one.origin}@${one.origin_seq}, ${one.attempts} attempt${one.attempts === 1 ? "" : "s"}, ${bytes(one.bytes)}`),
      h("span", { class: "reason" }, one.reason || "no reason was given")),
    inside);
  details.addEventListener("toggle", () => {
    if (details.open && !inside.hasChildNodes()) inside.append(whole(one));
  });
  return h("li", {}, details);
}

function moving(path, draw) {
  const start = h("input", { type: "text", required: true, "data-testid": "reset-start" });
  const reset = form({ class: "bar" }, async () => {
    const text = `${path.consumer} goes on at ${start.value}. What it has handed out comes again, or is passed over.`;
    if (!(await confirmed({ title: "Move the consumer?", text, action: "Move" }))) return;
    await call("POST", "/v1/channels/{channel}/consumers/{consumer}/reset", { path, body: { start: start.value.trim() } });
    say("Consumer moved");
    await draw();
  }, field("Move to", start, "earliest, latest, a number or 15m"), h("button", { type: "submit" }, "Move"));
  const end = button("Delete the consumer", async () => {
    const text = "How far it is, and what it has not settled, is forgotten.";
    if (!(await confirmed({ title: `Delete ${path.consumer}?`, text, action: "Delete", word: path.consumer }))) return;
    await call("DELETE", "/v1/channels/{channel}/consumers/{consumer}", { path });
    location.hash = "#/consumers";
  }, { class: "danger", "data-testid": "delete-consumer" });
  return h("div", {}, reset, end);
}
