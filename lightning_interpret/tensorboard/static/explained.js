// Self-explanations: a marked text, bars with names, quotations.

import { check, fact, h } from "./parts.js";
import { direction, marked, percent, plain, printable, strength } from "./model.js";
import { segmentName } from "./reading.js";

const PART = 300; // words in one block, as in `strip.js`

/** A sentence of our words and logged texts in turn, where the record has one. */
export function sentence(record) {
  const pieces = record.sentence ?? [];
  return pieces.length ? h("section", { class: "card sentence", "aria-label": "Explanation" }, h("p", {}, pieces.map((piece, i) => (i % 2 ? h("bdi", {}, printable(piece)) : String(piece))))) : null;
}

/**
 * The text with what the model selected of it: bold on a wash, what people selected underlined, the rest faint.
 *
 * `options.gates` says whether the gate's probability stands below each word.
 */
export function passage(record, { options, set }) {
  const found = marked(record);
  if (!found.length) return null;
  const gates = found.some((word) => word.probability !== null), gold = record.gold_rationale?.length;
  const list = h("div", { class: `passage marked ${options.gates && gates ? "gates" : ""}`, dir: direction(found), "data-scroll": "passage" });
  const apart = new Set(found.map((word) => word.segment)).size > 1;
  let part = null, segment;
  for (const [i, word] of found.entries()) {
    if (i % PART === 0) list.append((part = h("div", { class: "part" })));
    if (apart && word.segment !== segment) part.append(h("span", { class: "break" }, h("bdi", {}, printable(segmentName(record.segment_names, word.segment)))));
    segment = word.segment;
    part.append(word.space && i ? " " : "", mark(word));
  }
  return h("section", { class: "card words", "aria-label": "The text with what was selected of it" },
    h("div", { class: "tools" }, h("span", { class: "key" }, h("mark", {}, "selected"), gold ? h("u", {}, "selected by people") : null, h("span", { class: "faint" }, "not selected")),
      gates ? check("Gate probabilities", options.gates, (on) => set("gates", on), "gates") : null),
    list);
}

function mark(word) {
  const said = [word.selected ? "selected" : null, word.gold ? "selected by people" : null, word.probability === null ? null : `gate ${plain(word.probability)}`].filter(Boolean);
  return h(word.selected ? "mark" : "span", { class: `${word.selected ? "" : "faint"} ${word.gold ? "gold" : ""}`.trim() || null, title: said.join(", ") || null },
    h("bdi", {}, printable(word.text)), word.probability === null ? null : h("small", { class: "gate", "aria-hidden": "true" }, plain(word.probability)));
}

/**
 * Bars under a heading. A bar is `{name, number, share, beside, marks}`, `share` of the largest; `columns` are names of
 * what stands `beside` them, and `marks` stand below the name.
 */
export function bars({ title, meaning, what, column, found, columns = [], none = "None.", rest = null }) {
  const signs = found.some(({ share }) => share < 0) ? "share" : "meter";
  return h("section", { class: `card evidence bars ${columns.length > 2 ? "many" : ""}` },
    h("h2", {}, title), h("p", { class: "muted" }, meaning),
    found.length
      ? h("table", {}, h("caption", { class: "hidden" }, `${title}: ${found.length}`),
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, what), h("th", { scope: "col", class: "number" }, column), h("th", { scope: "col" }, h("span", { class: "hidden" }, "As a bar")),
            columns.map((name) => h("th", { scope: "col", class: "number" }, name)))),
          h("tbody", {}, found.map(({ name, number, share, beside = [], marks = null }) =>
            h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, printable(name)), marks ? h("div", { class: "marks" }, marks) : null), h("td", { class: "number" }, number),
              h("td", { class: "wide" }, h("i", { class: `${signs} ${share < 0 ? "against" : "for"}`, "--s": Math.abs(strength(share, 1)).toFixed(3) })),
              columns.map((_, i) => h("td", { class: "number" }, beside[i] ?? "–"))))))
      : h("p", {}, none),
    rest ? h("p", { class: "muted" }, rest) : null);
}

/** Probabilities of the predicted class as bars, those that are known. */
export function probabilities(title, meaning, known) {
  const found = known.filter(([, value]) => Number.isFinite(value)).map(([name, value]) => ({ name, number: percent(value), share: value }));
  return found.length ? bars({ title, meaning, what: "Made from", column: "p", found }) : null;
}

/** A text that somebody wrote, under the name of what it is. */
export function quotation(name, value, kind = "") {
  return h("figure", { class: `card quotation ${kind}` }, h("figcaption", {}, name),
    h("blockquote", { dir: "auto" }, String(value ?? "").trim() ? printable(value) : h("span", { class: "muted" }, "nothing was written")));
}

/** A difference of two probabilities, to a thousandth. */
export const thousandths = (value) => plain(Math.round(1000 * value) / 1000 + 0);

/** A difference of two probabilities as a fact, where it is known, beside that of a control. */
export function difference(name, value, note, control) {
  return Number.isFinite(value) ? fact(name, thousandths(value), { note: Number.isFinite(control) ? `${note}; at random ${thousandths(control)}` : note }) : null;
}

/** Whether a value is there. */
export const given = (value) => value !== null && value !== undefined;

/** The numbers of a name over the steps, for a line. */
export const over = (steps, name) => steps.map((step) => (typeof step[name] === "number" ? step[name] : null));
