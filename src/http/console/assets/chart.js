// Small line drawings of what a figure did lately.

import { s } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 44;
const EDGE = 2;

/** A line over values from the oldest to the newest; null is a gap. `text` writes a value for people. */
export function sparkline(label, values, text) {
  const known = values.filter((value) => value !== null);
  const top = Math.max(...known, 1e-9);
  const newest = known.at(-1);
  const about = known.length === 0
    ? `${label}: no figures yet`
    : `${label}: now ${text(newest)}, between ${text(Math.min(...known))} and ${text(Math.max(...known))} in this time`;
  const drawing = s("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": about, preserveAspectRatio: "none" });
  const step = WIDTH / Math.max(values.length - 1, 1);
  const place = (value, at) => `${(at * step).toFixed(1)},${(HEIGHT - EDGE - (value / top) * (HEIGHT - 2 * EDGE)).toFixed(1)}`;
  let open = false;
  let line = "";
  values.forEach((value, at) => {
    if (value !== null) line += `${open ? "L" : "M"}${place(value, at)}`;
    open = value !== null;
  });
  if (line) drawing.append(s("path", { d: line, "vector-effect": "non-scaling-stroke" }));
  return drawing;
}
