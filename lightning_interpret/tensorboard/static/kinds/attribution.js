// Attributions: tokens or locations in the colours of their scores, what was explained, its baseline and error, a table.

import { overlay } from "../overlay.js";
import { check, choice, fact, h } from "../parts.js";
import { locations, percent, plain, printable, scaleOf, signed, strength, units, wrong } from "../model.js";
import { legend, strip } from "../strip.js";

const ROWS = 50; // of the table, until the reader asks for all

/** Lines over the steps of a probe. */
export function lines(steps) {
  const of = (name) => steps.map((step) => (typeof step[name] === "number" ? step[name] : null));
  return [
    { label: "Drift", note: "1 − cosine with the scores of the step before: 0 unchanged, 2 turned round", values: of("drift"), zero: true },
    { label: `Target${steps.at(-1)?.output ? `, ${steps.at(-1).output}` : ""}`, note: "the number explained", values: of("target"), format: signed },
    { label: "Attribution error", note: "share of what separates target and baseline", values: of("relative_error"), zero: true, format: percent },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, context, i ? null : context.charts)));
}

/** The words or the image alone, with what was explained, for a record that has its other facts said elsewhere. */
export function saliency(record, context) {
  const [facts, scored] = one(record, context, null, true);
  return [scored, facts];
}

function one(record, context, charts, brief = false) {
  const { options } = context;
  if (record.units === "location") return ofImage(record, context, charts, brief);
  const noun = record.units === "feature" ? "feature" : options.unit;
  const found = units(record, noun === "feature" ? "token" : noun);
  const shown = options.special ? found : found.filter((unit) => !unit.special);
  const scale = scaleFor(found, context);
  const whole = found.reduce((sum, unit) => sum + Math.abs(unit.score ?? 0), 0) || 1;
  return [facts(record, null, brief), words(record, shown, scale, whole, noun, context), charts, shown.length ? table(shown, scale, whole, noun, context) : null, about(record)];
}

function ofImage(record, context, charts, brief) {
  const found = locations(record);
  const scale = scaleFor(found.cells, context);
  const whole = (record.scores ?? []).reduce((sum, score) => sum + Math.abs(score ?? 0), 0) || 1;
  const list = found.cells.length ? table(found.cells, scale, whole, "location", context, "order") : null;
  return [facts(record, found, brief), overlay(record, found, scale, whole, context, legendOf(record, scale)), charts, list, about(record)];
}

/** What colours are divided by: the largest of this step, or of all steps. */
function scaleFor(found, { options, steps }) {
  const everywhere = Math.max(0, ...steps.map((step) => step.largest ?? 0));
  return options.scale === "all" && everywhere ? everywhere : scaleOf(found);
}

function facts(record, found, brief) {
  const why = record.reasons ?? {};
  const missed = wrong(record);
  const scores = record.scores ?? [];
  const total = sum(scores);
  const difference = [record.target, record.baseline_target].every(Number.isFinite) ? record.target - record.baseline_target : null;
  const wanted = record.attribution_target ?? difference; // what the method's scores are to sum to
  const entropy = Number.isFinite(record.baseline_entropy) ? `, entropy ${percent(record.baseline_entropy)}` : "";
  const output = record.output ?? "target";
  const absorbed = Object.entries(record.absorbed ?? {});
  const converged = { true: "within its tolerance", false: "NOT within its tolerance" }[String(record.converged)];
  return h(
    "dl",
    { class: "card facts" },
    brief ? null : fact("Prediction", text(record.prediction), { mark: missed ? "bad" : null, note: missed ? "✗ wrong" : missed === false ? "✓ right" : null }),
    brief ? null : fact("Gold label", text(record.gold)),
    fact("Explained", record.target === undefined ? "–" : signed(record.target), { note: record.target_name === undefined ? output : h("span", {}, `${output} of `, text(record.target_name)) }),
    record.baseline
      ? fact("Baseline", signed(record.baseline_target), { note: h("span", {}, `${output} at `, text(record.baseline), entropy) })
      : fact("Baseline", "none", { note: why.baseline ?? why.baseline_target }),
    fact("Sum of scores", signed(total), { note: wanted === null ? null : `${said(wanted, difference)} ${signed(wanted)}` }),
    record.relative_error === null || record.relative_error === undefined
      ? fact("Attribution error", "none", { note: why.error ?? why.relative_error })
      : fact("Attribution error", percent(record.relative_error), {
          mark: record.converged === false ? "bad" : null,
          note: [signed(record.error), partial(record), converged ?? why.converged].filter(Boolean).join(", "),
        }),
    found?.outside.length ? fact("Outside the grid", signed(sum(found.outside)), { note: `units of no location: ${found.outside.length}` }) : null,
    absorbed.length ? fact("Absorbed", signed(sum(absorbed.map(([, amount]) => amount))), { note: absorbed.map(([name, amount]) => `${printable(name)} ${signed(amount)}`).join(", ") }) : null,
  );
}

/** What the sum is held to: for most methods the change from the baseline, else the method's own target. */
const said = (wanted, difference) => (difference !== null && Math.abs(wanted - difference) <= 1e-6 * (1 + Math.abs(wanted)) ? "target − baseline is" : "is to be");

const sum = (numbers) => (numbers.every(Number.isFinite) ? numbers.reduce((all, number) => all + number, 0) : null);

/** The error of the sums up to a point of the path: it tells wrong scores from a sum that is right by chance. */
function partial(record) {
  return Number.isFinite(record.partial_error) ? `of parts of the path ${percent(record.partial_error)}` : null;
}

function words(record, shown, scale, whole, noun, { options, set }) {
  return strip(shown, scale, whole, [
    noun === "feature" ? null : choice("Units", [["word", "Words"], ["token", "Tokens"]], options.unit, (value) => set("unit", value)),
    choice("Scale", [["step", "This step"], ["all", "All steps"]], options.scale, (value) => set("scale", value)),
    noun === "feature" ? null : check("Special tokens", options.special, (value) => set("special", value)),
    legendOf(record, scale),
  ], { names: record.segment_names });
}

function legendOf(record, scale) {
  const what = record.target_name ? ` ${printable(record.target_name)}` : "";
  return legend(scale, ["against", what], ["for", what]);
}

/** `sort` is the option that says by what: words are read in their order, locations by their size. */
function table(shown, scale, whole, noun, { options, set }, sort = "sort") {
  const value = { place: (u) => u.index, score: (u) => -(u.score ?? -Infinity), size: (u) => -Math.abs(u.score ?? 0) }[options[sort]];
  const sorted = [...shown].sort((a, b) => value(a) - value(b) || a.index - b.index);
  const rows = options.rows === "all" ? sorted : sorted.slice(0, ROWS);
  const head = (key, label, title) =>
    h("th", { scope: "col", class: "number", "aria-sort": options[sort] === key ? (key === "place" ? "ascending" : "descending") : "none" },
      h("button", { type: "button", title, "data-key": `${sort}/${key}`, onclick: () => set(sort, key) }, label));
  return h(
    "section",
    { class: "card scores" },
    h(
      "table",
      {},
      h("caption", {}, `Scores of ${shown.length} ${noun}s`),
      h("thead", {}, h("tr", {}, head("place", "Place", "Sort in reading order"), h("th", { scope: "col" }, noun[0].toUpperCase() + noun.slice(1)), head("score", "Score", "Sort by score"), head("size", "Share", "Sort by size, whatever the sign"), h("th", { scope: "col", class: "wide" }, h("span", { class: "hidden" }, "Bar")))),
      h("tbody", {}, rows.map((unit) => {
        const share = strength(unit.score, scale);
        return h("tr", { class: unit.special ? "special" : null },
          h("td", { class: "number" }, unit.index + 1), h("th", { scope: "row" }, h("bdi", {}, printable(unit.text))),
          h("td", { class: "number" }, signed(unit.score)), h("td", { class: "number" }, percent(Math.abs(unit.score ?? 0) / whole)),
          h("td", { class: "wide" }, h("i", { class: `share ${share < 0 ? "against" : "for"}`, "--s": Math.abs(share).toFixed(3) })));
      })),
    ),
    rows.length < sorted.length
      ? h("button", { type: "button", class: "quiet", "data-key": "rows", onclick: () => set("rows", "all") }, `Show all ${sorted.length}`)
      : null,
  );
}

function about(record) {
  const number = (value) => (typeof value === "number" ? plain(value) : null);
  const known = [
    ["Method", record.method], ["Layer", record.layer], ["Path nodes", number(record.steps)], ["Gradients", number(record.gradients)],
    ["Forwards", number(record.forwards)], ["Error floor", number(record.error_floor)], ["Example", record.example_id],
  ].filter(([, value]) => value !== null && value !== undefined);
  const notes = [...(record.notes ?? []), ...Object.entries(record.reasons ?? {}).map(([name, why]) => `${name} is not given: ${why}`)];
  if (!known.length && !notes.length) return null;
  return h(
    "section",
    { class: "card about" },
    h("dl", { class: "line" }, known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, printable(value))))),
    notes.length ? h("ul", {}, notes.map((note) => h("li", {}, note))) : null,
  );
}

const text = (value) => (value === null || value === undefined ? "–" : h("bdi", { title: String(value).length > 60 ? printable(value) : null }, printable(value)));
