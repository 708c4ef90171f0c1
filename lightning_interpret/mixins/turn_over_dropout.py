"""TurnOverDropoutMixin: train so that, for every training example, a part of the network has never learnt it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_interpret.functional.turn_over import checked_ids
from lightning_interpret.layers.sites import default_sites
from lightning_interpret.layers.turn_over_dropout import TurnOverDropout
from lightning_interpret.mixins.joint import JointMixin
from lightning_interpret.tasks import batches
from lightning_interpret.trainer.batch_ids import check_batch_ids, missing


class TurnOverDropoutMixin(JointMixin):
    """Dropout with a mask of its own for each training example (Kobayashi et al., 2020), which influence is read from.

    In training every example runs through the half of the units that its mask keeps, the same half in each epoch, on
    every device and after a checkpoint is loaded, as the mask is a hash of its ``example_id``. The other half has never
    been told of it: what a query loses there against the first half is the example's influence. Validation, test and
    prediction mask nothing. Read it with ``InfluenceMonitor(method="turn_over_dropout")`` while it trains, or with
    ``TurnOverDropoutInfluence`` afterwards; ``PlainTwin`` measures what it costs in accuracy against plain dropout.

    Batches carry ``example_id``, long ``(B,)``: ``WithIds`` puts it there. A step costs what one with plain dropout at
    the same places does; nothing is stored for an example.

    Where masks stand by default was measured: at the end of the feed-forward parts and before the head, the other half
    of a fine-tuned encoder repeated wrong labels no more often than it errs, at no loss in accuracy; before the head
    alone it repeats nearly all of them. The blocks' residual sums (``LayerNorm`` after them) keep labels apart better
    still in a small network that is trained from nothing, and ruin one that is pretrained.

    Args:
        turn_over_layers: Names of the layers whose outputs are masked, or ``"input of NAME"``; by default the end of
            every feed-forward part and the input of the head, the last linear layer; in a network without blocks the
            inputs of all linear layers and convolutions but the first. Units are the last dimension, or channels.
        turn_over_rate: Probability that a unit is dropped; what is kept is divided by one minus that.
        turn_over_seed: Seed of all masks.

    Raises:
        ValueError: If the rate does not lie between 0 and 1; when the module is attached to, if there is no such layer;
            when training starts, if batches carry no ids; in the first step, if ids are no integers of 0 or more, or
            not one for each example, if a layer does not return one tensor with the batch first, or none runs.

    Example::

        class Classifier(TurnOverDropoutMixin, TextClassifier):
            pass

        model = Classifier("bert-base-uncased", labels=["bad", "good"], turn_over_rate=0.5)
        Trainer(callbacks=[InfluenceMonitor(method="turn_over_dropout")]).fit(model, TextDataModule(...))
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
        self._turn_over_detached = False
        self._turn_over_told = False  # which layers have not run

    # Attaching

    def attach(self) -> None:
        """Attach the masks where that has not been done, and they have not been taken out."""
        super().attach()
        if "turn_over_dropout" in self._modules:
            self.turn_over_dropout.rows_per_example = self.rows_per_example
        if "turn_over_dropout" in self._modules and not self.turn_over_dropout.sites and not self._turn_over_detached:
            self.attach_turn_over_dropout()

    def attach_turn_over_dropout(self) -> None:
        """Mask the layers from now on, also after they have been left; not yet where none is named and none is there.

        Raises:
            LayerError: If there is no such layer.
            ValueError: If none or one twice is named.
        """
        self._turn_over_detached = False
        named = self._turn_over_layers is not None
        if sites := self._turn_over_layers if named else default_sites(self):
            self.turn_over_dropout.attach(self, sites)
        elif named:
            raise ValueError("`turn_over_layers=[]` names no layer: leave it out for the default.")

    def detach_turn_over_dropout(self) -> None:
        """Leave every layer for good: the module is what it is without the mixin, and its checkpoints are too."""
        self._turn_over_detached = True
        self.turn_over_dropout.detach()

    def become_plain(self) -> None:
        """Drop out units at the same sites as plain dropout does it."""
        super().become_plain()
        self.turn_over_dropout.plain = True

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Mask where the checkpoint was trained with masks, if that is elsewhere, and say so."""
        self.attach()
        state = state_dict.get("turn_over_dropout._extra_state")
        here = self.turn_over_dropout.sites
        if state is not None and here and set(state["sites"]) != set(here):
            warnings.warn(
                f"Turn-over dropout: it masks where the checkpoint was trained with masks, at "
                f"{', '.join(state['sites'])}, and not at {', '.join(here)}.",
                stacklevel=2,
            )
            self.turn_over_dropout.attach(self, state["sites"])
        return super().load_state_dict(state_dict, *args, **kwargs)

    # Hooks

    def on_train_start(self) -> None:
        """Look whether the training data have ids, now that the trainer has its loaders."""
        super().on_train_start()
        if sites := self.turn_over_dropout.sites:  # a head may have been put in another's place since
            self.turn_over_dropout.attach(self, sites)
        if self._masks:
            check_batch_ids(self.trainer)

    def begin_step(self, batch: Any) -> None:
        """Take the ids of the examples, before another mixin runs the module."""
        self._take_ids(batch)
        super().begin_step(batch)

    def _take_ids(self, batch: Any) -> None:
        if not self.turn_over_dropout.sites and not self._turn_over_detached:  # of a step that no trainer runs
            self.attach_turn_over_dropout()
        if not self._masks:
            return
        ids = batches.example_ids(batch)
        if ids is None:
            raise ValueError(missing(batch))
        # on an accelerator they are looked at once, as each time waits for it
        look = getattr(ids, "is_cpu", True) or bool(self.turn_over_dropout.idle)
        self.turn_over_dropout.begin(checked_ids(ids, values=look))

    def on_train_batch_end(self, outputs: Any, *args: Any, **kwargs: Any) -> None:
        """Forget the ids, which a backward pass may have needed again; tell once of layers that have not run."""
        super().on_train_batch_end(outputs, *args, **kwargs)
        dropout = self.turn_over_dropout
        dropout.begin(None)
        if self._turn_over_told or not dropout.sites or not (outputs or not self.automatic_optimization):
            return
        self._turn_over_told, idle = True, dropout.idle
        told = (
            f"`turn_over_layers`: nothing has come through {', '.join(map(repr, idle))} in this training step, so "
            "that nothing is masked there: name layers that are called when the module trains."
        )
        if len(idle) == len(dropout.sites):
            raise ValueError(told)
        if idle:  # it may run in other steps
            warnings.warn(told, stacklevel=2)

    @property
    def _masks(self) -> bool:
        """Whether there is anything to mask by ids.

        Raises:
            ValueError: If nothing is named and no layer is found.
        """
        dropout = self.turn_over_dropout
        if not dropout.sites and not self._turn_over_detached:
            raise ValueError(
                f"`turn_over_layers=None`: {type(self).__name__} has no linear layer whose input could be masked: name "
                "the layers."
            )
        return bool(dropout.sites) and not dropout.plain
