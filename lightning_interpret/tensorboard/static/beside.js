// One example seen from several sides: other records of it beside the one that is shown, and what changes between them.

import { check, h, leads, notice, redraw } from "./parts.js";
import { percent, plain, printable, wrong } from "./model.js";
import { alike, changeOf, figures, listedBoth } from "./pairs.js";

const KINDS = {
  attention: "attention", attribution: "saliency", bad_case: "why it is a bad case", concept_test: "concept test", concepts: "concepts", generated: "written explanation",
  influence: "influence", landmarks: "landmarks", neighbors: "neighbours", rationale: "rationale", span_tree: "tree of spans", spans: "spans", targets: "several targets",
};
const SAID = { fixed: "Fixed", broke: "Broke", other: "Another prediction", same: "The same prediction" };

/** The choice of what stands beside: it opens over the page, so that nothing moves when more is found. */
export function createChooser({ stands, onchoose }) {
  const element = h("details", { class: "elsewhere", hidden: true });
  const close = () => (element.open = false);
  document.addEventListener("pointerdown", (event) => element.contains(event.target) || close());
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !element.open) return;
    close();
    element.firstChild.focus();
  });

  /** `found` are the other entries of the example that is shown. */
  function update(found) {
    const on = found.filter(stands).length;
    element.hidden = !found.length;
    redraw(element, h("summary", { "data-key": "elsewhere" }, `This example elsewhere: ${on ? `${on} of ` : ""}${found.length}${on ? " beside" : ""}`),
      h("div", { class: "card choices", role: "group", "aria-label": "Put beside" }, h("p", { class: "muted" }, "Put beside what is shown:"), found.map((entry) => check(described(entry), stands(entry), (on) => onchoose(entry, on), `beside/${entry.key}`))));
  }

  return { element, update };
}

const described = ({ monitor, kind }) => [h("bdi", {}, printable(monitor)), h("small", { class: "muted" }, ` ${KINDS[kind] ?? printable(kind)}`)];

/** Records side by side; `panes` are `{key, entry, step, content, note}`, the one that is shown first. */
export function sideBySide(panes, context) {
  return h("div", { class: "beside" }, panes.map(({ key, entry, step, content, note }, i) =>
    h("section", { class: "column", "data-pane": key, "aria-label": `${printable(entry.monitor)}, ${printable(entry.run)}` },
      h("header", { class: "name" }, h("h2", {}, i ? leads(entry, h("bdi", {}, printable(entry.monitor)), context, { title: "Show this one by itself", "data-key": "open" }) : h("bdi", {}, printable(entry.monitor))),
        h("small", { class: "muted" }, [entry.run === "." ? null : printable(entry.run), step === undefined ? null : `step ${step}`].filter(Boolean).join(" · "))),
      note ? h("p", { class: "muted" }, note) : null, content)));
}

/** What is different between the record that is shown and another: its prediction, its figures, its scores. */
export function changes(here, there) {
  const [a, b] = [here, there].map(({ record }) => record?.payload?.records[0] ?? null);
  if (!a || !b || typeof a !== "object" || typeof b !== "object") return null;
  const [facts, other] = [here, there].map(({ facts }) => facts);
  const runs = here.entry.run !== there.entry.run, change = changeOf(facts, other);
  const name = ({ entry }) => h("bdi", {}, printable(runs ? entry.run : entry.monitor));
  const same = here.entry.kind === there.entry.kind; // other kinds of records have nothing to compare but predictions
  const both = same ? figures(facts, other) : [], sides = same ? alike(a, b) : null, listed = same ? listedBoth(facts, other) : null;
  const notes = [
    sides && sides.cosine !== null ? `The cosine of both scores is ${plain(sides.cosine)}: 1 is the same shares, 0 nothing in common, −1 the opposite.` : null,
    sides?.strongest ? `Of the ${sides.strongest} strongest tokens of one, ${sides.common} are among those of the other.` : null,
    listed ? `${listed.common} of the ${listed.of} training examples that are listed here are listed there too.` : null,
    facts.cause !== undefined && other.cause !== undefined && facts.cause !== other.cause ? "It is in a group of another cause." : null,
  ].filter(Boolean);
  if (!both.length && !notes.length && (change === null || (change === "same" && !runs))) return null;
  return h("section", { class: "card changes", "aria-label": "What changes" },
    h("h2", {}, runs ? ["What changes from ", name(here), " to ", name(there)] : [name(here), " and ", name(there), " compared"]),
    change === null ? null : h("p", { class: change === "broke" ? "bad" : null }, `${SAID[change]}: `, said(facts), " → ", said(other)),
    notes.map((note) => h("p", {}, note)),
    both.length ? h("table", {}, h("caption", { class: "hidden" }, "Figures of both"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Figure"), h("th", { scope: "col", class: "number" }, name(here)), h("th", { scope: "col", class: "number" }, name(there)), h("th", { scope: "col", class: "number" }, "Difference"))),
      h("tbody", {}, both.map((each) => h("tr", {}, h("th", { scope: "row" }, each.name), [each.before, each.after, each.difference].map((text) => h("td", { class: "number" }, text)))))) : null);
}

function said(facts) {
  const missed = wrong(facts);
  return [h("bdi", {}, printable(facts.prediction)), missed === null ? null : missed ? " (wrong)" : " (right)", Number.isFinite(facts.confidence) ? ` at ${percent(facts.confidence)}` : null];
}

/** Why there is nothing of the run that is compared with. */
export function missing(run, reading) {
  return notice("empty", "Nothing to compare with", h("p", {}, "The run ", h("bdi", {}, printable(run)), " has no record of this example by the same monitor", reading ? " so far; the facts of some are still to be read." : "."));
}
