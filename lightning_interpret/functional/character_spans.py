"""From stretches of characters to tokens: a rationale of one tokenisation in those of another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: What stands at tokens that are no part of the text, and at all of a text of which nobody was asked.
UNKNOWN = -100


def tokens_of_spans(
    spans: Sequence[Sequence[tuple[int, int]] | None], offsets: Tensor, lengths: Sequence[int]
) -> Tensor:
    """Return which tokens have a character in one of the spans, long ``(B, T)``: 1, 0, or −100 where it is not known.

    Not known are tokens of no characters (special ones, padding), and the texts whose spans are ``None``. Spans may
    overlap, and what was cut from a text is in no token.

    Args:
        spans: For each text its spans ``(start, end)`` in characters, the end not included; ``None`` for a text of
            which nobody was asked.
        offsets: For each token its ``(start, end)`` in its text, long ``(B, T, 2)``.
        lengths: How many characters each text has.

    Raises:
        ValueError: If shapes differ, or a span or an offset is outside of its text.
    """
    if offsets.dim() != 3 or offsets.shape[-1] != 2 or not len(offsets) == len(spans) == len(lengths):
        raise ValueError(
            f"`offsets` {tuple(offsets.shape)} must be (B, T, 2), of as many texts as `spans` ({len(spans)}) and "
            f"`lengths` ({len(lengths)})."
        )
    starts, ends = offsets.unbind(dim=2)
    sizes = torch.tensor(lengths, device=offsets.device).reshape(-1, 1)
    wrong = ((starts < 0) | (starts > ends) | (ends > sizes)).nonzero()
    if len(wrong):
        row, token = wrong[0].tolist()
        raise ValueError(
            f"`offsets` do not fit the texts: token {token} of text {row} is at {tuple(offsets[row, token].tolist())}, "
            f"but the text has {lengths[row]} characters. Were they made of another text?"
        )
    found = [(row, start, end) for row, each in enumerate(spans) for start, end in each or ()]
    for row, start, end in found:
        if not 0 <= start <= end <= lengths[row]:
            raise ValueError(
                f"`spans` do not fit the texts: {(start, end)} of text {row}, which has {lengths[row]} characters."
            )
    rows, first, past = torch.tensor(found, device=offsets.device, dtype=torch.long).reshape(-1, 3).unbind(dim=1)
    depth = torch.zeros(len(spans), max(lengths, default=0) + 1, dtype=torch.long, device=offsets.device)
    one = torch.ones_like(rows)
    depth.index_put_((rows, first), one, accumulate=True).index_put_((rows, past), -one, accumulate=True)
    inside = torch.nn.functional.pad((depth.cumsum(dim=1) > 0).cumsum(dim=1), (1, 0))  # characters before a place
    flags = (inside.gather(1, ends) > inside.gather(1, starts)).long()
    nobody = torch.tensor([each is None for each in spans], dtype=torch.bool, device=offsets.device)
    return flags.masked_fill((starts == ends) | nobody[:, None], UNKNOWN)
