"""What a validation tells of a selection: its rate, what was left behind, whether its shape gives the label away."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from lightning_interpret.functional.leak_probe import probe, shape_of
from lightning_interpret.layers.token_selection import Read, TokenSelection
from lightning_interpret.methods.describe import labels_of
from lightning_interpret.mixins.task import known_task
from lightning_interpret.trainer.context import attribution_mode
from lightning_interpret.trainer.transfer import to_module

if TYPE_CHECKING:
    from lightning_interpret.mixins.rationale.mixin import RationaleMixin

_PROBED = 256  # validation examples a process
_NAMES = ("rate_eval", "complement_accuracy", "leak_probe", "leak_majority")


class SelectionWatch:
    """Follows one validation of a module with a gate; holds numbers of 256 examples at most."""

    def __init__(self, module: RationaleMixin) -> None:
        self._module = module
        with torch.inference_mode(False):  # they are added to outside of it
            self._means = {name: MeanMetric().to(module.device) for name in _NAMES}
        self._shapes: list[Tensor] = []
        self._classes: list[Tensor] = []
        self._error: str | None = None

    def hear(self, reads: list[Read]) -> None:
        """Count what the module's own step has selected."""
        for read in reads:
            rate, there = read.rates
            self._means["rate_eval"].update(rate, there.float())

    def ask(self, batch: Any) -> None:
        """Let the module predict from what it does not select, of the first examples."""
        seen = sum(map(len, self._classes))
        if seen >= _PROBED or self._error is not None:
            return
        module, trainer = self._module, self._module.trainer
        try:
            with attribution_mode(trainer, module, "model"), torch.no_grad():
                given, task = to_module(batch, trainer, module, precision="model", moved=True), known_task(module)
                with module.rationale.hearing(1) as heard:
                    logits = task.logits(module, given)
                if task.log_probabilities(logits) is None or logits.dim() != 2 or not heard:
                    return
                with module.rationale.complement():
                    left = task.logits(module, given)
                labels, predicted = labels_of(task, given, logits.shape[1]).to(logits.device), logits.argmax(dim=1)
                known = (labels >= 0).float()
                self._means["complement_accuracy"].update((left.argmax(dim=1) == labels).float(), known)
                self._classes.append(predicted.cpu())
                self._shapes.append(shape_of(heard[0].selected, heard[0].selectable).cpu())
        except Exception as error:  # a guard costs no run
            self._error = f"{type(error).__name__}: {error}"
            warnings.warn(f"The complement and the leak probe of the rationale failed ({self._error}).", stacklevel=2)

    def figures(self) -> dict[str, Tensor]:
        """Return the means over all processes, of what there is."""
        if self._classes:
            classes = torch.cat(self._classes)[:_PROBED]
            found = probe(torch.cat(self._shapes)[:_PROBED], classes)
            if found is not None:
                self._means["leak_probe"].update(found[0], len(classes))
                self._means["leak_majority"].update(found[1], len(classes))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric", category=UserWarning)
            means = {name: metric.compute() for name, metric in self._means.items()}
        return {f"rationale/{name}": mean for name, mean in means.items() if bool(mean.isfinite())}


def failures(figures: dict[str, Tensor], rate: Tensor, selection: TokenSelection, *, annealed: bool) -> dict[str, str]:
    """Return what has gone wrong with a selection, each with its remedy.

    Args:
        figures: Of a validation.
        rate: The mean rate in training since the last.
        selection: The gate.
        annealed: Whether the target was there all the time since.
    """
    control, trained, gap = selection.control, float(rate), abs(float(figures.get("rationale/gap", 0.0)))
    found = {}
    if trained < 0.2 * control.target:
        found["none"] = (
            f"selects {trained:.1%} of the tokens in training, and the target is {control.target:.0%}: it has "
            "collapsed to nothing. Give `rationale_control='anneal'`, or a smaller learning rate."
        )
    if annealed and trained > 0.95:
        found["all"] = (
            f"still selects {trained:.1%} of the tokens, and the target is {control.target:.0%}: give a larger "
            "`rationale_weight`, or train for longer."
        )
    if annealed and gap > 0.05:
        budget = "" if selection.evaluation == "budget" else "`rationale_evaluation='budget'`, "
        found["gap"] = (
            f"selects {float(figures['rationale/rate_eval']):.1%} of the tokens at evaluation and {trained:.1%} in "
            f"training: use {budget}a larger `rationale_weight`, or train for longer. (Of a text of few tokens one is "
            "selected at least.)"
        )
    return found


def unfinished(selection: TokenSelection) -> dict[str, str]:
    """Return that the target, or the end of the warm-up, has not been reached as training ends."""
    control = selection.control
    if not selection.warming and control.target_now - control.target < 1e-6:
        return {}
    read = "everything was read" if selection.warming else f"the target was {control.target_now:.0%}"
    return {
        "unfinished": (
            f"has not been trained to select {control.target:.0%}: when training ended, {read} still. The schedule is "
            "over `max_epochs` or `max_steps`: give as many as are trained (`EarlyStopping` ends too soon), or a "
            "smaller `rationale_warmup`."
        )
    }
