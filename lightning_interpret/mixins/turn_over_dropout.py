"""TurnOverDropoutMixin: train so that, for every training example, a part of the network has never learnt it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.layers import feed_forward_ends, last_linear
from lightning_interpret.layers.turn_over_dropout import INPUT, TurnOverDropout
from lightning_interpret.mixins.joint import JointMixin
from lightning_interpret.tasks import batches


class TurnOverDropoutMixin(JointMixin):
    """Dropout with a fixed mask for each training example (Kobayashi et al., 2020), which influence is read from.

    Args:
        turn_over_layers: Names of the layers whose outputs are masked, or ``"input of NAME"``; by default the end of
            every feed-forward block and the input of the last linear layer, the head.
        turn_over_rate: Probability that a unit is dropped.
        turn_over_seed: Seed of all masks.
    """

    def __init__(
        self,
        *args: Any,
        turn_over_layers: Sequence[str] | None = None,
        turn_over_rate: float = 0.5,
        turn_over_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.turn_over_dropout = TurnOverDropout(turn_over_rate, turn_over_seed)
        self._turn_over_layers = turn_over_layers

    def attach(self) -> None:
        """Attach the masks where that has not been done."""
        super().attach()
        if "turn_over_dropout" in self._modules and not self.turn_over_dropout.sites:
            self.attach_turn_over_dropout()

    def attach_turn_over_dropout(self) -> None:
        """Mask the layers from now on."""
        sites = self._turn_over_layers
        if sites is None:
            head = last_linear(self)
            sites = [*feed_forward_ends(self), *([] if head is None else [INPUT + head])]
        self.turn_over_dropout.attach(self, sites)

    def detach_turn_over_dropout(self) -> None:
        """Leave every layer."""
        self.turn_over_dropout.detach()

    def become_plain(self) -> None:
        """Drop out units at the same sites with masks that are drawn anew each time."""
        super().become_plain()
        self.turn_over_dropout.plain = True

    def begin_step(self, batch: Any) -> None:
        """Take the ids of the examples."""
        super().begin_step(batch)
        ids = batches.example_ids(batch)
        self.turn_over_dropout.begin(None if ids is None else _checked(ids))

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Forget the ids."""
        super().on_train_batch_end(*args, **kwargs)
        self.turn_over_dropout.begin(None)


def _checked(ids: Any) -> Tensor:
    return torch.as_tensor(ids, dtype=torch.long)
