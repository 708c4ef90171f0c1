"""A row as HTML, for notebooks: words in their colours, or an image under the colours of its locations."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from lightning_interpret.palette import AGAINST, FOR, background, foreground, scale_of

if TYPE_CHECKING:
    from lightning_interpret.explanations import AttributionRow

_SIDE = 224  # pixels of an image's longer side
_MOST = 0.75  # opacity of the strongest location: the image is still seen below it


def html(row: AttributionRow) -> str:
    """Return a paragraph that says what was explained, and what the scores are."""
    shown = _image(row) if row.units == "location" else f"<p>{_words(row)}</p>"
    return f"<p>{escape(row.summary())}</p>{shown}"


def _words(row: AttributionRow) -> str:
    words = row.merged()
    # special tokens are left out, as in every picture: a large score on one would pale every word
    scale = scale_of([word.score for word in words if not word.special])
    return " ".join(
        f'<span title="{word.score:+.4g}" style="background:rgb{background(word.score / scale)};'
        f'color:rgb{foreground(word.score / scale)};padding:0 .2em">{escape(word.text)}</span>'
        for word in words
    )


def _image(row: AttributionRow) -> str:
    whole = row.locations()
    grid = whole.pool()
    shapes = []
    if row.image is not None and row.image.startswith("data:image/"):
        shapes.append(
            f'<image href="{escape(row.image)}" width="1" height="1" preserveAspectRatio="none" '
            'style="filter:grayscale(1)"/>'
        )
    for i, (score, strength) in enumerate(zip(grid.scores, grid.strengths, strict=True)):
        fill = f'fill="rgb{FOR if strength > 0 else AGAINST}" fill-opacity="{_MOST * abs(strength):.2f}"'
        title = f"<title>row {i // grid.shape[1] + 1}, column {i % grid.shape[1] + 1}: {score:+.3g}</title>"
        shapes.append(f"<rect {_at(*grid.edges(i))} {fill}>{title}</rect>")
    if row.box is not None:
        shapes.append(f'<rect {_at(*row.box)} fill="none" stroke="black" stroke-width="0.01"/>')
    high, wide = (round(_SIDE * side / max(whole.shape)) for side in whole.shape)
    size = f'width="{wide}" height="{high}" viewBox="0 0 1 1" preserveAspectRatio="none"'
    return f"<svg {size}>{''.join(shapes)}</svg><p>{escape('; '.join(grid.said()))}</p>"


def _at(x0: float, y0: float, x1: float, y1: float) -> str:
    return f'x="{x0:.4f}" y="{y0:.4f}" width="{x1 - x0:.4f}" height="{y1 - y0:.4f}"'
