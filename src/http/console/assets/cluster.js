// The nodes of the cluster: what each does, whether their states agree, and changes of the membership.

import { call } from "./api.js";
import { button, confirmed, h, refresh, say, table } from "./dom.js";
import { bytes, number, time } from "./format.js";
import { repeat } from "./repeat.js";

const AGAIN_MS = 2000;

export async function cluster(root, _rest, signal) {
  const about = h("p", { class: "state", "data-testid": "cluster-about" });
  const shown = h("div", {});
  const own = h("div", { "data-testid": "own" });
  const events = h("div", {});
  root.append(about, shown, h("h2", {}, "This node"), own, h("h2", {}, "What happened to the nodes"), events);
  await repeat(signal, AGAIN_MS, async () => {
    const [status, node, log] = await Promise.all([
      call("GET", "/v1/cluster", { signal }),
      call("GET", "/v1/node", { signal }),
      call("GET", "/v1/cluster/events", { signal }),
    ]);
    about.textContent = `Cluster ${status.cluster_id}, led by ${status.leader || "nobody"}. Answered by ${status.answered_by}.`;
    refresh(shown, rows(status, node));
    refresh(own, figures(node));
    refresh(events, happened(log.events));
  });
}

function rows({ nodes, answered_by }, own) {
  const silent = (node) => node.health === "unreachable";
  const figure = (name) => (node) => (silent(node) ? "–" : number(node[name]));
  // Hashes of the same place in the log can be compared.
  const differs = (node) => nodes.some((other) => other.state_hash_at === node.state_hash_at && other.state_hash !== node.state_hash);
  const state = (node) => node.state_hash
    ? [h("code", { title: node.state_hash }, node.state_hash.slice(0, 8)), ` at ${number(node.state_hash_at)}`, differs(node) && h("strong", { class: "bad" }, " differs")]
    : "–";
  const health = ({ health: word, failure }) => [
    h("span", { class: `dot ${word}`, "aria-hidden": "true" }), " ", word, failure && h("div", { class: "reason" }, failure)];
  const clock = ({ clock_ahead_ms: ahead }) => (ahead === undefined ? "–" : `${ahead > 0 ? "+" : ""}${number(ahead)} ms`);
  const scrub = (node) => (node.name === answered_by ? damage(own.metrics) : h("span", { title: "That node's own console shows it" }, "–"));
  return table("Nodes", [
    { title: "Node", cell: (node) => [node.name, node.name === answered_by && " (this one)"] },
    { title: "Role", cell: ({ role }) => role },
    { title: "Health", cell: health },
    { title: "Version", number: true, cell: (node) => (node.version ? String(node.version) : "?") },
    { title: "Term", number: true, cell: figure("term") },
    { title: "Commit", number: true, cell: figure("commit") },
    { title: "Applied", number: true, cell: figure("applied") },
    { title: "Lag", number: true, cell: figure("lag") },
    { title: "Clock", number: true, cell: clock },
    { title: "State", cell: state },
    { title: "Scrub", cell: scrub },
    { title: "Address", cell: (node) => h("span", { title: `clients ${node.client_address}, nodes ${node.peer_address}` }, node.http_address) },
    { title: "", cell: changes },
  ], nodes, { id: "nodes" });
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
  return h("div", { class: "buttons" }, role === "follower" && lead, role === "learner" && promote, role !== "leader" && remove);
}

function figures({ version, unmet, warnings, metrics }) {
  const facts = [
    ["Version", version],
    ["Ready", unmet.length === 0 ? "yes" : `no: ${unmet.join("; ")}`],
    ["Log", `${number(metrics.raft_log_entries)} entries`],
    ["State on disk", `${bytes(metrics.store_disk_bytes)}, of which ${bytes(metrics.store_live_bytes)} are needed`],
    ["States last compared at", number(metrics.state_verified_index)],
    ["Read to look for damage", bytes(metrics.scrub_bytes)],
    ["Damaged files found and repaired", `${number(metrics.scrub_damaged_files)}, ${number(metrics.scrub_healed_files)}`],
    ["Memory", bytes(metrics.resident_memory_bytes)],
    ["Keys in memory", number(metrics.keys_in_memory)],
    ["Connections refused", number(metrics.connections_refused)],
    ...warnings.map((warning) => ["Warning", warning]),
  ];
  return h("dl", { class: "facts" }, facts.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
}

/** So many of the newest are shown. */
const SHOWN = 50;

function happened(events) {
  return table("What happened to the nodes, newest first", [
    { title: "Time", cell: (event) => time(event.time) },
    { title: "Node", cell: (event) => event.node },
    { title: "What", cell: (event) => event.event },
    { title: "", cell: (event) => event.detail },
  ], events.slice(-SHOWN).reverse(), { id: "events" });
}
