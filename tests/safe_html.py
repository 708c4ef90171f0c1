"""What a reader sees of a page that TensorBoard made of Markdown."""

import html
import re

from lightning_interpret.texts import printable


def plain(fragment):
    spaced = re.sub(r"<br ?/?>", " ", fragment)
    return html.unescape(re.sub(r"<[^>]*>", "", spaced)).replace("\xa0", " ")


def tables(page):
    """Return the cells of each table of a page, a list a row."""
    return [
        [[plain(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", line, re.S)] for line in body.split("<tr>")[1:]]
        for body in re.findall(r"<tbody>(.*?)</tbody>", page, re.S)
    ]


def capped(text, longest=80):
    shown = printable(text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
