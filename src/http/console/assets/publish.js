// Publishing a message by hand. What a schema refuses is shown where it is in the text.

import { call } from "./api.js";
import { field, form, h, problem, say } from "./dom.js";
import { line, locate } from "./pointer.js";

export async function publish(root, channel) {
  const text = h("textarea", { rows: "14", class: "code", spellcheck: "false", "data-testid": "payload" });
  const key = h("input", { type: "text", autocomplete: "off", "data-testid": "key" });
  const headers = h("textarea", { rows: "3", class: "code", spellcheck: "false" });
  const ttl = h("input", { type: "text" });
  const delay = h("input", { type: "text" });
  const outcome = h("div", { role: "status", "data-testid": "published" });
  const violations = h("div", { role: "alert", "data-testid": "violations" });
  text.value = "{}";

  const send = async () => {
    outcome.replaceChildren();
    violations.replaceChildren();
    text.removeAttribute("aria-invalid");
    try {
      const answer = await call("POST", "/v1/channels/{channel}/messages", {
        path: { channel: channel.name }, query: { confirm: "commit" }, text: text.value, headers: {
          "content-type": "application/json",
          ...(key.value && { "idempotency-key": key.value }),
          ...(ttl.value.trim() && { "liminal-ttl": ttl.value.trim() }),
          ...(delay.value.trim() && { "liminal-delay": delay.value.trim() }),
          ...extra(headers.value),
        },
      });
      const what = answer.scheduled
        ? `Accepted; it becomes visible at ${answer.scheduled}.`
        : `${answer.duplicate ? "The key was used before: the message is" : "Stored as"} ${answer.channel}@${answer.seq}.`;
      outcome.replaceChildren(what);
      say(what);
    } catch (error) {
      const found = error.problem?.violations ?? [];
      if (found.length === 0) throw error;
      text.setAttribute("aria-invalid", "true");
      violations.replaceChildren(problem({ problem: { ...error.problem, violations: [] } }), places(text, found));
    }
  };
  root.append(form({ class: "wide", "data-testid": "publish" }, send,
    field("Payload", text, channel.schema_id ? "It is checked against the channel's schema." : "Any text; mostly JSON."),
    violations,
    h("div", { class: "bar" },
      field("Idempotency key", key, "The same key again is stored once."),
      field("Time to live", ttl, "Such as 1h"),
      field("Delay", delay, "Such as 10m")),
    field("Headers", headers, "A line for each: name: value"),
    h("button", { type: "submit", class: "primary" }, "Publish"), outcome));
}

function extra(text) {
  const lines = text.split("\n").filter((one) => one.trim());
  return Object.fromEntries(lines.map((one) => {
    const [, name, value] = /^\s*([\w.-]+)\s*:\s*(.*)$/.exec(one) ?? [];
    if (!name) throw new Error(`\`${one}\` is no header: write name: value`);
    return [`liminal-header-${name}`, value];
  }));
}

/** The violations as buttons that go to their places in the text. */
function places(text, violations) {
  return h("ul", { class: "places" }, violations.map(({ pointer, message }) => {
    const place = locate(text.value, pointer);
    const where = place ? `line ${line(text.value, place.begin)}` : "";
    const go = () => {
      text.focus();
      if (place) text.setSelectionRange(place.begin, place.end);
    };
    return h("li", {}, h("button", { type: "button", "data-pointer": pointer, onclick: go },
      h("code", {}, pointer || "(the whole)"), " ", where), " ", message);
  }));
}
