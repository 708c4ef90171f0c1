// How a text is read, without a document: tokens as words, the parts of a text, what of a long one is kept.

const MATTERS = 0.05; // share of the strongest below which a word is kept only beside another one
const BYTES = bytes();

/** The byte that each letter of a byte-level vocabulary stands for (Radford et al., 2019). */
function bytes() {
  const plain = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  const found = new Map();
  for (let byte = 0, others = 0; byte < 256; byte++) found.set(String.fromCharCode(plain(byte) ? byte : 256 + others++), byte);
  return found;
}

/** A token as it is read: marks of gaps and of continuations taken away, bytes as the characters they are. */
export function readable(token) {
  const given = String(token);
  let plain = given.startsWith("##") && given.length > 2 ? given.slice(2) : given.replace(/<\/w>$/, "");
  if (/[^\x00-\x7f]/.test(plain)) plain = decoded(plain).replace(/[▁Ġ]/g, " ");
  return plain.replace(/^ +| +$/g, "") || (plain ? "␣" : given);
}

function decoded(text) {
  const found = [...text].map((letter) => BYTES.get(letter));
  if (found.includes(undefined)) return text;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(found));
  } catch {
    return text;
  }
}

/** What a part of a text is called: its own name, or first and second of a pair. */
export function segmentName(names, number) {
  const name = names?.[number];
  return name !== null && name !== undefined && String(name).trim() ? String(name) : ["first", "second"][number] ?? `part ${number + 1}`;
}

/** For each token the part of the text that it is shown in: a special token of a part without others, in the one before. */
export function partsOf(record) {
  const given = (record.tokens ?? []).map((_, i) => record.segment?.[i] ?? 0);
  const some = new Set(given.filter((_, i) => !record.special?.[i])), known = some.size ? some : new Set(given);
  const found = [];
  given.forEach((part, i) => found.push(known.has(part) ? part : found.at(-1) ?? given.slice(i).find((each) => known.has(each))));
  return found;
}

/** The words of a record in reading order, each with its tokens `start` to `end`; special tokens stand alone. */
export function wordsOf(record) {
  const tokens = record.tokens ?? [], named = record.word_ids?.length === tokens.length;
  const parts = partsOf(record), marked = tokens.some((token) => /^[Ġ▁]/.test(token)), found = [];
  let before;
  tokens.forEach((token, i) => {
    const id = named ? record.word_ids[i] ?? null : i, special = Boolean(record.special?.[i]) || id === null;
    const last = found.at(-1);
    if (!special && id === before && last.segment === parts[i]) {
      last.end = i + 1;
      if (!last.named) last.text = readable(tokens.slice(last.start, last.end).join(""));
      return;
    }
    const given = named && !special ? record.words?.[id] : null, text = typeof given === "string" && given ? given : readable(token);
    const space = !last || last.special || special || gap(record, i, marked, last.text, text);
    found.push({ index: found.length, text, start: i, end: i + 1, special, segment: parts[i], space, named: text === given });
    before = special ? undefined : id;
  });
  return found;
}

function gap(record, i, marked, before, here) {
  const [now, last] = [record.offsets?.[i], record.offsets?.[i - 1]];
  if (now?.[1] > now?.[0] && last?.[1] > last?.[0] && now[0] >= last[1]) return now[0] > last[1] || /\s/.test(record.text?.[now[0]] ?? "");
  if (marked) return /^[Ġ▁]/.test(record.tokens[i]);
  const wide = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\u3000-\u303f\uff00-\uffef]/u;
  return !(wide.test([...before].at(-1) ?? "") && wide.test([...here][0] ?? ""));
}

/** What a target's scores of a word sum to: `undefined` where it is not read for it, `null` where that is no number. */
export function scoreOf(target, { start, end }) {
  const read = (target.scores ?? []).slice(start, end);
  if (!read.length) return undefined;
  return read.every(Number.isFinite) ? read.reduce((sum, score) => sum + score, 0) : null;
}

/** Whether a target is at a word. */
export const isAt = (target, { start, end }) => Array.isArray(target.span) && target.span[0] < end && start < target.span[1];

/**
 * The places that are kept of a long list, about `most`: some `always` with those `around` them, some `alone`, then the
 * strongest with those around them.
 */
export function keptOf(weights, most, around, always = [], alone = []) {
  const kept = new Set(), least = MATTERS * weights.reduce((a, b) => Math.max(a, b), 0);
  const strongest = weights.map((weight, i) => [weight, i]).filter(([weight]) => weight >= least).sort((a, b) => b[0] - a[0] || a[1] - b[1]).map(([, i]) => i);
  for (const [place, reach] of [...always.map((i) => [i, around]), ...alone.map((i) => [i, 0]), ...strongest.map((i) => [i, around])]) {
    for (let by = 0; by <= reach; by++) for (const i of by ? [place - by, place + by] : [place]) if (i >= 0 && i < weights.length && kept.size < most) kept.add(i);
    if (kept.size >= most) break;
  }
  weights.forEach((_, i) => { if (kept.has(i - 1) && kept.has(i + 1)) kept.add(i); }); // a mark of one is no shorter than it
  return kept;
}

/** Words in stretches: those that are kept one by one, those of a part that are left out side by side as one. */
export function narrowed(words, kept) {
  const found = [];
  for (const word of words) {
    const last = found.at(-1);
    if (kept.has(word.index)) found.push(word);
    else if (last?.left && last.segment === word.segment) Object.assign(last, { end: word.end, left: last.left + 1 });
    else found.push({ ...word, special: true, left: 1, space: true });
  }
  for (const one of found) if (one.left) one.text = `… ${one.left} word${one.left === 1 ? "" : "s"} left out …`;
  return found.map((one, index) => ({ ...one, index }));
}

/** Words that matter to targets: those that they are `at`, the strongest with those around them, of each part some. */
export function mattering(words, targets, most, around, at = isAt) {
  if (words.length <= most) return words;
  const weights = words.map((word) => (word.special ? -1 : targets.reduce((largest, target) => Math.max(largest, Math.abs(scoreOf(target, word) ?? 0)), 0)));
  const always = words.filter((word) => targets.some((target) => at(target, word))).map(({ index }) => index), alone = [];
  for (const part of new Set(words.map(({ segment }) => segment))) {
    alone.push(...words.filter(({ segment }) => segment === part).map(({ index }) => index).sort((a, b) => weights[b] - weights[a]).slice(0, Math.ceil(most / 4)));
  }
  return narrowed(words, keptOf(weights, most, around, always, alone));
}
