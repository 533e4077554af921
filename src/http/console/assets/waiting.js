// Messages that were published to become visible later.

import { call, list } from "./api.js";
import { button, confirmed, h, say, table } from "./dom.js";
import { preview, time } from "./format.js";

export async function waiting(root, channel, signal) {
  const path = { channel: channel.name };
  const shown = h("div", {});
  const draw = async () => {
    const { all, more } = await list("GET", "/v1/channels/{channel}/delayed", "messages", { path, signal, most: 1000 });
    shown.replaceChildren(rows(path, all, draw), more ? h("p", {}, "There are more: only the first ones are shown.") : "");
  };
  root.append(shown);
  await draw();
}

function rows(path, all, draw) {
  const withdraw = ({ id }) => button("Withdraw", async () => {
    const text = "It never becomes visible, and its key is free again.";
    if (!(await confirmed({ title: "Withdraw the message?", text, action: "Withdraw" }))) return;
    const { withdrawn } = await call("DELETE", "/v1/channels/{channel}/delayed/{id}", { path: { ...path, id } });
    say(withdrawn ? "Withdrawn" : "It did not wait any more");
    await draw();
  }, { "aria-label": `Withdraw message ${id}` });
  return table("Messages that wait for their time", [
    { title: "Becomes visible", cell: (one) => time(one.due) },
    { title: "Key", cell: (one) => one.key ?? "–" },
    { title: "Payload", cell: (one) => h("code", {}, preview(one)) },
    { title: "", cell: withdraw },
  ], all, { id: "waiting", empty: "No message waits for its time. Publish one with a delay." });
}
