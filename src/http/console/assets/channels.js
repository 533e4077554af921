// All channels, with what each holds and how fast it grows.

import { call, list } from "./api.js";
import { button, field, form, h, modal, refresh, say, select, table } from "./dom.js";
import { bytes, number } from "./format.js";
import { repeat } from "./repeat.js";

/** The second look comes sooner: rates are differences. */
const FIRST_MS = 1500;
const AGAIN_MS = 5000;

export async function channels(root, _rest, signal) {
  const name = h("input", { type: "search", "data-testid": "channel-filter" });
  const shown = h("div", {});
  root.append(
    h("div", { class: "bar" },
      field("Name contains", name),
      h("button", { type: "button", class: "primary", "data-testid": "new-channel", onclick: create }, "New channel")),
    shown);
  let before = new Map();
  let found = { all: [], more: false };
  const draw = () => {
    const rows = found.all.filter((channel) => channel.name.includes(name.value));
    refresh(shown, rowsOf(rows, before), found.more ? h("p", {}, "There are more: only the first ones are shown.") : "");
  };
  name.addEventListener("input", draw);
  let looks = 0;
  await repeat(signal, () => (looks < 2 ? FIRST_MS : AGAIN_MS), async () => {
    const asked = performance.now();
    const next = await list("GET", "/v1/channels", "channels", { signal });
    // The rate is what each gained since the look before this one.
    const rates = new Map(found.all.map((channel) => [channel.name, channel]));
    before = new Map(next.all.map((channel) => {
      const old = rates.get(channel.name);
      return [channel.name, old && ((channel.next_seq - old.next_seq) * 1000) / (asked - old.asked)];
    }));
    found = { ...next, all: next.all.map((channel) => ({ ...channel, asked })) };
    draw();
    looks += 1;
  });
}

function rowsOf(rows, rates) {
  const rate = ({ name }) => (rates.get(name) >= 0 ? `${number(rates.get(name))}/s` : "–");
  return table("Channels", [
    { title: "Name", cell: (c) => h("a", { href: `#/channels/${encodeURIComponent(c.name)}` }, c.name) },
    { title: "Kind", cell: (c) => c.durability },
    { title: "Messages", number: true, cell: (c) => number(c.messages) },
    { title: "Rate", number: true, cell: rate },
    { title: "Size", number: true, cell: (c) => bytes(c.bytes) },
    { title: "First", number: true, cell: (c) => number(c.first_seq) },
    { title: "Next", number: true, cell: (c) => number(c.next_seq) },
    { title: "Keys", number: true, cell: (c) => number(c.live_keys) },
    { title: "Subscribers here", number: true, cell: (c) => number(c.subscribers) },
    { title: "Schema", cell: (c) => (c.schema_id ? `id ${c.schema_id}` : "–") },
  ], rows, { id: "channels", empty: "No channels yet, or none that you may see. A channel holds messages: make one with New channel." });
}

function create() {
  const name = h("input", { type: "text", required: true, autocomplete: "off", "data-testid": "channel-name" });
  const kind = select([["durable", "Durable: stored on a majority"], ["ephemeral", "Ephemeral: for who listens now"]], "durable");
  const schema = h("textarea", { rows: "8", spellcheck: "false", class: "code" });
  const body = form({}, async () => {
    const wanted = { durability: kind.value };
    if (schema.value.trim()) wanted.schema = JSON.parse(schema.value);
    const made = await call("PUT", "/v1/channels/{channel}", { path: { channel: name.value.trim() }, body: wanted });
    dialog.close();
    say(`Channel ${made.name} is there`);
    location.hash = `#/channels/${encodeURIComponent(made.name)}`;
  },
    field("Name", name), field("Kind", kind), field("JSON Schema", schema, "May be left empty, and set later."),
    h("div", { class: "buttons" },
      button("Cancel", () => dialog.close()),
      h("button", { type: "submit", class: "primary" }, "Create")));
  const dialog = modal("New channel", body);
  name.focus();
}
