// What the reader asks of the list: words, runs, monitor, classes, cause, steps, and the run to compare with.

import { check, h, redraw } from "./parts.js";
import { counted, filtersOn, printable, valuesOf, wrong } from "./model.js";

const VALUES = { monitor: "Monitor", gold: "Gold label", prediction: "Predicted label", cause: "Cause" };
const CHANGES = { fixed: "fixed there", broke: "broke there", other: "another prediction, neither fixed nor broken", same: "the same prediction" };
export const NONE = { query: "", hidden: [], onlyWrong: false, from: null, to: null, change: null, monitor: null, gold: null, prediction: null, cause: null };

/**
 * The filters, which call `onfilter(changes)` and `oncompare(run)`; `update` brings them up to date.
 *
 * `named(filter, value)` is how a value is called on screen.
 */
export function createFilters({ onfilter, oncompare, named }) {
  const search = h("input", { type: "search", placeholder: "Search words, labels, ids", "aria-label": "Search examples", oninput: (e) => onfilter({ query: e.target.value }) });
  const runs = h("details", { class: "runs" }), marks = h("div", { class: "marks" });
  const count = h("span", { role: "status" }), progress = h("span"); // of which the first alone is read aloud
  const pickers = Object.entries(VALUES).map(([name, label]) => [name, picker(label, "all", (value) => onfilter({ [name]: value }))]);
  const change = picker("Changed", "all", (value) => onfilter({ change: value }));
  const other = picker("Compare with", "none", oncompare, "Compare with run");
  const [from, to] = [["from", "Last step from"], ["to", "to"]].map(([name, label]) =>
    h("input", { type: "number", "aria-label": label === "to" ? "Last step up to" : label, placeholder: "any", onchange: (e) => onfilter({ [name]: e.target.value === "" ? null : Number(e.target.value) }) }));
  const said = h("summary", {}, "Filters");
  const clear = h("button", { type: "button", class: "quiet", onclick: () => { onfilter({ ...NONE }); search.value = ""; said.focus(); } }, "Clear filters");
  const more = h("details", { class: "more" }, said, h("div", { class: "pickers" }, pickers.map(([, { element }]) => element),
    h("div", { class: "picker" }, h("span", { "aria-hidden": "true" }, "Last step"), h("span", { class: "range" }, from, h("span", { "aria-hidden": "true" }, "to"), to)), clear));
  const compared = h("div", { class: "pickers compared" }, other.element, change.element);
  const element = h("div", { class: "filters" }, search, runs, more, compared, marks, h("p", { class: "muted count" }, count, progress));

  function update({ entries, shown, filter, run }) {
    const all = [...new Set(entries.map((entry) => entry.run))], read = entries.filter((entry) => entry.facts || !entry.stale).length;
    const on = all.filter((each) => !filter.hidden.includes(each));
    if (document.activeElement !== search) search.value = filter.query;
    runs.hidden = all.length < 2;
    redraw(runs, h("summary", { "data-key": "runs" }, `Runs: ${on.length} of ${all.length}`),
      ...all.map((each) => check(printable(each), on.includes(each), (shows) => onfilter({ hidden: shows ? filter.hidden.filter((r) => r !== each) : [...filter.hidden, each] }), `run/${each}`)));
    for (const [name, { update }] of pickers) update(valuesOf(entries, name).map((value) => [value, named(name, value)]), filter[name]);
    for (const [box, value] of [[from, filter.from], [to, filter.to]]) if (document.activeElement !== box) box.value = value ?? "";
    const asked = filtersOn({ ...filter, query: "", hidden: [], onlyWrong: false, change: null });
    said.textContent = asked ? `Filters: ${asked} on` : "Filters";
    clear.disabled = filtersOn(filter) === 0;
    compared.hidden = all.length < 2;
    other.update(all.map((each) => [each, printable(each)]), run);
    change.update(run === null ? [] : Object.entries(CHANGES), filter.change);
    const bad = entries.filter((entry) => wrong(entry.facts)).length;
    redraw(marks, check(`Wrong predictions only (${bad})`, filter.onlyWrong, (only) => onfilter({ onlyWrong: only }), "wrong"));
    const now = counted(shown.length, entries.length);
    if (count.textContent !== now) count.textContent = now;
    progress.textContent = read < entries.length ? ` · ${read} read so far` : "";
  }

  return { element, search, update };
}

/** A choice of one value or of none, under its name; it hides where there is nothing to choose. */
function picker(label, none, onchoose, said = label) {
  const select = h("select", { "aria-label": said, onchange: (e) => onchoose(e.target.selectedIndex > 0 ? values[e.target.selectedIndex - 1] : null), onblur: () => later?.() });
  const element = h("label", { class: "picker" }, h("span", { "aria-hidden": "true" }, label), select);
  let values = [], later = null;
  /** `options` are `[value, text]`; a list that the reader has open is left as it is until they are done. */
  const update = (options, chosen) => {
    const wanted = chosen !== null && !options.some(([value]) => value === chosen) ? [...options, [chosen, printable(chosen)]] : options;
    const changed = JSON.stringify(wanted.map(([value]) => value)) !== JSON.stringify(values) || !select.options.length;
    later = changed && document.activeElement === select && values.length ? () => { later = null; update(options, chosen); } : null;
    element.hidden = !options.length && chosen === null;
    if (changed && !later) {
      values = wanted.map(([value]) => value);
      select.replaceChildren(h("option", {}, none), ...wanted.map(([, text]) => h("option", {}, text)));
    }
    const at = chosen === null ? 0 : values.indexOf(chosen) + 1;
    if (select.selectedIndex !== at) select.selectedIndex = at;
  };
  return { element, update };
}
