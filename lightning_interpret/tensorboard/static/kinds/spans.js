// Spans: the foremost ones with their weights, what erasing each costs beside a random one, the weights of the tokens.

import { about, query, text, tokens } from "../evidence.js";
import { bars, given, over, sentence } from "../explained.js";
import { fact, h } from "../parts.js";
import { percent, plain, signed } from "../model.js";

/** Lines over the steps of a probe. */
export function lines(steps) {
  return [
    { label: "Loss", values: over(steps, "loss"), zero: true },
    { label: "Sharpness", note: "Σ weight²: 1 where one span has it all", values: over(steps, "sharpness"), zero: true },
    { label: "Foremost weight", values: over(steps, "weight"), zero: true, format: percent },
    { label: "Foremost erased", note: "by how much the score falls without it", values: over(steps, "erased"), zero: true, format: signed },
    { label: "Random erased", note: "the same of a random span as long", values: over(steps, "control"), zero: true, format: signed },
    { label: "Drift", note: "1 − cosine of the tokens' weights with the step before", values: over(steps, "drift"), zero: true },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, i ? null : context.charts)));
}

function one(record, charts) {
  const found = record.spans ?? [], foremost = found[0]?.erased;
  const explained = given(record.target_name) ? h("span", {}, "of ", text(record.target_name)) : null;
  return [
    sentence(record),
    query(record,
      given(record.target) ? fact("Score F(x)", signed(record.target), { note: explained }) : null,
      given(record.sharpness) ? fact("Sharpness", plain(record.sharpness), { note: "1 where one span has it all" }) : null,
      given(foremost) ? fact("Foremost erased", fall(foremost), { note: given(record.control) ? `a random span: ${fall(record.control)}` : null }) : null),
    listed(record, found),
    tokens({ ...record, scores: record.token_weights }, "Weight of the tokens", null, ["weight of the spans it is in"]),
    charts,
    about(record, [["Spans", record.considered || null], ["Longest", given(record.width) ? `${record.width} tokens` : null]],
      found.some(({ erased }) => given(erased)) ? ["Erased: by how much the score falls without the span."] : []),
  ];
}

function listed(record, found) {
  const largest = Math.max(0, ...found.map(({ weight }) => weight ?? 0)) || 1;
  const shown = found.reduce((sum, { weight }) => sum + (weight ?? 0), 0), others = (record.considered ?? 0) - found.length;
  const erased = found.some((span) => given(span.erased));
  return bars({
    title: "Spans", meaning: "Their weights are the prediction's parts, the largest first.", what: "Span", column: "Weight", none: "No span has a weight.",
    columns: ["Tokens", ...(erased ? ["Erased"] : [])],
    found: found.map((span) => ({
      name: span.text ?? (record.tokens ?? []).slice(span.start, span.end).join(" "),
      number: percent(span.weight), share: (span.weight ?? 0) / largest,
      beside: [given(span.start) && given(span.end) ? `${span.start}–${span.end - 1}` : "–", given(span.erased) ? signed(span.erased) : "–"],
    })),
    rest: others > 0 ? `${others} more spans share ${percent(Math.max(0, 1 - shown))}.` : null,
  });
}

const fall = (amount) => `falls by ${plain(amount)}`;
