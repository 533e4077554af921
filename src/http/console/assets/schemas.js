// The schemas that a channel has had, what changed between two of them, and a new one.

import { call, list, parse } from "./api.js";
import { diff } from "./diff.js";
import { confirmed, field, form, h, say, select } from "./dom.js";
import { pretty, time } from "./format.js";

export async function schemas(root, channel, signal) {
  const path = { channel: channel.name };
  const { all } = await list("GET", "/v1/channels/{channel}/schemas", "schemas", { path, signal });
  const texts = new Map(all.map((one) => [String(one.version), pretty(parse(one.schema))]));
  if (all.length === 0) {
    root.append(h("p", { class: "empty" }, "The channel has no schema: it takes any payload."));
  } else {
    root.append(versions(all, texts));
  }
  root.append(h("h2", {}, "Another schema"), change(path, channel, texts.get(String(all.at(-1)?.version)) ?? ""));
}

function versions(all, texts) {
  const options = all.map((one) => [String(one.version), `Version ${one.version} (id ${one.id})`]);
  const newest = options.at(-1)[0];
  const one = select(options, newest, { "data-testid": "schema-version" });
  const other = select([["", "Nothing"], ...options], options.at(-2)?.[0] ?? "", { "data-testid": "schema-compared" });
  const shown = h("pre", { class: "json diff", tabindex: "0", "data-testid": "schema-diff", "aria-label": "Schema" });
  const since = h("p", {});
  const draw = () => {
    const lines = other.value ? diff(texts.get(other.value), texts.get(one.value)) : texts.get(one.value).split("\n").map((line) => [" ", line]);
    const kinds = { "-": "gone", "+": "come" };
    shown.replaceChildren(...lines.map(([sign, line]) => h("span", { class: kinds[sign] }, `${sign} ${line}\n`)));
    since.replaceChildren("Since ", time(all.find(({ version }) => String(version) === one.value).created));
  };
  one.addEventListener("change", draw);
  other.addEventListener("change", draw);
  draw();
  return h("div", {}, h("div", { class: "bar" }, field("Show", one), field("Compared with", other)), since, shown);
}

const MODES = [
  ["", "As it is"],
  ["backward", "Backward: the new one takes what the old one takes"],
  ["forward", "Forward: the old one takes what the new one takes"],
  ["full", "Full: both"],
  ["none", "None: nothing is checked"],
];

function change(path, channel, text) {
  const schema = h("textarea", { rows: "14", class: "code", spellcheck: "false", "data-testid": "new-schema" });
  schema.value = text;
  const mode = select(MODES, "", { "data-testid": "compatibility" });
  const outcome = h("div", { role: "status", "data-testid": "schema-outcome" });
  const send = async (submitter) => {
    const trial = submitter?.value === "try";
    const removes = !schema.value.trim();
    if (!removes) JSON.parse(schema.value);
    if (removes && !trial) {
      const text = "The channel takes any payload from then on.";
      if (!(await confirmed({ title: "Remove the schema?", text, action: "Remove" }))) return;
    }
    const compatibility = mode.value ? `,"compatibility":${JSON.stringify(mode.value)}` : "";
    // As it was typed: what JavaScript makes of its numbers is not what is meant.
    const body = `{"schema":${removes ? "null" : schema.value}${compatibility}}`;
    const headers = { "content-type": "application/json" };
    const query = trial ? { dry_run: true } : {};
    const answer = await call("PATCH", "/v1/channels/{channel}", { path, query, text: body, headers });
    if (trial) {
      outcome.replaceChildren(answer.compatible ? "It could take the place of the present one." : places(answer.incompatibilities));
    } else {
      outcome.replaceChildren(`The channel has schema ${answer.schema_id} now.`);
      say("Schema changed");
    }
  };
  return form({ class: "wide", "data-testid": "schema-form" }, send,
    field("JSON Schema", schema, "Empty: the channel takes anything."),
    field(`Compatibility (now: ${channel.compatibility})`, mode),
    h("div", { class: "buttons" },
      h("button", { type: "submit", value: "try" }, "Try"),
      h("button", { type: "submit", value: "set", class: "primary" }, "Set")),
    outcome);
}

function places(found) {
  return h("div", {}, "It cannot take the place of the present one:",
    h("ul", {}, found.map(({ pointer, message }) => h("li", {}, h("code", {}, pointer || "(the whole)"), " ", message))));
}
