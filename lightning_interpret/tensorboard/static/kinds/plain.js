// Records of a kind that has no renderer of its own, as plain data: nothing that was logged is refused.

import { h } from "../parts.js";
import { plain, printable } from "../model.js";

const DEPTH = 4, ITEMS = 100;

/** The records of one step. */
export function render(payload) {
  return h("div", { class: "record" }, payload.records.map((record) => h("section", { class: "card plain" }, value(record, 0))));
}

function value(of, depth) {
  if (typeof of === "number") return h("span", { class: "number", title: String(of) }, plain(of));
  if (typeof of === "string") return h("bdi", {}, printable(of));
  if (of === null || typeof of !== "object") return String(of);
  const entries = Array.isArray(of) ? of : Object.entries(of);
  if (!entries.length) return h("span", { class: "muted" }, "empty");
  if (depth >= DEPTH) return h("code", {}, JSON.stringify(of).slice(0, 500));
  const some = entries.slice(0, ITEMS);
  const more = entries.length > ITEMS ? h("p", { class: "muted" }, `and ${entries.length - ITEMS} more, in the JSON below`) : null;
  if (!Array.isArray(of)) return [h("dl", { class: "tree" }, some.map(([name, item]) => [h("dt", {}, printable(name)), h("dd", {}, value(item, depth + 1))])), more];
  const flat = of.every((item) => item === null || typeof item !== "object");
  return [h("ol", { class: flat ? "tree flat" : "tree" }, some.map((item) => h("li", {}, value(item, depth + 1)))), more];
}
