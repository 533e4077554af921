// The nodes of the cluster: a lane for each, whether their states agree, and changes of the membership.

import { call } from "./api.js";
import { bar } from "./chart.js";
import { button, confirmed, h, refresh, say, table } from "./dom.js";
import { feed, listen, spanned } from "./feed.js";
import { bytes, duration, number, span, time } from "./format.js";
import { elections, laneOf } from "./lanes.js";
import { repeat } from "./repeat.js";

const AGAIN_MS = 2000;

export async function cluster(root, _rest, signal) {
  const about = h("p", { class: "state", "data-testid": "cluster-about" });
  const shown = h("div", {});
  const own = h("div", { "data-testid": "own" });
  const title = h("h2", {}, "This node");
  const events = h("div", {});
  root.append(about, shown, legend(), title, own, h("h2", {}, "What happened to the nodes"), events);
  // The feed brings what the lanes show of the past.
  listen(signal, () => {});
  await repeat(signal, AGAIN_MS, async () => {
    const [status, node, log] = await Promise.all([
      call("GET", "/v1/cluster", { signal }),
      call("GET", "/v1/node", { signal }),
      call("GET", "/v1/cluster/events", { signal }),
    ]);
    const terms = elections().length;
    const votes = status.nodes.filter(({ role }) => role !== "learner").length;
    about.textContent = `Led by ${status.leader || "nobody"}, ${terms === 0 ? "without an election" : `after ${number(terms)} election${terms > 1 ? "s" : ""}`} in the last ${span(spanned())}. ` +
      `${votes} voters, of which ${Math.floor((votes - 1) / 2)} may be lost. Cluster ${status.cluster_id}; answered by ${status.answered_by}.`;
    refresh(shown, h("ol", { class: "lanes", "data-testid": "nodes" }, status.nodes.map((one) => row(one, status, node, log.events))));
    title.textContent = `This node: ${node.name}`;
    refresh(own, figures(node));
    refresh(events, happened(log.events));
  });
}

function legend() {
  const each = [["leader", "leader"], ["follower", "follower"], ["learner", "learner"], ["away", "not reached"], ["began", "process began"], ["election", "election"]];
  return h("ul", { class: "legend", "aria-hidden": "true" }, each.map(([kind, word]) => h("li", {}, h("span", { class: `swatch ${kind}` }), word)));
}

function row(node, { nodes, answered_by }, own, events) {
  const silent = node.health === "unreachable";
  const figure = (name) => (silent ? "–" : number(node[name]));
  // Hashes of the same place in the log can be compared.
  const differs = nodes.some((other) => other.state_hash_at === node.state_hash_at && other.state_hash !== node.state_hash);
  const state = node.state_hash
    ? [h("code", { title: node.state_hash }, node.state_hash.slice(0, 8)), ` at ${number(node.state_hash_at)}`, differs && h("strong", { class: "bad" }, " differs")]
    : "not compared yet";
  const ahead = node.clock_ahead_ms;
  const clock = ahead === undefined ? "–" : `${ahead > 0 ? "+" : ""}${number(ahead)} ms`;
  const here = node.name === answered_by;
  const facts = [
    ["Term", figure("term")],
    ["Commit", figure("commit")],
    ["Applied", figure("applied")],
    ["Lag", silent ? "–" : [number(node.lag), " ", node.lag > 0 && bar(node.lag, node.commit, "bad")]],
    ["Clock", clock],
    ["State", state],
    ["Version", node.version ? String(node.version) : "?"],
    ...(here ? ownFacts(own) : []),
    ["HTTP", h("span", { title: `clients ${node.client_address}, nodes ${node.peer_address}` }, node.http_address)],
  ];
  return h("li", { "data-node": node.name, "data-role": node.role, "data-health": node.health },
    h("div", { class: "lane-head" },
      h("span", { class: `dot ${node.health}`, "aria-hidden": "true" }),
      h("strong", {}, node.name), h("span", { class: `role ${node.role}` }, node.role), h("span", { class: "quiet" }, node.health, here && ", this node"),
      changes(node)),
    node.failure && h("div", { class: "reason" }, node.failure),
    laneOf(node.name, events),
    list(facts));
}

const list = (facts) => h("dl", { class: "facts" }, facts.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));

/** What only a node itself knows. */
function ownFacts({ metrics }) {
  const sync = feed.now?.figures.log_sync_p99_ms;
  return [
    ["Disk free", `${bytes(metrics.disk_free_bytes)} of ${bytes(metrics.disk_size_bytes)}`],
    ["Log sync, p99", typeof sync === "number" ? duration(sync) : "–"],
    ["Scrub", damage(metrics)],
  ];
}

function damage(metrics) {
  const bad = metrics.scrub_unhealed_files;
  if (bad > 0) return h("strong", { class: "bad" }, `${number(bad)} damaged files`);
  const at = metrics.scrub_completed_timestamp_seconds;
  return at ? ["well, read ", time(new Date(at * 1000).toISOString())] : "not read through yet";
}

function changes({ name, role }) {
  const path = { node: name };
  const change = (question, made) => async () => {
    if (!(await confirmed(question))) return;
    const { done } = await made();
    say(done);
  };
  const lead = button("Let it lead",
    change({ title: `Hand leadership to ${name}?`, text: "Publishes wait for a moment.", action: "Hand over" },
      () => call("POST", "/v1/cluster/nodes/{node}/lead", { path })),
    { "aria-label": `Hand leadership to ${name}`, "data-testid": `lead-${name}` });
  const promote = button("Promote",
    change({ title: `Promote ${name}?`, text: "It becomes a voter: its disk counts for the majority.", action: "Promote" },
      () => call("POST", "/v1/cluster/nodes/{node}/promote", { path })),
    { "aria-label": `Promote ${name}`, "data-testid": `promote-${name}` });
  const gone = "It is taken out of the cluster, and may not come back by itself.";
  const remove = button("Remove",
    change({ title: `Remove ${name}?`, text: gone, action: "Remove", word: name },
      () => call("DELETE", "/v1/cluster/nodes/{node}", { path })),
    { class: "danger", "aria-label": `Remove ${name}`, "data-testid": `remove-${name}` });
  return h("div", { class: "buttons small" }, role === "follower" && lead, role === "learner" && promote, role !== "leader" && remove);
}

function figures({ version, unmet, warnings, metrics }) {
  return list([
    ["Version", version],
    ["Ready", unmet.length === 0 ? "yes" : `no: ${unmet.join("; ")}`],
    ["Log", `${number(metrics.raft_log_entries)} entries, ${bytes(metrics.log_bytes)}`],
    ["State on disk", `${bytes(metrics.store_disk_bytes)}, of which ${bytes(metrics.store_live_bytes)} are needed`],
    ["States last compared at", number(metrics.state_verified_index)],
    ["Read to look for damage", bytes(metrics.scrub_bytes)],
    ["Damaged files found", number(metrics.scrub_damaged_files)],
    ["of which repaired", number(metrics.scrub_healed_files)],
    ["Memory", bytes(metrics.resident_memory_bytes)],
    ["Keys in memory", number(metrics.keys_in_memory)],
    ["Connections refused", number(metrics.connections_refused)],
    ...warnings.map((warning) => ["Warning", warning]),
  ]);
}

/** So many of the newest are shown. */
const SHOWN = 50;

function happened(events) {
  return table("What happened to the nodes, newest first", [
    { title: "Time", cell: (event) => time(event.time) },
    { title: "Node", cell: (event) => event.node },
    { title: "What", cell: (event) => event.event },
    { title: "Details", cell: (event) => event.detail || "–" },
  ], events.slice(-SHOWN).reverse(), { id: "events", empty: "Nothing yet." });
}
