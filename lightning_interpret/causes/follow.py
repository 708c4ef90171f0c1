"""Groups followed over training: how large each was at every validation, its slice, and its place in the tab."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.causes.scan import Scan
from lightning_interpret.causes.setting import Setting
from lightning_interpret.causes.training import Texts
from lightning_interpret.causes.words import NEGATORS, places_of, words_of

Key = tuple[str, str]
"""Cause and cue."""

MOST = 200  # records that one run may have in the tab, and sizes that a group is remembered by
GROUPS = 80  # of those records, that are kept for groups: other cases are the worst at each validation


@dataclass
class Followed:
    """What is remembered from one validation to the next; JSON both ways.

    Attributes:
        sizes: By group, its size at each validation since it was first seen, as ``(step, size)``.
        indices: By group, the validation examples that have been in it.
        numbers: By group, or by index of a case, the number of its record.
        tags: By group, the tag that its slice is logged as.
    """

    sizes: dict[Key, list[tuple[int, int]]] = field(default_factory=dict)
    indices: dict[Key, set[int]] = field(default_factory=dict)
    numbers: dict[Key | int, int] = field(default_factory=dict)
    tags: dict[Key, str] = field(default_factory=dict)

    def number(self, key: Key | int) -> int | None:
        """Return the number of a record, from 1, the same in each validation; ``None`` where there are too many."""
        most = MOST - GROUPS if isinstance(key, int) else MOST
        if key not in self.numbers and len(self.numbers) >= most:
            return None
        return self.numbers.setdefault(key, len(self.numbers) + 1)

    def add(self, step: int, members: Mapping[Key, Sequence[int]]) -> None:
        """Add the groups of a validation, given as the indices of their cases; one that is not there has none."""
        for key, indices in members.items():
            self.indices.setdefault(key, set()).update(indices)
            if key not in self.tags:
                self.tags[key] = self._tag(key)
        for key in dict.fromkeys([*self.sizes, *members]):
            history = self.sizes.setdefault(key, [])
            history.append((step, len(members.get(key, ()))))
            del history[:-MOST]

    def status(self, key: Key) -> str:
        """Return where a group stands beside the validation before: one of :data:`.bad_cases.STATUSES`."""
        sizes = [size for _, size in self.sizes[key]]
        if len(sizes) < 2:
            return "new"
        before, now = sizes[-2:]
        if now == 0:
            return "solved"
        if before == 0:
            return "new"
        return "growing" if now > before else "shrinking" if now < before else "steady"

    def slice(self, key: Key, scan: Scan, texts: Texts | None, setting: Setting) -> Tensor:
        """Return which validation examples are in the slice of a group, bool ``(V,)``.

        Where the cause says what its examples have in common (a cue, a negation, two classes, unseen words, a cut) it
        is those that have it, right ones too; else those that have been in the group.
        """
        cause, cue = key
        if cause in ("shortcut", "composition") and cue:
            wanted = tuple(words_of(cue))
            if cause == "composition" and not set(wanted) & NEGATORS:
                wanted = ()
            return torch.tensor([bool(wanted and places_of(wanted, words)) for words in scan.words], dtype=torch.bool)
        if cause == "coverage" and texts is not None:
            shares = [len(texts.index.unseen(words)) / max(1, len(dict.fromkeys(words))) for words in scan.words]
            return torch.tensor([share >= setting.unseen for share in shares], dtype=torch.bool)
        if cause == "truncation":
            return torch.tensor([scan.cut(number) is not None for number in range(len(scan))], dtype=torch.bool)
        return torch.tensor([index in self.indices.get(key, ()) for index in scan.indices], dtype=torch.bool)

    def state(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "sizes": [[*key, [list(pair) for pair in sizes]] for key, sizes in self.sizes.items()],
            "indices": [[*key, sorted(indices)] for key, indices in self.indices.items()],
            "numbers": [[key if isinstance(key, int) else list(key), n] for key, n in self.numbers.items()],
            "tags": [[*key, tag] for key, tag in self.tags.items()],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Followed:
        """Return what :meth:`state` wrote."""
        return cls(
            {(cause, cue): [(step, size) for step, size in sizes] for cause, cue, sizes in state["sizes"]},
            {(cause, cue): set(indices) for cause, cue, indices in state["indices"]},
            {key if isinstance(key, int) else (key[0], key[1]): number for key, number in state["numbers"]},
            {(cause, cue): tag for cause, cue, tag in state["tags"]},
        )

    def _tag(self, key: Key) -> str:
        """Return a tag that no other group has, of letters that every logger takes."""
        slug = re.sub(r"[^a-z0-9]+", "_", "_".join(part for part in key if part).lower()).strip("_")
        tag, count = f"slice/{slug[:60]}", 2
        while tag in self.tags.values():
            tag, count = f"slice/{slug[:56]}_{count}", count + 1
        return tag
