// Verdicts of rules: sentences for and against, what was measured beside its thresholds.

import { h } from "./parts.js";
import { plain, printable } from "./model.js";

/** Sentences under a heading, in the colour of the side that they are on. */
export function sentences(title, said, hue, none) {
  return h("section", { class: `card evidence ${hue}` }, h("h2", {}, title),
    said?.length ? h("ul", { class: "said" }, said.map((each) => h("li", {}, h("bdi", {}, printable(each))))) : h("p", { class: "muted" }, none));
}

/** What was measured beside what it has to reach; `null` where nothing was. */
export function measured({ measured: found, thresholds }, title = "What was measured") {
  const names = Object.keys(found ?? {});
  if (!names.length) return null;
  return h("section", { class: "card evidence" }, h("h2", {}, title), table(found, thresholds));
}

/** The same as a bare table. */
export function table(found, thresholds) {
  const short = (value) => (Number.isInteger(value) ? String(value) : plain(value));
  return h("table", {}, h("caption", { class: "hidden" }, "Measures and their thresholds"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Measure"), h("th", { scope: "col", class: "number" }, "Measured"), h("th", { scope: "col", class: "number" }, "Has to be"))),
    h("tbody", {}, Object.entries(found).map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, printable(name))), h("td", { class: "number" }, short(value)), h("td", { class: "number" }, Object.hasOwn(thresholds ?? {}, name) ? h("bdi", {}, printable(thresholds[name])) : "–")))));
}
