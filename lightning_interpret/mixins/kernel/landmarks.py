"""The landmarks of a kernel layer over a run: chosen among training examples, encoded anew, checked on resuming."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lightning_interpret.data import TrainingExamples
from lightning_interpret.data.examples import spread
from lightning_interpret.functional.nystroem import approximation_error
from lightning_interpret.layers.nystroem import NystroemLayer
from lightning_interpret.layers.raw_kernel import RawKernel
from lightning_interpret.mixins.joint import JointMixin
from lightning_interpret.mixins.kernel.data import Candidates, check, compared, facts, read, some, there, warn_if_far
from lightning_interpret.mixins.kernel.features import features_of
from lightning_interpret.mixins.task import known_task
from lightning_interpret.tasks import Task
from lightning_interpret.trainer._compat import logging_step
from lightning_interpret.trainer.training_data import find_training_data

_SAMPLE = 256  # training examples that the error is measured on


class KernelLandmarks(JointMixin):
    """What `KernelMixin` does with its layer's landmarks while a trainer runs."""

    kernel: NystroemLayer
    _kernel_raw: RawKernel | None
    _kernel_layer: dict[str, Any]
    _kernel_count: int
    _kernel_candidates: int
    _kernel_choice: str
    _kernel_seed: int
    _kernel_refresh: Literal["epoch", "never"] | int
    _kernel_step: int
    _kernel_detached: bool
    raw_inputs: Callable[[Any], Sequence[str]]

    @torch.inference_mode(False)
    def choose_landmarks(self) -> None:
        """Choose landmarks among the training examples of the trainer's run; the projection starts anew.

        Raises:
            ValueError: If there are too few examples, or more classes than landmarks, or features are not finite.
        """
        self._need_kernel()
        data, task = find_training_data(self.trainer), known_task(self)

        def work() -> None:
            found = read(self, data, task, self._reads(task), limit=self._kernel_candidates)
            check(found, self._kernel_count)
            examples = found.features if self._kernel_raw is None else self._kernel_raw.among(found.texts)
            met = self._met(data, task)
            places = self.kernel.choose(
                examples, self._kernel_choice, labels=found.labels, seed=self._kernel_seed, units=met
            )
            rows = places.tolist()
            known = list(facts(data, task, [found.ids[i] for i in rows]))
            if self._kernel_raw is not None:
                known = [replace(each, text=found.texts[i]) for i, each in zip(rows, known, strict=True)]
            self.kernel.landmarks = known
            if self._kernel_raw is not None:  # whether the module asks for its rows
                read(self, data, task, self._features(task), limit=1)
            elif self.kernel.rank == 1:
                self._encode(data, task, [self._kernel_seed])
            warn_if_far(self.kernel, met)
            self._measure(found)

        self._on_first(work)

    @torch.inference_mode(False)
    def refresh_landmarks(self, *, measure: bool = True) -> None:
        """Read the landmarks' features by the encoder as it is now; those no longer in the data keep what they have.

        Of raw inputs nothing moves, nor is anything done where the layer was taken out; ``measure`` is of the error.
        """
        self._need_kernel()
        if self._kernel_raw is not None or self._kernel_detached:
            return
        data, task = find_training_data(self.trainer), known_task(self)

        def work() -> None:
            before = self.kernel.gram_error
            self._encode(data, task, [None, self._kernel_seed])
            self.kernel.gram_error = before
            if measure:
                self._measure(read(self, data, task, self._reads(task), limit=_SAMPLE))

        self._on_first(work)

    # Hooks

    def on_fit_start(self) -> None:
        """Choose landmarks, or look whether those of a checkpoint are still what they were."""
        super().on_fit_start()
        if self._kernel_detached:
            return
        self._need_kernel()
        self._kernel_step = -1
        if self.kernel.ready:
            self._compare()
        else:
            self.choose_landmarks()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Encode the landmarks anew where it is time; log what they are worth, for callbacks that watch it."""
        # not at `on_train_epoch_start`, which a run that is resumed between two epochs passes over
        if self._kernel_due(batch_idx) and self._kernel_step != self.trainer.global_step:
            self.refresh_landmarks(measure=batch_idx == 0)
        if batch_idx == 0 and self.kernel_figures and not self.trainer.barebones:
            self.log_dict(self.kernel_figures, logger=False)  # which has been told when they were measured
        return super().on_train_batch_start(batch, batch_idx)

    def _kernel_due(self, batch_idx: int) -> bool:
        step, every = self.trainer.global_step, self._kernel_refresh
        if isinstance(every, int):
            return step % every == 0
        return every == "epoch" and (batch_idx == 0 or (self.trainer.current_epoch == 0 and step & (step - 1) == 0))

    @property
    def kernel_figures(self) -> dict[str, float]:
        """What is logged of the landmarks; nothing while there are none."""
        if "kernel" not in self._modules or not self.kernel.ready:
            return {}
        error = {} if self.kernel.gram_error is None else {"kernel/approximation_error": self.kernel.gram_error}
        return {**error, "kernel/rank": float(self.kernel.rank)}

    def _need_kernel(self) -> None:
        if "kernel" not in self._modules and not self._kernel_detached:
            raise ValueError(
                f"{type(self).__name__} has no linear layer that the kernel layer would be put before: name its head, "
                "`kernel_head=`, or make `self.kernel = self.kernel_layer(width)` and call it in `forward`."
            )

    def _features(self, task: Task) -> Callable[[Any], Tensor]:
        return lambda batch: features_of(self, self.kernel, self._kernel_count, task, batch)

    def _reads(self, task: Task) -> Callable[[Any], Any]:
        return self._features(task) if self._kernel_raw is None else self.raw_inputs

    def _met(self, data: TrainingExamples, task: Task) -> Tensor | None:
        """Return features of some examples as training meets them, for a kernel that may be 0 far from landmarks."""
        if self._kernel_raw is not None or self._kernel_layer["kernel"] in ("linear", "cosine"):
            return None
        return read(self, data, task, self._features(task), limit=_SAMPLE, noise=self._kernel_seed).features

    def _encode(self, data: TrainingExamples, task: Task, seeds: Sequence[int | None]) -> None:
        """Encode the landmarks anew, with the first of some seeds of dropout by which they can be told apart.

        What an encoder with random weights makes of examples differs by less than its dropout moves it: landmarks that
        are all alike would teach it nothing but how far it is from all of them.
        """
        ids = [each.example_id for each in self.kernel.landmarks]
        present = there(data, [each for each in ids if each is not None])
        met, before = self._met(data, task), self.kernel.features
        assert before is not None, "of raw inputs there are none"
        for seed in seeds:
            found, features = read(self, data, task, self._reads(task), ids=present, noise=seed), before.clone()
            if found.ids:
                features[[ids.index(each) for each in found.ids]] = found.features.to(features)
            self.kernel.refresh(features, met)
            if self.kernel.rank > 1:
                break
        warn_if_far(self.kernel, met)

    def _measure(self, found: Candidates) -> None:
        """Measure the approximation on some of the examples."""
        sample = spread(len(found.ids), min(_SAMPLE, len(found.ids)))
        if self._kernel_raw is None:
            error = self.kernel.approximation_error(found.features[sample])
        else:
            texts = [found.texts[i] for i in sample.tolist()]
            rows = self._kernel_raw.matrix(texts, [each.text or "" for each in self.kernel.landmarks])
            error = approximation_error(self._kernel_raw.among(texts), rows @ self.kernel.factor.double().cpu())
        self.kernel.gram_error = error.gram

    def _on_first(self, work: Callable[[], None]) -> None:
        """Do work on the layer in one process and bring what it made to the others, an error too; log the figures."""
        trainer, error = self.trainer, None
        if trainer.is_global_zero:
            try:
                work()
            except Exception as found:  # the others wait for it
                error = found
        if trainer.world_size > 1:
            held = self.kernel.state_dict()
            state = {name: each.cpu() if isinstance(each, Tensor) else each for name, each in held.items()}
            said = None if error is None else f"{type(error).__name__}: {error}"
            said, state = trainer.strategy.broadcast((said, state))
            if said is not None and error is None:
                raise RuntimeError(said)
            self.kernel.load_state_dict(state)
        if error is not None:
            raise error
        self._kernel_step = trainer.global_step
        for logger in trainer.loggers:
            logger.log_metrics(self.kernel_figures, step=logging_step(trainer))

    def _compare(self) -> None:
        """Look whether the training data still have the landmarks that were restored, and read anew those changed."""
        data, task = find_training_data(self.trainer), known_task(self)
        now, gone, changed = compared(data, task, self.kernel.landmarks)
        if gone:
            rank_zero_warn(
                f"{len(gone)} landmarks are no longer among the training examples (ids {some(gone)}): they stay as "
                "they were when they were last read."
            )
        if changed and self._kernel_raw is None:
            rank_zero_warn(
                f"{len(changed)} landmarks are read as other inputs than when they were saved (ids {some(changed)}): "
                "their rows or the vocabulary have changed. Their features are read anew."
            )
            self.kernel.landmarks = [now.get(each.example_id, each) for each in self.kernel.landmarks]
            self.refresh_landmarks()
