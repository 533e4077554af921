// What a channel keeps and takes, the rules from and to it, and the end of its messages or of itself.

import { call } from "./api.js";
import { button, confirmed, field, form, h, say, select, table } from "./dom.js";
import { bytes, milliseconds, number, span } from "./format.js";

export async function settings(root, channel, signal) {
  root.append(limits(channel), h("h2", {}, "Rules"), await rules(channel.name, signal), h("h2", {}, "Removing"), removing(channel));
}

const count = (value) => h("input", { type: "number", min: "1", step: "1", value: value === undefined ? "" : String(value) });
const given = (input) => (input.value.trim() ? Number(input.value) : undefined);

function limits({ name, retention, quota, dedup_window_ms, live_keys, quarantine = "", bytes: size }) {
  const messages = count(retention.max_messages);
  const space = count(retention.max_bytes);
  const age = h("input", { type: "text", value: retention.max_age_ms ? span(retention.max_age_ms, 5) : "", "data-testid": "max-age" });
  const full = select([["drop_oldest", "Remove the oldest"], ["refuse_new", "Refuse new ones"]], retention.when_full ?? "drop_oldest");
  const queue = h("input", { type: "checkbox", checked: Boolean(retention.work_queue) });
  const compact = h("input", { type: "text", value: retention.compact_by ?? "" });
  const window = h("input", { type: "text", value: span(dedup_window_ms, 5), "data-testid": "window" });
  const perSecond = count(quota.messages_per_second);
  const bytesPerSecond = count(quota.bytes_per_second);
  const other = h("input", { type: "text", value: quarantine });
  const outcome = h("div", { role: "status", "data-testid": "settings-outcome" });
  const wanted = () => ({
    dedup_window_ms: milliseconds(window.value),
    quarantine: other.value.trim() || null,
    quota: { messages_per_second: given(perSecond), bytes_per_second: given(bytesPerSecond) },
    retention: {
      max_messages: given(messages),
      max_bytes: given(space),
      max_age_ms: milliseconds(age.value),
      when_full: full.value,
      work_queue: queue.checked,
      compact_by: compact.value.trim() || undefined,
    },
  });
  const send = async () => {
    const body = wanted();
    const path = { channel: name };
    const { removes } = await call("PATCH", "/v1/channels/{channel}", { path, query: { dry_run: true }, body });
    if (removes > 0) {
      const text = `About ${number(removes)} messages go at once under these limits.`;
      if (!(await confirmed({ title: "Remove messages?", text, action: "Change the limits" }))) return;
    }
    await call("PATCH", "/v1/channels/{channel}", { path, body });
    outcome.replaceChildren("Changed.");
    say("Settings changed");
  };
  return form({ class: "wide", "data-testid": "settings" }, send,
    h("p", {}, `The channel holds ${bytes(size)} and ${number(live_keys)} idempotency keys.`),
    h("fieldset", {}, h("legend", {}, "Retention"), h("div", { class: "bar" },
      field("Messages, at most", messages), field("Bytes, at most", space), field("Age, at most", age, "Such as 7d"),
      field("When it is full", full), field("Work queue", queue, "Messages go when all consumers have settled them."),
      field("Compact by header", compact))),
    h("fieldset", {}, h("legend", {}, "Publishing"), h("div", { class: "bar" },
      field("Keys are remembered for", window), field("Messages in a second", perSecond), field("Bytes in a second", bytesPerSecond),
      field("Quarantine", other, "A channel for what the schema refuses"))),
    h("button", { type: "submit", class: "primary" }, "Change"), outcome);
}

async function rules(name, signal) {
  const shown = h("div", {});
  const draw = async () => {
    const all = (await call("GET", "/v1/rules", { signal })).rules;
    const ours = all.filter(({ source, target }) => source === name || target === name);
    const remove = ({ source, target }) => button("Remove", async () => {
      const text = `What is published to ${source} is not copied to ${target} any more.`;
      if (!(await confirmed({ title: "Remove the rule?", text, action: "Remove" }))) return;
      await call("DELETE", "/v1/rules/{source}/{target}", { path: { source, target } });
      await draw();
    }, { "aria-label": `Remove the rule from ${source} to ${target}` });
    shown.replaceChildren(table("Rules", [
      { title: "From", cell: (rule) => rule.source },
      { title: "To", cell: (rule) => rule.target },
      { title: "Which messages", cell: (rule) => h("code", {}, rule.predicate ?? "all") },
      { title: "", cell: remove },
    ], ours, { id: "rules", empty: "No rules." }));
  };
  await draw();
  const target = h("input", { type: "text", required: true });
  const predicate = h("input", { type: "text", class: "code", spellcheck: "false" });
  const add = form({ class: "bar" }, async () => {
    const body = predicate.value.trim() ? { predicate: predicate.value.trim() } : {};
    await call("PUT", "/v1/rules/{source}/{target}", { path: { source: name, target: target.value.trim() }, body });
    say("Rule added");
    await draw();
  }, field("Copy to channel", target), field("Only where", predicate, "A predicate"), h("button", { type: "submit" }, "Add a rule"));
  return h("div", {}, shown, add);
}

function removing({ name }) {
  const what = select([["keep", "Keep so many of the newest"], ["to", "Remove those before a sequence number"], ["older_than", "Remove what is older than"]], "keep");
  const value = h("input", { type: "text", required: true, "data-testid": "trim-value" });
  const trim = form({ class: "bar" }, async () => {
    const text = value.value.trim();
    const body = { [what.value]: what.value === "older_than" ? text : Number(text) };
    if (!(await confirmed({ title: "Remove messages?", text: `Messages of ${name} are removed for good.`, action: "Remove" }))) return;
    const { first_seq } = await call("POST", "/v1/channels/{channel}/trim", { path: { channel: name }, body });
    say(`The channel begins at ${first_seq} now`);
  }, field("Trim", what), field("Value", value, "A number, or a time such as 7d"), h("button", { type: "submit" }, "Trim"));
  const end = button("Delete the channel", async () => {
    const text = `Channel ${name} is deleted with its messages, keys and consumers. It cannot be brought back.`;
    if (!(await confirmed({ title: `Delete ${name}?`, text, action: "Delete", word: name }))) return;
    await call("DELETE", "/v1/channels/{channel}", { path: { channel: name } });
    location.hash = "#/channels";
  }, { class: "danger", "data-testid": "delete-channel" });
  return h("div", {}, trim, end);
}
