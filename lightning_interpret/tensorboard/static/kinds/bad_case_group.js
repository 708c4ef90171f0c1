// The bad cases of one cause: the evidence, what was measured beside its thresholds, what to do, the cases, their number.

import { action, badness, causeMeaning, file, groupName, status } from "../causes.js";
import { about, examples, idOf, text } from "../evidence.js";
import { given, over } from "../explained.js";
import { chart, fact, h, leads } from "../parts.js";
import { percent, placeOf, plain, printable } from "../model.js";
import { measured, sentences } from "../verdicts.js";

/** Lines over the steps. */
export function lines(steps) {
  return [
    { label: "Accuracy of the slice", values: over(steps, "accuracy"), zero: true, format: percent },
    { label: "Confidence of the verdicts", values: over(steps, "sure"), zero: true, format: percent },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, context, i ? null : context.charts)));
}

function one(record, context, charts) {
  return [
    h("section", { class: "card sentence", "aria-label": "Cause" }, h("p", {}, h("bdi", {}, groupName(record))), h("small", { class: "muted" }, causeMeaning(record.cause))),
    h("dl", { class: "card facts" },
      fact("Cases", plain(record.size), { note: given(record.explained) ? `of ${plain(record.explained)} that were explained` : null }),
      fact("Status", status(record.status)),
      fact("Confidence", percent(record.sure), { note: "mean of its verdicts" }),
      given(record.accuracy) ? fact("Accuracy of the slice", percent(record.accuracy), { note: `${plain(record.slice_size)} validation examples` }) : null),
    toDo(record.action, context),
    h("div", { class: "sides" }, sentences("Evidence", record.evidence, "for", "Nothing was written down."), sentences("Evidence against", record.against, "against", "Nothing speaks against it.")),
    measured(record),
    members(record, context),
    sizes(record, context, charts),
    about(record, []),
  ];
}

function toDo(found, context) {
  if (!found) return h("section", { class: "card" }, h("h2", {}, "What to do"), h("p", { class: "muted" }, "There is nothing to do."));
  const edits = found.edits ?? [], change = edits.filter((edit) => !edit.new), add = edits.filter((edit) => edit.new);
  return [
    h("section", { class: "card action", "aria-label": "What to do" },
      h("h2", {}, "What to do"), h("p", {}, h("b", {}, `${action(found.what)}: `), h("bdi", {}, printable(found.sentence ?? ""))),
      found.slice ? h("p", { class: "muted" }, "Followed by the metric ", h("code", {}, printable(`interpret/${context.monitor}/${found.slice}`)), ".") : null),
    change.length ? rows("Rows to change", "Read each one before its label is changed.", change, context, "change", [["Label now", (edit) => text(edit.label)], ["Proposed", proposed]]) : null,
    add.length ? rows("Rows to add", "Each is made from the row whose id it names. Read each one: it was made by a rule.", add, context, "add", [["Label", proposed]]) : null,
    found.templates?.length ? examples({ title: "Rows to model new ones on", meaning: "The nearest training examples.", found: found.templates, column: "Distance", number: ({ distance }) => plain(distance), none: "" }) : null,
  ];
}

const proposed = (edit) => (given(edit.proposed) ? text(edit.proposed) : "a person has to say");

const SHOWN = 20; // rows, until the reader asks for all

function rows(title, meaning, edits, { options, set }, key, columns) {
  const shown = options.rows === "all" ? edits : edits.slice(0, SHOWN), sure = edits.some((edit) => given(edit.confidence));
  return h("section", { class: "card evidence rows" },
    h("h2", {}, title), h("p", { class: "muted" }, meaning),
    h("table", {}, h("caption", { class: "hidden" }, `${title}: ${edits.length}`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Row"), columns.map(([name]) => h("th", { scope: "col" }, name)), sure ? h("th", { scope: "col", class: "number" }, "Confidence") : null)),
      h("tbody", {}, shown.map((edit, i) => h("tr", {},
        h("th", { scope: "row" }, h("div", { class: "passage", dir: "auto" }, given(edit.text) ? printable(edit.text) : h("span", { class: "muted" }, "no text")),
          h("div", { class: "marks" }, idOf(edit.example_id, `${key}/${i}`), h("span", {}, file(edit.file)), edit.why ? h("bdi", {}, printable(edit.why)) : null)),
        columns.map(([, of]) => h("td", {}, of(edit))), sure ? h("td", { class: "number" }, percent(edit.confidence)) : null)))),
    shown.length < edits.length ? h("button", { type: "button", class: "quiet", "data-key": `rows/${key}`, onclick: () => set("rows", "all") }, `Show all ${edits.length}`) : null);
}

function members(record, context) {
  const found = record.members ?? [], left = (record.size ?? 0) - found.length;
  return h("section", { class: "card evidence rows" },
    h("h2", {}, "Its cases"), h("p", { class: "muted" }, "The surest first. A text leads to the case's own record where it has one."),
    found.length ? h("table", {}, h("caption", { class: "hidden" }, `${found.length} cases`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Case"), h("th", { scope: "col" }, "Gold label"), h("th", { scope: "col" }, "Prediction"), h("th", { scope: "col", class: "number", title: "How sure the verdict on this case is" }, "Verdict"))),
      h("tbody", {}, found.map((member, i) => h("tr", {},
        h("th", { scope: "row" }, leads(given(member.probe) ? context.own.find(({ probe, kind }) => probe === member.probe && kind === "bad_case") : null, h("bdi", {}, given(member.text) ? printable(member.text) : "no text"), context, { "data-key": `member/${i}` }),
          h("div", { class: "marks" }, given(member.example_id) ? idOf(member.example_id, `member/${i}`) : null, h("span", {}, badness(member.badness)))),
        h("td", {}, text(member.gold)), h("td", { class: member.gold !== member.prediction ? "bad" : null }, text(member.prediction), given(member.confidence) ? h("div", { class: "muted" }, `at ${percent(member.confidence)}`) : null),
        h("td", { class: "number" }, percent(member.verdict))))))
      : h("p", {}, record.size ? "They are not listed." : "It has no cases any more."),
    left > 0 && found.length ? h("p", { class: "muted" }, `${left} more are not listed.`) : null);
}

/** The charts, with the number of cases at each validation so far, which the record keeps itself, before the others. */
function sizes(record, { at, steps, place }, charts) {
  const found = (record.sizes ?? []).map(([step, size]) => ({ step, size }));
  if (found.length < 2) return charts;
  const size = chart({ label: "Cases", note: "of this group, at each validation", values: found.map((each) => each.size), zero: true }, found, placeOf(found, steps[place]?.step), (i) => at(found[i].step));
  charts?.prepend(size);
  return charts ?? h("section", { class: "card charts", "aria-label": "Over the steps" }, size);
}
