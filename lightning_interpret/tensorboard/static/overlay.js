// An attribution of an image: the image, and the image in grey under the colours of its locations, on a canvas.

import { choice, h } from "./parts.js";
import { besides, cellAt, percent, pictureOf, printable, signed, strength } from "./model.js";

const WIDTH = 720; // pixels of the canvas, for sharp edges on any screen
const MOST = 0.8; // opacity of the strongest location at first: the image is still seen below it
const HATCHED = 0.12; // strength from which a location that is against carries a stroke: a sign without colour

/** The card with both pictures. `found` is `locations(record)`, `scale` what colours are divided by. */
export function overlay(record, found, scale, whole, { options, set }, legend) {
  const uri = pictureOf(record);
  const [rows, columns] = found.full;
  const tip = h("div", { class: "tip", role: "status", hidden: true });
  const canvas = h("canvas", {
    tabindex: "0", role: "application", "data-key": "overlay",
    "aria-label": `Scores of ${found.shape.join(" × ")} locations over the image: arrow keys move between them. The table below lists them.`,
  });
  const cursor = h("i", { class: "cursor", hidden: true });
  const over = h("div", { class: "pane" }, canvas, ...box(record.box), cursor);
  const image = uri ? h("img", { src: uri, alt: "The image that was explained" }) : null;
  const plain = image ? h("div", { class: "pane" }, image, ...box(record.box)) : null;
  let opacity = options.opacity ?? MOST;

  const draw = () => paint(canvas, image?.naturalWidth ? image : null, found.cells, scale, opacity);
  const fit = () => {
    const ratio = image?.naturalWidth ? image.naturalHeight / image.naturalWidth : rows / columns;
    canvas.width = WIDTH;
    canvas.height = Math.round(WIDTH * Math.min(3, Math.max(1 / 3, ratio)));
    draw();
  };
  image?.addEventListener("load", fit);
  image?.addEventListener("error", () => plain.replaceChildren(h("p", { class: "muted" }, "The image cannot be shown.")));
  fit();
  const theme = new MutationObserver(() => (canvas.isConnected ? draw() : theme.disconnect()));
  theme.observe(document.documentElement, { attributeFilter: ["data-theme"] });

  const show = (index) => {
    const cell = found.cells[index];
    if (!cell) return;
    options.cell = index; // kept over the steps; nothing else depends on it
    Object.assign(cursor.style, place(cell.box));
    tip.replaceChildren(
      h("span", { class: "word" }, cell.text), h("b", { class: "number" }, signed(cell.score)),
      h("span", {}, `${percent(Math.abs(cell.score ?? 0) / whole)} of all`),
    );
    cursor.hidden = tip.hidden = false;
    const around = tip.parentElement.getBoundingClientRect(), at = cursor.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(around.width - tip.offsetWidth - 8, at.left - around.left))}px`;
    tip.style.top = `${at.bottom - around.top + 6}px`;
  };
  const hide = () => (cursor.hidden = tip.hidden = true);
  canvas.addEventListener("pointermove", (event) => {
    const around = canvas.getBoundingClientRect();
    show(cellAt(found, (event.clientX - around.left) / around.width, (event.clientY - around.top) / around.height));
  });
  canvas.addEventListener("pointerleave", hide);
  canvas.addEventListener("focus", () => show(Math.min(options.cell ?? strongest(found.cells), found.cells.length - 1)));
  canvas.addEventListener("blur", hide);
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hide();
    const to = besides(Math.min(options.cell ?? 0, found.cells.length - 1), event.key, found.shape);
    if (to === null) return;
    event.preventDefault();
    show(to);
  });

  const slider = h("input", {
    type: "range", class: "opacity", min: 0, max: 100, step: 5, value: Math.round(opacity * 100), "data-key": "opacity", "aria-label": "Strength of the colours over the image",
    oninput: (event) => { options.opacity = opacity = Number(event.target.value) / 100; draw(); },
    onchange: (event) => set("opacity", Number(event.target.value) / 100),
  });
  return h(
    "section",
    { class: "card words", "aria-label": "The image and the scores of its locations" },
    h(
      "div",
      { class: "tools" },
      choice("Scale", [["step", "This step"], ["all", "All steps"]], options.scale, (value) => set("scale", value)),
      h("label", { class: "check" }, h("span", {}, "Colours"), slider),
      legend,
    ),
    h("div", { class: "panes" }, plain, over),
    h("p", { class: "muted said" }, said(found, image)),
    tip,
  );
}

function said({ shape, full, pooled }, image) {
  const summed = pooled[0] * pooled[1] > 1 ? `, each the sum of ${pooled.join(" × ")} of the ${full.join(" × ")} that were scored` : "";
  return `${shape.join(" × ")} locations${summed}. A colour is as strong as its share of the scale; locations that are against are struck through.${image ? "" : " The record has no image."}`;
}

function strongest(cells) {
  return cells.reduce((best, cell) => (Math.abs(cell.score ?? 0) > Math.abs(cells[best].score ?? 0) ? cell.index : best), 0);
}

function box(of) {
  if (!Array.isArray(of) || of.length !== 4 || !of.every(Number.isFinite)) return [];
  const mark = h("i", { class: "box" });
  Object.assign(mark.style, place(of));
  return [mark];
}

const share = (number) => `${(100 * Math.max(0, Math.min(1, number))).toFixed(3)}%`;
const place = ([x0, y0, x1, y1]) => ({ left: share(x0), top: share(y0), right: share(1 - x1), bottom: share(1 - y1) });

function paint(canvas, image, cells, scale, opacity) {
  const context = canvas.getContext("2d"), { width, height } = canvas;
  const colour = getComputedStyle(document.documentElement), named = (name) => colour.getPropertyValue(name).trim();
  context.globalCompositeOperation = "source-over";
  context.globalAlpha = 1;
  context.fillStyle = named("--rule");
  context.fillRect(0, 0, width, height);
  if (image) {
    context.drawImage(image, 0, 0, width, height);
    context.globalCompositeOperation = "saturation"; // grey, also where canvases know no filters
    context.fillStyle = "hsl(0, 0%, 50%)";
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "source-over";
  }
  context.strokeStyle = named("--ink");
  for (const cell of cells) {
    const of = strength(cell.score, scale);
    const [x0, y0, x1, y1] = cell.box.map((at, i) => Math.round(at * (i % 2 ? height : width)));
    context.fillStyle = named(of > 0 ? "--for" : "--against");
    context.globalAlpha = Math.abs(of) * opacity;
    context.fillRect(x0, y0, x1 - x0, y1 - y0);
    if (of > -HATCHED || Math.min(x1 - x0, y1 - y0) < 12) continue;
    context.globalAlpha = opacity / 2;
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(x0 + 3, y1 - 3);
    context.lineTo(x1 - 3, y0 + 3);
    context.stroke();
  }
  canvas.dataset.drawn = printable(`${image ? "image" : "empty"} ${colour.colorScheme} ${opacity}`); // for those who wait for it
}
