// Concepts: what each one adds to the score, its value beside the truth, and what it all adds up to.

import { about, query, text } from "../evidence.js";
import { bars, given, over, sentence } from "../explained.js";
import { fact, h } from "../parts.js";
import { kept, percent, plain, signed } from "../model.js";

const SHOWN = 30; // concepts, until the reader asks for all

/** Lines over the steps of a probe. */
export function lines(steps) {
  return [
    { label: "Loss", values: over(steps, "loss"), zero: true },
    { label: "Score F(x)", note: "the number explained", values: over(steps, "target"), zero: true, format: signed },
    { label: "Concepts right", note: "share of those that are known", values: over(steps, "concept_accuracy"), zero: true, format: percent },
    { label: "Residual", note: "what went past the concepts", values: over(steps, "residual"), zero: true, format: signed },
    { label: "Same concepts", note: "share of the foremost that the step before had too", values: kept(steps), zero: true, format: percent },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, context, i ? null : context.charts)));
}

function one(record, context, charts) {
  const found = record.concepts ?? [];
  const known = found.map(right).filter((value) => value !== null), byHand = found.filter(({ intervened }) => intervened);
  return [
    sentence(record),
    query(record,
      given(record.target) ? fact("Score F(x)", signed(record.target), { note: given(record.target_name) ? h("span", {}, "of ", text(record.target_name)) : null }) : null,
      known.length ? fact("Concepts right", `${known.filter(Boolean).length} of ${known.length}`) : null,
      byHand.length ? fact("Set by hand", plain(byHand.length), { note: byHand.length === 1 ? "concept" : "concepts" }) : null),
    listed(found, context),
    sum(record, found),
    charts,
    about(record, [["Concepts", record.concept_count ?? found.length], ["Handed on", record.mode]], byHand.length ? ["Set by hand: the prediction is that of a model which was told these concepts."] : []),
  ];
}

function listed(found, { options, set }) {
  const linear = found.some(({ contribution }) => given(contribution));
  const number = (each) => (linear ? each.contribution : each.value); // missing where it is no number
  const largest = Math.max(0, ...found.map((each) => Math.abs(number(each) ?? 0))) || 1;
  const shown = options.rows === "all" ? found : found.slice(0, SHOWN);
  const card = bars({
    title: "Concepts", meaning: linear ? "Weight · value: what each one adds to the score." : "What the head, which is not linear, is given of each one.",
    what: "Concept", column: linear ? "Adds" : "Value", columns: [...(linear ? ["Value"] : []), "p", "Gold"], none: "No concept.",
    found: shown.map((each) => ({
      name: each.name ?? "–", number: given(number(each)) ? signed(number(each)) : "–", share: (number(each) ?? 0) / largest, marks: marks(each),
      beside: [...(linear ? [plain(each.value)] : []), given(each.probability) ? percent(each.probability) : "–", given(each.gold) ? plain(each.gold) : "–"],
    })),
  });
  if (shown.length < found.length) card.append(h("button", { type: "button", class: "quiet", "data-key": "rows", onclick: () => set("rows", "all") }, `Show all ${found.length}`));
  return card;
}

function marks(each) {
  if (each.intervened) return h("b", {}, "set by hand");
  return right(each) === false ? h("span", { class: "bad" }, "✗ not as it is") : null;
}

/** Whether the model says of a concept what is known of it; `null` where that is not known, or it was set by hand. */
function right({ probability, gold, intervened }) {
  return given(probability) && given(gold) && !intervened ? (probability > 0.5) === (gold > 0.5) : null;
}

/** What the contributions sum to, with what is not theirs. */
function sum(record, found) {
  const known = found.filter(({ contribution }) => given(contribution));
  if (!given(record.target) || !known.length) return null;
  const every = given(record.concept_sum); // else they are counted here, where all of them may not be
  const parts = [
    [`${every ? record.concept_count : known.length} concepts`, every ? record.concept_sum : known.reduce((all, { contribution }) => all + contribution, 0)],
    ["bias", record.bias], ["residual, past the concepts", record.residual],
    [`= F(x)${given(record.error) ? `, but for an error of ${plain(Math.abs(record.error))}` : ""}`, record.target],
  ].filter(([, amount]) => given(amount));
  const whole = Math.max(...parts.map(([, amount]) => Math.abs(amount))) || 1;
  return bars({
    title: "What it adds up to", meaning: "Every part of the score F(x).", what: "Part", column: "Amount",
    found: parts.map(([name, amount]) => ({ name, number: signed(amount), share: amount / whole })),
  });
}
