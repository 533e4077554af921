// Tokens and roles, and what somebody may do.

import { call, list, token as held } from "./api.js";
import { button, confirmed, field, form, h, modal, problem, say, select, table } from "./dom.js";
import { time } from "./format.js";
import { repeat } from "./repeat.js";

const AUDIT = "$audit";
const AUDIT_AGAIN_MS = 5000;
const AUDIT_SHOWN = 50;
/** The role that every cluster has. */
const ADMIN = "admin";

export async function security(root, _rest, signal) {
  const tokens = h("div", {});
  const roles = h("div", {});
  const drawTokens = async () => {
    const { all } = await list("GET", "/v1/tokens", "tokens", { signal });
    tokens.replaceChildren(tokenRows(all, drawTokens));
  };
  const choice = h("div", { class: "checks" });
  const drawRoles = async () => {
    const { all } = await list("GET", "/v1/roles", "roles", { signal });
    roles.replaceChildren(roleRows(all, drawRoles));
    const checked = new Set(chosen(choice));
    choice.replaceChildren(...all.map(({ name }) => h("label", {}, h("input", { type: "checkbox", value: name, checked: checked.has(name) }), ` ${name}`)));
  };
  const open = h("div", {});
  const audit = h("div", {});
  root.append(open, h("h2", {}, "What may I do?"), canI());
  root.append(h("h2", {}, "Tokens"), tokens, h("h3", {}, "New token"), create(choice, drawTokens),
    h("h2", {}, "Roles"), roles,
    h("p", {}, h("button", { type: "button", "data-testid": "new-role", onclick: () => edit(undefined, drawRoles) }, "New role")),
    h("h2", {}, "Audit"), audit);
  await drawTokens();
  await drawRoles();
  if (!held.get()) {
    open.replaceChildren(h("p", { class: "note", "data-testid": "open" }, h("strong", {}, "Nobody is asked for a token here. "),
      "Whoever reaches the node may do everything. Make a token with the role admin, then set ", h("code", {}, "security.mode"), " to ", h("code", {}, "enforce"), "."));
  }
  await record(audit, signal);
}

/** The newest records of the audit, which is a channel. */
async function record(root, signal) {
  const path = { channel: AUDIT };
  await repeat(signal, AUDIT_AGAIN_MS, async () => {
    try {
      // A list says it without an error where it is not.
      const { channels } = await call("GET", "/v1/channels", { signal, query: { after: AUDIT.slice(0, -1), limit: 1 } });
      if (channels[0]?.name !== AUDIT) {
        root.replaceChildren(h("p", { class: "empty", "data-testid": "no-audit" }, "Nothing is recorded, or nothing that you may see: the audit begins with ", h("code", {}, "security.mode"), "."));
        return;
      }
      const { first_seq, next_seq } = channels[0];
      const from = Math.max(first_seq, next_seq - AUDIT_SHOWN);
      const { messages } = next_seq > from ? await call("GET", "/v1/channels/{channel}/messages", { path, signal, query: { from, limit: AUDIT_SHOWN } }) : { messages: [] };
      root.replaceChildren(records(messages.toReversed()),
        h("p", {}, h("a", { href: `#/channels/${encodeURIComponent(AUDIT)}` }, "All records"), ", by sequence number, time and predicate"));
    } catch (error) {
      if (!error.problem?.code) throw error;
      root.replaceChildren(problem(error));
    }
  });
}

function records(messages) {
  const said = (name) => ({ payload }) => payload?.[name] || "–";
  const result = ({ payload }) => [h("span", { class: payload?.result === "done" ? "" : "bad" }, payload?.result ?? "–"), payload?.code && ` ${payload.code}`];
  return table("The newest records of the audit", [
    { title: "Time", cell: ({ timestamp }) => time(timestamp) },
    { title: "Act", cell: said("act") },
    { title: "On", cell: said("on") },
    { title: "Result", cell: result },
    { title: "By", cell: ({ payload }) => payload?.description || payload?.token || "–" },
    { title: "From", cell: said("from") },
    { title: "Node", cell: said("node") },
    { title: "Details", cell: said("detail") },
  ], messages, { id: "audit", empty: "No records yet." });
}

const chosen = (choice) => [...choice.querySelectorAll("input:checked")].map(({ value }) => value);

const ACTIONS = ["publish", "read", "consume", "claim", "manage", "admin"];

function canI() {
  const action = select(ACTIONS.map((name) => [name, name]), "read", { "data-testid": "action" });
  const scope = h("input", { type: "text", value: "cluster", required: true, "data-testid": "scope" });
  const shown = h("p", { role: "status", "data-testid": "can-i" });
  const ask = form({ class: "bar" }, async () => {
    const { allowed, who, reason } = await call("GET", "/v1/can-i", { query: { action: action.value, scope: scope.value.trim() } });
    shown.textContent = allowed ? `Yes: ${who} may.` : `No: ${reason ?? who}`;
  }, field("Action", action), field("On", scope, "channel:NAME, claim:NAME or cluster"), h("button", { type: "submit" }, "Ask"));
  return h("div", {}, ask, shown);
}

/** The text of a token is told once. */
function tell({ id, token }) {
  const text = h("input", { type: "text", class: "code", readonly: true, value: token, "data-testid": "new-token-text" });
  const copy = button("Copy", async () => {
    await navigator.clipboard.writeText(token);
    say("Copied");
  });
  const dialog = modal(`Token ${id}`,
    field("Text", text, "It is shown only now. Keep it where only its holder can read it."),
    h("div", { class: "buttons" }, navigator.clipboard && copy, h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Done")));
  text.select();
}

function tokenRows(all, draw) {
  const rotate = ({ id }) => button("Rotate", async () => {
    const text = "It gets another text; the former one is refused from then on.";
    if (!(await confirmed({ title: `Rotate token ${id}?`, text, action: "Rotate" }))) return;
    tell(await call("POST", "/v1/tokens/{id}/rotate", { path: { id } }));
    await draw();
  }, { "aria-label": `Rotate token ${id}` });
  const revoke = ({ id, description }) => button("Revoke", async () => {
    const text = `${description || "Its holder"} is refused from then on, and whatever is open by it ends.`;
    if (!(await confirmed({ title: `Revoke token ${id}?`, text, action: "Revoke" }))) return;
    await call("DELETE", "/v1/tokens/{id}", { path: { id } });
    await draw();
  }, { class: "danger", "aria-label": `Revoke token ${id}` });
  return table("Tokens", [
    { title: "Id", cell: (token) => h("code", {}, token.id) },
    { title: "Description", cell: (token) => token.description },
    { title: "Roles", cell: (token) => token.roles.join(", ") },
    { title: "Created", cell: (token) => time(token.created) },
    { title: "Expires", cell: (token) => (token.expires ? time(token.expires) : "never") },
    { title: "Last used here", cell: (token) => time(token.used) },
    { title: "", cell: (token) => h("div", { class: "buttons small" }, rotate(token), revoke(token)) },
  ], all, { id: "tokens", empty: "No tokens." });
}

function create(choice, draw) {
  const description = h("input", { type: "text", "data-testid": "token-description" });
  const lifetime = h("input", { type: "text", placeholder: "90d" });
  return form({ class: "bar", "data-testid": "new-token" }, async () => {
    const body = { description: description.value.trim(), roles: chosen(choice) };
    if (body.roles.length === 0) throw new Error("Choose a role: a token without one may do nothing.");
    if (lifetime.value.trim()) body.lifetime = lifetime.value.trim();
    tell(await call("POST", "/v1/tokens", { body }));
    await draw();
  }, field("Description", description, "Who uses it, and for what"),
    field("Valid for", lifetime, "Empty: until it is revoked"),
    h("fieldset", { class: "plain", "data-testid": "token-roles" }, h("legend", {}, "Roles"), choice),
    h("button", { type: "submit", class: "primary" }, "Make a token"));
}

const written = ({ grants }) => grants.map(({ scope, actions }) => `${scope} = ${actions.join(", ")}`).join("\n");

function roleRows(all, draw) {
  const remove = ({ name }) => button("Delete", async () => {
    const text = "The node refuses it while a token has the role.";
    if (!(await confirmed({ title: `Delete role ${name}?`, text, action: "Delete" }))) return;
    await call("DELETE", "/v1/roles/{role}", { path: { role: name } });
    await draw();
  }, { class: "danger", "aria-label": `Delete role ${name}` });
  const change = (role) => h("button", { type: "button", "aria-label": `Change role ${role.name}`, onclick: () => edit(role, draw) }, "Change");
  return table("Roles", [
    { title: "Name", cell: (role) => role.name },
    { title: "Description", cell: (role) => role.description },
    { title: "Grants", cell: (role) => h("pre", { class: "grants" }, written(role)) },
    { title: "", cell: (role) => (role.name === ADMIN ? "" : h("div", { class: "buttons small" }, change(role), remove(role))) },
  ], all, { id: "roles", empty: "No roles." });
}

function grants(text) {
  return text.split("\n").filter((one) => one.trim()).map((one) => {
    const [scope, actions] = one.split("=");
    if (actions === undefined) throw new Error(`\`${one}\` is no grant: write one like channel:orders.* = publish, read`);
    return { scope: scope.trim(), actions: actions.split(/[\s,]+/).filter(Boolean) };
  });
}

/** Makes a role, or changes one that is there. */
function edit(role, draw) {
  const name = h("input", { type: "text", required: true, value: role?.name ?? "", readonly: Boolean(role), "data-testid": "role-name" });
  const description = h("input", { type: "text", value: role?.description ?? "" });
  const text = h("textarea", { rows: "6", class: "code", spellcheck: "false", "data-testid": "grants" });
  text.value = role ? written(role) : "";
  const body = form({}, async () => {
    const wanted = { description: description.value.trim(), grants: grants(text.value) };
    const path = { role: name.value.trim() };
    if (role) await call("PATCH", "/v1/roles/{role}", { path, body: wanted });
    else await call("PUT", "/v1/roles/{role}", { path, body: wanted });
    dialog.close();
    say("Role is there");
    await draw();
  },
    field("Name", name), field("Description", description),
    field("Grants", text, "A line for each: channel:orders.* = publish, read"),
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
      h("button", { type: "submit", class: "primary" }, role ? "Change" : "Make")));
  const dialog = modal(role ? `Role ${role.name}` : "New role", body);
}
