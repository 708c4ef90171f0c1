// Landmarks: the sentence that explains, the landmarks that speak for and against, what it sums to, the tokens.

import { about, bar, examples, query, text, tokens, turns } from "../evidence.js";
import { fact, h, notice } from "../parts.js";
import { kept, percent, plain, printable, signed, strength } from "../model.js";

/** Lines over the steps of a probe. */
export function lines(steps) {
  const of = (name) => steps.map((step) => (typeof step[name] === "number" ? step[name] : null));
  return [
    { label: "Loss", values: of("loss"), zero: true },
    { label: "Score F(x)", note: "the number explained", values: of("target"), zero: true, format: signed },
    { label: "Most like", note: "relevance of the landmark that speaks most for it", values: of("most_like"), zero: true, format: signed },
    { label: "Most unlike", note: "relevance of the landmark that speaks most against it", values: of("most_unlike"), zero: true, format: signed },
    { label: "Bias share", note: "what did not reach the landmarks, as a share of it and of the sizes of all their scores", values: of("bias_share"), zero: true, format: percent },
    { label: "Same landmarks", note: "share of those listed that the step before listed too", values: kept(steps), zero: true, format: percent },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, i ? null : context.charts)));
}

function one(record, charts) {
  const like = record.like ?? [], unlike = record.unlike ?? [];
  const scale = Math.max(0, ...[...like, ...unlike].map(({ score }) => Math.abs(score ?? 0))) || 1;
  const number = ({ score }) => bar(score, scale), column = "Relevance";
  const explained = given(record.target_name) ? text(record.target_name) : null;
  const cancelled = record.magnitude && given(record.total) ? 1 - Math.abs(record.total) / record.magnitude : null;
  return [
    record.converged === false ? notice("warn", "The relevance does not add up", h("p", {}, `Landmarks and bias miss the score F(x) by ${signed(record.error)}: these numbers are not its parts.`)) : null,
    record.sentence?.length ? h("section", { class: "card sentence", "aria-label": "Explanation" }, h("p", {}, turns(record.sentence))) : null,
    query(record, given(record.target) ? fact("Score F(x)", signed(record.target), { note: explained ? h("span", {}, "of ", explained) : null }) : null),
    h("div", { class: "sides" },
      examples({ title: "Like", meaning: "Landmarks that speak for it, the strongest first.", found: like, column, number, none: "No landmark speaks for it.", hue: "for" }),
      examples({ title: "Unlike", meaning: "Landmarks that speak against it, the strongest first.", found: unlike, column, number, none: "No landmark speaks against it.", hue: "against" })),
    sum(record, [...like, ...unlike]),
    tokens(record, "Relevance of the tokens", ["against", name(record)], ["for", name(record)]),
    charts,
    about(record, [
      ["Kernel", record.kernel], ["Landmarks", record.landmarks ? String(record.landmarks) : null], ["Of which speak for it", record.positive],
      ["Sizes of all scores", record.magnitude], ["Of which cancels", given(cancelled) ? percent(cancelled) : null],
      ["Relative error of the kernel matrix (Frobenius)", given(record.approximation_error) ? percent(record.approximation_error) : null],
    ], ["Relevance is the part of the score F(x) that a landmark, a training example, is given. Positive speaks for what is explained, negative against it.",
      ...([...like, ...unlike].some(({ similarity }) => given(similarity)) ? ["k is the kernel between query and landmark. One that is near may speak against it all the same."] : [])]),
  ];
}

/** What the parts sum to: landmarks that are shown, the others, what did not reach them, and the score. */
function sum(record, shown) {
  const absorbed = Object.entries(record.absorbed ?? {});
  if (!given(record.target) || !given(record.total)) return null;
  const listed = shown.reduce((all, { score }) => all + (score ?? 0), 0), others = (record.landmarks ?? 0) - shown.length;
  const parts = [
    ...(others > 0 ? [[plural(shown.length, "landmark shown", "landmarks shown"), listed], [plural(others, "other landmark", "other landmarks"), record.total - listed]] : [[plural(shown.length, "landmark", "landmarks"), record.total]]),
    ...absorbed.map(([what, amount]) => [what, amount]),
  ];
  const whole = Math.max(...parts.map(([, amount]) => Math.abs(amount ?? 0)), Math.abs(record.target)) || 1;
  const line = ([what, amount], kind = null) => {
    const share = strength(amount, whole);
    return h("tr", { class: kind }, h("th", { scope: "row" }, h("bdi", {}, printable(what))), h("td", { class: "number" }, signed(amount)),
      h("td", { class: "wide" }, h("i", { class: `share ${share < 0 ? "against" : "for"}`, "--s": Math.abs(share).toFixed(3) })));
  };
  return h("section", { class: "card evidence adds" },
    h("h2", {}, "What it adds up to"), h("p", { class: "muted" }, "Every part of the score F(x), which is handed back to the landmarks; what a bias takes, no landmark gets."),
    h("table", {}, h("caption", { class: "hidden" }, `${parts.length} parts of the score`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Part"), h("th", { scope: "col", class: "number" }, "Relevance"), h("th", { scope: "col" }, h("span", { class: "hidden" }, "As a bar")))),
      h("tbody", {}, parts.map((part) => line(part)), line([`= F(x)${given(record.error) ? `, but for an error of ${plain(Math.abs(record.error))}` : ""}`, record.target], "total"))));
}

const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;
const name = (record) => (given(record.target_name) ? ` ${printable(record.target_name)}` : "");
const given = (value) => value !== null && value !== undefined;
