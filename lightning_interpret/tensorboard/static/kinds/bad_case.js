// One bad case with its explanations side by side: the verdicts, the words, what erasing does, the training data.

import { badness, causeMeaning, causeName, groupName } from "../causes.js";
import { about, nearest, query, text, verdict } from "../evidence.js";
import { bars, given, over } from "../explained.js";
import { fact, h, leads } from "../parts.js";
import { percent, plain, printable } from "../model.js";
import { table } from "../verdicts.js";
import { saliency } from "./attribution.js";
import { listed } from "./influence.js";

/** Lines over the steps. */
export function lines(steps) {
  return [
    { label: "Loss", values: over(steps, "loss"), zero: true },
    { label: "Confidence", note: "of the prediction", values: over(steps, "confidence"), zero: true, format: percent },
    { label: "Far from training data", note: "share of the validation examples that are right which lie nearer to their neighbours", values: over(steps, "distance_rank"), zero: true, format: percent },
    { label: "Unseen words", note: "share of its words that no training example has", values: over(steps, "unseen"), zero: true, format: percent },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, context, i ? null : context.charts)));
}

function one(record, context, charts) {
  const group = context.own.find(({ kind, facts }) => kind === "bad_case_group" && facts?.cause === record.cause && (facts?.cue ?? "") === (record.cue ?? ""));
  const alone = { ...context, steps: [], charts: null };
  return [
    h("section", { class: "card sentence", "aria-label": "Why it is a bad case" },
      h("p", {}, leads(group, h("bdi", {}, groupName(record)), context, { "data-key": "its group" })), h("small", { class: "muted" }, causeMeaning(record.cause))),
    query(record, fact("How it is bad", badness(record.badness)),
      given(record.distance_rank) ? fact("Far from training data", percent(record.distance_rank), { note: "of right validation examples lie nearer to their neighbours" }) : null,
      given(record.unseen) ? fact("Unseen words", percent(record.unseen), { note: "of its words are in no training example" }) : null,
      verdict(record.neighbors)),
    verdicts(record.verdicts ?? []),
    record.attribution ? part("What the prediction comes from", record.attribution.method, saliency(record.attribution, alone)) : null,
    h("div", { class: "sides" }, erasures(record), probabilities(record)),
    record.neighbors ? part("Training examples that are nearest", null, nearest(record.neighbors, alone)) : null,
    record.influence ? part("Training examples that help and harm", record.influence.approximation?.method, listed(record.influence)) : null,
    charts,
    about(record, [["Place in the validation data", given(record.index) ? String(record.index) : null]]),
  ];
}

const part = (title, method, children) => h("section", { class: "part-of", "aria-label": title }, h("h2", {}, title, given(method) ? h("small", { class: "muted" }, ` by ${printable(method)}`) : null), children);

function verdicts(found) {
  if (!found.length) return h("section", { class: "card" }, h("h2", {}, "Verdicts"), h("p", { class: "muted" }, "No rule had anything to say."));
  const group = (title, said) => (said?.length ? [h("h3", {}, title), h("ul", { class: "said" }, said.map((each) => h("li", {}, h("bdi", {}, printable(each)))))] : null);
  return h("section", { class: "card verdicts" }, h("h2", {}, "Verdicts"), h("p", { class: "muted" }, "What each rule says, the one that decided first."),
    found.map((each, i) => h("details", { open: i === 0, class: each.holds === false ? "fails" : null },
      h("summary", { "data-key": `verdict/${i}` }, h("b", {}, causeName(each.cause)), each.cue ? [": ", text(each.cue)] : null,
        h("small", { class: "muted" }, each.holds === false ? " does not hold" : " holds", ` · confidence ${percent(each.confidence)}`)),
      h("p", { class: "muted" }, causeMeaning(each.cause)),
      group("Evidence", each.evidence), group("Evidence against", each.against),
      Object.keys(each.measured ?? {}).length ? table(each.measured, each.thresholds) : null)));
}

function erasures({ erasures: found, prediction }) {
  if (!found?.length) return null;
  return bars({
    title: "Without some words", meaning: "What becomes of the prediction when words are taken out.", what: "Without", column: "Falls by", columns: ["Before", "After"],
    found: found.map((each) => ({
      name: each.text, number: plain((each.before ?? 0) - (each.after ?? 0)), share: (each.before ?? 0) - (each.after ?? 0), beside: [percent(each.before), percent(each.after)],
      marks: each.prediction === prediction ? "the same prediction" : [h("b", {}, "turns to "), text(each.prediction)],
    })),
  });
}

function probabilities({ probabilities: found, gold }) {
  const order = Object.entries(found ?? {}).sort((a, b) => b[1] - a[1]), shown = order.slice(0, 10);
  if (!order.length) return null;
  return bars({
    title: "Probabilities", meaning: "Of each label, by the model.", what: "Label", column: "Probability",
    found: shown.map(([name, share]) => ({ name, number: percent(share), share, marks: name === gold ? "gold label" : null })),
    rest: order.length > shown.length ? `${order.length - shown.length} more labels share ${percent(order.slice(10).reduce((sum, [, share]) => sum + share, 0))}.` : null,
  });
}
