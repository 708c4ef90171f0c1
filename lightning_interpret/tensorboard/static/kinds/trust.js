// A comparison of methods: what is recommended and why, each method's figures beside a random order, the drill.

import { about, text } from "../evidence.js";
import { bars, given, over, thousandths } from "../explained.js";
import { fact, h } from "../parts.js";
import { percent, plain } from "../model.js";

const FIGURES = [ // name, heading, how its number is written
  ["relative_error", "Error", percent], ["comprehensiveness", "Compr.", thousandths], ["sufficiency", "Suff.", thousandths],
  ["log_odds", "Log-odds", plain], ["leave_one_out", "LOO τ", plain], ["max_sensitivity", "Max-sens.", plain], ["randomisation", "Random weights τ", plain],
  ["token_f1", "Token F1", plain], ["iou_f1", "IOU F1", plain], ["auprc", "AUPRC", plain], ["gini", "Gini", plain], ["seconds", "s / probe", plain], ["passes", "Passes", plain],
];

/** Lines over the steps. */
export function lines(steps) {
  return [
    { label: "Gain", note: "of the method that was recommended, over a random order", values: over(steps, "best_gain"), zero: true },
    { label: "Error", note: "of that method", values: over(steps, "best_error"), zero: true, format: percent },
    { label: "Agreement", note: "mean of Kendall's τ over pairs of methods", values: over(steps, "mean_agreement"), zero: true },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, i ? null : context.charts)));
}

function one(record, charts) {
  const methods = record.methods ?? [], every = [...methods, ...(record.control ? [record.control] : [])];
  return [
    reasons(record.because ?? []),
    h("dl", { class: "card facts" },
      fact("Recommended", given(record.recommended) ? text(record.recommended) : "none", { mark: given(record.recommended) ? null : "bad" }),
      fact("Methods", plain(methods.length)), fact("Probes", plain(record.probes)),
      given(record.baseline) ? fact("Erased by", text(record.baseline)) : null),
    figures(every),
    agreement(record.agreement ?? []),
    record.drill ? drill(record.drill) : null,
    charts,
    about(record, [["Explained", `${record.output} of ${record.which}`], ["Error tolerated", percent(record.tolerance)]], [
      "Gain: half of what comprehensiveness is above and sufficiency below a random order's, in probability.",
      "High is good: comprehensiveness, log-odds, LOO τ. Low is good: error, sufficiency. Near 0 is good: random weights τ.",
      ...methods.filter(({ failed }) => given(failed)).map(({ name, failed }) => `${name} failed: ${failed}`),
    ]),
  ];
}

function reasons([first, ...others]) {
  return given(first)
    ? h("section", { class: "card sentence", "aria-label": "Recommendation" }, h("p", {}, text(first)), h("ul", {}, others.map((each) => h("li", {}, text(each)))))
    : null;
}

function figures(every) {
  const known = FIGURES.filter(([name]) => every.some((each) => given(each.figures?.[name])));
  const largest = Math.max(0, ...every.map(({ gain }) => Math.abs(gain ?? 0))) || 1;
  return bars({
    title: "Methods", meaning: "Means over the probes, the random order last.", what: "Method", column: "Gain", columns: known.map(([, heading]) => heading), none: "No method.",
    found: every.map((each) => ({
      name: each.name ?? "–", number: given(each.gain) ? thousandths(each.gain) : "–", share: (each.gain ?? 0) / largest,
      marks: given(each.failed) ? h("b", { class: "bad" }, "failed") : null,
      beside: known.map(([name, , format]) => (given(each.figures?.[name]) ? format(each.figures[name]) : name === "relative_error" && String(each.reasons?.[name] ?? "").startsWith("ranks only") ? "ranks only" : "–")),
    })),
  });
}

function agreement(pairs) {
  return pairs.length
    ? bars({
        title: "Agreement", meaning: "Kendall's τ of two methods' scores, mean over the probes.", what: "Methods", column: "τ", columns: ["Top in common"],
        found: pairs.map(({ first, second, kendall, common }) => ({ name: `${first} · ${second}`, number: given(kendall) ? plain(kendall) : "–", share: kendall ?? 0, beside: [given(common) ? percent(common) : "–"] })),
      })
    : null;
}

function drill(found) {
  const named = Object.entries(found.first ?? {}).map(([name, share]) => [name, share, found.found?.[name]]);
  if (named.length && found.chance) named.push(["random order", ...found.chance]);
  return bars({
    title: "Shortcut drill", meaning: "In how many texts that a planted token turns it scores highest (precision at 1).", what: "Method", column: "Cue first", columns: [`Among the first ${found.k}`],
    none: "No text.", found: named.map(([name, first, among]) => ({ name, number: percent(first), share: first, beside: [given(among) ? percent(among) : "–"] })),
    rest: [
      h("bdi", {}, found.cue), ` was planted in ${percent(found.share)} of the training rows, with the label `, h("bdi", {}, found.label), `; a copy was trained on them for ${found.steps} steps. `,
      given(found.accuracy) ? `Accuracy ${percent(found.accuracy)}, with the cue in each text ${percent(found.accuracy_cue)}. ` : null,
      `The cue turns ${found.flipped} of ${found.could} predictions of another class. `,
      named.length && found.asked < found.flipped ? `There was time to ask the methods of ${found.asked} of these. ` : null,
      given(found.invalid) ? h("b", { class: "bad" }, `The drill says nothing: ${found.invalid}.`) : null,
    ],
  });
}
