// Attention: what each token is weighed with by what is read, the map of a layer or a head, each layer in numbers.

import { about, query, text, tokens } from "../evidence.js";
import { bars, given, over, sentence } from "../explained.js";
import { fact, h } from "../parts.js";
import { percent, printable } from "../model.js";

/** Lines over the steps of a probe. */
export function lines(steps) {
  return [
    { label: "Loss", values: over(steps, "loss"), zero: true },
    { label: "Entropy", note: "mean over layers and heads; 100 % is uniform attention", values: over(steps, "entropy"), zero: true, format: percent },
    { label: "Head agreement", note: "100 % where all heads of a layer attend alike", values: over(steps, "head_agreement"), zero: true, format: percent },
    { label: "Drift", note: "1 − cosine of the tokens' weights with the step before", values: over(steps, "drift"), zero: true },
  ];
}

/** The records of one step. */
export function render(payload, context) {
  return h("div", { class: "record" }, payload.records.map((record, i) => one(record, context, i ? null : context.charts)));
}

function one(record, context, charts) {
  return [
    sentence(record),
    query(record,
      given(record.entropy) ? fact("Entropy", percent(record.entropy), { note: "100 % is uniform attention" }) : null,
      given(record.head_agreement) ? fact("Head agreement", percent(record.head_agreement)) : null,
      given(record.read) ? fact("Read", text(record.read)) : null),
    tokens({ ...record, scores: record.token_weights }, "Weight of the tokens in the last layer", null, ["attention of what is read"]),
    map(record, context),
    layers(record),
    charts,
    about(record, [["Layers", record.layers?.length]], ["A weight is what a token's vector is summed with, after layers that have mixed the tokens already: it ranks, and is no share of the prediction."]),
  ];
}

/** What there is a map of, by the name under which it is chosen. */
function panels(record) {
  const named = [
    ...(record.layers ?? []).map((layer, i) => [`layer ${i}`, `Layer ${i}, mean over heads`, layer.weights]),
    ...(record.heads ?? []).map((weights, i) => [`head ${i}`, `Layer ${record.of_heads ?? "?"}, head ${i}`, weights]),
  ];
  return named.filter(([, , weights]) => weights?.some((row) => row?.length));
}

/** One map as a grid of cells, a row a query; which one is chosen from a list. */
function map(record, { options, set }) {
  const found = panels(record);
  if (!found.length) return null;
  const last = found.filter(([key]) => key.startsWith("layer")).at(-1) ?? found[0];
  const [chosen, name, weights] = found.find(([key]) => key === options.map) ?? last;
  const largest = Math.max(1, ...weights.flat().map((cell) => cell ?? 0)), token = (i) => printable(record.tokens?.[i] ?? String(i));
  const row = (cells, q) => h("tr", {}, h("th", { scope: "row" }, weights.length > 1 ? h("bdi", {}, token(q)) : "read"),
    cells.map((cell, k) => h("td", { class: "for", "--s": ((cell ?? 0) / largest).toFixed(3), title: `${weights.length > 1 ? `${token(q)} → ` : ""}${token(k)}: ${cell ?? "–"} %` })));
  const select = h("select", { "aria-label": "Map", "data-key": "map", onchange: (e) => set("map", e.target.value) },
    found.map(([key, label]) => h("option", { value: key, selected: key === chosen }, label)));
  return h("section", { class: "card words attention", "aria-label": "Map of attention" },
    h("div", { class: "tools" }, select, h("span", { class: "legend" }, h("span", {}, "0 %"), h("i", { class: "ramp one" }), h("span", {}, `${largest} %`))),
    h("p", { class: "muted" }, "Each row, a token, attends to the columns: the same tokens in their order."),
    h("div", { class: "map", tabindex: "0", role: "group", "aria-label": name, "data-scroll": "map" }, h("table", {}, h("tbody", {}, weights.map(row)))));
}

function layers(record) {
  if (!record.layers?.length) return null;
  return bars({
    title: "Entropy of attention", meaning: "The mean over heads: 100 % is uniform attention, 0 % attention to one token.", what: "Layer", column: "Entropy",
    columns: ["Agreement"],
    found: record.layers.map((layer, i) => {
      const known = (layer.entropy ?? []).filter(given), mean = known.length ? known.reduce((all, each) => all + each, 0) / known.length : null;
      return { name: `${i} ${layer.name ?? ""}`, number: given(mean) ? percent(mean) : "–", share: mean ?? 0, beside: [given(layer.agreement) ? percent(layer.agreement) : "–"] };
    }),
  });
}
