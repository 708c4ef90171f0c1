// Facts of thousands of examples: those on screen first, the others in chunks while nothing else is to be done.

const CHUNK = 250; // examples of one request at most
const LONGEST = 7000; // characters of an address that servers and proxies take

/**
 * Reads the facts of every entry that is `stale`, until `read` is called with other entries.
 *
 * @param {(run: string, tags: string[]) => Promise<object|null>} get what is known of some tags of a run
 * @param {() => object[]} onscreen the entries that the reader sees
 * @param {() => void} onread called when facts have come
 */
export function createReader({ get, onscreen, onread }) {
  let newest = 0;

  /** `after` is what goes first: nothing but the facts on screen is asked for before it is done. */
  async function read(entries, after) {
    const request = ++newest;
    let done = false, at = 0;
    Promise.resolve(after).then(() => (done = true));
    for (;;) {
      let chunk = cut(onscreen().filter(({ stale }) => stale));
      if (!chunk.length) {
        if (!done) await after;
        else await idle();
        if (request !== newest) return;
        while (entries[at] && !entries[at].stale) at++;
        chunk = cut(onscreen().filter(({ stale }) => stale));
        if (!chunk.length) chunk = cut(entries, at);
        if (!chunk.length) return;
      }
      const facts = await get(chunk[0].run, chunk.map(({ tag }) => tag));
      if (request !== newest) return; // a later reload has begun
      for (const entry of chunk) Object.assign(entry, { facts: facts?.[entry.tag] ?? entry.facts, stale: false, missed: !facts });
      onread();
    }
  }

  /** The entries that `listed()` returns once the facts of all of them were read; `onleft` is told how many are to come. */
  async function whole(listed, onleft) {
    for (;;) {
      const entries = listed(), left = entries.filter(({ stale }) => stale).length;
      if (!left) return entries;
      onleft(left);
      await new Promise((then) => setTimeout(then, 100));
    }
  }

  return { read, whole };
}

/** The first entries from a place that are wanted, stale ones by default, and of one run: no more than a request takes. */
export function cut(entries, at = 0, wanted = ({ stale }) => stale) {
  const chunk = [];
  for (let length = 0; at < entries.length && chunk.length < CHUNK; at++) {
    const entry = entries[at];
    if (!wanted(entry)) continue;
    length += encodeURIComponent(entry.tag).length + 5;
    if (chunk.length && (entry.run !== chunk[0].run || length > LONGEST)) break;
    chunk.push(entry);
  }
  return chunk;
}

/** The next moment in which the browser has nothing else to do; in a page that is not on screen, soon. */
const idle = () => new Promise((then) => (window.requestIdleCallback ?? ((call) => setTimeout(call, 20)))(then, { timeout: 500 }));
