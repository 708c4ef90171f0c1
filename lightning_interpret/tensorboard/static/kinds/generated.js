// Written explanations: the text as a quotation beside a person's, and what it is worth to the model and to who reads it.

import { about, query, text } from "../evidence.js";
import { given, over, probabilities, quotation } from "../explained.js";
import { fact, h, notice } from "../parts.js";
import { percent, plain, printable } from "../model.js";

const ORDERS = {
  predict_then_explain: "The prediction was made first, and does not depend on the words.",
  explain_then_predict: "The prediction was made from the words.",
  jointly: "Prediction and words were made together.",
};

/** Lines over the steps of a probe. */
export function lines(steps) {
  return [
    { label: "Loss", values: over(steps, "loss"), zero: true },
    { label: "Log-likelihood", note: "mean of the tokens it wrote, in nats", values: over(steps, "log_likelihood") },
    { label: "Overlap", note: "F1 of its words with a person's", values: over(steps, "overlap"), zero: true, format: percent },
    { label: "p", note: "of the predicted class, with the explanation", values: over(steps, "probability"), zero: true, format: percent },
    { label: "p, erased", note: "the same without the explanation", values: over(steps, "erased"), zero: true, format: percent },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, i ? null : context.charts)));
}

function one(record, charts) {
  return [
    record.leaks === true ? notice("warn", "The explanation leaks", h("p", {}, "Alone, without the input, it gives the prediction away to the simulator: that the simulator is right proves nothing.")) : null,
    h("div", { class: "sides" }, quotation("The model's explanation", record.explanation, "own"), given(record.gold_explanation) ? quotation("A person's", record.gold_explanation) : null),
    query(record,
      simulated("Simulator", record.simulated, record, "with the explanation"), simulated("Simulator", record.simulated_without, record, "from the input alone"),
      given(record.leaks) ? fact("Leaks", record.leaks ? "yes" : "no", { mark: record.leaks ? "bad" : null }) : null,
      given(record.overlap) ? fact("Overlap", percent(record.overlap), { note: "F1 of the words with the person's" }) : null,
      given(record.log_likelihood) ? fact("Log-likelihood", plain(record.log_likelihood), { note: "nats a token" }) : null),
    probabilities("Probability", `Of ${given(record.target_name) ? printable(record.target_name) : "the predicted class"}, as the model reads the explanation.`, [["the explanation", record.probability], ["the explanation erased", record.erased]]),
    charts,
    about(record, [["Order", given(record.order) ? String(record.order).replaceAll("_", " ") : null]], [
      ...(ORDERS[record.order] ? [ORDERS[record.order]] : []),
      ...(given(record.simulated) || given(record.simulated_without) ? ["Simulator: another model that guesses the prediction from the input, with the explanation and without."] : []),
      ...(given(record.overlap) ? ["Overlap says nothing of what the prediction was made from."] : []),
    ]),
  ];
}

function simulated(name, said, record, note) {
  if (!given(said)) return null;
  const agrees = given(record.prediction) ? (said === record.prediction ? ", as the model" : ", not as the model") : "";
  return fact(name, text(said), { note: note + agrees });
}
