// Numbers, sizes and times as people read them.

import { Exact } from "./api.js";
import { h } from "./dom.js";

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const number = (value) => (value instanceof Exact ? String(value) : value === undefined ? "–" : plain.format(value));

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(value) {
  if (value === undefined) return "–";
  let size = Number(value);
  let unit = 0;
  while (size >= 1024 && unit < SIZES.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${plain.format(size)} ${SIZES[unit]}`;
}

const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** How long something took: a few figures of the unit that fits. */
export function duration(ms) {
  if (ms >= 60_000) return span(ms);
  return ms >= 1000 ? `${short.format(ms / 1000)} s` : `${short.format(ms)} ms`;
}

const SPANS = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1000], ["ms", 1]];

/** Milliseconds in the way in which the node reads them: `1h 30m`, in so many units at most. */
export function span(ms, units = 2) {
  const parts = [];
  let left = Number(ms);
  for (const [unit, size] of SPANS) {
    const whole = Math.floor(left / size);
    if (whole > 0 && parts.length < units) parts.push(`${whole}${unit}`);
    left -= whole * size;
  }
  return parts.join(" ") || "0s";
}

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** The other way round; undefined for nothing. */
export function milliseconds(text) {
  if (!text.trim()) return undefined;
  let sum = 0;
  const rest = text.replaceAll(/(\d+)\s*(ms|s|m|h|d)\s*/g, (_, count, unit) => {
    sum += Number(count) * UNITS[unit];
    return "";
  });
  if (rest.trim() || sum === 0) throw new Error(`${text} is no time: write one like 7d or 1h 30m`);
  return sum;
}

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });
const today = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** A time in the reader's zone, without the day where that is today; the exact one is in its title. */
export function time(text) {
  if (!text) return "–";
  const at = new Date(text);
  const words = at.toDateString() === new Date().toDateString() ? today : clock;
  return h("time", { datetime: text, title: text }, words.format(at));
}

/** JSON, indented, with a class for each kind of value. */
export function json(value, depth = 0) {
  const inner = "  ".repeat(depth + 1);
  const end = `\n${"  ".repeat(depth)}`;
  const joined = (parts, open, close) =>
    parts.length === 0
      ? [open + close]
      : [open, ...parts.flatMap((part, at) => [`${at ? "," : ""}\n${inner}`, ...part]), end, close];
  const mark = (kind, text) => [h("span", { class: `json-${kind}` }, text)];
  if (value instanceof Exact) return mark("number", String(value));
  if (Array.isArray(value)) return joined(value.map((item) => json(item, depth + 1)), "[", "]");
  if (value !== null && typeof value === "object") {
    const members = Object.entries(value);
    return joined(members.map(([name, item]) => [...mark("name", JSON.stringify(name)), ": ", ...json(item, depth + 1)]), "{", "}");
  }
  return mark(typeof value === "number" ? "number" : typeof value === "string" ? "string" : "word", JSON.stringify(value));
}

/** The same as one text. */
export function pretty(value) {
  return json(value).map((part) => (typeof part === "string" ? part : part.textContent)).join("");
}

/** A payload of an answer: JSON, or bytes in base64 that may be text. */
export function payload(message) {
  if (message.payload_base64 === undefined) return h("pre", { class: "json", tabindex: "0" }, json(message.payload));
  const said = text(raw(message)) ?? `${raw(message).length} bytes in base64:\n${message.payload_base64}`;
  return h("pre", { class: "json", tabindex: "0" }, said);
}

const raw = ({ payload_base64 }) => Uint8Array.from(atob(payload_base64), (c) => c.charCodeAt(0));

/** Bytes as text, where they are some. */
function text(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

const PREVIEW = 160;

/** The beginning of a payload, on one line. */
export function preview(message) {
  const line = message.payload_base64 === undefined
    ? pretty(message.payload).replaceAll(/\n\s*/g, " ")
    : text(raw(message)) ?? `${raw(message).length} bytes`;
  return line.length > PREVIEW ? `${line.slice(0, PREVIEW)}…` : line;
}
