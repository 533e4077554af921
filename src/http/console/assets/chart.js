// Small drawings: what a figure did in the last fifteen minutes, and how much of something there is.

import { h, s } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 48;
const EDGE = 3;

/**
 * Lines over values from the oldest to the newest, for so many moments as the whole width stands for; null is a gap. `text`
 * writes a value for people, `since` says how long ago the left edge was; `lines` are named rows of values, the most important one
 * first.
 */
export function chart(label, lines, moments, since, text) {
  const known = lines.flatMap(({ values }) => values.filter((value) => value !== null));
  const top = Math.max(...known, 1e-9);
  const said = lines.map(({ name, values }) => {
    const of = values.filter((value) => value !== null);
    const title = name ?? label;
    return of.length === 0 ? `${title}: no figures yet` : `${title}: now ${text(of.at(-1))}, between ${text(Math.min(...of))} and ${text(Math.max(...of))}`;
  });
  const drawing = s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${said.join("; ")} in the last ${since}`, preserveAspectRatio: "none" });
  const step = WIDTH / Math.max(moments - 1, 1);
  lines.toReversed().forEach(({ values, kind }) => {
    // What is newest is at the right edge, however little there is yet.
    const begin = moments - values.length;
    const x = (at) => ((begin + at) * step).toFixed(1);
    const y = (value) => (HEIGHT - EDGE - (value / top) * (HEIGHT - 2 * EDGE)).toFixed(1);
    for (const [from, to] of runs(values)) {
      const points = values.slice(from, to).map((value, at) => `${x(from + at)},${y(value)}`);
      // One value alone is a dot.
      const line = points.length > 1 ? `M${points.join("L")}` : `M${points[0]}h0.1`;
      if (!kind) drawing.append(s("path", { class: "area", d: `${line}V${HEIGHT}H${x(from)}Z` }));
      drawing.append(s("path", { class: `line ${kind ?? ""}`, d: line, "vector-effect": "non-scaling-stroke" }));
    }
  });
  const peak = known.length === 0 ? "" : `peak ${text(Math.max(...known))}`;
  return [drawing, h("div", { class: "axis", "aria-hidden": "true" }, h("span", {}, `−${since}`), h("span", {}, peak), h("span", {}, "now"))];
}

/** Where values are one after another, without a gap. */
function runs(values) {
  const found = [];
  values.forEach((value, at) => {
    if (value === null) return;
    if (found.at(-1)?.[1] === at) found.at(-1)[1] = at + 1;
    else found.push([at, at + 1]);
  });
  return found;
}

/** How much of the most there is; the number stands beside it, so it is only for the eye. */
export function bar(value, most, kind) {
  const part = Math.min(1, Number(value) / Math.max(1, Number(most)));
  const width = part > 0 ? Math.max(2, part * 100) : 0;
  return s("svg", { class: "bar-of", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "ground", width: "100", height: "8" }), s("rect", { class: kind ?? "part", width: String(width), height: "8" }));
}

/** A share of the width for each stretch of time: `[from, to, kind]` between 0 and 1, and marks at `[at, kind]`. */
export function lane(label, stretches, marks) {
  const drawing = s("svg", { class: "lane", viewBox: "0 0 1000 20", preserveAspectRatio: "none", role: "img", "aria-label": label });
  const at = (share) => (share * 1000).toFixed(1);
  drawing.append(s("rect", { class: "ground", y: "4", width: "1000", height: "12" }));
  for (const [from, to, kind] of stretches) {
    drawing.append(s("rect", { class: kind, x: at(from), y: "4", width: Math.max(1, (to - from) * 1000).toFixed(1), height: "12" }));
  }
  for (const [where, kind] of marks) {
    drawing.append(s("path", { class: `mark ${kind}`, d: `M${at(where)},0V20`, "vector-effect": "non-scaling-stroke" }));
  }
  return drawing;
}
