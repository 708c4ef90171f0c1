// What the tab says of itself: its keys, and what to do where there is nothing to show.

import { h, notice } from "./parts.js";

const KEYS = [
  ["↑ ↓", "example before and after, in the list"], ["k  j", "the same, from anywhere"], ["[  ]", "step before and after"],
  ["← →", "in the words: word by word; in an image, with ↑ ↓: location by location; on the slider: step by step"], ["↑ ↓", "in the first column of a grid: token by token, whose text stands below it"], ["/", "search"], ["?", "this list"],
];

/** The list of keys, as a dialog. */
export function keys() {
  return h("dialog", { class: "help" }, h("h2", {}, "Keys"),
    h("dl", {}, KEYS.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
    h("form", { method: "dialog" }, h("button", {}, "Close")));
}

/** What to do where no run has explanations. */
export function nothing() {
  return notice("empty", "Nothing to show yet",
    h("p", {}, "The runs in this log directory have no explanations so far. Add a Monitor to the trainer; the first records come with the first validation:"),
    h("pre", {}, "from lightning_interpret import SaliencyMonitor\n\ntrainer = Trainer(callbacks=[SaliencyMonitor(tokenizer=tokenizer)])"));
}
