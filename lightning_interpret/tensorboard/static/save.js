// What the reader takes away: the examples that are listed, their ids, a record, as files that the browser saves.

import { cut } from "./facts.js";
import { save } from "./host.js";
import { h } from "./parts.js";

const COLUMNS = ["example_id", "run", "monitor", "probe", "step", "gold", "prediction", "cause", "cue"];

/** The ids of entries with what tells them apart: a line an entry, columns parted by tabs. */
export function table(entries) {
  const cell = (value) => String(value ?? "").replace(/[\t\n\r]+/g, " ");
  const line = ({ run, monitor, probe, last_step, facts }) => COLUMNS.map((name) => cell({ run, monitor, probe, step: last_step }[name] ?? facts?.[name])).join("\t");
  return [COLUMNS.join("\t"), ...entries.map(line), ""].join("\n");
}

/**
 * Two buttons that save the entries which `listed()` returns; `read(onleft)` returns them with their
 * facts, and `records(run, tags)` the payload of the last step of each tag, by tag.
 */
export function createSaver({ listed, read, records }) {
  const said = h("small", { class: "muted", role: "status" });
  let busy = false;
  const button = (label, title, make) => h("button", { type: "button", class: "quiet", title, onclick: async () => {
    if (busy) return;
    busy = true;
    try {
      said.textContent = await make(listed());
    } catch (error) {
      said.textContent = `Not saved: ${error.message ?? error}`;
    } finally {
      busy = false;
    }
  } }, label);
  const count = (entries) => `${entries.length} saved`;
  return h("div", { class: "saver", role: "group", "aria-label": "Save the examples that are listed" },
    button("Save records", "Save the last record of each example that is listed, one a line, as JSON", async (entries) => {
      const lines = [];
      while (lines.length < entries.length) {
        said.textContent = `${lines.length} of ${entries.length} read …`;
        const some = cut(entries, lines.length, () => true), run = some[0].run;
        const found = await records(run, some.map(({ tag }) => tag));
        for (const { tag } of some) lines.push(JSON.stringify({ run, tag, ...found[tag] }) + "\n");
      }
      save("examples.jsonl", lines, "application/jsonl");
      return count(entries);
    }),
    button("Save ids", "Save the ids of the examples that are listed, with labels and causes, as a table with tabs", async () => {
      const entries = await read((left) => (said.textContent = `${left} still to read …`));
      save("ids.tsv", table(entries), "text/tab-separated-values");
      return count(entries);
    }),
    said);
}
