// What the nodes were through the last fifteen minutes: who led, who could not be reached, and when a node began again.

import { lane } from "./chart.js";
import { feed, spanned } from "./feed.js";
import { span } from "./format.js";

/** Figures come every two seconds: where none came for so long, nothing is known. */
const GAP_MS = 7_000;

/** Changes of the term that were seen, as times. */
export function elections() {
  const { samples } = feed;
  return samples.slice(1).filter((sample, at) => samples[at].term > 0 && sample.term !== samples[at].term).map(({ time }) => Date.parse(time));
}

/** What a node was at a moment: what was seen of it, or what follows from who led. */
function kind(sample, name) {
  const seen = sample.nodes?.find((node) => node.name === name);
  if (seen?.health === "unreachable" || seen?.health === "failed") return "away";
  if (!seen && sample.leader === undefined) return undefined;
  const leader = sample.leader === undefined ? seen.role === "leader" : sample.leader === name;
  if (leader) return "leader";
  return seen?.role === "learner" ? "learner" : "follower";
}

const WORDS = { leader: "led", follower: "followed", learner: "learned", away: "could not be reached" };

/** The lane of a node; `events` are those of all nodes. */
export function laneOf(name, events) {
  const { samples } = feed;
  const end = samples.length > 0 ? Date.parse(samples.at(-1).time) : Date.now();
  const drawn = spanned();
  const share = (time) => Math.max(0, Math.min(1, 1 - (end - time) / drawn));
  const stretches = [];
  samples.forEach((sample, at) => {
    const from = Date.parse(sample.time);
    const next = samples[at + 1] ? Date.parse(samples[at + 1].time) : from;
    const to = Math.min(next, from + GAP_MS);
    const is = kind(sample, name);
    if (!is) return;
    const last = stretches.at(-1);
    if (last && last[2] === is && share(from) - last[1] < 0.001) last[1] = share(to);
    else stretches.push([share(from), share(to), is]);
  });
  const within = (time) => end - time <= drawn;
  const began = events.filter((event) => event.node === name && event.event === "started").map(({ time }) => Date.parse(time)).filter(within);
  const marks = [...elections().filter(within).map((time) => [share(time), "election"]), ...began.map((time) => [share(time), "began"])];
  const said = stretches.map(([, , is]) => WORDS[is]).filter((word, at, all) => word !== all[at - 1]);
  return lane(`${name} in the last ${span(drawn)}: ${said.join(", then ") || "nothing is known"}`, stretches, marks);
}
