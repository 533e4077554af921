// The frame around the views: which one is shown, who is logged in, and the colours.

import { call, token } from "./api.js";
import { field, form, h, modal, problem, say } from "./dom.js";
import { listen, pause, resume, start } from "./feed.js";
import { channel } from "./channel.js";
import { channels } from "./channels.js";
import { claims } from "./claims.js";
import { cluster } from "./cluster.js";
import { consumer, consumers } from "./consumers.js";
import { overview } from "./overview.js";
import { security } from "./security.js";

/** Names in the address, titles, and what shows them: with the rest of the address, and a signal that ends it. */
const VIEWS = {
  overview: ["Overview", () => overview],
  channels: ["Channels", (rest) => (rest.length > 0 ? channel : channels)],
  consumers: ["Consumers", (rest) => (rest.length > 1 ? consumer : consumers)],
  claims: ["Claims", () => claims],
  cluster: ["Cluster", () => cluster],
  security: ["Security", () => security],
};

const main = document.getElementById("main");
const nav = document.getElementById("nav");
let leaving = new AbortController();

async function go(moved) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const [title, view] = VIEWS[name] ?? VIEWS.overview;
  const current = VIEWS[name] ? name : "overview";
  for (const link of nav.querySelectorAll("a")) {
    if (link.dataset.view === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = [...rest.slice(0, 2), title, "liminal"].join(" · ");
  document.getElementById("notice").replaceChildren();
  const root = h("div", { class: "view", "data-testid": `view-${current}` }, h("h1", {}, title));
  main.replaceChildren(root);
  if (moved) {
    main.focus();
    say(title);
  }
  try {
    await view(rest)(root, rest, signal);
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted) root.append(problem(error));
  }
}

function navigation() {
  const links = Object.entries(VIEWS).map(([name, [title]]) =>
    h("li", {}, h("a", { href: `#/${name}`, "data-view": name }, title)));
  nav.append(h("ul", {}, links));
}

/** Who is known to the node. Where it asks nobody, there is nothing to log in to. */
async function session() {
  const who = document.getElementById("who");
  const change = document.getElementById("session");
  change.textContent = token.get() ? "Log out" : "Log in";
  who.textContent = "";
  if (!token.get()) return;
  change.hidden = false;
  const asked = await call("GET", "/v1/can-i", { query: { action: "read", scope: "cluster" } });
  who.textContent = asked.who;
}

let asking = false;

function login(reason) {
  if (asking) return;
  asking = true;
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true, "data-testid": "token" });
  const body = form({ "data-testid": "login" }, async () => {
    const before = token.get();
    token.set(input.value.trim());
    try {
      await session();
    } catch (error) {
      token.set(before);
      throw error;
    }
    dialog.close();
    say("Logged in");
    begin();
  },
    reason && h("p", {}, reason),
    field("Token", input, "Kept in this tab only, until it is closed."),
    h("div", { class: "buttons" },
      h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
      h("button", { type: "submit", class: "primary" }, "Log in")));
  const dialog = modal("Log in", body);
  dialog.addEventListener("close", () => (asking = false));
  input.focus();
}

const FEED = { connecting: "connecting", open: "", lost: "connection lost", ended: "" };

/** The node that answers, and a light for each node, on every view. */
function header() {
  const node = document.getElementById("node");
  listen(new AbortController().signal, ({ now, state }) => {
    const lights = (now?.nodes ?? []).map(({ name, health }) => h("span", { class: `dot ${state === "open" ? health : "unknown"}`, title: `${name}: ${health}` }));
    const sick = (now?.nodes ?? []).filter(({ health }) => health !== "ok");
    const text = now ? `${now.node}${sick.length > 0 ? `, ${sick.length} of ${now.nodes.length} nodes not well` : ""}` : "";
    node.replaceChildren(h("span", { class: "lights-small", "aria-hidden": "true" }, lights), [text, FEED[state]].filter(Boolean).join(", "));
  });
}

/** Shows the view and the figures with the token of now. */
function begin() {
  start();
  go(false);
}

function colours() {
  const KEPT = "liminal.theme";
  const choice = document.getElementById("theme");
  const apply = () => (choice.value ? (document.documentElement.dataset.theme = choice.value) : delete document.documentElement.dataset.theme);
  choice.value = localStorage.getItem(KEPT) ?? "";
  apply();
  choice.addEventListener("change", () => {
    localStorage.setItem(KEPT, choice.value);
    apply();
  });
}

colours();
navigation();
header();
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.getElementById("session").addEventListener("click", () => {
  if (!token.get()) return login();
  token.set("");
  session().catch(() => {});
  say("Logged out");
  begin();
});
addEventListener("login-needed", ({ detail }) => {
  document.getElementById("session").hidden = false;
  login(detail);
});
addEventListener("hashchange", () => go(true));
document.addEventListener("visibilitychange", () => (document.hidden ? pause() : resume()));
// A browser may keep a page that was left, with its connections, and show it again.
addEventListener("pagehide", () => {
  pause();
  leaving.abort();
});
addEventListener("pageshow", ({ persisted }) => persisted && begin());
session().catch(() => {});
begin();
