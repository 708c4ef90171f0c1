// TensorBoard around the tab: its reloads, its theme, its address. The tab works without any of it.
//
// TensorBoard's own library for this was never published; the messages are those of its `plugin_lib`. The page around the
// tab is of the same origin, but a notebook may show the tab by itself.

const around = (() => {
  try {
    return window.parent !== window && window.parent.document ? window.parent : null;
  } catch {
    return null;
  }
})();

/** Call `onreload` when TensorBoard has read new data. */
export function followReloads(onreload) {
  if (!around) return;
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = (event) => {
    const { type, id, isReply } = JSON.parse(event.data);
    if (isReply) return;
    if (type === "experimental.DataReloaded") onreload();
    port1.postMessage(JSON.stringify({ type, id, payload: null, error: null, isReply: true }));
  };
  around.postMessage("experimental.bootstrap", window.location.origin, [port2]);
}

/** What the address asks of the tab: its `p.interpret.*`. TensorBoard tells it by a message too, but not at first. */
export function askedFor() {
  const asked = {};
  for (const part of (around ?? window).location.hash.slice(1).split("&")) {
    const [, name, value] = /^p\.interpret\.(\w+)=(.*)$/.exec(part) ?? [];
    if (name) asked[name] = decoded(value);
  }
  return asked;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a per cent sign of its own
  }
}

/** Follow TensorBoard's light or dark theme, or the reader's system where there is none to follow. */
export function followTheme() {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const body = around?.document.body;
  const apply = () => {
    const dark = body ? body.classList.contains("dark-mode") : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  };
  if (body) new MutationObserver(apply).observe(body, { attributes: true, attributeFilter: ["class"] });
  system.addEventListener("change", apply);
  apply();
}

/** A link to what is on screen: the address of TensorBoard with the tab's part of it. */
export function link(selection) {
  const place = (around ?? window).location;
  const asked = Object.entries(selection)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]) => `p.interpret.${key}=${encodeURIComponent(value)}`);
  return `${place.origin}${place.pathname}#interpret&${asked.join("&")}`;
}

/** Copy a text and say so on the button. A page that came over plain HTTP has no clipboard: it copies in the old way. */
export async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = label), 1500);
}

/** Save a text, or parts of one, under a name. */
export function save(name, parts, type = "application/json") {
  const address = URL.createObjectURL(new Blob([parts].flat(), { type: `${type};charset=utf-8` }));
  Object.assign(document.createElement("a"), { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** What the reader chose, kept for a reload of the page; nothing where the browser keeps nothing. */
export const memory = {
  load() {
    try {
      return JSON.parse(window.sessionStorage.getItem("lightning_interpret") ?? "{}");
    } catch {
      return {};
    }
  },
  save(value) {
    try {
      window.sessionStorage.setItem("lightning_interpret", JSON.stringify(value));
    } catch {
      // private windows: the tab goes on without
    }
  },
};
