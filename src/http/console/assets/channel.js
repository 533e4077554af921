// One channel: its counters, and a page for each thing that can be looked at or done.

import { call } from "./api.js";
import { h, refresh } from "./dom.js";
import { consumersOf } from "./consumers.js";
import { bytes, number, time } from "./format.js";
import { browse, tail } from "./messages.js";
import { publish } from "./publish.js";
import { repeat } from "./repeat.js";
import { waiting } from "./waiting.js";
import { schemas } from "./schemas.js";
import { settings } from "./settings.js";

const AGAIN_MS = 5000;

const PAGES = {
  messages: ["Messages", browse],
  live: ["Live", tail],
  publish: ["Publish", publish],
  schemas: ["Schemas", schemas],
  settings: ["Settings", settings],
  consumers: ["Consumers", consumersOf],
  waiting: ["Waiting", waiting],
};

export async function channel(root, [name, page = "messages"], signal) {
  const info = await call("GET", "/v1/channels/{channel}", { path: { channel: name }, signal });
  const here = PAGES[page] ? page : "messages";
  const links = Object.entries(PAGES).map(([key, [title]]) =>
    h("li", {}, h("a", { href: `#/channels/${encodeURIComponent(name)}/${key}`, "aria-current": key === here && "page" }, title)));
  const body = h("section", { "aria-label": PAGES[here][0], "data-testid": `channel-${here}` });
  root.querySelector("h1").textContent = name;
  root.prepend(h("nav", { class: "crumbs", "aria-label": "Up" }, h("a", { href: "#/channels" }, "Channels"), " /"));
  const about = h("dl", { class: "facts", "data-testid": "channel-facts" });
  const draw = (now) => refresh(about, ...facts(now).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
  draw(info);
  root.append(
    about,
    h("nav", { class: "pages", "aria-label": `Pages of channel ${name}` }, h("ul", {}, links)),
    body);
  const again = repeat(signal, AGAIN_MS, async () => draw(await call("GET", "/v1/channels/{channel}", { path: { channel: name }, signal })));
  await Promise.all([PAGES[here][1](body, info, signal), again]);
}

function facts(info) {
  return [
    ["Kind", info.durability],
    ["Messages", number(info.messages)],
    ["Sequence numbers", info.next_seq > info.first_seq ? `${number(info.first_seq)} to ${number(info.next_seq - 1)}` : "none"],
    ["Size on disk", bytes(info.bytes)],
    ["Schema", info.schema_id ? `id ${info.schema_id}` : "none"],
    ["Keys remembered", number(info.live_keys)],
    ["Refused here", number(info.rejected ?? 0)],
    ["Subscribers here", number(info.subscribers)],
    ...(info.delayed > 0 ? [["Waiting for their time", h("a", { href: `#/channels/${encodeURIComponent(info.name)}/waiting` }, number(info.delayed))]] : []),
    ["Created", time(info.created)],
  ];
}
