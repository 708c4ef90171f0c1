// Pieces of the page. Text goes in as text nodes alone: a token is never markup.

import { copy, save } from "./host.js";
import { axis, plain } from "./model.js";

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("p", {class: "note", onclick}, "text", child)`. Children are nodes or texts; `null` is left out. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) element.style.setProperty(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Put other children into an element without taking from the reader where the focus is, and how far boxes are scrolled. */
export function redraw(element, ...children) {
  const paneOf = (inner) => inner.closest("[data-pane]")?.dataset.pane; // two panes may have boxes of one name
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  const [key, pane] = [active?.dataset.key, active && paneOf(active)];
  const scrolled = [...element.querySelectorAll("[data-scroll]")].map((box) => [box.dataset.scroll, paneOf(box), box.scrollTop, box.scrollLeft]);
  const find = (name, value, of) => [...element.querySelectorAll(`[data-${name}="${CSS.escape(value)}"]`)].filter((found) => paneOf(found) === of);
  element.replaceChildren(...children);
  for (const [name, of, top, left] of scrolled) for (const box of find("scroll", name, of)) Object.assign(box, { scrollTop: top, scrollLeft: left });
  if (key) find("key", key, pane)[0]?.focus({ preventScroll: true });
}

/** A link to another entry: a click goes there in the tab, and it can be opened beside it as any link. */
export function leads(to, children, context, attributes = {}) {
  if (!to) return h("span", {}, children);
  return h("a", { href: context.href(to), onclick: (e) => { if (!e.ctrlKey && !e.metaKey && !e.shiftKey) { e.preventDefault(); context.open(to); } }, ...attributes }, children);
}

/** A card that says what went wrong or is missing, and what to do. */
export function notice(kind, title, ...children) {
  return h("section", { class: `card notice ${kind}`, role: kind === "error" ? "alert" : "status" }, h("h2", {}, title), ...children);
}

/** A few names of which one is chosen; `key` keeps the focus when the page is drawn again. */
export function choice(label, options, chosen, onchoose) {
  return h(
    "div",
    { class: "choice", role: "group", "aria-label": label },
    options.map(([value, text]) =>
      h("button", { type: "button", "aria-pressed": String(value === chosen), "data-key": `${label}/${value}`, onclick: () => onchoose(value) }, text),
    ),
  );
}

/** A check box with its label. */
export function check(label, checked, onchange, key = label) {
  return h("label", { class: "check" }, h("input", { type: "checkbox", checked, "data-key": key, onchange: (e) => onchange(e.target.checked) }), h("span", {}, label));
}

/** A fact: its name above its value. */
export function fact(name, value, { note = null, mark = null } = {}) {
  return h("div", { class: `fact ${mark ?? ""}` }, h("dt", {}, name), h("dd", {}, value, note ? h("small", {}, note) : null));
}

/** A record as indented JSON that can be copied; `options.source` says whether it is open. */
export function source(value, options) {
  const label = typeof value === "string" ? "As it was written" : "Record as JSON";
  const text = () => (typeof value === "string" ? value : JSON.stringify(value, null, 2)); // long: only when asked for
  const code = h("pre", { tabindex: "0", "data-key": "json", "data-scroll": "json", "aria-label": label });
  const button = h("button", { type: "button", class: "quiet", "data-key": "copy", onclick: (e) => copy(text(), e.target) }, "Copy");
  const file = typeof value === "string" ? null : h("button", { type: "button", class: "quiet", "data-key": "save", onclick: () => save("record.json", text()) }, "Save");
  const box = h("details", { class: "card source", open: options.source }, h("summary", { "data-key": "source" }, label), button, " ", file ?? "", code);
  const fill = () => { if (box.open && !code.textContent) code.textContent = text(); };
  box.addEventListener("toggle", () => { options.source = box.open; fill(); });
  fill();
  return box;
}

/**
 * A line over steps: a click on a point goes to its step, as the slider does. Values that are not numbers leave a gap.
 *
 * @param {{label: string, note?: string, values: (number|null)[], zero?: boolean, format?: (n: number) => string}} line
 */
export function chart(line, steps, place, ongo) {
  const { label, note = "", values, zero = false, format = plain } = line;
  const [width, height, left, right, top, bottom] = [320, 120, 58, 10, 10, 20];
  const { low, high, marks } = axis(values, { zero });
  const first = steps[0].step, span = steps.at(-1).step - first || 1;
  const x = (i) => left + ((steps[i].step - first) / span) * (width - left - right) * (steps.length > 1 ? 1 : 0);
  const y = (value) => top + (1 - (value - low) / (high - low)) * (height - top - bottom);
  const known = values.map((value, i) => [value, i]).filter(([value]) => Number.isFinite(value));
  let path = "", joined = false;
  values.forEach((value, i) => {
    if (Number.isFinite(value)) path += `${joined ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    joined = Number.isFinite(value);
  });
  const here = values[place];
  const said = known.length
    ? `${label}: ${Number.isFinite(here) ? `${format(here)} at step ${steps[place].step}; ` : ""}from ${format(known[0][0])} to ${format(known.at(-1)[0])} over ${known.length} steps`
    : `${label}: no values`;
  return h(
    "figure",
    { class: "chart" },
    h("figcaption", {}, h("b", {}, label), h("span", {}, Number.isFinite(here) ? format(here) : "–")),
    svg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said },
      marks.map((mark) => [
        svg("line", { class: "rule", x1: left, x2: width - right, y1: y(mark), y2: y(mark) }),
        svg("text", { class: "mark", x: left - 9, y: y(mark) + 3.5, "text-anchor": "end" }, format(mark)),
      ]),
      svg("text", { class: "mark", x: left, y: height - 5 }, String(first)),
      steps.length > 1 ? svg("text", { class: "mark", x: width - right, y: height - 5, "text-anchor": "end" }, String(steps.at(-1).step)) : null,
      svg("line", { class: "here", x1: x(place), x2: x(place), y1: top, y2: height - bottom }),
      svg("path", { class: "line", d: path }),
      known.map(([value, i]) =>
        svg("circle", { class: i === place ? "point here" : known.length > 60 ? "point many" : "point", cx: x(i), cy: y(value), r: i === place ? 4.5 : 3, onclick: () => ongo(i) },
          svg("title", {}, `step ${steps[i].step}: ${format(value)}`)),
      ),
    ),
    note ? h("small", {}, note) : null,
  );
}
