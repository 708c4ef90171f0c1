// The Interpret tab: an example on the left, its records step by step on the right.

import { askedFor, copy, followReloads, followTheme, link, memory } from "./host.js";
import { createList } from "./list.js";
import { counted, filtered, keyOf, nameOf, placeOf, wrong } from "./model.js";
import { chart, check, h, notice, source } from "./parts.js";

const CHUNK = 50; // examples whose facts are asked for in one request
const KEPT = 30; // records that are not fetched again: one may be megabytes
const DEFAULTS = { unit: "word", scale: "step", special: true, gates: false, sort: "place", order: "size", rows: "some" };

/** Called by TensorBoard, once, in a page of the tab's own. */
export async function render() {
  document.documentElement.lang = "en";
  document.head.append(h("title", {}, "Interpret"), h("meta", { name: "viewport", content: "width=device-width" }), h("link", { rel: "stylesheet", href: "./index.css" }));
  followTheme();
  const tab = new Tab();
  document.body.replaceChildren(tab.element);
  followReloads(() => tab.reload());
  await tab.start(askedFor());
}

class Tab {
  constructor() {
    const kept = memory.load();
    this.entries = [];
    this.hidden = kept.hidden ?? [];
    this.onlyWrong = kept.onlyWrong ?? false;
    this.query = kept.query ?? "";
    this.options = { ...DEFAULTS, ...kept.options };
    this.selected = kept.selected ?? null; // {run, tag}
    this.address = kept.address ?? null; // what the address asked for the last time
    this.wanted = kept.wanted ?? null; // the step that the reader chose; null to follow the latest
    this.steps = [];
    this.place = 0;
    this.listed = 0; // the newest request for the list, and for an example: answers to older ones are dropped
    this.asked = 0;
    this.drawn = 0; // the newest step asked for, and the newest on screen: what comes in between is shown on the way
    this.painted = 0;
    this.failed = false; // whether an error stands where a record would
    this.records = new Map();
    this.renderers = new Map();
    this.list = createList((entry) => this.select(entry));
    this.build();
  }

  build() {
    this.search = h("input", { type: "search", placeholder: "Search words, labels, ids", "aria-label": "Search examples", value: this.query, oninput: (e) => this.filter({ query: e.target.value }) });
    this.runs = h("details", { class: "runs" });
    this.marks = h("div", { class: "marks" });
    this.count = h("p", { class: "muted count", role: "status" });
    this.slider = h("input", { type: "range", min: 0, max: 0, step: 1, "aria-label": "Step", oninput: (e) => this.go(Number(e.target.value)) });
    this.said = h("output", { class: "step" });
    this.follow = h("button", { type: "button", class: "quiet", title: "Show the last step, and stay with it as new ones come", onclick: () => this.latest() }, "Latest");
    this.head = h("div", { class: "title" });
    this.step = h("div", { class: "steps", role: "group", "aria-label": "Steps" },
      h("button", { type: "button", class: "arrow", "aria-label": "Step before", title: "Step before  [", onclick: () => this.go(this.place - 1) }, "‹"), this.slider,
      h("button", { type: "button", class: "arrow", "aria-label": "Step after", title: "Step after  ]", onclick: () => this.go(this.place + 1) }, "›"), this.said, this.follow);
    this.bar = h("header", { class: "bar", hidden: true }, this.head, this.step);
    this.body = h("div", { class: "body", "aria-live": "off" }, h("p", { class: "muted" }, "Loading …"));
    const help = h("dialog", { class: "help" }, h("h2", {}, "Keys"),
      h("dl", {}, [["↑ ↓", "example before and after, in the list"], ["k  j", "the same, from anywhere"], ["[  ]", "step before and after"], ["← →", "in the words: word by word; in an image, with ↑ ↓: location by location; on the slider: step by step"], ["/", "search"], ["?", "this list"]].map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
      h("form", { method: "dialog" }, h("button", {}, "Close")));
    this.element = h("div", { class: "tab" },
      h("nav", { class: "side", "aria-label": "Examples" },
        h("div", { class: "filters" }, this.search, this.runs, this.marks, this.count), this.list.element,
        h("button", { type: "button", class: "quiet keys", onclick: () => help.showModal() }, "Keys  ?")),
      h("main", {}, this.bar, this.body), help);
    document.addEventListener("keydown", (event) => this.key(event, help));
  }

  key(event, help) {
    const composed = event.getModifierState("AltGraph") || (event.altKey && "[]".includes(event.key)); // as `[` is on many keyboards
    if ((!composed && (event.ctrlKey || event.metaKey || event.altKey)) || event.target.matches?.("input[type=search], dialog *")) return;
    const act = { j: () => this.list.move(1), k: () => this.list.move(-1), "[": () => this.go(this.place - 1), "]": () => this.go(this.place + 1), "/": () => this.search.focus(), "?": () => help.showModal() }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  async start(asked) {
    if (asked.tag && JSON.stringify(asked) !== this.address) { // after a reload of the page the reader's own choice stands
      this.address = JSON.stringify(asked);
      this.selected = { run: asked.run ?? ".", tag: asked.tag };
      this.wanted = asked.step && Number.isFinite(Number(asked.step)) ? Number(asked.step) : null;
    }
    await this.reload();
    this.list.reveal();
  }

  /** Read what there is anew; what is on screen stays, at the step that it is at. */
  async reload() {
    const request = ++this.listed;
    const answer = await this.get("tags", {}, { current: () => request === this.listed });
    if (!answer) return;
    const before = new Map(this.entries.map((entry) => [keyOf(entry), entry]));
    this.kinds = answer.kinds;
    this.entries = answer.tags.map((entry) => {
      const old = before.get(keyOf(entry));
      return { ...entry, facts: old?.facts, stale: !old || old.stale || old.last_step !== entry.last_step };
    });
    if (!this.entries.length) return this.empty();
    const there = this.selected && this.entries.find((entry) => keyOf(entry) === keyOf(this.selected));
    this.drawSide();
    this.readFacts();
    await this.select(there ?? this.visible()[0] ?? this.entries[0]);
  }

  /** The facts of each example's last step, a chunk at a time. */
  async readFacts() {
    const entries = this.entries;
    for (const run of new Set(entries.map((entry) => entry.run))) {
      const stale = entries.filter((entry) => entry.run === run && entry.stale);
      for (let i = 0; i < stale.length; i += CHUNK) {
        const chunk = stale.slice(i, i + CHUNK);
        const facts = await this.get("latest", { run, tag: chunk.map((entry) => entry.tag) }, { quiet: true });
        if (entries !== this.entries) return; // a later reload has begun
        if (!facts) continue;
        for (const entry of chunk) Object.assign(entry, { facts: facts[entry.tag] ?? entry.facts, stale: false });
        this.drawSide();
      }
    }
  }

  visible() {
    return filtered(this.entries, this);
  }

  filter(change) {
    Object.assign(this, change);
    this.keep();
    this.drawSide();
  }

  drawSide() {
    const runs = [...new Set(this.entries.map((entry) => entry.run))];
    this.runs.hidden = runs.length < 2;
    const off = runs.filter((run) => this.hidden.includes(run)).length;
    this.redraw(this.runs, h("summary", { "data-key": "runs" }, `Runs: ${runs.length - off} of ${runs.length}`),
      ...runs.map((run) => check(run, !this.hidden.includes(run), (on) => this.filter({ hidden: on ? this.hidden.filter((r) => r !== run) : [...this.hidden, run] }), `run/${run}`)));
    const bad = this.entries.filter((entry) => wrong(entry.facts)).length;
    this.redraw(this.marks, check(`Wrong predictions only (${bad})`, this.onlyWrong, (on) => this.filter({ onlyWrong: on }), "wrong"));
    const shown = this.visible();
    this.count.textContent = counted(shown.length, this.entries.length);
    this.list.update(shown, this.selected);
  }

  /** Show an example, at the step that was chosen or at its last. */
  async select(entry) {
    const changed = !this.selected || keyOf(this.selected) !== keyOf(entry);
    const request = ++this.asked;
    this.selected = { run: entry.run, tag: entry.tag };
    this.entry = entry;
    this.list.mark(entry);
    if (changed) {
      this.painted = ++this.drawn;
      this.steps = []; // until the new ones are there, keys and options have nothing to draw
      this.reading = null;
      this.body.setAttribute("aria-busy", "true");
      this.options.rows = "some";
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
    this.redraw(this.head, h("h1", {}, nameOf(entry)), h("p", {}, [entry.run === "." ? null : entry.run, entry.probe === null ? null : entry.monitor, step.example_id === undefined ? null : `example ${step.example_id}`].filter((part) => part !== null).join(" · ")),
      h("button", { type: "button", class: "quiet", "data-key": "link", title: "Copy a link to this example and step", onclick: (e) => copy(link({ run: entry.run, tag: entry.tag, step: step.step }), e.target) }, "Copy link"));
    this.slider.max = steps.length - 1;
    this.slider.value = place;
    this.slider.disabled = steps.length < 2;
    this.slider.setAttribute("aria-valuetext", `step ${step.step}, ${place + 1} of ${steps.length}`);
    this.said.replaceChildren(h("b", {}, `Step ${step.step}`), h("small", {}, `${place + 1} of ${steps.length} · ${new Date(step.wall_time * 1000).toLocaleTimeString()}`));
    this.follow.setAttribute("aria-pressed", String(this.wanted === null));
    const record = await this.record(entry, step, request);
    if (!record) return;
    const renderer = await this.renderer(record.payload ? record.payload.kind ?? entry.kind : null);
    if (request <= this.painted) return;
    this.painted = request;
    this.failed = false;
    this.redraw(this.body, ...this.content(record, renderer));
    this.body.dataset.step = step.step;
  }

  content(record, renderer) {
    const { steps, place, options } = this, broken = record.payload === null;
    const lines = (renderer.lines?.(steps) ?? []).filter((line) => line.values.some(Number.isFinite));
    const charts = steps.length > 1 && lines.length
      ? h("section", { class: "card charts", "aria-label": "Over the steps" }, lines.map((line) => chart(line, steps, place, (i) => this.go(i)))) : null;
    const context = { steps, place, options, charts, set: (option, value) => this.set(option, value) };
    const shown = broken
      ? notice("error", "This step cannot be read", h("p", {}, record.problem), h("p", {}, "The other steps are not affected."))
      : this.rendered(record.payload, renderer, context);
    const later = !broken && record.payload.schema > this.schema
      ? notice("warn", "Written by a later version", h("p", {}, `Its schema is ${record.payload.schema}, and this tab knows ${this.schema}: update lightning-interpret where TensorBoard runs.`)) : null;
    return [later, shown, shown.contains(charts) ? null : charts, source(broken ? record.raw : record.payload, options)].filter(Boolean);
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
    const key = JSON.stringify([entry.run, entry.tag, step.step, step.wall_time]);
    let record = this.records.get(key);
    if (!record) {
      await this.reading;
      if (request !== this.drawn) return null;
      this.reading = this.get("record", { run: entry.run, tag: entry.tag, step: step.step }, { current: () => request > this.painted });
      record = await this.reading;
      if (!record) return null;
    }
    this.records.delete(key);
    this.records.set(key, record); // the newest last
    for (const old of [...this.records.keys()].slice(0, -KEPT)) this.records.delete(old);
    return record;
  }

  /** Draw again without taking from the reader where the focus is, and how far boxes are scrolled. */
  redraw(element, ...children) {
    const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    if (element === this.body) element.setAttribute("aria-busy", "false");
    const scrolled = [...element.querySelectorAll("[data-scroll]")].map((box) => [box.dataset.scroll, box.scrollTop]);
    element.replaceChildren(...children);
    for (const [name, top] of scrolled) for (const box of element.querySelectorAll(`[data-scroll="${name}"]`)) box.scrollTop = top;
    if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  }

  /** The answer of a route, or `null`: of a request that is not `current` any more, or that failed, which is shown. */
  async get(route, query, { current = () => true, quiet = false } = {}) {
    const asked = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) for (const one of [value].flat()) asked.append(name, one);
    try {
      const response = await fetch(`./${route}?${asked}`);
      if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
      const answer = await response.json();
      this.schema ??= answer.schema;
      return current() ? answer : null;
    } catch (error) {
      if (!quiet && current()) this.fail(String(error.message ?? error));
      return null;
    }
  }

  fail(why) {
    this.failed = true;
    this.bar.hidden = !this.steps.length;
    this.redraw(this.body, notice("error", "TensorBoard did not answer", h("p", {}, why), h("button", { type: "button", "data-key": "retry", onclick: () => this.reload() }, "Try again")));
  }

  empty() {
    this.drawSide();
    this.asked++;
    this.painted = ++this.drawn;
    this.steps = [];
    this.bar.hidden = true;
    this.redraw(this.body, notice("empty", "Nothing to show yet",
      h("p", {}, "The runs in this log directory have no explanations so far. Add a Monitor to the trainer; the first records come with the first validation:"),
      h("pre", {}, "from lightning_interpret import SaliencyMonitor\n\ntrainer = Trainer(callbacks=[SaliencyMonitor(tokenizer=tokenizer)])")));
  }

  keep() {
    const { hidden, onlyWrong, query, options, selected, wanted, address } = this;
    memory.save({ hidden, onlyWrong, query, options, selected, wanted, address });
  }
}
