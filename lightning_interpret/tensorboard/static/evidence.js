// Evidence in the training data: the query, tables of training examples, the labels of the nearest, how it was found.

import { copy } from "./host.js";
import { fact, h } from "./parts.js";
import { percent, plain, printable, scaleOf, signed, strength, units, wrong } from "./model.js";
import { legend, strip } from "./strip.js";

const LONG = 240; // characters of a text that are shown before it is opened

/** A text as it was logged, isolated from what is around it; a dash where there is none. */
export const text = (value) => (value === null || value === undefined ? "–" : h("bdi", {}, printable(value)));

/** A sentence of our words and logged texts in turn, each text isolated from the words around it. */
export const turns = (pieces) => pieces.map((piece, i) => (i % 2 ? h("bdi", {}, printable(piece)) : String(piece)));

/** What is known of the query, and its text. `more` are further facts. */
export function query(record, ...more) {
  const missed = wrong(record), many = record.queries > 1;
  return [
    h(
      "dl",
      { class: "card facts" },
      many ? fact("Queries", plain(record.queries), { note: "their measures were summed" }) : null,
      many && !record.prediction ? null : fact("Prediction", text(record.prediction), { mark: missed ? "bad" : null, note: missed ? "✗ wrong" : missed === false ? "✓ right" : null }),
      many && !record.gold ? null : fact("Gold label", text(record.gold)),
      given(record.confidence) ? fact("Confidence", percent(record.confidence)) : null,
      given(record.loss) ? fact("Loss", plain(record.loss)) : null,
      record.why ? fact("Picked as", text(record.why)) : null,
      more,
    ),
    h(
      "section",
      { class: "card query", "aria-label": "Query" },
      record.text ? h("div", { class: "passage" }, long(record.text, "query", 4 * LONG)) : h("p", { class: "muted" }, many ? "The sum of all queries has no text." : "The query has no text."),
      given(record.example_id) ? h("p", { class: "muted" }, "example ", idOf(record.example_id, "query")) : null,
    ),
  ];
}

/**
 * A table of training examples under a heading that says what they are.
 *
 * @param {{title: string, meaning: string, found: object[], column: string, number: (e: object) => Node | string, none: string}} table
 */
export function examples({ title, meaning, found, column, number, none, hue = "" }) {
  const known = (name) => found.some((example) => given(example[name]));
  const head = (label, title = null) => h("th", { scope: "col", class: "number", title }, label);
  const self = known("self_influence");
  return h(
    "section",
    { class: `card evidence ${hue}` },
    h("h2", {}, title), h("p", { class: "muted" }, meaning),
    found.length
      ? h(
          "table",
          {},
          h("caption", { class: "hidden" }, `${title}: ${found.length} training examples`),
          h("thead", {}, h("tr", {}, head(column), h("th", { scope: "col" }, "Training example"),
            known("similarity") ? head("k", "The kernel between query and training example") : null,
            known("loss") ? head("Loss", "The model's loss on the training example") : null,
            known("disagreement") ? head("kNN disagree", "Share of the training example's own nearest neighbours that have another label") : null,
            self ? head("Self", "Influence of the training example on its own loss") : null)),
          h("tbody", {}, found.map((example, i) =>
            h("tr", {}, h("td", { class: "number" }, number(example)), h("th", { scope: "row" }, described(example, `${title}/${i}`)),
              known("similarity") ? h("td", { class: "number" }, plain(example.similarity)) : null,
              known("loss") ? h("td", { class: "number" }, plain(example.loss)) : null,
              known("disagreement") ? h("td", { class: "number" }, percent(example.disagreement)) : null,
              self ? h("td", { class: "number" }, given(example.self_influence) ? signed(example.self_influence) : "–") : null))),
        )
      : h("p", {}, none),
  );
}

function described(example, key) {
  const differs = given(example.gold) && given(example.prediction) && example.gold !== example.prediction;
  return [
    given(example.text) && example.text !== "" ? h("div", { class: "passage" }, long(example.text, key)) : h("div", { class: "muted" }, "no text"),
    h("div", { class: "marks" }, given(example.example_id) ? idOf(example.example_id, key) : null, given(example.gold) ? h("span", {}, text(example.gold)) : null,
      differs ? h("span", { class: "bad" }, "✗ model says ", text(example.prediction)) : null),
  ];
}

/** An id as a button that copies it. */
export function idOf(value, key) {
  return h("button", { type: "button", class: "id quiet", title: "Copy this id", "aria-label": `Copy id ${value}`, "data-key": `id/${key}`, onclick: (e) => copy(String(value), e.target) }, String(value));
}

/** A text, or its beginning with the rest to be opened. */
function long(of, key, most = LONG) {
  const whole = String(of);
  if (whole.length <= most * 1.25) return h("div", { dir: "auto" }, printable(whole));
  const first = [...whole.slice(0, most)].slice(0, -1).join(""); // never half of a pair
  return h("details", {}, h("summary", { dir: "auto", "data-key": `text/${key}` }, h("span", {}, printable(first), " …")), h("div", { dir: "auto" }, printable(whole)));
}

/** A score above a bar of its size: blue and orange are told apart by its sign too. */
export function bar(score, scale) {
  const share = strength(score, scale);
  return [signed(score), h("i", { class: `meter ${share < 0 ? "against" : "for"}`, "--s": Math.abs(share).toFixed(3) })];
}

/** What the neighbours say of the query, as facts. */
export function verdict(near) {
  if (!near) return [];
  const probabilities = Object.entries(near.probabilities ?? near.shares ?? {});
  const best = probabilities.reduce((a, b) => (b[1] > (a?.[1] ?? -1) ? b : a), null);
  const asked = { true: "unsure: the neighbours were asked", false: "sure: as the model" }[String(near.backed_off)];
  const means = Object.entries(near.means ?? {}).map(([name, value]) => `${name} ${plain(value)}`).join(", ");
  return [
    means ? fact("Neighbours' mean", text(means)) : null,
    best ? fact("Neighbours say", text(best[0]), { note: percent(best[1]) }) : null,
    given(near.mixture) ? fact("Mixture says", text(near.mixture), { note: asked }) : null,
    given(near.conformity) ? fact("Conformity", percent(near.conformity), { note: "neighbours with the predicted label" }) : null,
    given(near.credibility) ? fact("Credibility", percent(near.credibility), { note: "calibration examples that conform no more" }) : null,
  ];
}

/** The nearest training examples, their labels, and what each token of the query does to them. */
export function nearest(near, { options, set }) {
  if (!near) return [];
  return [
    examples({
      title: "Nearest", meaning: `Closest in the model's features, the nearest first (${near.metric ?? "distance"}).`, found: near.neighbors ?? [],
      column: "Distance", number: (example) => plain(example.distance), none: "No neighbour was found.",
    }),
    labels(near, options, set),
    tokens(near, "Conformity without each token", ["rises"], ["drops"]),
  ];
}

function labels(near, options, set) {
  const columns = [["Among neighbours", near.shares], ["p of kNN", near.probabilities], ["p of model", near.model_probabilities]].filter(([, of]) => of && Object.keys(of).length);
  if (!columns.length) return null;
  const names = [...new Set(columns.flatMap(([, of]) => Object.keys(of)))];
  const order = (name) => columns.map(([, of]) => -(of[name] ?? 0));
  names.sort((a, b) => { const [x, y] = [order(a), order(b)], at = x.findIndex((v, i) => v !== y[i]); return at < 0 ? 0 : x[at] - y[at]; });
  const shown = options.rows === "all" ? names : names.slice(0, 10);
  return h(
    "section",
    { class: "card evidence" },
    h("h2", {}, "Labels"), h("p", { class: "muted" }, "Shares among the neighbours, weighted by distance (kNN), and by the model."),
    h("table", {}, h("caption", { class: "hidden" }, `${names.length} labels`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Label"), columns.map(([title]) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, shown.map((name) => h("tr", {}, h("th", { scope: "row" }, text(name)), columns.map(([, of]) => h("td", {}, percent(of[name]), h("i", { class: "meter for", "--s": strength(of[name] ?? null, 1).toFixed(3) }))))))),
    shown.length < names.length ? h("button", { type: "button", class: "quiet", "data-key": "rows", onclick: () => set("rows", "all") }, `Show all ${names.length}`) : null,
  );
}

/** The tokens of the query in the colours of their scores, `null` where it has none; `ends` are a legend's two. */
export function tokens(record, title, ...ends) {
  if (!record.tokens?.length || record.scores?.length !== record.tokens.length) return null;
  const found = units({ tokens: record.tokens, scores: record.scores }, "token");
  const scale = scaleOf(found), whole = found.reduce((sum, unit) => sum + Math.abs(unit.score ?? 0), 0) || 1;
  return strip(found, scale, whole, [h("span", {}, title), legend(scale, ...ends)]);
}

/** How it was found: names and values, then notes and what is not given. */
export function about(record, known, notes = []) {
  const reasons = Object.entries(record.reasons ?? {}).map(([name, why]) => `${name} is not given: ${why}`);
  const said = [...notes, ...(record.notes ?? []), ...reasons].map(printable);
  const shown = known.filter(([, value]) => given(value));
  if (!shown.length && !said.length) return null;
  return h("section", { class: "card about", "aria-label": "How it was found" },
    h("dl", { class: "line" }, shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, typeof value === "number" ? plain(value) : printable(value))))),
    said.length ? h("ul", {}, said.map((note) => h("li", {}, note))) : null);
}

/** How the neighbours were found. */
export const searched = (near) => (near ? [["Layer", near.layer], ["Metric", near.metric], ["k", near.k], ["In the datastore", near.examples], ["Temperature", near.temperature]] : []);

const given = (value) => value !== null && value !== undefined;
