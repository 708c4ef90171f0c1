// The Interpret tab: an example on the left, its records step by step on the right.

import { askedFor, followReloads, followTheme, link, memory } from "./host.js";
import { createList } from "./list.js";
import { filtered, placeOf, wrong } from "./model.js";
import { chart, check, h, notice, source } from "./parts.js";

const CHUNK = 50; // examples whose facts are asked for in one request
const DEFAULTS = { unit: "word", scale: "step", special: true, sort: "place", rows: "some" };

/** Called by TensorBoard, once, in a page of the tab's own. */
export async function render() {
  document.documentElement.lang = "en";
  document.head.append(h("title", {}, "Interpret"), h("meta", { name: "viewport", content: "width=device-width" }), h("link", { rel: "stylesheet", href: "./index.css" }));
  followTheme();
  const tab = new Tab();
  document.body.replaceChildren(tab.element);
  await tab.start(askedFor());
  followReloads(() => tab.reload());
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
    this.asked = 0; // the newest request for an example: answers to older ones are dropped
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
      h("dl", {}, [["↑ ↓", "example before and after, in the list"], ["k  j", "the same, from anywhere"], ["[  ]", "step before and after"], ["← →", "in the words: word by word; on the slider: step by step"], ["/", "search"], ["?", "this list"]].map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
      h("form", { method: "dialog" }, h("button", {}, "Close")));
    this.element = h("div", { class: "tab" },
      h("nav", { class: "side", "aria-label": "Examples" },
        h("div", { class: "filters" }, this.search, this.runs, this.marks, this.count), this.list.element,
        h("button", { type: "button", class: "quiet keys", onclick: () => help.showModal() }, "Keys  ?")),
      h("main", {}, this.bar, this.body), help);
    document.addEventListener("keydown", (event) => this.key(event, help));
  }

  key(event, help) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input[type=search], dialog *")) return;
    const act = { j: () => this.list.move(1), k: () => this.list.move(-1), "[": () => this.go(this.place - 1), "]": () => this.go(this.place + 1), "/": () => this.search.focus(), "?": () => help.showModal() }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  async start(asked) {
    if (asked.tag && JSON.stringify(asked) !== this.address) { // after a reload of the page the reader's own choice stands
      this.address = JSON.stringify(asked);
      this.selected = { run: asked.run ?? ".", tag: asked.tag };
      this.wanted = asked.step === undefined ? null : Number(asked.step);
    }
    await this.reload();
    this.list.reveal();
  }

  /** Read what there is anew; what is on screen stays, at the step that it is at. */
  async reload() {
    const answer = await this.get("tags");
    if (!answer) return;
    const before = new Map(this.entries.map((entry) => [JSON.stringify([entry.run, entry.tag]), entry]));
    this.kinds = answer.kinds;
    this.entries = answer.tags.map((entry) => {
      const old = before.get(JSON.stringify([entry.run, entry.tag]));
      return { ...entry, facts: old?.facts, stale: !old || old.last_step !== entry.last_step };
    });
    if (!this.entries.length) return this.empty();
    const there = this.selected && this.entries.find((e) => e.run === this.selected.run && e.tag === this.selected.tag);
    this.drawSide();
    await Promise.all([this.select(there ?? this.visible()[0] ?? this.entries[0], { again: true }), this.readFacts()]);
  }

  /** The facts of each example's last step, a chunk at a time. */
  async readFacts() {
    const entries = this.entries, runs = Map.groupBy ? Map.groupBy(entries, (e) => e.run) : group(entries);
    for (const [run, all] of runs) {
      const stale = all.filter((entry) => entry.stale);
      for (let i = 0; i < stale.length; i += CHUNK) {
        const chunk = stale.slice(i, i + CHUNK);
        const facts = await this.get("latest", { run, tag: chunk.map((entry) => entry.tag) }, { quiet: true });
        if (entries !== this.entries || !facts) return; // a later reload has begun
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
    this.runs.replaceChildren(h("summary", {}, `Runs: ${runs.length - off} of ${runs.length}`),
      ...runs.map((run) => check(run, !this.hidden.includes(run), (on) => this.filter({ hidden: on ? this.hidden.filter((r) => r !== run) : [...this.hidden, run] }), `run/${run}`)));
    const bad = this.entries.filter((entry) => wrong(entry.facts)).length;
    this.redraw(this.marks, check(`Wrong predictions only (${bad})`, this.onlyWrong, (on) => this.filter({ onlyWrong: on }), "wrong"));
    const shown = this.visible();
    this.count.textContent = shown.length === this.entries.length ? `${shown.length} examples` : `${shown.length} of ${this.entries.length} examples`;
    this.list.update(shown, this.selected);
  }

  /** Show an example, at the step that was chosen or at its last. */
  async select(entry, { again = false } = {}) {
    const changed = !this.selected || this.selected.run !== entry.run || this.selected.tag !== entry.tag;
    const request = ++this.asked;
    this.selected = { run: entry.run, tag: entry.tag };
    this.entry = entry;
    this.list.mark(entry);
    if (changed) this.options.rows = "some";
    this.keep();
    const steps = await this.get("steps", { run: entry.run, tag: entry.tag });
    if (request !== this.asked || !steps) return;
    const unread = again && !changed && this.steps.length && steps.at(-1).wall_time === this.steps.at(-1).wall_time;
    if (!unread) this.records.clear();
    this.steps = steps;
    this.place = placeOf(steps, this.wanted);
    await this.draw(request);
  }

  go(place) {
    if (!this.steps[place]) return;
    this.place = place;
    this.wanted = place === this.steps.length - 1 ? null : this.steps[place].step;
    this.keep();
    this.draw(++this.asked);
  }

  latest() {
    this.wanted = null;
    this.go(this.steps.length - 1);
  }

  set(option, value) {
    this.options[option] = value;
    this.keep();
    this.draw(++this.asked);
  }

  async draw(request) {
    const { entry, steps, place } = this, step = steps[place];
    this.bar.hidden = false;
    const name = entry.probe === null ? entry.tag : `Probe ${entry.probe}`;
    this.redraw(this.head, h("h1", {}, name), h("p", {}, [entry.run === "." ? null : entry.run, entry.monitor, step.example_id === undefined ? null : `example ${step.example_id}`].filter((part) => part !== null).join(" · ")),
      h("button", { type: "button", class: "quiet", "data-key": "link", title: "Copy a link to this example and step", onclick: () => navigator.clipboard?.writeText(link({ run: entry.run, tag: entry.tag, step: step.step })) }, "Copy link"));
    this.slider.max = steps.length - 1;
    this.slider.value = place;
    this.slider.disabled = steps.length < 2;
    this.slider.setAttribute("aria-valuetext", `step ${step.step}, ${place + 1} of ${steps.length}`);
    this.said.replaceChildren(h("b", {}, `Step ${step.step}`), h("small", {}, `${place + 1} of ${steps.length} · ${new Date(step.wall_time * 1000).toLocaleTimeString()}`));
    this.follow.setAttribute("aria-pressed", String(this.wanted === null));
    const record = await this.record(entry, step);
    if (request !== this.asked || !record) return;
    const renderer = await this.renderer(record.payload ? record.payload.kind ?? entry.kind : null);
    if (request !== this.asked) return;
    this.redraw(this.body, ...this.content(record, renderer));
    this.body.dataset.step = step.step;
  }

  content(record, renderer) {
    const { steps, place, options } = this, broken = record.payload === null;
    const lines = (renderer.lines?.(steps) ?? []).filter((line) => line.values.some(Number.isFinite));
    const charts = steps.length > 1 && lines.length
      ? h("section", { class: "card charts", "aria-label": "Over the steps" }, lines.map((line) => chart(line, steps, place, (i) => this.go(i)))) : null;
    const context = { steps, place, options, charts, set: (option, value) => this.set(option, value) };
    let shown;
    try {
      shown = broken ? notice("error", "This step cannot be read", h("p", {}, record.problem), h("p", {}, "The other steps are not affected.")) : renderer.render(record.payload, context);
    } catch (error) {
      shown = notice("error", "This record cannot be drawn", h("p", {}, String(error)), h("p", {}, "It stands below as it was written."));
    }
    const later = !broken && record.payload.schema > this.schema
      ? notice("warn", "Written by a later version", h("p", {}, `Its schema is ${record.payload.schema}, and this tab knows ${this.schema}: update lightning-interpret where TensorBoard runs.`)) : null;
    return [later, shown, shown.contains(charts) ? null : charts, source(broken ? record.raw : record.payload)].filter(Boolean);
  }

  /** The module of a kind: by its name, or plain data. */
  async renderer(kind) {
    const name = this.kinds.includes(kind) ? kind : "plain";
    if (!this.renderers.has(name)) this.renderers.set(name, await import(`./kinds/${name}.js`));
    return this.renderers.get(name);
  }

  async record(entry, step) {
    if (!this.records.has(step.step)) {
      const found = await this.get("record", { run: entry.run, tag: entry.tag, step: step.step });
      if (!found) return null;
      this.records.set(step.step, found);
    }
    return this.records.get(step.step);
  }

  /** Draw again without taking the focus from the reader. */
  redraw(element, ...children) {
    const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    element.replaceChildren(...children);
    if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  }

  async get(route, query = {}, { quiet = false } = {}) {
    const asked = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) for (const one of [value].flat()) asked.append(name, one);
    try {
      const response = await fetch(`./${route}?${asked}`);
      if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
      const answer = await response.json();
      this.schema ??= answer.schema;
      return answer;
    } catch (error) {
      if (!quiet) this.redraw(this.body, notice("error", "TensorBoard did not answer", h("p", {}, String(error.message ?? error)), h("button", { type: "button", "data-key": "retry", onclick: () => this.reload() }, "Try again")));
      return null;
    }
  }

  empty() {
    this.drawSide();
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

function group(entries) {
  const runs = new Map();
  for (const entry of entries) runs.set(entry.run, [...(runs.get(entry.run) ?? []), entry]);
  return runs;
}
