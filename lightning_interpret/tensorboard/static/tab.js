// The Interpret tab: an example on the left, its records step by step on the right.

import { changes, createChooser, missing, sideBySide } from "./beside.js";
import { causeName } from "./causes.js";
import { createReader } from "./facts.js";
import { createFilters, NONE } from "./filters.js";
import { keys, nothing } from "./help.js";
import { askedFor, copy, followReloads, followTheme, link, memory } from "./host.js";
import { createList } from "./list.js";
import { filtered, keyOf, nameOf, placeOf, printable } from "./model.js";
import { changeOf, elsewhere, finder } from "./pairs.js";
import { chart, h, notice, redraw, source } from "./parts.js";
import { createSaver } from "./save.js";
import { Shelf } from "./shelf.js";

const DEFAULTS = { unit: "word", scale: "step", special: true, gates: false, sort: "place", order: "size", rows: "some", words: "some", target: 0 };

/** Put the tab on the page; `tags` is the answer to the first request for what there is. */
export async function start(tags) {
  document.documentElement.lang = "en";
  document.head.append(h("title", {}, "Interpret"), h("meta", { name: "viewport", content: "width=device-width" }));
  followTheme();
  const tab = new Tab();
  document.body.replaceChildren(tab.element);
  followReloads(() => tab.reload());
  await tab.start(askedFor(), tags);
}

class Tab {
  constructor() {
    const kept = memory.load();
    this.entries = [];
    this.filter = { ...NONE, ...kept.filter };
    this.run = kept.run ?? null; // the run that is compared with
    this.beside = kept.beside ?? []; // monitors, each a [run, monitor], whose records of the same example stand beside
    this.options = { ...DEFAULTS, ...kept.options };
    this.selected = kept.selected ?? null; // {run, tag}
    this.address = kept.address ?? null; // what the address asked for the last time
    this.wanted = kept.wanted ?? null; // the step that the reader chose; null to follow the latest
    this.steps = [];
    this.place = 0;
    this.numbers = new Map(); // key of an entry -> its number, for ids on the page
    this.listed = 0; // the newest request for the list, and for an example: answers to older ones are dropped
    this.asked = 0;
    this.drawn = 0; // the newest step asked for, and the newest on screen: what comes in between is shown on the way
    this.painted = 0;
    this.known = null; // what was known of the example that is on screen, when it was drawn
    this.failed = false; // whether an error stands where a record would
    this.records = new Shelf();
    this.others = new Map(); // key of an entry that stands beside -> {last_step, steps}
    this.renderers = new Map();
    this.partner = () => null; // what an entry is compared with
    this.list = createList({ onselect: (entry) => this.select(entry), change: (entry) => this.changeOf(entry) });
    this.filters = createFilters({ onfilter: (change) => this.filterBy(change), oncompare: (run) => this.compare(run), named: (name, value) => (name === "cause" ? causeName(value) : printable(value)) });
    this.reader = createReader({
      get: (run, tag) => this.get("latest", { run, tag }, { quiet: true }), onscreen: () => this.list.onscreen(), onread: () => this.read(),
    });
    this.build();
  }

  build() {
    this.slider = h("input", { type: "range", min: 0, max: 0, step: 1, "aria-label": "Step", oninput: (e) => this.go(Number(e.target.value)) });
    this.said = h("output", { class: "step" });
    this.follow = h("button", { type: "button", class: "quiet", title: "Show the last step, and stay with it as new ones come", onclick: () => this.latest() }, "Latest");
    this.head = h("div", { class: "title" });
    this.step = h("div", { class: "steps", role: "group", "aria-label": "Steps" },
      h("button", { type: "button", class: "arrow", "aria-label": "Step before", title: "Step before  [", onclick: () => this.go(this.place - 1) }, "‹"), this.slider,
      h("button", { type: "button", class: "arrow", "aria-label": "Step after", title: "Step after  ]", onclick: () => this.go(this.place + 1) }, "›"), this.said, this.follow);
    this.chooser = createChooser({ stands: (entry) => this.stands(entry), onchoose: (entry, on) => this.put(entry, on) });
    this.bar = h("header", { class: "bar", hidden: true }, h("div", { class: "named" }, this.head, this.chooser.element), this.step);
    this.body = h("div", { class: "body", "aria-live": "off" }, h("p", { class: "muted" }, "Loading …"));
    const help = keys();
    const saver = createSaver({ listed: () => this.visible(), read: (onleft) => this.reader.whole(() => this.visible(), onleft), records: (run, tag) => this.get("records", { run, tag }, { loud: true }) });
    this.element = h("div", { class: "tab" },
      h("nav", { class: "side", "aria-label": "Examples" },
        this.filters.element, this.list.element,
        h("div", { class: "foot" }, h("button", { type: "button", class: "quiet keys", onclick: () => help.showModal() }, "Keys  ?"), saver)),
      h("main", {}, this.bar, this.body), help);
    document.addEventListener("keydown", (event) => this.key(event, help));
  }

  key(event, help) {
    const composed = event.getModifierState("AltGraph") || (event.altKey && "[]".includes(event.key)); // as `[` is on many keyboards
    if ((!composed && (event.ctrlKey || event.metaKey || event.altKey)) || event.target.matches?.("input[type=search], input[type=number], select, dialog *")) return;
    const act = { j: () => this.list.move(1), k: () => this.list.move(-1), "[": () => this.go(this.place - 1), "]": () => this.go(this.place + 1), "/": () => this.filters.search.focus(), "?": () => help.showModal() }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  async start(asked, tags) {
    if (asked.tag && JSON.stringify(asked) !== this.address) { // after a reload of the page the reader's own choice stands
      this.address = JSON.stringify(asked);
      this.selected = { run: asked.run ?? ".", tag: asked.tag };
      this.wanted = asked.step && Number.isFinite(Number(asked.step)) ? Number(asked.step) : null;
      this.run = asked.with ?? null;
      this.beside = monitorsIn(asked.beside);
    }
    await this.reload(tags);
    this.list.reveal();
  }

  /** Read what there is anew; what is on screen stays, at the step that it is at. */
  async reload(early = null) {
    const request = ++this.listed;
    const answer = await this.get("tags", {}, { early, current: () => request === this.listed });
    if (!answer) return;
    const before = new Map(this.entries.map((entry) => [entry.key, entry]));
    this.kinds = answer.kinds;
    this.entries = answer.tags.map((entry) => {
      const key = keyOf(entry), old = before.get(key), number = this.numbers.get(key) ?? this.numbers.size;
      this.numbers.set(key, number);
      return { ...entry, key, number, facts: old?.facts, stale: !old || old.stale || old.missed || old.last_step !== entry.last_step };
    });
    if (!this.entries.length) return this.empty();
    const there = this.selected && this.entries.find((entry) => entry.run === this.selected.run && entry.tag === this.selected.tag);
    this.drawSide();
    const chosen = this.select(there ?? this.visible()[0] ?? this.entries[0]);
    this.reader.read(this.entries, chosen);
    await chosen;
  }

  /** Facts have come: the list says more, and perhaps there is more to stand beside what is shown. */
  read() {
    this.drawSide();
    if (this.known !== null && JSON.stringify(this.about()) !== this.known) this.draw();
  }

  visible() {
    return filtered(this.entries, this.filter, (entry) => this.changeOf(entry));
  }

  filterBy(change) {
    Object.assign(this.filter, change);
    this.keep();
    this.drawSide();
  }

  /** Compare with a run, or with none. */
  compare(run) {
    this.run = run;
    if (run === null) this.filter.change = null;
    this.keep();
    this.drawSide();
    this.draw();
  }

  changeOf(entry) {
    const other = this.partner(entry);
    return other ? changeOf(entry.facts, other.facts) : null;
  }

  drawSide() {
    this.partner = this.run === null ? () => null : finder(this.entries, this.run);
    const shown = this.visible();
    this.filters.update({ entries: this.entries, shown, filter: this.filter, run: this.run });
    this.list.update(shown, this.selected);
  }

  /** Show an example, at the step that was chosen or at its last. */
  async select(entry) {
    const changed = !this.selected || keyOf(this.selected) !== entry.key;
    const request = ++this.asked;
    this.selected = { run: entry.run, tag: entry.tag };
    this.entry = entry;
    this.renderer(entry.kind); // while the answers are on their way
    this.list.mark(entry);
    if (changed) {
      this.painted = ++this.drawn;
      this.steps = []; // until the new ones are there, keys and options have nothing to draw
      this.reading = this.known = null;
      this.body.setAttribute("aria-busy", "true");
      Object.assign(this.options, { rows: "some", words: "some", target: 0 });
      for (const element of this.body.querySelectorAll("[data-scroll]")) element.scrollTop = 0;
    }
    this.keep();
    const steps = await this.get("steps", { run: entry.run, tag: entry.tag }, { current: () => request === this.asked });
    if (!steps || (!this.failed && JSON.stringify(steps) === JSON.stringify(this.steps))) return;
    this.steps = steps;
    this.place = placeOf(steps, this.wanted);
    await this.draw();
  }

  go(place) {
    if (!this.steps[place]) return;
    this.place = place;
    this.wanted = place === this.steps.length - 1 ? null : this.steps[place].step;
    this.keep();
    this.draw();
  }

  latest() {
    this.wanted = null;
    this.go(this.steps.length - 1);
  }

  set(option, value) {
    this.options[option] = value;
    this.keep();
    this.draw();
  }

  async draw() {
    const { entry, steps, place } = this, step = steps[place];
    if (!step) return;
    const request = ++this.drawn;
    this.bar.hidden = false;
    this.drawHead(entry, step);
    const record = await this.record(entry, step, request);
    if (!record) return;
    const about = this.about(), known = JSON.stringify(about);
    const panes = await Promise.all(about.beside.map((key) => this.pane(this.entries.find((other) => other.key === key), step)));
    const renderers = await Promise.all([[entry, record], ...panes.map(({ entry, record }) => [entry, record])].map(([of, { payload } = {}]) => this.renderer(payload ? payload.kind ?? of.kind : null)));
    if (request <= this.painted) return;
    this.painted = request;
    this.failed = false;
    this.known = known;
    this.body.setAttribute("aria-busy", "false");
    redraw(this.body, ...this.content(record, renderers, panes, about));
    this.body.dataset.step = step.step;
    if (JSON.stringify(this.about()) !== known) this.draw(); // facts have come on the way
  }

  drawHead(entry, step) {
    const { steps, place } = this, said = [entry.run === "." ? null : printable(entry.run), entry.probe === null ? null : printable(entry.monitor)].filter((part) => part !== null).join(" · ");
    const id = step.example_id === undefined ? null : [said ? " · " : "", h("button", { type: "button", class: "bare", "data-key": "row", title: "Copy the id of this example", onclick: (e) => copy(String(step.example_id), e.target) }, `example ${step.example_id}`)];
    redraw(this.head, h("h1", {}, nameOf(entry)), h("p", {}, said, id),
      h("button", { type: "button", class: "quiet", "data-key": "link", title: "Copy a link to this example and step, with what stands beside it", onclick: (e) => copy(this.linkTo(entry, step.step), e.target) }, "Copy link"));
    this.slider.max = steps.length - 1;
    this.slider.value = place;
    this.slider.disabled = steps.length < 2;
    this.slider.setAttribute("aria-valuetext", `step ${step.step}, ${place + 1} of ${steps.length}`);
    this.said.replaceChildren(h("b", {}, `Step ${step.step}`), h("small", {}, `${place + 1} of ${steps.length} · ${new Date(step.wall_time * 1000).toLocaleTimeString()}`));
    this.follow.setAttribute("aria-pressed", String(this.wanted === null));
  }

  linkTo(entry, step = null) {
    return link({ run: entry.run, tag: entry.tag, step, with: this.run, beside: this.beside.length ? JSON.stringify(this.beside) : null });
  }

  /** What else is known of the example that is shown, and what stands beside it, as keys of entries. */
  about() {
    const entry = this.entries.find(({ key }) => this.entry && key === this.entry.key), left = this.entries.some(({ stale }) => stale);
    if (!entry) return { found: [], beside: [], left: false };
    const found = elsewhere(this.entries, entry), partner = this.run === null || this.run === entry.run ? null : this.partner(entry);
    const beside = found.filter((other) => this.stands(other));
    const groups = entry.kind === "bad_case" ? this.entries.filter(({ kind, run, facts }) => kind === "bad_case_group" && run === entry.run && facts).length : 0; // a case leads to its group
    return { groups, found: found.map(({ key }) => key), beside: [...beside, ...(partner ? [partner] : [])].map(({ key, last_step }) => key), left: this.run !== null && !partner && left };
  }

  stands({ run, monitor }) {
    return this.beside.some(([r, m]) => r === run && m === monitor);
  }

  /** Another entry at the step that is shown or the last one before it; one of another run at its last, while the latest is followed. */
  async pane(entry, { step }) {
    const known = this.others.get(entry.key);
    const steps = known?.last_step === entry.last_step ? known.steps : await this.get("steps", { run: entry.run, tag: entry.tag }, { quiet: true });
    if (!steps?.length) return { entry, steps: [], place: 0, record: undefined };
    this.others.set(entry.key, { last_step: entry.last_step, steps });
    const place = placeOf(steps, entry.run !== this.entry.run && this.wanted === null ? null : step);
    const record = this.records.get(entry, steps[place]) ?? await this.get("record", { run: entry.run, tag: entry.tag, step: steps[place].step }, { quiet: true });
    if (record) this.records.put(entry, steps[place], record);
    return { entry, steps, place, record: record ?? undefined };
  }

  content(record, [renderer, ...renderers], panes, { found, left }) {
    const { entry, steps, place, options } = this, broken = record.payload === null;
    const lines = (renderer.lines?.(steps) ?? []).filter((line) => line.values.some(Number.isFinite));
    const charts = steps.length > 1 && lines.length
      ? h("section", { class: "card charts", "aria-label": "Over the steps" }, lines.map((line) => chart(line, steps, place, (i) => this.go(i)))) : null;
    const context = this.context(entry, steps, place, panes.length ? null : charts); // side by side, records begin with the same parts
    const shown = this.shown(record, renderer, context);
    const later = !broken && record.payload.schema > this.schema
      ? notice("warn", "Written by a later version", h("p", {}, `Its schema is ${record.payload.schema}, and this tab knows ${this.schema}: update lightning-interpret where TensorBoard runs.`)) : null;
    const own = [later, shown].filter(Boolean), below = [shown.contains(charts) ? null : charts, source(broken ? record.raw : record.payload, options)];
    const others = panes.map((pane, i) => ({
      key: pane.entry.key, entry: pane.entry, step: pane.steps[pane.place]?.step,
      note: pane.entry.run === entry.run && pane.steps[pane.place]?.step > steps[place].step ? "It was first written at a later step than the one that is shown." : null,
      content: pane.record ? this.shown(pane.record, renderers[i], this.context(pane.entry, pane.steps, pane.place, null)) : notice("error", "This record did not come", h("p", {}, "TensorBoard did not answer.")),
    }));
    const here = { entry, record, facts: steps[place] };
    const compared = panes.map((pane) => changes(here, { entry: pane.entry, record: pane.record, facts: pane.steps[pane.place] })).filter(Boolean);
    const alone = this.run !== null && this.run !== entry.run && !panes.some((pane) => pane.entry.run === this.run) ? missing(this.run, left) : null;
    this.chooser.update(found.map((key) => this.entries.find((other) => other.key === key)));
    this.body.classList.toggle("wider", panes.length > 0);
    return [alone, ...compared, ...(panes.length ? [sideBySide([{ key: "shown", entry, step: steps[place].step, content: own, note: null }, ...others], context)] : own), ...below].filter(Boolean);
  }

  /** What a renderer is told beside the record. */
  context(entry, steps, place, charts) {
    const own = this.entries.filter(({ run, monitor }) => run === entry.run && monitor === entry.monitor);
    return {
      monitor: entry.monitor, steps, place, options: this.options, charts, own, set: (option, value) => this.set(option, value), href: (to) => this.linkTo(to), open: (to) => this.open(to),
      at: (step) => this.go(placeOf(this.steps, step)),
    };
  }

  /** Go to an entry that a record led to. */
  open(entry) {
    this.select(entry);
    this.list.reveal();
  }

  /** Put the records of a monitor beside, or take them away. */
  put({ run, monitor }, on) {
    this.beside = this.beside.filter(([r, m]) => r !== run || m !== monitor);
    if (on) this.beside.push([run, monitor]);
    this.keep();
    this.draw();
  }

  shown(record, renderer, context) {
    if (record.payload !== null) return this.rendered(record.payload, renderer, context);
    return notice("error", "This step cannot be read", h("p", {}, record.problem), h("p", {}, "The other steps are not affected."));
  }

  rendered(payload, renderer, context) {
    if (!payload.records.length) return notice("empty", "This step holds no records");
    try {
      return renderer.render(payload, context);
    } catch (error) {
      return notice("error", "This record cannot be drawn", h("p", {}, String(error)), h("p", {}, "It stands below as it was written."));
    }
  }

  /** The module of a kind: by its name, or plain data. */
  async renderer(kind) {
    const name = this.kinds.includes(kind) ? kind : "plain";
    try {
      if (!this.renderers.has(name)) this.renderers.set(name, await import(`./kinds/${name}.js`));
      return this.renderers.get(name);
    } catch (error) {
      return { render() { throw error; } };
    }
  }

  /** The record of a step. One is on its way at a time: of the draws that wait for it the last alone asks on. */
  async record(entry, step, request) {
    let record = this.records.get(entry, step);
    if (!record) {
      await this.reading;
      if (request !== this.drawn) return null;
      this.reading = this.get("record", { run: entry.run, tag: entry.tag, step: step.step }, { current: () => request > this.painted });
      record = await this.reading;
      if (!record) return null;
    }
    this.records.put(entry, step, record);
    return record;
  }

  /** The answer of a route, or `null`: of a request that is not `current` any more, or that failed, which is shown, or thrown where it is `loud`. */
  async get(route, query, { early = null, current = () => true, quiet = false, loud = false } = {}) {
    const asked = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) for (const one of [value].flat()) asked.append(name, one);
    try {
      const response = await (early ?? fetch(`./${route}?${asked}`));
      if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
      const answer = await response.json();
      this.schema ??= answer.schema;
      return current() ? answer : null;
    } catch (error) {
      if (loud) throw error;
      if (!quiet && current()) this.fail(String(error.message ?? error));
      return null;
    }
  }

  fail(why) {
    this.failed = true;
    this.bar.hidden = !this.steps.length;
    this.body.setAttribute("aria-busy", "false");
    redraw(this.body, notice("error", "TensorBoard did not answer", h("p", {}, why), h("button", { type: "button", "data-key": "retry", onclick: () => this.reload() }, "Try again")));
  }

  empty() {
    this.drawSide();
    this.asked++;
    this.painted = ++this.drawn;
    this.steps = [];
    this.bar.hidden = true;
    this.body.setAttribute("aria-busy", "false");
    redraw(this.body, nothing());
  }

  keep() {
    const { filter, run, beside, options, selected, wanted, address } = this;
    memory.save({ filter, run, beside, options, selected, wanted, address });
  }
}

/** The monitors that a link puts beside: a list of [run, monitor], or none where it is no such list. */
function monitorsIn(text) {
  try {
    const found = JSON.parse(text ?? "[]");
    return Array.isArray(found) ? found.filter((pair) => Array.isArray(pair) && pair.length === 2 && pair.every((name) => typeof name === "string")) : [];
  } catch {
    return [];
  }
}
