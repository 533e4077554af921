// Making elements. Everything that comes from a message or a name becomes text, never markup.

const URLS = ["href", "src", "action"];

/** An element: attributes by name, `on...` for listeners, and what is in it. Children that are null or false are left out. */
export function h(tag, attributes, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

const SVG = document.getElementById("svg").content.firstElementChild.namespaceURI;

/** The same of an element of a drawing. */
export function s(tag, attributes, ...children) {
  return dress(document.createElementNS(SVG, tag), attributes, children);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (URLS.includes(name) && !/^(#|console\/)/.test(value)) {
      throw new Error(`${name} leads out of the console`);
    } else if (["value", "checked", "selected", "disabled"].includes(name)) {
      element[name] = value;
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Says something to who listens instead of looking. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** A table. Columns have a `title`, a function `cell` of a row, and perhaps `number`. */
export function table(caption, columns, rows, { id, empty = "Nothing here." } = {}) {
  const head = columns.map(({ title, number }) => h("th", { scope: "col", class: number && "number" }, title));
  const line = (row) =>
    h("tr", {}, columns.map(({ cell, number }, at) => {
      const attributes = { class: number && "number" };
      return at === 0 ? h("th", { scope: "row", ...attributes }, cell(row)) : h("td", attributes, cell(row));
    }));
  const body = rows.length > 0
    ? rows.map(line)
    : h("tr", {}, h("td", { colspan: columns.length, class: "empty" }, empty));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", { "data-testid": id },
      h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, head)),
      h("tbody", {}, body)));
}

const named = (element) => element.getAttribute("aria-label") ?? element.getAttribute("href");

/**
 * Replaces what is shown by what is newer, and leaves the reader where they are: with the focus on the same thing and a table at
 * the same column. Nothing changes while text is selected there, or a dialog asks about it.
 */
export function refresh(container, ...content) {
  const selection = document.getSelection();
  const selects = !selection.isCollapsed && container.contains(selection.anchorNode);
  if (selects || document.querySelector("dialog[open]")) return;
  const had = container.contains(document.activeElement) ? named(document.activeElement) : null;
  const columns = [...container.querySelectorAll(".scroll")].map((area) => area.scrollLeft);
  container.replaceChildren(...content);
  container.querySelectorAll(".scroll").forEach((area, at) => (area.scrollLeft = columns[at] ?? 0));
  if (had === null) return;
  const same = [...container.querySelectorAll("a, button, [tabindex]")].find((element) => named(element) === had);
  same?.focus({ preventScroll: true });
}

let fields = 0;

/** A labelled field; `control` is its input, select or textarea. */
export function field(label, control, hint) {
  control.id ||= `field-${(fields += 1)}`;
  const about = hint && h("span", { class: "hint", id: `${control.id}-hint` }, hint);
  if (about) control.setAttribute("aria-describedby", about.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, about);
}

export function select(options, chosen, attributes) {
  const each = options.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
  return h("select", attributes, each);
}

/** A form whose `act` runs once at a time; what it fails with is shown in the form. */
export function form(attributes, act, ...children) {
  const outcome = h("div", { class: "outcome", role: "alert" });
  const element = h("form", { novalidate: true, ...attributes }, children, outcome);
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (element.hasAttribute("aria-busy")) return;
    element.setAttribute("aria-busy", "true");
    outcome.replaceChildren();
    try {
      await act(event.submitter);
    } catch (error) {
      outcome.replaceChildren(problem(error));
    } finally {
      element.removeAttribute("aria-busy");
    }
  });
  return element;
}

/** An error as people read it: what is wrong, what to do, and where. */
export function problem(error) {
  const { title, detail, help, code, violations = [] } = error.problem ?? { title: "Failed", detail: String(error.message ?? error) };
  return h("div", { class: "problem", "data-testid": "problem", "data-code": code },
    h("strong", {}, title), " ", detail,
    help && h("p", {}, help),
    violations.length > 0 && h("ul", {}, violations.map(({ pointer, message }) =>
      h("li", {}, h("code", {}, pointer || "(the whole)"), " ", message))));
}

/** A button for what is done at once; an error is told at the top. It stays enabled, so that it keeps the focus. */
export function button(text, act, attributes) {
  const element = h("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", async () => {
    if (element.hasAttribute("aria-busy")) return;
    element.setAttribute("aria-busy", "true");
    try {
      await act(element);
    } catch (error) {
      show(error);
    } finally {
      element.removeAttribute("aria-busy");
    }
  });
  return element;
}

/** Tells an error at the top of the page until the next one, or until the view changes. */
export function show(error) {
  if (error?.name === "AbortError") return;
  const notice = document.getElementById("notice");
  const close = h("button", { type: "button", "aria-label": "Dismiss", onclick: () => notice.replaceChildren() }, "×");
  notice.replaceChildren(problem(error), close);
}

/** Asks before something that cannot be undone. Where `word` is given, it has to be typed. Resolves to whether to do it. */
export function confirmed({ title, text, action, word }) {
  const typed = word && h("input", { type: "text", autocomplete: "off", spellcheck: "false", "data-testid": "confirm-word" });
  const yes = h("button", { type: "submit", class: "danger", "data-testid": "confirm", disabled: Boolean(word) }, action);
  typed?.addEventListener("input", () => (yes.disabled = typed.value !== word));
  return new Promise((resolve) => {
    const done = (answer) => {
      resolve(answer);
      dialog.close();
    };
    const body = h("form", { onsubmit: (event) => {
      event.preventDefault();
      if (!yes.disabled) done(true);
    } },
      h("p", {}, text),
      typed && field(`Type ${word} to confirm`, typed),
      h("div", { class: "buttons" },
        h("button", { type: "button", "data-testid": "cancel", onclick: () => done(false) }, "Cancel"), yes));
    const dialog = modal(title, body);
    dialog.addEventListener("close", () => resolve(false));
  });
}

/** Opens a dialog, which goes when it is closed; the focus returns to where it was. */
export function modal(title, ...content) {
  const heading = h("h2", { id: "dialog-title" }, title);
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, heading, content);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
