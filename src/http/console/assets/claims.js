// Namespaces of claims, and who holds what.

import { call } from "./api.js";
import { button, confirmed, field, form, h, say, table } from "./dom.js";
import { json, milliseconds, number, span, time } from "./format.js";

export async function claims(root, _rest, signal) {
  const shown = h("div", {});
  const draw = async () => {
    const { namespaces } = await call("GET", "/v1/claims", { signal });
    shown.replaceChildren(rows(namespaces, draw));
  };
  root.append(shown, h("h2", {}, "Make or change a namespace"), put(draw), h("h2", {}, "Look at a claim"), look());
  await draw();
}

function rows(namespaces, draw) {
  const remove = ({ namespace }) => button("Delete", async () => {
    const text = "All its claims and receipts are forgotten: work may be done twice.";
    if (!(await confirmed({ title: `Delete ${namespace}?`, text, action: "Delete", word: namespace }))) return;
    await call("DELETE", "/v1/claims/{namespace}", { path: { namespace } });
    await draw();
  }, { class: "danger", "aria-label": `Delete namespace ${namespace}` });
  return table("Namespaces of claims", [
    { title: "Namespace", cell: (one) => one.namespace },
    { title: "Claims", number: true, cell: (one) => number(one.live) },
    { title: "Receipts are kept for", cell: (one) => span(one.window_ms) },
    { title: "Created", cell: (one) => time(one.created) },
    { title: "", cell: remove },
  ], namespaces, { id: "namespaces", empty: "No namespaces that you may see." });
}

function put(draw) {
  const name = h("input", { type: "text", required: true, autocomplete: "off", "data-testid": "namespace" });
  const window = h("input", { type: "text" });
  return form({ class: "bar" }, async () => {
    const window_ms = milliseconds(window.value);
    await call("PUT", "/v1/claims/{namespace}", { path: { namespace: name.value.trim() }, body: window_ms ? { window_ms } : {} });
    say("Namespace is there");
    await draw();
  }, field("Name", name), field("Receipts are kept for", window, "Such as 24h"), h("button", { type: "submit" }, "Set"));
}

function look() {
  const namespace = h("input", { type: "text", required: true, "data-testid": "claim-namespace" });
  const key = h("input", { type: "text", required: true, "data-testid": "claim-key" });
  const shown = h("div", { role: "status", "data-testid": "claim" });
  const search = form({ class: "bar" }, async () => {
    const path = { namespace: namespace.value.trim(), key: key.value };
    const claim = await call("GET", "/v1/claims/{namespace}/{key}", { path });
    shown.replaceChildren(h("p", {}, words(claim)), h("pre", { class: "json", tabindex: "0" }, json(claim)));
  }, field("Namespace", namespace), field("Key", key), h("button", { type: "submit" }, "Look"));
  return h("div", {}, search, shown);
}

function words({ state, owner, expires }) {
  switch (state) {
    case "free": return "Nobody holds it.";
    case "completed": return `It is done; the receipt is kept until ${expires}.`;
    default: return `${owner || "A worker without a name"} holds it until ${expires}.`;
  }
}
