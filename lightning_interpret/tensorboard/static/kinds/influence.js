// Influence: a query with the training examples that helped and harmed, beside what stands nearest, and how it was done.

import { about, bar, examples, nearest, query, searched, text, verdict } from "../evidence.js";
import { h, notice } from "../parts.js";
import { kept, percent, printable, signed } from "../model.js";

/** Lines over the steps of a probe. */
export function lines(steps) {
  const of = (name) => steps.map((step) => (typeof step[name] === "number" ? step[name] : null));
  return [
    { label: "Loss", values: of("loss"), zero: true },
    { label: "Confidence", note: "of the prediction", values: of("confidence"), zero: true, format: percent },
    { label: "Most helpful score", values: of("most_helpful"), zero: true, format: signed },
    { label: "Most harmful score", values: of("most_harmful"), zero: true, format: signed },
    { label: "Same examples", note: "share of those listed that the step before listed too", values: kept(steps), zero: true, format: percent },
    { label: "Gold among neighbours", note: "their share with the gold label", values: of("gold_share"), zero: true, format: percent },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, context, i ? null : context.charts)));
}

function one(record, context, charts) {
  const stated = record.approximation ?? {}, near = record.neighbors;
  return [
    stated.converged === false ? notice("warn", "The solver did not converge", h("p", {}, `The scores are not what they are said to be${Number.isFinite(stated.residual) ? `: the largest residual is ${percent(stated.residual)}` : ""}.`)) : null,
    query(record, verdict(near)),
    listed(record),
    byToken(record),
    nearest(near, context),
    charts,
    about(record, [
      ["Method", stated.method], ["Curvature", stated.curvature], ["Measured on", stated.examples], ["Labels drawn", stated.samples], ["Seed", stated.seed],
      ["Damping", stated.damping], ["Weight decay", stated.weight_decay], ["Parameters covered", Number.isFinite(stated.coverage) ? percent(stated.coverage) : null],
      ["Layers", layers(stated.layers)], ["Converged", { true: "yes", false: "NO" }[String(stated.converged)]], ["Residual", stated.residual],
      ["Examples scored", record.examples], [`Skipped (${read(stated)} not finite)`, record.skipped || null], ...searched(near),
    ], [...(stated.notes ?? []), ...(near?.notes ?? [])]),
  ];
}

/** The training examples with their scores. */
export function listed(record) {
  const stated = record.approximation ?? {};
  const scale = Math.max(0, ...[...(record.helpful ?? []), ...(record.harmful ?? [])].map(({ score }) => Math.abs(score ?? 0))) || 1;
  const number = ({ score }) => bar(score, scale);
  return stated.measure === null ? similar(record, stated, number) : signedSides(record, stated, number);
}

/** Each token of the query's output with the training example that it is owed to most. */
function byToken({ by_token: tokens }) {
  const found = (tokens ?? []).filter(({ helpful }) => helpful?.length).map(({ token, helpful }) => ({ ...helpful[0], token }));
  if (!found.length) return null;
  const scale = Math.max(0, ...found.map(({ score }) => Math.abs(score ?? 0))) || 1;
  const number = ({ token, score }) => [h("div", {}, text(token)), bar(score, scale)];
  return examples({ title: "Token by token", meaning: "Each token of the output with the training example without which its own loss would rise most.", found, column: "Token, score", number, none: "", hue: "for" });
}

function signedSides(record, stated, number) {
  const measure = printable(stated.measure ?? "loss");
  return [
    h("p", { class: "muted" }, `Score: ${printable(stated.unit ?? "influence")}. Positive is helpful: removing the example would raise the ${measure}. Negative is harmful: removing it would lower it.`),
    h("div", { class: "sides" },
      examples({ title: "Helpful", meaning: `Removing one of these would raise the ${measure}.`, found: record.helpful ?? [], column: "Score", number, none: "No example has a positive score.", hue: "for" }),
      examples({ title: "Harmful", meaning: `Removing one of these would lower the ${measure}.`, found: record.harmful ?? [], column: "Score", number, none: "No example has a negative score.", hue: "against" })),
  ];
}

function similar(record, stated, number) {
  return [
    h("p", { class: "muted" }, `Score: ${printable(stated.unit)}. It is a similarity, and says nothing of a removal.`),
    examples({ title: "Alike", meaning: "Most like the query in the model's features.", found: record.helpful ?? [], column: "Score", number, none: "No example has a positive score.", hue: "for" }),
  ];
}

const layers = (names = []) => (names.length > 4 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ") || null);

/** What each training example was asked for: gradients only where some parameters, or a curvature, are covered. */
function read({ measure, coverage = null, curvature = null }) {
  if (measure === null) return "features";
  return coverage === null && curvature === null ? "outputs" : "gradients";
}
