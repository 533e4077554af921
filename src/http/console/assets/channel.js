// One channel: its counters, and a page for each thing that can be looked at or done.

import { call } from "./api.js";
import { h } from "./dom.js";
import { consumersOf } from "./consumers.js";
import { bytes, number, time } from "./format.js";
import { browse, tail } from "./messages.js";
import { publish } from "./publish.js";
import { schemas } from "./schemas.js";
import { settings } from "./settings.js";

const PAGES = {
  messages: ["Messages", browse],
  live: ["Live", tail],
  publish: ["Publish", publish],
  schemas: ["Schemas", schemas],
  settings: ["Settings", settings],
  consumers: ["Consumers", consumersOf],
};

export async function channel(root, [name, page = "messages"], signal) {
  const info = await call("GET", "/v1/channels/{channel}", { path: { channel: name }, signal });
  const here = PAGES[page] ? page : "messages";
  const links = Object.entries(PAGES).map(([key, [title]]) =>
    h("li", {}, h("a", { href: `#/channels/${encodeURIComponent(name)}/${key}`, "aria-current": key === here && "page" }, title)));
  const body = h("section", { "aria-label": PAGES[here][0], "data-testid": `channel-${here}` });
  root.querySelector("h1").textContent = name;
  root.append(
    h("dl", { class: "facts" }, facts(info).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value)))),
    h("nav", { class: "pages", "aria-label": `Pages of channel ${name}` }, h("ul", {}, links)),
    body);
  await PAGES[here][1](body, info, signal);
}

function facts(info) {
  return [
    ["Kind", info.durability],
    ["Messages", number(info.messages)],
    ["Sequence numbers", info.next_seq > info.first_seq ? `${number(info.first_seq)} to ${number(info.next_seq - 1)}` : "none"],
    ["Size", bytes(info.bytes)],
    ["Keys in the window", number(info.live_keys)],
    ["Subscribers here", number(info.subscribers)],
    ["Waiting for their time", number(info.delayed ?? 0)],
    ["Created", time(info.created)],
  ];
}
