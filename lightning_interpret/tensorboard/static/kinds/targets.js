// Several targets of one example: generated tokens by what they were read from, entities, an answer, several labels.

import { about, text } from "../evidence.js";
import { bars, given, over } from "../explained.js";
import { check, choice, fact, h } from "../parts.js";
import { direction, percent, plain, printable, scaleOf, signed, strength, wrong } from "../model.js";
import { isAt, mattering, readable, scoreOf, segmentName, wordsOf } from "../reading.js";
import { legend, strip } from "../strip.js";

const COLUMNS = 48, ROWS = 50; // words and targets of a grid, until the reader asks for all
const WORDS = 160, AROUND = 8, TEXTS = 10; // words of a long text, those around what matters, texts

/** Lines over the steps of a probe. */
export function lines(steps) {
  return [
    { label: "Loss", values: over(steps, "loss"), zero: true },
    ...(steps.at(-1)?.view === "labels" ? [] : [{ label: "Mean value", note: "of the targets", values: over(steps, "mean_value"), format: signed }]),
    { label: "Attribution error", note: "mean over the targets", values: over(steps, "mean_error"), zero: true, format: percent },
    { label: "Wrong targets", values: over(steps, "wrong_targets"), zero: true },
    { label: "Drift", note: "1 − cosine with the scores of the same targets at the step before", values: over(steps, "drift"), zero: true },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, context, i ? null : context.charts)));
}

function one(record, context, charts) {
  const targets = (Array.isArray(record.targets) ? record.targets : []).filter((target) => target && typeof target === "object");
  const words = wordsOf(record), view = { grid, entities, answer }[record.view] ?? labels;
  const failed = targets.filter(({ converged }) => converged === false).length;
  return [
    facts(record, targets, failed),
    targets.length ? view(record, targets, words, context) : h("section", { class: "card" }, h("p", { class: "muted" }, "The record has no targets.")),
    charts,
    about(record, [["Method", record.method], ["Layer", record.layer], ["Baseline", record.baseline], ["Example", record.example_id]]),
  ];
}

function facts(record, targets, failed) {
  const missed = wrong(record), errors = targets.map(({ relative_error }) => relative_error).filter(Number.isFinite);
  const bad = targets.filter((target) => wrong(target)).length, known = targets.some((target) => wrong(target) !== null);
  return h("dl", { class: "card facts" },
    given(record.prediction) ? fact("Prediction", text(record.prediction), { mark: missed ? "bad" : null, note: missed ? "✗ wrong" : missed === false ? "✓ right" : null }) : null,
    given(record.gold) ? fact(record.view === "answer" ? "Gold answer" : "Gold", text(record.gold)) : null,
    fact("Explained", plain(targets.length), { note: `${printable(record.output ?? "target")} of ${{ grid: "tokens of the output", entities: "entities", answer: "the answer", labels: "labels" }[record.view] ?? "targets"}` }),
    known ? fact("Wrong", `${bad} of ${targets.length}`, { mark: bad ? "bad" : null }) : null,
    errors.length ? fact("Attribution error", percent(errors.reduce((a, b) => Math.max(a, b), 0)), { mark: failed ? "bad" : null, note: failed ? `the largest; ${failed} NOT within tolerance` : "the largest" }) : null,
    given(record.confidence) ? fact("Confidence", percent(record.confidence)) : null, given(record.loss) ? fact("Loss", plain(record.loss)) : null,
  );
}

const nameOf = (target) => printable(readable(target.name ?? "–"));
const textDirection = (words) => direction(words.map((word) => ({ text: word.text, special: word.special })));

/** The parts of a text that have words, by number and name; one without a name where it has no parts. */
function partsIn(record, words) {
  const numbers = [...new Set(words.map(({ segment }) => segment))].sort((a, b) => a - b);
  return numbers.length > 1 ? numbers.map((number) => ({ number, name: printable(segmentName(record.segment_names, number)) })) : numbers.map((number) => ({ number, name: "" }));
}

/** What a target's scores of one part of the text sum to; nothing where none of it was read. */
function sumOf(target, words, number) {
  const scores = words.filter(({ segment }) => segment === number).map((word) => scoreOf(target, word)).filter((score) => score !== undefined);
  return !scores.length ? "–" : scores.every(Number.isFinite) ? signed(scores.reduce((sum, score) => sum + score, 0)) : signed(null);
}

const scored = (words, target) => words.map((word) => ({ ...word, score: scoreOf(target, word) })).filter(({ score }) => score !== undefined);

// generated tokens: a row each, a column for each word that they are read from

function grid(record, targets, words, context) {
  const { options, set } = context, all = options.words === "all";
  const shown = all ? words : mattering(words, targets, COLUMNS, 1, () => false), rows = options.rows === "all" ? targets : targets.slice(0, ROWS);
  const scale = scaleFor(targets.flatMap((target) => scored(words, target)), context);
  const detail = h("div", { class: "part-of", "aria-live": "polite" });
  const chosen = () => Math.min(rows.length - 1, Math.max(0, options.target ?? 0));
  const table = crossed(record, rows, shown, words, scale, chosen());
  const choose = (i, focus) => {
    options.target = i;
    table.querySelectorAll("tbody tr").forEach((row, at) => row.classList.toggle("chosen", at === i));
    table.querySelectorAll("tbody button").forEach((button, at) => { button.setAttribute("aria-pressed", String(at === i)); button.tabIndex = at === i ? 0 : -1; if (focus && at === i) button.focus(); });
    detail.replaceChildren(running(record, rows[i], words, scale));
  };
  table.addEventListener("click", (event) => { const row = event.target.closest?.("tbody tr"); if (row) choose(row.sectionRowIndex, false); });
  table.addEventListener("keydown", (event) => {
    const to = { ArrowDown: chosen() + 1, ArrowUp: chosen() - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (to === undefined || !event.target.closest("tbody button")) return;
    event.preventDefault();
    if (rows[to]) choose(to, true);
  });
  choose(chosen(), false);
  const hidden = targets.length - rows.length;
  return [
    h("section", { class: "card words", "aria-label": "Tokens by what they were read from" },
      h("div", { class: "tools" }, h("span", {}, "Each row is a token of the output: choose one to see its text below"),
        choice("Scale", [["step", "This step"], ["all", "All steps"]], options.scale, (value) => set("scale", value)),
        words.length > COLUMNS ? check(`All ${words.length} words`, all, (on) => set("words", on ? "all" : "some"), "words") : null,
        legend(scale, ["against it"], ["for it"])),
      h("div", { class: "cross", dir: textDirection(words), "data-scroll": "cross", tabindex: "0", role: "group", "aria-label": "Grid, which scrolls" }, table),
      hidden > 0 ? h("button", { type: "button", class: "quiet", "data-key": "rows", onclick: () => set("rows", "all") }, `Show all ${targets.length} tokens`) : null),
    detail,
  ];
}

function scaleFor(found, { options, steps }) {
  const everywhere = Math.max(0, ...steps.map((step) => step.largest ?? 0));
  return options.scale === "all" && everywhere ? everywhere : scaleOf(found);
}

function crossed(record, rows, shown, words, scale, chosen) {
  const parts = partsIn(record, words), named = parts.length > 1;
  const gap = () => h("td", { class: "gap", "aria-hidden": "true" }); // where another part begins
  const apart = (make) => shown.map((word, i) => [i > 0 && word.segment !== shown[i - 1].segment ? gap() : null, make(word)]);
  const starts = shown.map((_, i) => i).filter((i) => i === 0 || shown[i].segment !== shown[i - 1].segment);
  const ends = [...parts.map(({ name }) => (name ? ["Σ ", h("bdi", {}, name)] : "Σ")), "Value", "Error"];
  return h("table", {},
    h("caption", { class: "hidden" }, `Scores of ${rows.length} tokens by ${shown.length} words; an empty cell was not read`),
    h("thead", {},
      named ? h("tr", {}, h("td", { class: "name" }), starts.map((from, i) => [i ? gap() : null, h("th", { scope: "colgroup", class: "part-name", colspan: (starts[i + 1] ?? shown.length) - from }, h("bdi", {}, printable(segmentName(record.segment_names, shown[from].segment))))]), h("td", { colspan: ends.length })) : null,
      h("tr", {}, h("th", { scope: "col", class: "name" }, "Token"),
        apart((word) => h("th", { scope: "col", class: word.special ? "special" : null, title: printable(word.text) }, h("span", {}, h("bdi", {}, printable(word.text))))),
        ends.map((name) => h("th", { scope: "col", class: "number" }, name)))),
    h("tbody", {}, rows.map((target, row) => {
      const missed = wrong(target), failed = target.converged === false;
      return h("tr", { class: row === chosen ? "chosen" : null },
        h("th", { scope: "row", class: "name" }, h("button", { type: "button", class: `bare ${missed ? "bad" : ""}`, "data-key": `target/${row}`, "aria-pressed": String(row === chosen), tabindex: row === chosen ? "0" : "-1", title: missed ? `gold ${printable(readable(target.gold))}` : null }, missed ? "✗ " : "", h("bdi", {}, nameOf(target)))),
        apart((word) => cell(target, word, scale)),
        parts.map(({ number }) => h("td", { class: "number" }, sumOf(target, words, number))),
        h("td", { class: "number" }, given(target.value) ? signed(target.value) : "–"),
        h("td", { class: `number ${failed ? "bad" : ""}` }, given(target.relative_error) ? percent(target.relative_error) : "–", failed ? " ⚠" : ""));
    })));
}

function cell(target, word, scale) {
  const score = scoreOf(target, word);
  if (score === undefined) return h("td", { class: "unread" });
  const share = strength(score, scale);
  return h("td", { class: share > 0 ? "for" : share < 0 ? "against" : null, "--s": Math.abs(share).toFixed(3), title: `${nameOf(target)} ← ${printable(word.text)}: ${signed(score)}` }, h("span", { class: "hidden" }, signed(score)));
}

/** One token's attribution over the text that it was read from, and the token behind it. */
function running(record, target, words, scale) {
  const shown = scored(words, target).map((word) => ({ ...word, parts: [word] })), missed = wrong(target);
  const whole = shown.reduce((sum, { score }) => sum + Math.abs(score ?? 0), 0) || 1;
  const sums = partsIn(record, words).filter(({ name }) => name).map(({ number, name }) => h("span", {}, h("bdi", {}, name), ` ${sumOf(target, words, number)}`));
  return strip(shown, scale, whole, [
    h("h2", {}, h("bdi", {}, nameOf(target)), given(target.value) ? ` ${signed(target.value)}` : ""), ...sums,
    given(target.relative_error) ? h("span", { class: target.converged === false ? "bad" : null }, `error ${percent(target.relative_error)}${target.converged === false ? ", NOT within tolerance" : ""}`) : null,
    missed ? h("span", { class: "bad" }, "✗ gold ", h("bdi", {}, printable(readable(target.gold)))) : null,
  ], { names: record.segment_names, after: h("span", { class: `outlined ${missed ? "wrong" : ""}` }, h("bdi", {}, nameOf(target))) });
}

// a text for each target

function texts(record, targets, words, context, titled, outline = () => null) {
  const { options, set } = context, all = options.words === "all", rows = options.rows === "all" ? targets : targets.slice(0, TEXTS);
  const long = words.length > WORDS;
  const whole = long ? check(`All ${words.length} words`, all, (on) => set("words", on ? "all" : "some"), "words") : null;
  return [
    ...rows.map((target, i) => {
      const some = all ? words : mattering(words, [target], WORDS, AROUND);
      const shown = scored(some, target).map((word) => ({ ...word, parts: [word], outline: isAt(target, word) ? outline(target) : null })), scale = scaleOf(shown);
      const size = shown.reduce((sum, { score }) => sum + Math.abs(score ?? 0), 0) || 1;
      const sums = partsIn(record, words).filter(({ name }) => name).map(({ number, name }) => h("span", {}, h("bdi", {}, name), ` ${sumOf(target, words, number)}`));
      return strip(shown, scale, size, [
        h("h2", {}, titled(target)), given(target.value) ? h("span", {}, `${printable(record.output ?? "target")} `, other(record, target) ? ["of ", h("bdi", {}, nameOf(target)), " "] : null, signed(target.value)) : null, ...sums,
        given(target.relative_error) ? h("span", { class: target.converged === false ? "bad" : null }, `error ${percent(target.relative_error)}${target.converged === false ? ", NOT within tolerance" : ""}`) : null,
        i ? null : whole, legend(scale, ["against"], ["for"]),
      ], { names: record.segment_names });
    }),
    rows.length < targets.length ? h("button", { type: "button", class: "quiet", "data-key": "rows", onclick: () => set("rows", "all") }, `Show all ${targets.length}`) : null,
  ];
}

/** What a stretch of the text is: its type, and what is right where that is another one. */
function typed(target) {
  const missed = wrong(target);
  return { key: target, name: [printable(target.prediction ?? readable(target.name ?? "–")), missed ? [" gold ", h("bdi", {}, printable(target.gold))] : null], wrong: Boolean(missed) };
}

/** Whether a type is explained that is not predicted: of the word most like an entity in a text without one, or one asked for. */
const other = (record, target) => record.view === "entities" && given(target.prediction) && given(target.name) && target.name !== target.prediction;

function entities(record, targets, words, context) {
  const kept = context.options.words === "all" ? words : mattering(words, targets, WORDS, AROUND);
  const shown = kept.map((word) => { const at = targets.find((target) => isAt(target, word)); return { ...word, score: undefined, parts: [word], outline: at ? typed(at) : null }; });
  return [
    strip(shown, 1, 1, [h("h2", {}, "Entities"), h("span", { class: "muted" }, "predicted types; where the gold type is another one it stands beside it")], { names: record.segment_names, label: "The text with its entities" }),
    texts(record, targets, words, context, (target) => [h("bdi", {}, entityOf(target, words)), " ", h("small", { class: wrong(target) ? "bad" : "muted" }, typed(target).name)], typed),
  ];
}

function entityOf(target, words) {
  const inside = words.filter((word) => isAt(target, word));
  return inside.length ? printable(inside.map((word, i) => (word.space && i ? " " : "") + word.text).join("")) : nameOf(target);
}

function answer(record, targets, words, context) {
  const none = targets.every(({ span }) => !Array.isArray(span));
  return [
    none ? h("section", { class: "card" }, h("p", {}, "The answer is that the passage has none: nothing is outlined.")) : null,
    texts(record, targets, words, context, (target) => h("bdi", {}, nameOf(target)), (target) => ({ key: target, name: ["answer"], wrong: Boolean(wrong(target) ?? wrong(record)) })),
  ];
}

function labels(record, targets, words, context) {
  const largest = Math.max(0, ...targets.map(({ value }) => Math.abs(value ?? 0))) || 1;
  return [
    bars({
      title: "Outputs", meaning: "The value of each, whose text stands below.", what: "Output", column: printable(record.output ?? "Value"),
      found: targets.map((target) => ({ name: readable(target.name ?? "–"), number: given(target.value) ? signed(target.value) : "–", share: (target.value ?? 0) / largest, marks: wrong(target) ? h("span", { class: "bad" }, "✗ gold ", h("bdi", {}, printable(target.gold))) : null })),
    }),
    texts(record, targets, words, context, (target) => h("bdi", {}, nameOf(target))),
  ];
}
