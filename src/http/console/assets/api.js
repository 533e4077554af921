// The calls of the node's HTTP API. Paths are written as the OpenAPI document has them, so that a test can compare both.

const KEPT = "liminal.token";

/** The token of this tab: it is gone when the tab is closed, and other tabs do not have it. */
export const token = {
  get: () => sessionStorage.getItem(KEPT) ?? "",
  set: (text) => (text ? sessionStorage.setItem(KEPT, text) : sessionStorage.removeItem(KEPT)),
};

/** An answer that is an error: problem details, with a stable `code`. */
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail ?? problem.title);
    this.name = "Refused";
    this.problem = problem;
  }
}

/** A number that JavaScript would change, as the node wrote it. */
export class Exact {
  constructor(text) {
    this.text = text;
  }
  toString() {
    return this.text;
  }
}

function exact(_key, value, context) {
  const text = context?.source;
  return typeof value === "number" && text !== undefined && String(value) !== text ? new Exact(text) : value;
}

export const parse = (text) => JSON.parse(text, exact);

function address(template, path = {}, query = {}) {
  const filled = template.replaceAll(/\{(\w+)\}/g, (_, name) => encodeURIComponent(path[name]));
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return filled.slice(1) + (search && `?${search}`);
}

/** The answer to a call; its body is parsed where it is JSON. `body` becomes JSON, `text` is sent as it is. */
export async function call(method, template, { path, query, body, text, headers = {}, signal } = {}) {
  const answer = await ask(method, template, { path, query, body, text, headers, signal });
  const said = await answer.text();
  return answer.headers.get("content-type")?.includes("json") ? parse(said) : said;
}

async function ask(method, template, { path, query, body, text, headers, signal }) {
  const sent = { ...headers };
  if (token.get()) sent.authorization = `Bearer ${token.get()}`;
  if (body !== undefined) sent["content-type"] ??= "application/json";
  let answer;
  try {
    answer = await fetch(address(template, path, query), {
      method,
      headers: sent,
      body: body === undefined ? text : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused({ title: "No answer", detail: "The node does not answer.", help: "Check that it runs, and that you can reach it.", code: "" });
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ title: `Status ${answer.status}`, detail: answer.statusText }));
  if (answer.status === 401) dispatchEvent(new CustomEvent("login-needed", { detail: problem.detail }));
  throw new Refused(problem);
}

const AGAIN_MS = 2000;

/**
 * Follows server-sent events until `signal` ends it; begins again where the stream was when a connection breaks. Read by hand,
 * because the browser's own reader cannot send a token. `told` gets each event; `state` hears of `open`, `lost` and `ended`;
 * `before` is waited for before each attempt.
 */
export async function stream(method, template, { path, query, signal, told, state = () => {}, before = () => {} }) {
  let last = "";
  while (!signal.aborted) {
    try {
      await before();
      const headers = { accept: "text/event-stream", ...(last && { "last-event-id": last }) };
      const answer = await ask(method, template, { path, query, headers, signal });
      state("open");
      for await (const event of events(answer.body)) {
        if (event.id !== undefined) last = event.id;
        if (event.data === undefined) continue;
        const data = parse(event.data);
        if (event.name === "error") throw new Refused(data);
        told(data, event.name);
      }
    } catch (error) {
      if (signal.aborted) break;
      // What the node refuses is refused again; what was lost comes back.
      if (error instanceof Refused && error.problem.code) {
        state("ended");
        throw error;
      }
    }
    if (signal.aborted) break;
    state("lost");
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      yield* blocks.map(event);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function event(block) {
  const read = { name: "message" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^(\w*): ?(.*)$/.exec(line) ?? [];
    if (name === "data") read.data = read.data === undefined ? value : `${read.data}\n${value}`;
    else if (name === "id") read.id = value;
    else if (name === "event") read.name = value;
  }
  return read;
}

/** All pages of a list, up to a bound that a page can show. */
export async function list(method, template, name, { path, query, signal, most = 5000 } = {}) {
  const all = [];
  let after;
  do {
    const page = await call(method, template, { path, query: { ...query, after }, signal });
    all.push(...page[name]);
    after = page.next_after;
  } while (after !== null && after !== undefined && all.length < most);
  return { all, more: after !== null && after !== undefined };
}
