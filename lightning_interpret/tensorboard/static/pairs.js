// The same example in two records: which entries are of one example, and what changed from one to the other.

import { plain, percent, signed, wrong } from "./model.js";

/** What an entry is of, for finding it in another run: an example, a group of cases, or a place among the probes. */
export function subject({ kind, probe, facts }) {
  if (kind === "bad_case_group") return facts ? JSON.stringify(["group", facts.cause, facts.cue]) : null;
  if (facts?.example_id !== undefined && facts?.example_id !== null) return JSON.stringify(["example", facts.example_id]);
  return probe === null || kind === "bad_case" ? null : JSON.stringify(["probe", probe]);
}

/** Finds the entry of another run that is of the same monitor and subject: `found(entry)`, or `null`. */
export function finder(entries, run) {
  const there = new Map();
  for (const entry of entries) {
    const of = entry.run === run ? subject(entry) : null;
    if (of !== null) there.set(JSON.stringify([entry.monitor, entry.kind, of]), entry);
  }
  return (entry) => {
    const of = entry.run === run ? null : subject(entry);
    return of === null ? null : there.get(JSON.stringify([entry.monitor, entry.kind, of])) ?? null;
  };
}

/** The entries of other monitors of a run that are of the same example as one of it: the first of each monitor. */
export function elsewhere(entries, entry) {
  const id = entry.facts?.example_id, found = new Map();
  if (id === undefined || id === null) return [];
  for (const other of entries) {
    const same = other.run === entry.run && other.monitor !== entry.monitor && other.facts?.example_id === id;
    if (same && !found.has(other.monitor)) found.set(other.monitor, other);
  }
  return [...found.values()];
}

/** What became of a prediction: `fixed`, `broke`, `other`, `same`; `null` where one of them is not known. */
export function changeOf(facts, other) {
  if (facts?.prediction === undefined || facts.prediction === null || other?.prediction === undefined || other.prediction === null) return null;
  const [before, after] = [wrong(facts), wrong(other)];
  if (before === true && after === false) return "fixed";
  if (before === false && after === true) return "broke";
  return facts.prediction === other.prediction ? "same" : "other";
}

const FIGURES = { // of facts: what they are called, and how their numbers are written
  confidence: ["Confidence", percent], loss: ["Loss", plain], target: ["Score that is explained", signed], relative_error: ["Attribution error", percent],
  rate: ["Share that is selected", percent], sufficiency: ["Sufficiency", plain], comprehensiveness: ["Comprehensiveness", plain], sharpness: ["Sharpness", plain],
  conformity: ["Conformity", percent], credibility: ["Credibility", percent], gold_share: ["Gold among neighbours", percent], distance_rank: ["Far from training data", percent],
  size: ["Cases in the group", plain], sure: ["Confidence of the verdicts", percent], accuracy: ["Accuracy", percent], slice_size: ["Examples in the slice", plain],
  validated: ["Validation examples", plain], wrong_cases: ["Wrong", plain], confident: ["Wrong and sure", plain], unsure: ["Right but unsure", plain],
};

/** The figures that both have, `{name, before, after, difference}` each in words. */
export function figures(facts, other) {
  return Object.entries(FIGURES)
    .filter(([name]) => Number.isFinite(facts?.[name]) && Number.isFinite(other?.[name]))
    .map(([name, [label, format]]) => {
      const by = other[name] - facts[name];
      return { name: label, before: format(facts[name]), after: format(other[name]), difference: by === 0 ? "the same" : (by > 0 ? "+" : "") + format(by).replace(/^\+/, "") };
    });
}

/**
 * How two records' scores of the same tokens lie to each other: their cosine, and how many of the strongest words of
 * the one are among those of the other; `null` where they have no scores of the same tokens.
 */
export function alike(record, other, strongest = 5) {
  const [a, b] = [record?.scores ?? record?.token_weights, other?.scores ?? other?.token_weights];
  const same = Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.length > 0 && JSON.stringify(record.tokens) === JSON.stringify(other.tokens);
  if (!same || ![...a, ...b].every(Number.isFinite)) return null;
  const size = (of) => Math.hypot(...of), [x, y] = [size(a), size(b)];
  const out = (i) => record.special?.[i] || other.special?.[i];
  const top = (of) => of.map((score, i) => [Math.abs(score), i]).filter(([score, i]) => score > 0 && !out(i)).sort((p, q) => q[0] - p[0]).slice(0, strongest).map(([, i]) => i);
  const [first, second] = [top(a), top(b)];
  const strong = Math.min(first.length, second.length);
  return {
    cosine: x && y ? a.reduce((sum, score, i) => sum + (score / x) * (b[i] / y), 0) : null,
    common: strong ? first.slice(0, strong).filter((i) => second.slice(0, strong).includes(i)).length : null, strongest: strong,
  };
}

/** How many of the training examples that one lists the other lists too, as `{common, of}`; `null` where one lists none. */
export function listedBoth(facts, other) {
  const [a, b] = [facts, other].map((of) => new Set(String(of?.listed ?? "").split(" ").filter(Boolean)));
  return a.size && b.size ? { common: [...a].filter((id) => b.has(id)).length, of: a.size } : null;
}
