// Bad cases of a run: how many there are of each kind, and the groups of causes, each with its own record.

import { causeMeaning, groupName, status } from "../causes.js";
import { about } from "../evidence.js";
import { given, over } from "../explained.js";
import { fact, h, leads } from "../parts.js";
import { percent, plain, printable } from "../model.js";

/** Lines over the steps. */
export function lines(steps) {
  return [
    { label: "Wrong", note: "validation examples", values: over(steps, "wrong_cases"), zero: true },
    { label: "Wrong, and sure of it", values: over(steps, "confident"), zero: true },
    { label: "Right, but not sure of it", values: over(steps, "unsure"), zero: true },
    { label: "Accuracy", values: over(steps, "accuracy"), zero: true, format: percent },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, context, i ? null : context.charts)));
}

function one(record, context, charts) {
  const bad = (record.wrong_cases ?? 0) + (record.unsure ?? 0);
  return [
    h("dl", { class: "card facts" },
      fact("Looked through", plain(record.validated), { note: "validation examples" }),
      given(record.accuracy) ? fact("Accuracy", percent(record.accuracy), { note: "of those with a label" }) : null,
      fact("Wrong", plain(record.wrong_cases), { mark: record.wrong_cases ? "bad" : null }),
      fact("Wrong, and sure of it", plain(record.confident), { note: given(record.confident_from) ? `probability of ${percent(record.confident_from)} or more` : null }),
      fact("Right, but not sure of it", plain(record.unsure), { note: given(record.unsure_below) ? `probability below ${percent(record.unsure_below)}` : null }),
      fact("Explained", plain(record.explained), { note: `of ${bad} bad cases` })),
    groups(record.groups ?? [], context),
    charts,
    about(record, [["Training examples read", record.training || null], ["Seconds", record.seconds || null]], ["A group is the bad cases of one cause and what it is about. Confidence: how far the measures are past their thresholds, the mean over its cases."]),
  ];
}

function groups(found, context) {
  return h("section", { class: "card evidence groups" },
    h("h2", {}, "Groups of causes"), h("p", { class: "muted" }, "The largest first, those that are solved last. A name leads to the group's cases, evidence and action."),
    found.length ? h("table", {}, h("caption", { class: "hidden" }, `${found.length} groups`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Group and what to do"), h("th", { scope: "col", class: "number" }, "Cases"), h("th", { scope: "col" }, "Status"), h("th", { scope: "col", class: "number" }, "Confidence"),
        h("th", { scope: "col", class: "number", title: "Accuracy of the model on the validation examples that are watched for this group" }, "Accuracy of slice"))),
      h("tbody", {}, found.map((group) => h("tr", { class: group.status === "solved" ? "solved" : null },
        h("th", { scope: "row" }, leads(context.own.find(({ probe, kind }) => probe === group.probe && kind === "bad_case_group"), h("bdi", {}, groupName(group)), context, { "data-key": `group/${group.probe}` }),
          h("div", { class: "muted" }, causeMeaning(group.cause)), given(group.action) ? h("div", {}, h("bdi", {}, printable(group.action))) : null),
        h("td", { class: "number" }, plain(group.size)), h("td", {}, h("span", { class: `status ${status(group.status)}` }, status(group.status))), h("td", { class: "number" }, percent(group.sure)),
        h("td", { class: "number" }, given(group.accuracy) ? percent(group.accuracy) : "–", given(group.accuracy) ? h("div", { class: "muted" }, `of ${plain(group.slice_size)}`) : null)))))
      : h("p", {}, "No bad case was given to a group."));
}
