// Trees of spans: the words with the spans that lie on them, level by level, and the spans one by one.

import { about, query, text } from "../evidence.js";
import { bars, given, over, sentence } from "../explained.js";
import { check, fact, h } from "../parts.js";
import { direction, plain, printable, signed, strength } from "../model.js";

const WIDE = 90, LEVELS = 12, LISTED = 40; // characters on a line of words, levels below it, spans in the list

/** Lines over the steps of a probe. */
export function lines(steps) {
  return [
    { label: "Loss", values: over(steps, "loss"), zero: true },
    { label: "Depth", note: "levels below the whole text", values: over(steps, "depth"), zero: true },
    { label: "Interaction", note: "between the parts of the whole text", values: over(steps, "interaction"), zero: true, format: signed },
    { label: "Foremost erased", note: "by how much the score falls without it", values: over(steps, "erased"), zero: true, format: signed },
    { label: "Random erased", note: "the same of random spans as long", values: over(steps, "control"), zero: true, format: signed },
    { label: "New spans", note: "share of the spans that the tree of the step before did not have", values: over(steps, "drift"), zero: true },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, context, i ? null : context.charts)));
}

function one(record, context, charts) {
  const found = leveled(record);
  const of = [record.output, given(record.target_name) ? ["of ", text(record.target_name)] : null].filter(given);
  return [
    sentence(record),
    query(record,
      given(record.target) ? fact("Score F(x)", signed(record.target), { note: of.length ? h("span", {}, of.flatMap((part, i) => (i ? [" ", part] : [part]))) : null }) : null,
      given(record.considered) ? fact("Spans", plain(record.considered), { note: given(record.depth) ? `in ${record.depth + 1} levels` : null }) : null,
      given(record.erased) ? fact("Foremost erased", `falls by ${plain(record.erased)}`, { note: given(record.control) ? `random spans as long: falls by ${plain(record.control)}` : null }) : null),
    found.length ? drawn(record, found, context) : h("section", { class: "card" }, h("p", { class: "muted" }, "The record has no spans.")),
    listed(record, found),
    charts,
    about(record, [["Method", record.method], ["Baseline", record.baseline], ["Its score", record.baseline_target], ["Forward passes", record.forwards]], [
      ...(record.measure ? [`Score of a span: ${record.measure}.`] : []),
      ...(record.joins ? [`Interaction: ${record.joins}.`] : []),
      ...(given(record.erased) ? ["Erased: by how much the score falls without the foremost span of at most half the text."] : []),
    ]),
  ];
}

/** The spans with their level and text. */
function leveled(record) {
  const units = unitsOf(record), levels = [];
  return (record.nodes ?? []).filter((node) => given(node.start) && given(node.end)).map((node, i) => {
    const parent = given(node.parent) && node.parent >= 0 && node.parent < i ? node.parent : null;
    levels.push(parent === null ? 0 : levels[parent] + 1);
    return { ...node, level: levels[i], text: units.slice(node.start, node.end).join(" ") || `${node.start}–${node.end - 1}` };
  });
}

function unitsOf(record) {
  if (record.unit !== "token") return record.words ?? [];
  return (record.tokens ?? []).filter((_, i) => !record.special?.[i]);
}

/** Words on as many lines as they need; below each the spans that lie on them. A line that is too wide scrolls by itself. */
function drawn(record, found, { options, set }) {
  const units = unitsOf(record), deepest = Math.max(...found.map((node) => node.level)), all = options.rows === "all";
  const levels = all ? deepest + 1 : Math.min(deepest + 1, LEVELS);
  const scale = Math.max(0, ...found.map((node) => Math.abs(node.score ?? 0))) || 1;
  const dir = direction(units.map((word) => ({ text: word, special: false })));
  return h("section", { class: "card words", "aria-label": "Spans on the words" },
    h("div", { class: "tools" }, h("span", {}, "Spans, level by level"),
      deepest + 1 > LEVELS ? check(`All ${deepest + 1} levels`, all, (on) => set("rows", on ? "all" : "some"), "levels") : null,
      h("span", { class: "legend" }, h("span", {}, signed(-scale)), h("i", { class: "ramp" }), h("span", {}, signed(scale)))),
    h("div", { class: "levels", dir, "data-scroll": "levels" }, broken(units).map(([start, end]) => line(units, found, start, end, levels, scale))));
}

/** Where the lines of words begin and end. */
function broken(units) {
  const lines = [];
  let start = 0, wide = 0;
  units.forEach((word, i) => {
    const size = Math.max(6, String(word).length + 2);
    if (i > start && wide + size > WIDE) { lines.push([start, i]); start = i; wide = 0; }
    wide += size;
  });
  return units.length ? [...lines, [start, units.length]] : [];
}

function line(units, found, start, end, levels, scale) {
  const place = (element, from, to, row) => { element.style.gridColumn = `${from - start + 1} / ${to - start + 1}`; element.style.gridRow = row; return element; };
  const here = found.filter((node) => node.level < levels && node.start < end && node.end > start);
  const words = units.slice(start, end).map((word, i) => place(h("b", {}, h("bdi", {}, printable(word))), start + i, start + i + 1, 1));
  const cells = here.map((node) => {
    const share = strength(node.score, scale), from = Math.max(start, node.start), to = Math.min(end, node.end);
    const said = `${node.text}: ${signed(node.score)}`;
    return place(h("span", { class: `unit ${share < 0 ? "against" : share > 0 ? "for" : ""}`.trim(), "--s": Math.abs(share).toFixed(3), title: printable(said) }, signed(node.score)), from, to, node.level + 2);
  });
  return h("div", { class: "level", tabindex: "0", role: "group", "aria-label": `Words ${start + 1} to ${end}` }, words, cells);
}

function listed(record, found) {
  if (!found.length) return null;
  const scale = Math.max(0, ...found.map((node) => Math.abs(node.score ?? 0))) || 1;
  const foremost = [...found].sort((a, b) => Math.abs(b.score ?? 0) - Math.abs(a.score ?? 0)).slice(0, LISTED);
  const joined = found.some((node) => given(node.interaction)), others = (record.considered ?? found.length) - foremost.length;
  return bars({
    title: "Foremost spans", meaning: "The largest scores first, for or against.", what: "Span", column: "Score",
    columns: ["Level", ...(joined ? ["Interaction"] : [])],
    found: foremost.map((node) => ({
      name: node.text, number: signed(node.score), share: (node.score ?? 0) / scale,
      beside: [String(node.level), given(node.interaction) ? signed(node.interaction) : "–"],
    })),
    rest: others > 0 ? `${others} more spans have smaller scores, or are not on this page.` : null,
  });
}
