// How the cluster does at a glance: alarms, nodes, rates, latencies and backlog, with the last fifteen minutes.

import { chart } from "./chart.js";
import { h, problem } from "./dom.js";
import { feed, listen, spanned } from "./feed.js";
import { bytes, duration, number, span } from "./format.js";

const each = (value) => `${number(value)}/s`;
const rate = (name) => (samples) => rates(samples, name);
const value = (name) => (samples) => samples.map((sample) => sample[name] ?? null);

/** Cards: the title, how values are written, what it says, and its lines with what each takes from the samples. */
const CLUSTER = [
  ["Stored", each, "Messages that went into channels of the cluster", [["stored", rate("stored")]]],
  ["Backlog", number, "Messages that the consumers of the cluster have not settled", [["backlog", value("backlog")]]],
  ["Log entries", each, "Committed by the cluster", [["commit", rate("commit")]]],
];
const HERE = [
  ["Publish latency", duration, "From a publish's arrival at this node to its answer: half of them, and 99 in 100", [
    ["publish_p50_ms", value("publish_p50_ms"), "p50"], ["publish_p99_ms", value("publish_p99_ms"), "p99", "second"]]],
  ["Log sync, p99", duration, "How long this node's disk takes to make the log safe", [["log_sync_p99_ms", value("log_sync_p99_ms")]]],
  ["Published", each, "Messages acknowledged to clients of this node", [["published", rate("published")]]],
  ["Delivered", each, "Messages handed to subscriptions of this node", [["delivered", rate("delivered")]]],
  ["Failed", each, "Messages of clients of this node that were refused, or whose outcome is unknown", [["failed", rate("failed")]]],
  ["In flight", bytes, "Publishes on this node that are not answered yet", [["in_flight_bytes", value("in_flight_bytes")]]],
  ["Subscriptions", number, "On this node", [["subscriptions", value("subscriptions")]]],
  ["Connections", number, "Of clients to this node", [["connections", value("connections")]]],
  ["Memory", bytes, "Of this node's process", [["memory_bytes", value("memory_bytes")]]],
];

const STATES = { connecting: "Connecting", open: "Live", lost: "The connection broke. Trying again.", ended: "No figures" };

export async function overview(root, _rest, signal) {
  const state = h("p", { class: "state", role: "status", "data-testid": "feed" });
  const alarms = h("ul", { class: "alarms", role: "status", "data-testid": "alarms" }, h("li", {}, "Waiting for figures."));
  const lights = h("ul", { class: "lights", "data-testid": "lights" });
  const counts = h("dl", { class: "facts", "data-testid": "counts" });
  const hint = h("div", {});
  const cluster = h("div", { class: "cards", "data-testid": "cards" });
  const here = h("div", { class: "cards", "data-testid": "cards-here" });
  const title = h("h2", { id: "here-title" }, "This node");
  root.append(state, hint,
    h("section", { "aria-labelledby": "alarms-title" }, h("h2", { id: "alarms-title" }, "Alarms"), alarms),
    h("section", { "aria-labelledby": "nodes-title" }, h("h2", { id: "nodes-title" }, "Nodes"), lights, counts),
    h("section", { "aria-labelledby": "figures-title" }, h("h2", { id: "figures-title" }, "The cluster"), cluster),
    h("section", { "aria-labelledby": "here-title" }, title, here));
  listen(signal, ({ now, samples, state: word, error }) => {
    if (state.textContent !== STATES[word]) state.textContent = STATES[word];
    state.dataset.state = word;
    if (error) return state.replaceChildren(STATES[word], problem(error));
    if (samples.length > 0) {
      cluster.replaceChildren(...CLUSTER.map(card(samples)));
      here.replaceChildren(...HERE.map(card(samples)));
    }
    if (!now) return;
    title.textContent = `${now.node} alone`;
    lights.replaceChildren(...now.nodes.map(light));
    counts.replaceChildren(...facts(now));
    hint.replaceChildren(...(now.figures.channels === 0 ? [welcome()] : []));
    warn(alarms, now.alarms);
  });
}

/** For who has just begun. */
function welcome() {
  return h("div", { class: "welcome", "data-testid": "welcome" },
    h("strong", {}, "There is no channel yet."), " Messages live in channels. ",
    h("a", { href: "#/channels" }, "Make the first one"), ", or publish from a shell: ",
    h("code", {}, "liminal channel create orders && liminal publish orders '{\"id\":7}'"));
}

function facts({ leader, figures }) {
  const all = [
    ["Leader", leader || "none"],
    ["Term", number(figures.term)],
    ["Channels", h("a", { href: "#/channels" }, number(figures.channels))],
    ["Consumers", h("a", { href: "#/consumers" }, number(figures.consumers))],
    ["Messages ever stored", number(figures.stored)],
  ];
  return all.map(([term, said]) => h("div", {}, h("dt", {}, term), h("dd", {}, said)));
}

function light({ name, role, health, lag }) {
  const behind = lag > 0 ? `, ${number(lag)} ${lag === 1 ? "entry" : "entries"} behind` : "";
  return h("li", { "data-node": name, "data-health": health },
    h("span", { class: `dot ${health}`, "aria-hidden": "true" }),
    h("a", { href: "#/cluster" }, name), ` ${role}, ${health}${behind}`);
}

/** Only a change is written, so that who listens does not hear the same every two seconds. */
function warn(list, alarms) {
  const key = JSON.stringify(alarms);
  if (list.dataset.shown === key) return;
  list.dataset.shown = key;
  const line = ({ severity, text }) => h("li", { class: severity }, h("strong", {}, severity === "alarm" ? "Alarm" : "Warning"), " ", text);
  list.replaceChildren(...(alarms.length > 0 ? alarms.map(line) : [h("li", { class: "fine" }, "No alarms.")]));
}

const card = (samples) => ([title, text, about, lines]) => {
  const rows = lines.map(([, take, name, kind]) => ({ name, kind, values: take(samples) }));
  const newest = ({ values }) => values.findLast((one) => one !== null);
  const figure = (row) => [row.name && h("span", { class: `key-of ${row.kind ?? ""}` }, row.name, " "), newest(row) === undefined ? "–" : text(newest(row)), " "];
  return h("div", { class: "card", title: about, "data-figure": lines[0][0] },
    h("span", { class: "title" }, title), h("span", { class: "value" }, rows.map(figure)), chart(title, rows, spanned() / feed.interval, span(spanned()), text));
};

/** What a counter gained in a second, from each moment to the next; a node that began again makes a gap. */
function rates(samples, name) {
  return samples.slice(1).map((sample, at) => {
    const before = samples[at];
    const seconds = (Date.parse(sample.time) - Date.parse(before.time)) / 1000;
    const gained = sample[name] - before[name];
    return seconds > 0 && gained >= 0 ? gained / seconds : null;
  });
}
