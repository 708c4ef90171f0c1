"""KernelMixin: a head that sees how similar an example is to some training examples, its landmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lightning_interpret.data import TrainingExamples
from lightning_interpret.data.examples import spread
from lightning_interpret.evidence import Landmarks
from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.landmarks import METHODS
from lightning_interpret.functional.layers import last_linear
from lightning_interpret.functional.nystroem import approximation_error
from lightning_interpret.functional.scope import explaining
from lightning_interpret.layers.before_head import BeforeHead, put_before
from lightning_interpret.layers.nystroem import PRECOMPUTED, NystroemLayer
from lightning_interpret.layers.raw_kernel import RawKernel
from lightning_interpret.methods.landmarks import READABLE, LandmarkRelevance
from lightning_interpret.mixins.joint import JointMixin
from lightning_interpret.mixins.kernel.data import Candidates, check, compared, facts, read, some, there, warn_if_far
from lightning_interpret.mixins.kernel.features import features_of
from lightning_interpret.mixins.task import known_task
from lightning_interpret.names import check_seed, check_whole, choose
from lightning_interpret.tasks import Task, batches
from lightning_interpret.trainer._compat import logging_step
from lightning_interpret.trainer.training_data import find_training_data

_SAMPLE = 256  # training examples that the error is measured on


class KernelMixin(JointMixin):
    """A Nyström layer of landmarks, real training examples, between an encoder and its head (Croce et al., 2017).

    The head's input h becomes ``self.kernel(h)``: the kernel between h and what the landmarks are there, whitened, then
    a trained projection. Landmarks are chosen when ``fit`` starts, among training examples that are read by index and
    carry ids, and are encoded anew while training moves the encoder. They are saved with the module.

    Landmarks are encoded in evaluation mode; as training meets them, with its dropout, only while they could not be
    told apart without (K has rank 1), as when an encoder starts from random weights. The unit of a kernel's scale that
    was not given is measured on examples as training meets them, whenever landmarks are encoded.

    A module that calls the layer itself makes it, ``self.kernel = self.kernel_layer(width)``; nothing is attached.

    Logged: ``kernel/approximation_error`` (‖K − K̂‖ / ‖K‖ on at most 256 training examples, measured when landmarks are
    chosen and as each epoch starts) and ``kernel/rank``.

    Args:
        kernel: ``linear``, ``rbf``, ``polynomial`` or ``cosine``; or a function of one's own, or where to import it
            from, ``"package.module.function"``: of features ``(…, d) × (l, d) → (…, l)``, or of raw inputs. An encoder
            learns about as fast as without the layer with ``linear``, and more slowly with the others.
        kernel_options: Options of the kernel: ``scale``, ``learned``, ``degree``, ``offset``.
        kernel_landmarks: How many landmarks, l: what the head reads.
        kernel_head: Name of the head, a linear layer; by default the one defined last. One that does not read l numbers
            gives its place to one that does.
        kernel_choice: How landmarks are chosen: ``k_means++``, ``greedy``, ``leverage``, ``balanced`` or ``random``.
        kernel_candidates: How many training examples they are chosen among, spread evenly over the data.
        kernel_rtol: Eigenvalues of the landmarks' kernel matrix under this share of the largest are dropped. With 0.01
            landmarks that are alike speak alike, and explanations are easier to read, but an encoder that is still to
            learn what tells examples apart may not learn it.
        kernel_projection: ``trained``, from the identity on; ``fixed`` for none.
        kernel_refresh: When landmarks are encoded anew: after so many steps of the optimizer; at the start of each
            ``epoch``, and in the first one after 1, 2, 4, 8, ... steps; ``never``.
        kernel_seed: Seed of the choice.
        kernel_inputs: ``features``; or ``texts`` for a kernel ``(list of n, list of m) → (n, m)`` on the strings that
            :meth:`raw_inputs` gives. There is no encoder then: ``forward`` is
            ``self.head(self.kernel_features(batch))``.
        kernel_rows: How many rows of that kernel are kept: so many times l numbers.

    Raises:
        ValueError: If an option does not exist or makes no sense; when the layer is attached, if there is no such head
            or it is not linear; when ``fit`` starts, if there are too few examples, or more classes than landmarks.
    """

    kernel: NystroemLayer

    def __init__(
        self,
        *args: Any,
        kernel: str | Callable[..., Any] = "linear",
        kernel_options: Mapping[str, Any] | None = None,
        kernel_landmarks: int = 100,
        kernel_head: str | None = None,
        kernel_choice: str = "k_means++",
        kernel_candidates: int = 2000,
        kernel_rtol: float = 1e-6,
        kernel_projection: Literal["trained", "fixed"] = "trained",
        kernel_refresh: Literal["epoch", "never"] | int = 16,
        kernel_seed: int = 0,
        kernel_inputs: Literal["features", "texts"] = "features",
        kernel_rows: int = 100_000,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_whole(kernel_landmarks=kernel_landmarks, kernel_candidates=kernel_candidates, kernel_rows=kernel_rows)
        check_seed(kernel_seed)
        choose("kernel_choice", kernel_choice, METHODS)
        choose("kernel_inputs", kernel_inputs, ("features", "texts"))
        if isinstance(kernel_refresh, str):
            choose("kernel_refresh", kernel_refresh, ("epoch", "never"))
        else:
            check_whole(kernel_refresh=kernel_refresh)
        if kernel_candidates < kernel_landmarks:
            raise ValueError(
                f"`kernel_candidates={kernel_candidates}` are fewer than `kernel_landmarks={kernel_landmarks}`, which "
                "are chosen among them."
            )
        kernel = kernel.replace(":", ".") if isinstance(kernel, str) else kernel
        raw = kernel_inputs == "texts"
        self._kernel_raw = RawKernel(kernel, kernel_rows) if raw else None
        # in a mapping, as a kernel that is a module would become a child of this one
        self._kernel_layer: dict[str, Any] = {"kernel": PRECOMPUTED if raw else kernel, "projection": kernel_projection}
        self._kernel_layer |= {"rtol": kernel_rtol, "gain": kernel_landmarks**0.5}
        self._kernel_layer |= {} if kernel_options is None else {"options": dict(kernel_options)}
        self._kernel_count, self._kernel_candidates = kernel_landmarks, kernel_candidates
        self._kernel_head, self._kernel_choice, self._kernel_seed = kernel_head, kernel_choice, kernel_seed
        self._kernel_refresh, self._kernel_step = kernel_refresh, -1  # the step that the landmarks were read at
        self._kernel_place: BeforeHead | None = None
        self._kernel_detached = False
        layer = self.kernel_layer(kernel_landmarks)  # what cannot work is refused now
        if raw:
            self.kernel = layer

    # Attaching

    def attach(self) -> None:
        """Put the layer before the head where that has not been done; before others look for the head."""
        if "kernel" not in self._modules and not self._kernel_detached and last_linear(self) is not None:
            self.attach_kernel()
        super().attach()

    def attach_kernel(self) -> None:
        """Put a kernel layer before the head from now on: before optimizers are made, and a checkpoint is loaded.

        Raises:
            ValueError: If there is a layer already, or no linear layer of this name.
        """
        if "kernel" in self._modules:
            raise ValueError(f"{type(self).__name__} has a kernel layer already: call `detach_kernel()` first.")
        name = last_linear(self) if self._kernel_head is None else self._kernel_head
        head = None if name is None else find_layer(self, name)
        if name is None or not isinstance(head, torch.nn.Linear):
            found = "no linear layer" if head is None else f"a {type(head).__name__} as {name!r}"
            raise ValueError(
                f"{type(self).__name__} has {found}: name a linear layer that is its head, `kernel_head=`."
            )
        layer = self.kernel_layer(head.in_features).to(head.weight.device)
        self._kernel_place = put_before(self, name, layer, self._kernel_count)
        self.kernel = layer
        self._kernel_detached = False

    def detach_kernel(self) -> None:
        """Take the layer out, and put the module's own head back: what is left is the module without it.

        Raises:
            ValueError: If no layer is attached.
        """
        if self._kernel_place is None:
            raise ValueError(
                f"No kernel layer is attached to {type(self).__name__}: what it calls itself cannot be taken out."
            )
        self._kernel_place.take_out()
        self._kernel_place, self._kernel_detached = None, True
        del self.kernel

    def become_plain(self) -> None:
        """Take the layer out for good.

        Raises:
            ValueError: If the module calls the layer itself.
        """
        super().become_plain()
        self.detach_kernel()

    def kernel_layer(self, width: int) -> NystroemLayer:
        """Return a new layer for features of some width, for a module that calls it itself: ``self.kernel = ...``."""
        return NystroemLayer(width, self._kernel_count, **self._kernel_layer)

    def explain(self, batch: Any, which: str = "predicted", method: LandmarkRelevance | None = None) -> Landmarks:
        """Return the landmarks that speak for what is predicted of each example, and those that speak against it.

        Args:
            batch: A batch, on whatever device.
            which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
            method: With its options; by default ``LandmarkRelevance(smoothing=0.1)``, which is easier to read.
        """
        method = LandmarkRelevance(smoothing=READABLE) if method is None else method
        with explaining(self, full_precision=True):
            batch = batches.to_full_precision(batches.to(batch, self.device))
            return method(self, batch, known_task(self), which=which)

    # A kernel on raw inputs

    def raw_inputs(self, batch: Any) -> Sequence[str]:
        """Return what a kernel on raw inputs reads of a batch: its texts, unless overridden (a tree in brackets, say).

        Raises:
            ValueError: If the batch has no texts.
        """
        texts = known_task(self).texts(batch)
        if texts is None:
            raise ValueError(f"{type(self).__name__} has no texts in its batches: override `raw_inputs(batch)`.")
        return texts

    @torch.compiler.disable
    def kernel_features(self, batch: Any) -> Tensor:
        """Return what the layer makes of a batch of raw inputs, ``(B, l)``.

        Raises:
            ValueError: If the kernel is one of features.
        """
        if self._kernel_raw is None:
            raise ValueError("`kernel_inputs='features'`: call `self.kernel(h)` with the features h.")
        if not self.kernel.ready:
            return self.kernel(self.kernel.factor)  # which says so
        landmarks = [each.text or "" for each in self.kernel.landmarks]
        return self.kernel(self._kernel_raw.rows(self.raw_inputs(batch), landmarks).to(self.kernel.factor))

    # Landmarks

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
