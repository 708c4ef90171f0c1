// Records that were fetched, so that going back and forth does not ask again.

const KEPT = 30; // one record may be megabytes

/** The newest records, by entry and step. */
export class Shelf {
  #records = new Map();

  get(entry, step) {
    return this.#records.get(place(entry, step));
  }

  put(entry, step, record) {
    this.#records.delete(place(entry, step));
    this.#records.set(place(entry, step), record); // the newest last
    for (const old of [...this.#records.keys()].slice(0, -KEPT)) this.#records.delete(old);
  }
}

const place = (entry, step) => JSON.stringify([entry.key, step.step, step.wall_time]);
