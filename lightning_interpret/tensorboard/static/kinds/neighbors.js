// Neighbours: a query with the training examples nearest in feature space, their labels, and what they say of it.

import { about, nearest, query, searched, verdict } from "../evidence.js";
import { h } from "../parts.js";
import { kept, percent } from "../model.js";

/** Lines over the steps of a probe. */
export function lines(steps) {
  const of = (name) => steps.map((step) => (typeof step[name] === "number" ? step[name] : null));
  return [
    { label: "Loss", values: of("loss"), zero: true },
    { label: "Confidence", note: "of the model", values: of("confidence"), zero: true, format: percent },
    { label: "Gold among neighbours", note: "their share with the gold label", values: of("gold_share"), zero: true, format: percent },
    { label: "Conformity", note: "neighbours with the predicted label", values: of("conformity"), zero: true, format: percent },
    { label: "Credibility", note: "calibration examples that conform no more", values: of("credibility"), zero: true, format: percent },
    { label: "Same neighbours", note: "share of those listed that the step before listed too", values: kept(steps), zero: true, format: percent },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => [
    query(record, verdict(record)),
    nearest(record, context),
    i ? null : context.charts,
    about(record, searched(record)),
  ]));
}
