// The list of examples: of thousands, only the options around those on screen are in the document.

import { groupName, status } from "./causes.js";
import { h } from "./parts.js";
import { grouped, keyOf, nameOf, printable, wrong } from "./model.js";

const AROUND = 30; // options above and below those on screen: a list this short stands in the document whole
const CHANGES = { fixed: "→ fixed", broke: "→ broke", other: "→ other" };

/**
 * A list box that calls `onselect(entry)`; `update(entries, selected)` brings it up to date.
 *
 * `change(entry)` says what became of an entry in the run that it is compared with.
 */
export function createList({ onselect, change }) {
  const element = h("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": "Examples" });
  let made = new Map(); // key of an entry -> its option, of those in the document
  let shown = [], groups = [], chosen = null, row = 0;

  const place = () => (chosen ? shown.findIndex((entry) => entry.key === chosen) : -1);

  function mark(selected) {
    for (const option of element.querySelectorAll("[aria-selected=true]")) option.setAttribute("aria-selected", "false");
    chosen = selected ? keyOf(selected) : null;
    const option = made.get(chosen)?.element;
    if (!option) return element.removeAttribute("aria-activedescendant");
    option.setAttribute("aria-selected", "true");
    element.setAttribute("aria-activedescendant", option.id);
  }

  function update(entries, selected) {
    shown = entries;
    const top = element.scrollTop;
    let before = 0;
    const old = new Map(groups.map((group) => [group.id, group]));
    groups = grouped(entries).map((group) => {
      const { box, title, options } = old.get(group.id) ?? empty(group);
      title.lastChild.textContent = group.entries.length;
      const first = before;
      before += group.entries.length;
      return { ...group, box, title, options, first, from: 0, to: -1 };
    });
    const boxes = groups.map(({ box }) => box);
    if (boxes.length !== element.children.length || boxes.some((box, i) => box !== element.children[i])) element.replaceChildren(...boxes);
    for (const group of groups) pad(group, 0, 0); // so that it is as long as it is when all its options are there
    element.scrollTop = top;
    draw(true);
    mark(selected);
  }

  function empty(group) {
    const name = group.run === "." ? group.monitor : `${group.run} · ${group.monitor}`;
    const title = h("div", { class: "heading", "aria-hidden": "true" }, h("span", { title: printable(name) }, h("b", {}, printable(group.monitor)), h("small", {}, group.run === "." ? null : printable(group.run))), h("small", {}));
    const options = h("div", { class: "options", role: "presentation" });
    return { box: h("div", { class: "group", role: "group", "aria-label": name }, title, options), title, options };
  }

  function pad(group, from, to) {
    group.options.style.paddingBlock = `calc(${from} * var(--row)) calc(${group.entries.length - to} * var(--row))`;
  }

  /** Which options of a group lie between two heights of the list. */
  function between(group, top, bottom) {
    const start = group.options.offsetTop, last = group.entries.length;
    const at = (y) => Math.min(last, Math.max(0, y));
    return [at(Math.floor((top - start) / row)), at(Math.ceil((bottom - start) / row))];
  }

  /** Put the options around those on screen into the document, where they are not in it. */
  function draw(anew = false) {
    row = parseFloat(getComputedStyle(element).getPropertyValue("--row")) * parseFloat(getComputedStyle(document.documentElement).fontSize);
    const top = element.scrollTop, bottom = top + element.clientHeight;
    const seen = groups.map((group) => between(group, top, bottom));
    if (!anew && groups.every((group, i) => seen[i][0] >= seen[i][1] || (seen[i][0] >= group.from && seen[i][1] <= group.to))) return;
    const kept = new Map();
    groups.forEach((group, i) => {
      const [from, to] = between(group, top - AROUND * row, bottom + AROUND * row);
      Object.assign(group, { from, to });
      const options = group.entries.slice(from, to).map((entry, at) => option(entry, group.first + from + at, kept));
      const there = group.options.children;
      if (options.length !== there.length || options.some((each, at) => each !== there[at])) group.options.replaceChildren(...options);
      pad(group, from, to);
    });
    made = kept;
    if (!anew) mark(chosen && shown.find((entry) => entry.key === chosen));
  }

  function option(entry, at, kept) {
    const known = made.get(entry.key), changed = change(entry);
    const box = known?.element ?? h("div", { class: "option", role: "option", id: `option_${entry.number}`, "aria-selected": "false" });
    if (known?.entry !== entry || known.facts !== entry.facts || known.changed !== changed) box.replaceChildren(...content(entry, changed));
    box.onclick = () => onselect(entry);
    box.setAttribute("aria-setsize", shown.length);
    box.setAttribute("aria-posinset", at + 1);
    kept.set(entry.key, { element: box, entry, facts: entry.facts, changed });
    return box;
  }

  /** The entries on screen. */
  function onscreen() {
    const top = element.scrollTop, bottom = top + Math.max(element.clientHeight, 1);
    return groups.flatMap((group) => group.entries.slice(...between(group, top, bottom)));
  }

  element.addEventListener("scroll", () => draw(), { passive: true });
  new ResizeObserver(() => draw()).observe(element);
  element.addEventListener("keydown", (event) => {
    const at = place();
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1, PageDown: Math.min(at + 10, shown.length - 1), PageUp: Math.max(at - 10, 0) }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(to);
  });

  /** Scroll to the chosen one, as little as is needed. */
  function reveal() {
    const at = place(), group = groups.findLast(({ first }) => first <= at);
    if (at < 0 || !group) return;
    const top = group.options.offsetTop + (at - group.first) * row;
    if (top < element.scrollTop + group.title.offsetHeight) element.scrollTop = top - group.title.offsetHeight;
    else if (top + row > element.scrollTop + element.clientHeight) element.scrollTop = top + row - element.clientHeight;
    draw();
  }

  /** Choose the neighbour of the chosen one. */
  function move(by) {
    go(place() + by);
  }

  function go(to) {
    if (shown[to]) onselect(shown[to]);
    reveal();
  }

  return { element, update, mark, move, reveal, onscreen };
}

function content(entry, change) {
  const facts = entry.facts;
  const name = nameOf(entry);
  if (!facts) return [h("span", { class: "text muted" }, name)];
  const missed = wrong(facts);
  const label = facts.prediction ?? facts.target_name;
  if (entry.kind === "bad_case_group" && !facts.problem) return [
    h("span", { class: "text" }, groupName(facts)),
    h("span", { class: "mark" }, h("small", {}, `${facts.size} case${facts.size === 1 ? "" : "s"}`), h("small", {}, status(facts.status))),
  ];
  return [
    h("span", { class: "text", dir: "auto" }, facts.problem ? "Cannot be read" : facts.text ? printable(facts.text) : facts.queries > 1 ? `Sum of ${facts.queries} queries` : name),
    h("span", { class: "mark" },
      h("small", {}, facts.example_id === undefined ? name : `${name} · example ${facts.example_id}`),
      facts.problem ? h("small", { class: "bad" }, "⚠ broken") : null,
      facts.converged === false ? h("small", { class: "bad", title: "An error is above its tolerance" }, "⚠ error") : null,
      CHANGES[change] ? h("small", { class: change === "broke" ? "bad" : null }, CHANGES[change]) : null,
      entry.kind === "targets" && label === undefined && facts.considered ? h("small", { class: facts.wrong_targets ? "bad" : null }, facts.wrong_targets ? `✗ ${facts.wrong_targets} of ${facts.considered} wrong` : `${facts.considered} target${facts.considered === 1 ? "" : "s"}`) : null,
      label === undefined ? null : h("small", { class: missed ? "bad" : null }, missed === null ? "" : missed ? "✗ " : "✓ ", h("bdi", {}, printable(label)))),
  ];
}
