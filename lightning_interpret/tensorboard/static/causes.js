// Bad cases in plain words: causes, how a case is bad, where a group stands, what to do. The keys are the records' own.

import { printable } from "./model.js";

/** Every cause: what a group of it is called, and what it means. */
export const CAUSES = {
  truncation: ["Cut text", "the text is cut, and what decides is in the part that is not read"],
  conflicting_duplicates: ["Conflicting duplicates", "near-duplicates in the training data have conflicting labels"],
  training_label_error: ["Wrong training labels", "training examples that speak for the prediction are probably labelled wrongly"],
  shortcut: ["Shortcut", "a word or phrase that training data tie to a label decides, and should not"],
  composition: ["Turned meaning", "a negation or another word that turns the meaning is passed over"],
  coverage: ["Far from training data", "the text is far from all training data"],
  validation_label_error: ["Wrong validation labels", "the validation label itself is probably wrong"],
  confusion: ["Confused classes", "two classes that lie close together are confused"],
  unexplained: ["Unexplained", "no rule finds a cause"],
};

const BADNESS = { confident: "wrong, and sure of it", wrong: "wrong", unsure: "right, but not sure of it" };
const STATUSES = { new: "new", growing: "growing", steady: "steady", shrinking: "shrinking", solved: "solved" };
const ACTIONS = { relabel: "Relabel", add: "Add rows", balance: "Balance", deduplicate: "Settle duplicates", lengthen: "Read more of the text", look: "Look at them" };
const FILES = { train: "training data", val: "validation data" };

/** A key in words, or as it is where it is not known: a later version may have more. */
const said = (words) => (key) => (Object.hasOwn(words, key ?? "") ? words[key] : printable(key ?? "–"));

export const badness = said(BADNESS), status = said(STATUSES), action = said(ACTIONS), file = said(FILES);

/** What a cause is called. */
export const causeName = (key) => (Object.hasOwn(CAUSES, key ?? "") ? CAUSES[key][0] : printable(key ?? "–"));

/** What a cause means, in a few words; "" of one that is not known. */
export const causeMeaning = (key) => (Object.hasOwn(CAUSES, key ?? "") ? CAUSES[key][1] : "");

/** What a group is called: its cause, and its cue where there is one. */
export const groupName = ({ cause, cue }) => causeName(cause) + (cue ? `: ${printable(cue)}` : "");
