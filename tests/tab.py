"""The Interpret tab in a browser, for tests: opened at an address, looked at."""

import urllib.parse
from contextlib import contextmanager

COLOURS = """
  const rgb = (text) => {
    const n = text.match(/[\\d.]+(e-?\\d+)?/g).map(Number), by = text.startsWith("color(") ? 255 : 1;
    return [n[0] * by, n[1] * by, n[2] * by, n[3] ?? 1];
  };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const behind = (e) => {
    if (!e) return [255, 255, 255, 1];
    const own = rgb(getComputedStyle(e).backgroundColor);
    return own[3] === 1 ? own : over(own, behind(e.parentElement));
  };
"""
# Every text on the page whose contrast with what is behind it is below that of WCAG's level AA.
FAINT = (
    "() => {"
    + COLOURS
    + """
  const light = (c) => {
    const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    if (!e.checkVisibility() || e.closest(".hidden")) continue;
    const style = getComputedStyle(e), below = behind(e);
    let opacity = 1;
    for (let p = e; p; p = p.parentElement) opacity *= Number(getComputedStyle(p).opacity);
    const ink = rgb(e instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(over([...ink.slice(0, 3), ink[3] * opacity], below)), light(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.push(`${e.outerHTML.slice(0, 80)} ${ratio.toFixed(2)}`);
  }
  return faint;
}"""
)


def hash_of(tag, run, step=None):
    quoted = {"run": run, "tag": tag} | ({} if step is None else {"step": step})
    return "&".join(f"p.interpret.{name}={urllib.parse.quote(str(value), safe='')}" for name, value in quoted.items())


@contextmanager
def opened(chromium, address, asked="", *, alone=True, width=1400, height=1000, allowed=(), wait=".body .card"):
    """Open the tab, by itself or with TensorBoard around it; yields the page and the tab's frame.

    Errors on the console are failures, unless they are of TensorBoard's own files.
    """
    page, errors = chromium.new_page(viewport={"width": width, "height": height}), []
    page.set_default_timeout(15_000)

    def note(message):
        if message.type == "error" and ("/interpret/" in message.location["url"] or "404" not in message.text):
            errors.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(
        f"{address}data/plugin_entry.html?name=interpret#{asked}"
        if alone
        else f"{address}#{'&'.join(filter(None, ['interpret', asked]))}"
    )
    try:
        yield page, frame_of(page, wait, alone)
        assert [error for error in errors if not any(text in error for text in allowed)] == []
    finally:
        page.close()


def frame_of(page, wait=".body .card", alone=False):
    frame = page.main_frame if alone else page.wait_for_selector("iframe").content_frame()
    frame.wait_for_selector(wait)
    return frame
