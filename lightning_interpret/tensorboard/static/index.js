// The Interpret tab's door: what takes longest is asked for before the rest of the tab is there.

const tags = fetch("./tags?");
tags.catch(() => {}); // said where it is waited for
document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: "./index.css" }));

/** Called by TensorBoard, once, in a page of the tab's own. */
export async function render() {
  const { start } = await import("./tab.js");
  await start(tags);
}
