// The list of examples: one option each, made once and brought up to date in place, so that thousands stay quick.

import { h } from "./parts.js";
import { grouped, keyOf, nameOf, printable, wrong } from "./model.js";

/** A list box that calls `onselect(entry)`; `update(entries, selected)` brings it up to date. */
export function createList(onselect) {
  const element = h("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": "Examples" });
  const made = new Map(); // key of an entry -> its element
  let shown = [], chosen = null;

  const place = () => shown.findIndex((entry) => chosen && keyOf(entry) === keyOf(chosen));

  function mark(selected) {
    for (const option of element.querySelectorAll("[aria-selected=true]")) option.setAttribute("aria-selected", "false");
    chosen = selected;
    const option = selected && made.get(keyOf(selected))?.element;
    if (!option) return element.removeAttribute("aria-activedescendant");
    option.setAttribute("aria-selected", "true");
    element.setAttribute("aria-activedescendant", option.id);
  }

  function update(entries, selected) {
    shown = entries;
    const groups = grouped(entries).map((group) => {
      const name = group.run === "." ? group.monitor : `${group.run} · ${group.monitor}`;
      return h("div", { class: "group", role: "group", "aria-label": name },
        h("div", { class: "heading", "aria-hidden": "true" }, h("span", { title: name }, h("b", {}, group.monitor), h("small", {}, group.run === "." ? null : group.run)), h("small", {}, group.entries.length)),
        group.entries.map(option));
    });
    element.replaceChildren(...groups);
    mark(selected);
  }

  function option(entry) {
    const key = keyOf(entry);
    const known = made.get(key);
    if (known && known.entry === entry && known.facts === entry.facts) return known.element;
    const box = known?.element ?? h("div", { class: "option", role: "option", id: `option_${made.size}`, "aria-selected": "false" });
    box.replaceChildren(...content(entry));
    box.onclick = () => onselect(entry);
    made.set(key, { element: box, entry, facts: entry.facts });
    return box;
  }

  element.addEventListener("keydown", (event) => {
    const at = place();
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1, PageDown: Math.min(at + 10, shown.length - 1), PageUp: Math.max(at - 10, 0) }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(to);
  });

  function reveal() {
    made.get(chosen && keyOf(chosen))?.element.scrollIntoView({ block: "nearest" });
  }

  /** Choose the neighbour of the chosen one. */
  function move(by) {
    go(place() + by);
  }

  function go(to) {
    if (shown[to]) onselect(shown[to]);
    reveal();
  }

  return { element, update, mark, move, reveal };
}

function content(entry) {
  const facts = entry.facts;
  const name = nameOf(entry);
  if (!facts) return [h("span", { class: "text muted" }, name)];
  const missed = wrong(facts);
  const label = facts.prediction ?? facts.target_name;
  return [
    h("span", { class: "text", dir: "auto" }, facts.problem ? "Cannot be read" : facts.text ? printable(facts.text) : facts.queries > 1 ? `Sum of ${facts.queries} queries` : name),
    h("span", { class: "mark" },
      h("small", {}, facts.example_id === undefined ? name : `${name} · example ${facts.example_id}`),
      facts.problem ? h("small", { class: "bad" }, "⚠ broken") : null,
      facts.converged === false ? h("small", { class: "bad", title: "An error is above its tolerance" }, "⚠ error") : null,
      label === undefined ? null : h("small", { class: missed ? "bad" : null }, missed === null ? "" : missed ? "✗ " : "✓ ", h("bdi", {}, printable(label)))),
  ];
}
