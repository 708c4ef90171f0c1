// What the tab knows of records, without a document: words, scales, numbers, lists. Each function is tested on its own.

import { partsOf } from "./reading.js";

const NAMED = { "\n": "↵", "\r": "␍", "\t": "⇥" };
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const JOINERS = "\u200c\u200d"; // invisible, but they shape Arabic, Indic scripts and emoji

/** The text with control, format and line-separating characters made visible; never empty. */
export function printable(text) {
  if (!String(text).trim()) return "␣";
  return String(text).replace(HIDDEN, (c) => {
    if (JOINERS.includes(c)) return c;
    return NAMED[c] ?? "\\u" + c.codePointAt(0).toString(16).padStart(4, "0");
  });
}

/** A score with its sign in three significant digits. */
export function signed(score) {
  if (score === null || score === undefined || !Number.isFinite(score)) return "not a number";
  if (score === 0) return "0";
  return (score > 0 ? "+" : "−") + plain(Math.abs(score));
}

/** A number in three significant digits, without an exponent where it reads well. */
export function plain(number) {
  if (typeof number !== "number" || !Number.isFinite(number)) return "–";
  const size = Math.abs(number);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) return minus(number.toExponential(1));
  return minus(String(Number(number.toPrecision(3))));
}

/** A share as per cent. */
export function percent(share) {
  if (typeof share !== "number" || !Number.isFinite(share)) return "–";
  const per = share * 100;
  return (per !== 0 && Math.abs(per) < 0.01 ? "< 0.01" : minus(String(Number(per.toPrecision(per >= 100 ? 3 : 2))))) + " %";
}

const minus = (text) => text.replace(/^-/, "−").replace("e-", "e−");

/**
 * The units of an attribution in reading order.
 *
 * Of words, each is the sum of its tokens' scores; a special token stands alone. `space` says whether the text has a
 * gap before it, as far as the record knows.
 */
export function units(record, by = "word") {
  const tokens = record.tokens ?? [];
  const scores = record.scores ?? [];
  const ids = record.word_ids?.length === tokens.length ? record.word_ids : tokens.map((_, i) => i);
  const named = record.word_ids?.length === tokens.length ? record.words ?? [] : [];
  const offsets = record.offsets, parts = partsOf(record);
  const found = [];
  let before; // the word of the token before; `undefined` at the start
  tokens.forEach((token, i) => {
    const word = ids[i] ?? null;
    const special = record.special?.[i] ?? word === null;
    const joins = word !== null && word === before;
    before = word;
    if (by === "word" && joins) {
      const last = found.at(-1);
      last.score = last.score === null || scores[i] === null ? null : last.score + scores[i];
      last.parts.push({ text: token, score: scores[i] });
      return;
    }
    const text = by === "word" && word !== null ? named[word] ?? token : token;
    const gap = !offsets || i === 0 || special || ids[i - 1] === null || offsets[i][0] > offsets[i - 1][1];
    found.push({
      index: found.length, text, score: scores[i] ?? null, special, space: by === "word" ? gap : gap && !joins,
      segment: parts[i], parts: [{ text: token, score: scores[i] }],
    });
  });
  return found;
}

/**
 * The words of a text with what was selected of it: a word is, where one of its tokens is; its probability is the largest
 * of theirs. Special tokens are left out.
 */
export function marked(record) {
  const ids = record.word_ids?.length === record.tokens?.length ? record.word_ids : null, text = record.text ?? "";
  const parts = partsOf(record), found = [];
  let before = null;
  (record.tokens ?? []).forEach((token, i) => {
    const word = ids ? ids[i] ?? null : i;
    if (word === null || record.special?.[i]) { before = null; return; }
    const probability = record.probabilities?.[i] ?? null, last = found.at(-1);
    const selected = Boolean(record.selected?.[i]), gold = Boolean(record.gold_rationale?.[i]);
    if (word === before) {
      last.selected ||= selected;
      last.gold ||= gold;
      last.probability = probability === null ? last.probability : Math.max(last.probability ?? 0, probability);
      return;
    }
    const [here, past] = [record.offsets?.[i], record.offsets?.[i - 1]];
    const space = !here || !past || before === null || here[0] > past[1] || /\s/.test(text[here[0]] ?? "");
    before = word;
    found.push({ text: (ids && record.words?.[word]) || token, selected, gold, probability, space, special: false, segment: parts[i] });
  });
  return found;
}

/** How many words people selected, how many the model did, and how many are the same; `null` where nobody was asked. */
export function agreement(record) {
  if (!record.gold_rationale?.length) return null;
  const words = marked(record), count = (of) => words.filter(of).length;
  return { gold: count((w) => w.gold), selected: count((w) => w.selected), both: count((w) => w.gold && w.selected) };
}

/**
 * The locations of an image's record, row by row, each with the box that it covers in shares of width and height, and
 * what has no location. A location stands for several of the `full` grid where neighbours were summed.
 */
export function locations(record) {
  const scores = record.scores ?? [], special = record.special ?? [];
  const inside = scores.map((score, i) => ({ score, out: Boolean(special[i]) }));
  const kept = inside.filter(({ out }) => !out), outside = inside.filter(({ out }) => out);
  const shape = record.grid ?? [1, kept.length], full = record.full_grid ?? shape, pooled = record.pooled ?? [1, 1];
  if (shape[0] * shape[1] !== kept.length) throw new Error(`The grid has ${shape.join(" × ")} locations, but ${kept.length} scores.`);
  const edge = (at, side) => Math.min(at * pooled[side], full[side]) / full[side];
  const cells = kept.map(({ score }, index) => {
    const row = Math.floor(index / shape[1]), column = index % shape[1];
    return {
      index, text: `row ${row + 1}, column ${column + 1}`, score: score ?? null, special: false,
      box: [edge(column, 1), edge(row, 0), edge(column + 1, 1), edge(row + 1, 0)],
    };
  });
  return { shape, full, pooled, cells, outside: outside.map(({ score }) => score) };
}

/** The number of the location at a place in shares of width and height; -1 beside the image. */
export function cellAt({ cells }, x, y) {
  return cells.findIndex(({ box: [x0, y0, x1, y1] }) => x >= x0 && x < x1 && y >= y0 && y < y1);
}

/** The location that a key leads to from another one; `null` where it leads nowhere. */
export function besides(index, key, [rows, columns]) {
  const row = Math.floor(index / columns), column = index % columns;
  const to = {
    ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
    Home: [0, 0], End: [rows - 1, columns - 1],
  }[key];
  return to && to[0] >= 0 && to[1] >= 0 && to[0] < rows && to[1] < columns ? to[0] * columns + to[1] : null;
}

/** The picture in a record, as what it carries itself: an address elsewhere is not asked for. */
export function pictureOf(record) {
  return /^data:image\/(png|jpeg);base64,[A-Za-z0-9+/=]+$/.test(record.image ?? "") ? record.image : null;
}

/** The direction in which most of the words are read: `rtl` for Arabic or Hebrew. */
export function direction(found) {
  const right = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;
  const words = found.filter((unit) => !unit.special && /\p{L}/u.test(unit.text));
  return words.filter((unit) => right.test(unit.text)).length * 2 > words.length ? "rtl" : "ltr";
}

/** What colours are divided by: the largest score of a word, or of special tokens where the words' are all 0. */
export function scaleOf(found) {
  const largest = (special) =>
    found.reduce((m, u) => (u.special === special && Number.isFinite(u.score) ? Math.max(m, Math.abs(u.score)) : m), 0);
  return largest(false) || largest(true) || 1;
}

/** A score divided by its scale, in [-1, 1]; 0 where it is not a number. */
export function strength(score, scale) {
  return Number.isFinite(score) && score !== null ? Math.max(-1, Math.min(1, score / scale)) : 0;
}

/** Whether the prediction is wrong: `null` where there is no gold label to compare with. */
export function wrong(facts) {
  return facts?.gold == null || facts?.prediction == null ? null : facts.gold !== facts.prediction;
}

/** What an entry can be filtered by, by the name of the filter: `undefined` where that is not known of it. */
export const FILTERS = {
  monitor: (entry) => entry.monitor,
  gold: (entry) => entry.facts?.gold,
  prediction: (entry) => entry.facts?.prediction,
  cause: (entry) => entry.facts?.cause,
};

/**
 * The entries that a reader asked for by words, runs, marks and values; `from` and `to` are of the last step, and
 * `change` of what became of an entry in another run, which `changeOf(entry)` says.
 */
export function filtered(entries, { query = "", hidden = [], onlyWrong = false, from = null, to = null, change = null, ...values } = {}, changeOf = () => null) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const asked = Object.keys(FILTERS).filter((name) => given(values[name]));
  return entries.filter((entry) => {
    if (hidden.includes(entry.run)) return false;
    if (onlyWrong && !wrong(entry.facts)) return false;
    if ((given(from) && entry.last_step < from) || (given(to) && entry.last_step > to)) return false;
    if (asked.some((name) => String(FILTERS[name](entry) ?? "") !== values[name])) return false;
    if (given(change) && changeOf(entry) !== change) return false;
    if (!words.length) return true;
    const facts = entry.facts ?? {};
    const text = [entry.tag, facts.text, facts.prediction, facts.gold, facts.example_id, facts.listed, facts.cause, facts.cue].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** The values that a filter can take, in their order, the `most` that occur most often of them. */
export function valuesOf(entries, name, most = 500) {
  const counts = new Map();
  for (const entry of entries) {
    const value = FILTERS[name](entry);
    if (given(value)) counts.set(String(value), (counts.get(String(value)) ?? 0) + 1);
  }
  const often = [...counts].sort((a, b) => b[1] - a[1]).slice(0, most);
  return often.map(([value]) => value).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}

/** How many filters hold entries back. */
export function filtersOn({ query = "", hidden = [], onlyWrong = false, from = null, to = null, change = null, ...values }) {
  const asked = [query.trim(), hidden.length, onlyWrong, given(from) || given(to), given(change), ...Object.keys(FILTERS).map((name) => given(values[name]))];
  return asked.filter(Boolean).length;
}

const given = (value) => value !== null && value !== undefined;

/** The share of the training examples that a step lists which the step before it listed too. */
export function kept(steps) {
  const listed = steps.map((step) => String(step.listed ?? "").split(" ").filter(Boolean));
  return listed.map((ids, i) => (i && ids.length ? ids.filter((id) => listed[i - 1].includes(id)).length / ids.length : null));
}

/** What tells an entry from all others, as text. */
export function keyOf(entry) {
  return JSON.stringify([entry.run, entry.tag]);
}

/** What an entry is called: a comparison of methods is of all probes and not of the one whose place it stands at. */
export function nameOf(entry) {
  if (entry.kind === "trust") return "All probes";
  if (entry.kind === "bad_cases") return "Overview";
  return entry.probe === null ? entry.tag : `${{ bad_case: "Case", bad_case_group: "Group" }[entry.kind] ?? "Probe"} ${entry.probe}`;
}

/** How many are shown of how many there are. */
export function counted(shown, all) {
  return `${shown === all ? "" : `${shown} of `}${all} example${all === 1 ? "" : "s"}`;
}

/** Entries in groups of one run and monitor, in their order. */
export function grouped(entries) {
  const groups = new Map();
  let last = null; // most entries stand beside others of their group
  for (const entry of entries) {
    if (last?.run !== entry.run || last.monitor !== entry.monitor) {
      const { run, monitor } = entry, id = JSON.stringify([run, monitor]);
      if (!groups.has(id)) groups.set(id, { id, run, monitor, entries: [] });
      last = groups.get(id);
    }
    last.entries.push(entry);
  }
  return [...groups.values()];
}

/** The place of the wanted step, or of the last one before it; the last place where nothing is wanted. */
export function placeOf(steps, wanted) {
  if (wanted === null || wanted === undefined) return steps.length - 1;
  const at = steps.findLastIndex((step) => step.step <= wanted);
  return Math.max(0, at);
}

/** A range of a chart that holds all values, padded, with three round marks on it. */
export function axis(values, { zero = false } = {}) {
  const known = values.filter(Number.isFinite);
  let low = Math.min(...known, zero ? 0 : Infinity), high = Math.max(...known, zero ? 0 : -Infinity);
  if (!known.length) [low, high] = [0, 1];
  if (low === high) [low, high] = zero ? [0, high || 1] : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const room = (high - low) * 0.08;
  return { low: zero && low === 0 ? 0 : low - room, high: high + room, marks: [low, (low + high) / 2, high] };
}
