// Concept vectors: what more of each concept would do to a score, beside what random concepts would.

import { about, query, text } from "../evidence.js";
import { bars, given, over, sentence } from "../explained.js";
import { fact, h } from "../parts.js";
import { kept, percent, plain, printable, signed } from "../model.js";

const SHOWN = 30; // concepts under one heading, until the reader asks for all
const SAID = { "speaks for the class": "for", "speaks against the class": "against", "not told apart from random concepts": "as random" };

/** Lines over the steps of a probe. */
export function lines(steps) {
  return [
    { label: "Loss", values: over(steps, "loss"), zero: true },
    { label: "Score F(x)", note: "the number explained", values: over(steps, "target"), zero: true, format: signed },
    { label: "Told apart", note: "tests in which a concept is told from random ones", values: over(steps, "told_apart"), zero: true },
    { label: "Same concepts", note: "share of those told apart that the step before had too", values: kept(steps), zero: true, format: percent },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, context, i ? null : context.charts)));
}

function one(record, context, charts) {
  const found = record.tests ?? [], ofAll = !given(record.target_name), tested = found.filter(({ p }) => given(p));
  return [
    sentence(record),
    ofAll
      ? h("dl", { class: "card facts" }, fact("Examples", plain(record.tested ?? 0), { note: "whose derivatives were counted" }), toldApart(tested))
      : query(record, given(record.target) ? fact("Score F(x)", signed(record.target), { note: h("span", {}, "of ", text(record.target_name)) }) : null, toldApart(tested)),
    groups(found).map((tests) => table(tests, ofAll, context)),
    charts,
    about(record, [["Solver", record.solver], ["Pooling", record.pooling], ["Vectors of a concept", record.vectors], ["Random concepts", record.random_concepts],
      ["Tested", record.statistic], ["Beside", record.test], ["Correction", record.correction], ["Level", record.level]],
      ["Effect: mean derivative × how far apart along it examples with and without the concept lie.", ...(ofAll ? ["TCAV: share of the class's examples whose derivative along the concept is positive; bars are from 50 %."] : ["Derivative: above 0, more of the concept would raise the score."])]),
  ];
}

function toldApart(tested) {
  return tested.length ? fact("Told apart", `${tested.filter(({ verdict }) => ["for", "against"].includes(SAID[verdict])).length} of ${tested.length}`) : null;
}

/** Tests that follow one another and are of one layer and class. */
function groups(tests) {
  const found = [];
  for (const each of tests) {
    const last = found.at(-1)?.[0];
    if (last && last.layer === each.layer && last.target_name === each.target_name) found.at(-1).push(each);
    else found.push([each]);
  }
  return found;
}

function table(tests, ofAll, { options, set }) {
  const largest = Math.max(0, ...tests.map(({ own }) => Math.abs(own ?? 0))) || 1;
  const shown = options.rows === "all" ? tests : tests.slice(0, SHOWN);
  const card = bars({
    title: `${printable(tests[0].target_name ?? "–")} at ${printable(tests[0].layer ?? "–")}`,
    meaning: ofAll ? "More of the concept would raise the score of so many." : "Above 0: more of the concept would raise the score.",
    what: "Concept", column: ofAll ? "TCAV" : "Derivative", none: "No concept.",
    columns: ["p", "Effect", ...(ofAll ? [] : ["TCAV"]), "Random TCAV", "Accuracy", "Stability"],
    found: shown.map((each) => ({
      name: each.concept ?? "–", marks: marks(each),
      number: ofAll ? share(each.score) : given(each.own) ? signed(each.own) : "–",
      share: ofAll ? (given(each.score) ? 2 * each.score - 1 : 0) : (each.own ?? 0) / largest,
      beside: [given(each.corrected_p) ? plain(each.corrected_p) : "–", given(each.effect) ? signed(each.effect) : "–", ...(ofAll ? [] : [share(each.score)]), share(each.random_score), beside(each.accuracy, each.random_accuracy), beside(each.stability, each.random_stability)],
    })),
  });
  if (shown.length < tests.length) card.append(h("button", { type: "button", class: "quiet", "data-key": "rows", onclick: () => set("rows", "all") }, `Show all ${tests.length}`));
  return card;
}

function marks({ verdict, reason }) {
  const said = SAID[verdict];
  if (said === undefined) return h("span", { class: "muted" }, "not tested", given(reason) ? [": ", text(reason)] : null);
  return said === "as random" ? h("span", { class: "muted" }, said) : h("b", {}, said);
}

const share = (value) => (given(value) ? percent(value) : "–");

const beside = (value, random) => (given(value) ? `${plain(Math.round(100 * value) / 100)}${given(random) ? ` (random ${plain(Math.round(100 * random) / 100)})` : ""}` : "–");
