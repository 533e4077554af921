// How the cluster does at a glance: rates, backlog, nodes and alarms, with the last fifteen minutes.

import { call, stream } from "./api.js";
import { sparkline } from "./chart.js";
import { h } from "./dom.js";
import { bytes, number } from "./format.js";

const each = (text) => (value) => `${text(value)}/s`;

/** Cards: the title, the figure, whether its rate is shown, how it is written, and what it says. */
const CARDS = [
  ["Stored", "stored", true, each(number), "Messages that went into channels of the cluster"],
  ["Backlog", "backlog", false, number, "Messages that the consumers of the cluster have not settled"],
  ["Published here", "published", true, each(number), "Messages acknowledged to clients of this node"],
  ["Delivered here", "delivered", true, each(number), "Messages handed to subscriptions of this node"],
  ["Failed here", "failed", true, each(number), "Messages of clients of this node that were refused, or whose outcome is unknown"],
  ["In flight", "in_flight_bytes", false, bytes, "Publishes on this node that are not answered yet"],
  ["Subscriptions", "subscriptions", false, number, "On this node"],
  ["Connections", "connections", false, number, "Of clients to this node"],
  ["Log entries", "commit", true, each(number), "Committed by the cluster"],
  ["Memory", "memory_bytes", false, bytes, "Of this node's process"],
];

export async function overview(root, _rest, signal) {
  const alarms = h("section", { "aria-labelledby": "alarms-title" }, h("h2", { id: "alarms-title" }, "Alarms"));
  const told = h("ul", { class: "alarms", role: "status", "data-testid": "alarms" }, h("li", {}, "Waiting for figures."));
  alarms.append(told);
  const lights = h("ul", { class: "lights", "data-testid": "lights" });
  const state = h("p", { class: "state", role: "status", "data-testid": "feed" }, "Connecting");
  const nodes = h("section", { "aria-labelledby": "nodes-title" }, h("h2", { id: "nodes-title" }, "Nodes"), lights);
  const cards = h("div", { class: "cards", "data-testid": "cards" });
  root.append(state, alarms, nodes,
    h("section", { "aria-labelledby": "figures-title" }, h("h2", { id: "figures-title" }, "Last 15 minutes"), cards));

  const { samples, interval_ms } = await call("GET", "/v1/history", { signal });
  const kept = Math.round((15 * 60_000) / interval_ms);
  draw(cards, samples);
  await stream("GET", "/v1/live", {
    signal,
    state: (word) => (state.textContent = { open: "Live", lost: "The connection broke. Trying again.", ended: "Ended" }[word]),
    told: (now) => {
      if (samples.at(-1)?.time !== now.figures.time) samples.push(now.figures);
      if (samples.length > kept) samples.shift();
      draw(cards, samples);
      document.getElementById("node").textContent = now.node;
      lights.replaceChildren(...now.nodes.map(light));
      warn(told, now.alarms);
    },
  });
}

function light({ name, role, health, lag }) {
  const behind = lag > 0 ? `, ${number(lag)} entries behind` : "";
  return h("li", { "data-node": name },
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

function draw(cards, samples) {
  cards.replaceChildren(...CARDS.map(([title, name, rate, text, about]) => {
    const values = rate ? rates(samples, name) : samples.map((sample) => sample[name]);
    const newest = values.at(-1);
    return h("div", { class: "card", title: about, "data-figure": name },
      h("span", { class: "title" }, title),
      h("span", { class: "value" }, newest === undefined || newest === null ? "–" : text(newest)),
      sparkline(title, values, text));
  }));
}

/** What a counter gained in a second, from each moment to the next; a node that began again makes a gap. */
function rates(samples, name) {
  return samples.slice(1).map((sample, at) => {
    const before = samples[at];
    const seconds = (Date.parse(sample.time) - Date.parse(before.time)) / 1000;
    const gained = sample[name] - before[name];
    return seconds > 0 && gained >= 0 ? gained / seconds : null;
  });
}
