// Rationales: the text with what the model selected of it, and what the prediction is from that, from all, from the rest.

import { about, query } from "../evidence.js";
import { difference, given, over, passage, probabilities, sentence, thousandths } from "../explained.js";
import { fact, h } from "../parts.js";
import { agreement, percent } from "../model.js";

/** Lines over the steps of a probe. */
export function lines(steps) {
  return [
    { label: "Loss", values: over(steps, "loss"), zero: true },
    { label: "Selected", note: "share of the tokens", values: over(steps, "rate"), zero: true, format: percent },
    { label: "Sufficiency", note: "p(whole text) − p(selection): near 0, the selection is enough", values: over(steps, "sufficiency"), zero: true, format: thousandths },
    { label: "Comprehensiveness", note: "p(whole text) − p(rest): high, the rest does not give the same", values: over(steps, "comprehensiveness"), zero: true, format: thousandths },
    { label: "Newly selected", note: "share of the selected tokens that the step before did not select", values: over(steps, "drift"), zero: true, format: percent },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, context, i ? null : context.charts)));
}

function one(record, context, charts) {
  const people = agreement(record);
  const [facts, text] = query(record,
    given(record.rate) ? fact("Selected", percent(record.rate), { note: given(record.budget) ? `budget ${percent(record.budget)}` : "of the tokens" }) : null,
    difference("Sufficiency", record.sufficiency, "p(whole) − p(selection)", record.sufficiency_control),
    difference("Comprehensiveness", record.comprehensiveness, "p(whole) − p(rest)", record.comprehensiveness_control),
    people ? fact("As people", `${people.both} of ${people.gold}`, { note: `words; ${people.selected} are selected` }) : null);
  return [
    sentence(record),
    facts,
    passage(record, context) ?? text,
    probabilities("Probability", "Of the predicted class, made from the selection, from the whole text, from what was not selected, and from tokens drawn at random.", [
      ["the selection", record.probability], ["the whole text", record.full], ["the rest alone", record.complement],
      ["as many at random", record.control], ["the rest of that draw", record.control_complement]]),
    charts,
    about(record, [["Gate", record.gate], ["Example", record.example_id]], [
      ...(given(record.sufficiency) ? ["Sufficiency near 0 or below: the selection is enough."] : []),
      ...(given(record.comprehensiveness) ? ["Comprehensiveness high: what was left out does not give the same."] : []),
    ]),
  ];
}
