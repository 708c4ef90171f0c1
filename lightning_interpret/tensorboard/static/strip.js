// Words in the colours of their scores, walked by the arrow keys.

import { h } from "./parts.js";
import { direction, percent, printable, signed, strength } from "./model.js";
import { segmentName } from "./reading.js";

const PART = 300; // words in one block: browsers lay out a paragraph of thousands of isolated words in minutes

/**
 * The card of scored words, in the colours of their strength; `tools` stand above them.
 *
 * The parts of a text stand apart under their `names`. A word may have an `outline`, `{key, name, wrong}`, which words side
 * by side share; `after` stands behind the last word. Words whose score is `undefined` have none and no colour.
 */
export function strip(shown, scale, whole, tools, { names = null, after = null, label = null } = {}) {
  const tip = h("div", { class: "tip", role: "status", hidden: true });
  const list = h("div", { class: "strip", "data-scroll": "strip", role: "list", dir: direction(shown), "aria-label": label ?? "Scores in reading order: arrow keys move between them" });
  const apart = new Set(shown.map((unit) => unit.segment)).size > 1;
  let segment, part = null, box = null, key = null;
  shown.forEach((unit, i) => {
    const turns = apart && unit.segment !== segment;
    segment = unit.segment;
    if (turns || i % PART === 0) { list.append((part = h("div", { class: "part", role: "presentation" }))); key = null; }
    if (turns) part.append(h("span", { class: "break", role: "separator" }, h("bdi", {}, printable(segmentName(names, segment)))));
    const gap = unit.space && i ? " " : "", outline = unit.outline ?? null;
    if (outline && outline.key === key) return box.lastChild.before(gap, token(unit, scale, i));
    key = outline?.key ?? null;
    if (outline) part.append(gap, (box = h("span", { class: `outlined ${outline.wrong ? "wrong" : ""}`, role: "presentation" }, token(unit, scale, i), h("small", {}, " ", outline.name))));
    else part.append(gap, token(unit, scale, i));
  });
  if (after) (part ?? list).append(" ", after);
  const show = (element) => {
    const unit = shown[Number(element.dataset.index)];
    const more = unit.parts.length > 1;
    tip.replaceChildren(
      h("bdi", { class: "word" }, printable(unit.text)), unit.score === undefined ? "" : h("b", { class: "number" }, signed(unit.score)),
      unit.score === undefined ? "" : h("span", {}, `${percent(Math.abs(unit.score ?? 0) / whole)} of all`),
      ...(more ? [h("span", { class: "parts" }, unit.parts.map((part) => h("span", {}, h("bdi", {}, printable(part.text)), " ", signed(part.score))))] : []),
    );
    tip.hidden = false;
    const box = element.getBoundingClientRect(), around = tip.parentElement.getBoundingClientRect();
    const room = Math.max(0, around.width - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, Math.min(room, box.left - around.left))}px`;
    tip.style.top = `${box.bottom - around.top + 6}px`;
  };
  const over = (event) => event.target.closest?.(".unit");
  list.addEventListener("pointerover", (event) => (over(event) ? show(over(event)) : (tip.hidden = true)));
  list.addEventListener("focusin", (event) => over(event) && show(over(event)));
  list.addEventListener("pointerleave", () => (tip.hidden = true));
  list.addEventListener("focusout", () => (tip.hidden = true));
  list.addEventListener("keydown", (event) => walk(event, list, tip));
  return h(
    "section",
    { class: "card words", "aria-label": label ?? "Words and their scores" },
    h("div", { class: "tools" }, tools),
    shown.length ? list : h("p", { class: "muted" }, "The record has no tokens."),
    tip,
  );
}

function token(unit, scale, index) {
  const share = strength(unit.score, scale);
  const sign = share > 0 ? "for" : share < 0 ? "against" : "none";
  return h(
    "bdi",
    {
      class: `unit ${sign} ${unit.special ? "special" : ""}`, role: "listitem", tabindex: index ? "-1" : "0", "data-index": index, "data-key": `unit/${index}`,
      "data-score": unit.score, "--s": Math.abs(share).toFixed(3), "aria-label": unit.score === undefined ? printable(unit.text) : `${printable(unit.text)}: ${signed(unit.score)}`,
    },
    printable(unit.text),
  );
}

function walk(event, list, tip) {
  const all = [...list.querySelectorAll(".unit")];
  const at = all.indexOf(document.activeElement);
  const right = getComputedStyle(list).direction === "rtl" ? -1 : 1;
  const to = { ArrowRight: at + right, ArrowLeft: at - right, Home: 0, End: all.length - 1 }[event.key];
  if (event.key === "Escape") tip.hidden = true;
  if (to === undefined || !all[to]) return;
  event.preventDefault();
  all[at]?.setAttribute("tabindex", "-1");
  all[to].setAttribute("tabindex", "0");
  all[to].focus();
}

/** What the two colours stand for: a word and what it is of, for each of them; `null` for one that does not occur. */
export function legend(scale, orange, [other, ofOther = ""]) {
  if (!orange) return h("div", { class: "legend", role: "img", "aria-label": `Colour: blue is ${other}${ofOther}, up to ${signed(scale)}` }, h("span", {}, "0"), h("i", { class: "ramp one" }), h("span", {}, h("em", { title: ofOther }, other, h("bdi", {}, ofOther)), ` ${signed(scale)}`));
  const [against, ofAgainst = ""] = orange;
  return h(
    "div",
    { class: "legend", role: "img", "aria-label": `Colours: orange and dashed is ${against}${ofAgainst}, down to ${signed(-scale)}; blue is ${other}${ofOther}, up to ${signed(scale)}` },
    h("span", {}, `${signed(-scale)} `, h("em", { title: ofAgainst }, against, h("bdi", {}, ofAgainst))), h("i", { class: "ramp" }), h("span", {}, h("em", { title: ofOther }, other, h("bdi", {}, ofOther)), ` ${signed(scale)}`),
  );
}
