// Publishing a message by hand. What a schema refuses is shown while it is typed, where it is in the text.

import { call } from "./api.js";
import { field, form, h, problem, say } from "./dom.js";
import { pretty } from "./format.js";
import { line, locate } from "./pointer.js";
import { example } from "./example.js";

const PAUSE_MS = 300;

export async function publish(root, channel, signal) {
  const text = h("textarea", { rows: "14", class: "code", spellcheck: "false", "data-testid": "payload" });
  const key = h("input", { type: "text", autocomplete: "off", "data-testid": "key" });
  const headers = h("textarea", { rows: "3", class: "code", spellcheck: "false", placeholder: "source: shop" });
  const ttl = h("input", { type: "text", placeholder: "1h" });
  const delay = h("input", { type: "text", placeholder: "10m" });
  const outcome = h("div", { role: "status", "data-testid": "published" });
  const verdict = h("p", { class: "verdict", role: "status", "data-testid": "verdict" });
  const violations = h("div", { "data-testid": "violations" });
  text.value = channel.schema ? pretty(example(JSON.parse(channel.schema))) : "{}";
  const path = { channel: channel.name };
  const json = { "content-type": "application/json" };

  const judge = (kind, words, found = []) => {
    verdict.className = `verdict ${kind}`;
    if (verdict.textContent !== words) verdict.textContent = words;
    if (kind === "bad") text.setAttribute("aria-invalid", "true");
    else text.removeAttribute("aria-invalid");
    violations.replaceChildren(...(found.length > 0 ? [places(text, found)] : []));
  };
  const objections = (error) => {
    const found = error.problem?.violations ?? [];
    if (found.length > 0) judge("bad", `The schema refuses it in ${found.length} place${found.length > 1 ? "s" : ""}.`, found);
    return found.length > 0;
  };

  let asking = new AbortController();
  let pause;
  // The node says what it would say to the message; nothing is stored.
  const look = async () => {
    asking.abort();
    asking = new AbortController();
    const either = AbortSignal.any([signal, asking.signal]);
    try {
      await call("POST", "/v1/channels/{channel}/messages", { path, query: { dry_run: true }, text: text.value, headers: json, signal: either });
      judge("good", channel.schema_id ? "It fits the schema." : "");
    } catch (error) {
      if (either.aborted || objections(error)) return;
      judge("", `Not checked: ${error.message}`);
    }
  };
  text.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(look, PAUSE_MS);
  });

  const send = async () => {
    outcome.replaceChildren();
    clearTimeout(pause);
    asking.abort();
    try {
      const answer = await call("POST", "/v1/channels/{channel}/messages", {
        path, query: { confirm: "commit" }, text: text.value, headers: {
          ...json,
          ...(key.value && { "idempotency-key": key.value }),
          ...(ttl.value.trim() && { "liminal-ttl": ttl.value.trim() }),
          ...(delay.value.trim() && { "liminal-delay": delay.value.trim() }),
          ...extra(headers.value),
        },
      });
      const what = answer.scheduled
        ? `Accepted; it becomes visible at ${answer.scheduled}.`
        : `${answer.duplicate ? "The key was used before: the message is" : "Stored on a majority as"} ${answer.channel}@${answer.seq}.`;
      judge("good", channel.schema_id ? "It fits the schema." : "");
      outcome.replaceChildren(h("p", { class: "done" }, what));
      say(what);
    } catch (error) {
      if (!objections(error)) throw error;
      outcome.replaceChildren(h("div", {}, problem({ problem: { ...error.problem, violations: [] } })));
      violations.querySelector("button")?.focus();
    }
  };
  root.append(form({ class: "wide", "data-testid": "publish" }, send,
    field("Payload", text, channel.schema_id ? "The node checks it against the channel's schema while you type." : "Any text; mostly JSON."),
    h("div", { class: "checked" }, verdict, violations),
    h("div", { class: "bar" },
      field("Idempotency key", key, "The same key again is stored once."),
      field("Time to live", ttl, "How long it may be read"),
      field("Delay", delay, "How long it is held back")),
    field("Headers", headers, "A line for each: name: value"),
    h("button", { type: "submit", class: "primary" }, "Publish"), outcome));
  if (channel.schema_id) look();
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
      h("code", {}, pointer || "(the whole)"), where && ` ${where}`), " ", message);
  }));
}
