"""ConceptBottleneckMixin: a head that reads concepts, which people can name, look at and set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.layers import last_linear
from lightning_interpret.functional.scope import explaining
from lightning_interpret.layers.before_head import BeforeHead, put_before
from lightning_interpret.layers.concept_bottleneck import MODES, ConceptBottleneck, named_concepts
from lightning_interpret.metrics import InterventionCurve
from lightning_interpret.mixins.concepts.explain import add_to_curve, explained
from lightning_interpret.mixins.concepts.listener import ConceptListener, Factors, labels_of
from lightning_interpret.mixins.concepts.measures import ConceptMeasures, scores_classes
from lightning_interpret.mixins.joint import JointMixin
from lightning_interpret.mixins.task import known_task
from lightning_interpret.names import check_positive, choose
from lightning_interpret.rationales import Concepts
from lightning_interpret.tasks import batches


class ConceptBottleneckMixin(JointMixin):
    """Concepts between an encoder and its head, which reads nothing else (Koh et al., 2020).

    The head's input h becomes σ(W h + b), one number a concept. Named concepts are learnt from ``batch["concepts"]``,
    ``(B, K)`` in the order of the names: 1 there, 0 not, NaN or −1 where nobody has said, which is left out of the
    loss. ``concept_count`` more are found: the task trains them, kept apart from each other and from the named ones. A
    concept is set by hand in ``with module.intervene({"food": 1.0}):``, and the prediction moves.

    With ``concept_stop_gradient`` (the default) the named concepts mean what their labels do: where the task moves them
    too, their values come to tell the label beside the concept, also if they have nothing to do with it. Free concepts
    and the residual are what the task makes of them: they carry the label by design, through the encoder as well, and a
    model with them is no bottleneck of the named concepts alone; what that comes to is logged.

    A module that calls the layer itself makes it, ``self.concepts = self.concept_layer(width)``; nothing is put in.

    Logged: ``train_concepts`` (and ``train_free_concepts``); in validation ``concepts/accuracy`` (mean over named
    concepts), ``concepts/leakage`` (:class:`~lightning_interpret.metrics.ConceptLeakage`, of the named concepts, or of
    the free ones where none is named) and, where the bottleneck was put before the head and that returns class scores,
    ``concepts/task_accuracy``, ``concepts/intervened_accuracy`` (under the true concepts), with every concept at 0.5
    ``concepts/ablated_accuracy`` (what is left does not come from concepts), and ``concepts/residual_share``.

    Args:
        concept_names: Names of the concepts that have labels.
        concept_count: How many concepts are found beside them; ``free_1``, ``free_2``, ...
        concept_mode: What the head reads of a concept: ``soft``, its probability; ``hard``, 0 or 1; ``logit``.
        concept_residual: Whether the head reads h beside the concepts.
        concept_stop_gradient: Whether the task's gradient stops at the named concepts; False is joint training.
        concept_weight: Factor of the named concepts' loss, their mean binary cross-entropy.
        concept_sparsity: Factor of the mean probability of free concepts.
        concept_decorrelation: Factor of the mean squared correlation of free concepts with all others over a batch.
        concept_head: Name of the head, a linear layer; by default the one defined last. One that does not read as many
            numbers gives its place to one that does.

    Raises:
        ValueError: If there are no concepts, a name comes twice, or an option makes no sense; when the layer is
            attached, if there is no such head or it is not linear; in a step, if the batch has no ``concepts``, or of
            another width, or one outside of [0, 1].

    Example::

        class Classifier(ConceptBottleneckMixin, TextClassifier):
            pass

        model = Classifier("bert-base-uncased", labels=["bad", "good"], concept_names=["food", "service"])
    """

    concepts: ConceptBottleneck

    def __init__(
        self,
        *args: Any,
        concept_names: Sequence[str] | None = None,
        concept_count: int = 0,
        concept_mode: Literal["soft", "hard", "logit"] = "soft",
        concept_residual: bool = False,
        concept_stop_gradient: bool = True,
        concept_weight: float = 1.0,
        concept_sparsity: float = 0.01,
        concept_decorrelation: float = 0.1,
        concept_head: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        choose("concept_mode", concept_mode, MODES)
        check_positive(concept_weight=concept_weight)
        for name, value in (("sparsity", concept_sparsity), ("decorrelation", concept_decorrelation)):
            if not 0 <= value < math.inf:
                raise ValueError(f"`concept_{name}={value!r}` must be 0 or more, and finite.")
        every = named_concepts(concept_names, concept_count)
        self.concept_names = every[: len(every) - concept_count]
        self._concept_layer: dict[str, Any] = {"free": concept_count, "mode": concept_mode}
        self._concept_layer |= {"residual": concept_residual, "stop_gradient": concept_stop_gradient}
        self._concept_factors = Factors(concept_weight, concept_sparsity, concept_decorrelation)
        self._concept_head = concept_head
        self._concept_place: BeforeHead | None = None
        self._concept_listener: ConceptListener | None = None
        self._concept_detached = False
        self._concept_scores: bool | None = None  # whether the head returns class scores; None where nobody has looked

    # Attaching

    def attach(self) -> None:
        """Put the layer before the head where that has not been done; before others look for the head."""
        if "concepts" in self._modules:
            self._listen()
        elif not self._concept_detached and last_linear(self) is not None:
            self.attach_concepts()
        super().attach()

    def attach_concepts(self) -> None:
        """Put a bottleneck before the head from now on: before optimizers are made, and a checkpoint is loaded.

        Raises:
            ValueError: If there is one already, or no linear layer of this name, or it does not know its width yet.
        """
        if "concepts" in self._modules:
            raise ValueError(f"{type(self).__name__} has a concept bottleneck: call `detach_concepts()` first.")
        name = last_linear(self) if self._concept_head is None else self._concept_head
        head = None if name is None else find_layer(self, name)
        if name is None or not isinstance(head, torch.nn.Linear):
            found = "no linear layer" if head is None else f"a {type(head).__name__} as {name!r}"
            raise ValueError(
                f"{type(self).__name__} has {found}: name a linear layer that is its head, `concept_head=`."
            )
        if not head.in_features:
            raise ValueError(
                f"The head {name!r} ({type(head).__name__}) has read nothing yet: run the module once before."
            )
        layer = self.concept_layer(head.in_features).to(head.weight.device)
        self._concept_place = put_before(self, name, layer, layer.size)
        self.concepts = layer
        self._concept_detached, self._concept_scores = False, None
        self._listen()

    def detach_concepts(self) -> None:
        """Take the bottleneck out, and put the module's own head back: what is left is the module without it.

        Raises:
            ValueError: If none is attached, or another layer was put before the head since.
        """
        if self._concept_place is None:
            raise ValueError(
                f"No concept bottleneck is attached to {type(self).__name__}: what it calls itself cannot be taken out."
            )
        self._concept_place.take_out()
        self._concept_place, self._concept_listener, self._concept_detached = None, None, True
        del self.concepts, self._concept_measures

    def become_plain(self) -> None:
        """Take the bottleneck out for good.

        Raises:
            ValueError: If the module calls the layer itself.
        """
        super().become_plain()
        self.detach_concepts()

    def concept_layer(self, width: int) -> ConceptBottleneck:
        """Return a new layer for features of some width, for a module that calls it itself: ``self.concepts = ...``."""
        return ConceptBottleneck(width, self.concept_names, **self._concept_layer)

    # Reading

    def intervene(self, values: Mapping[str, float | Tensor]) -> AbstractContextManager[None]:
        """Return a context in which some concepts are what is said here, whatever the model says; in this thread.

        Args:
            values: The probability of each concept by its name: a number, or one for each example of the batch,
                ``(B,)``, of which NaN leaves what the model says.

        Raises:
            ValueError: If there is no such concept, or a value lies outside of [0, 1].
        """
        self._need_concepts()
        return self.concepts.intervene(values)

    def explain(self, batch: Any, which: str = "predicted") -> Concepts:
        """Return the concepts that each prediction was made from, with what each adds to it.

        Where what follows the bottleneck is linear, target = Σ contributions + bias + residual, and what that misses is
        ``error``; elsewhere there are no contributions, and the reason is told. Within :meth:`intervene` it is the
        prediction from what was set.

        Args:
            batch: A batch, on whatever device; of its ``concepts``, if it has them, ``gold`` is told.
            which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
        """
        self._need_concepts()
        with explaining(self, full_precision=True):
            batch = batches.to_full_precision(batches.clone(batches.to(batch, self.device)))
            return explained(self, "concepts", batch, known_task(self), which, self._labels_of(batch))

    explain_concepts = explain  # by its kind, where another mixin stands first

    def concept_curve(self, loader: Iterable[Any], points: int | None = None, seed: int = 0) -> Tensor:
        """Return the accuracy of the task after 0, 1, ... all true concepts were set, in random order, ``(P,)``.

        Each point costs a forward pass of all batches.

        Args:
            loader: Batches with ``concepts`` and labels; concepts without a label stay what the model says.
            points: At how many numbers of concepts, from 0 to all, it is measured; at each by default.
            seed: Seed of the order.

        Raises:
            ValueError: If a batch has no ``concepts``, or no labels.
        """
        self._need_concepts()
        curve = InterventionCurve(len(self.concepts.names), points, seed)
        for batch in loader:
            moved, task = batches.to(batch, self.device), known_task(self)
            classes = self._classes_of(moved)
            if classes is None:
                raise ValueError("A batch has no labels (one class an example), which the accuracy is of.")
            with explaining(self, full_precision=True):
                truth = labels_of(moved, self.concept_names, needed=True)
                add_to_curve(curve, self, "concepts", batches.to_full_precision(moved), task, truth, classes)
        return curve.compute()

    # Hooks

    def begin_step(self, batch: Any) -> None:
        """Take the labels of the concepts."""
        super().begin_step(batch)
        if self._concept_listener is not None:
            self._expect(batch)

    def on_train_start(self) -> None:
        """Look whether there is a bottleneck, now that the module is complete."""
        super().on_train_start()
        if not self._concept_detached:
            self._need_concepts()

    def on_train_batch_end(self, outputs: Any, *args: Any, **kwargs: Any) -> None:
        """Forget the labels; refuse a module whose training does not come through the bottleneck."""
        super().on_train_batch_end(outputs, *args, **kwargs)
        listener = self._concept_listener
        if listener is None:
            return
        if listener.waiting and not listener.heard and (outputs or not self.automatic_optimization):
            raise ValueError(
                f"Nothing has come through the concept bottleneck in this training step of {type(self).__name__}: name "
                "the head that the loss is made of, `concept_head=`."
            )
        listener.end()

    def on_train_epoch_end(self) -> None:
        """Warn of concepts that had no label in the epoch, once."""
        super().on_train_epoch_end()
        if self._concept_listener is not None:
            self._concept_listener.tell(self.trainer, self.concept_names)

    def on_validation_epoch_start(self) -> None:
        """Begin to measure."""
        super().on_validation_epoch_start()
        if self._concept_listener is not None:
            self._concept_measures.reset()

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Listen to what comes through the bottleneck."""
        super().on_validation_batch_start(batch, batch_idx, dataloader_idx)
        if self._concept_listener is not None:
            self._concept_listener.begin(self._labels_of(batch))

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measure what has come through."""
        super().on_validation_batch_end(outputs, batch, batch_idx, dataloader_idx)
        listener = self._concept_listener
        if listener is None:
            return
        if listener.passed is not None:
            passed, classes = listener.passed, self._classes_of(batch)
            self._concept_measures.update(self.concepts, self._scoring_place(batch), passed, classes)
        listener.end()

    def on_validation_epoch_end(self) -> None:
        """Log what was measured, over all loaders."""
        super().on_validation_epoch_end()
        if self._concept_listener is not None:
            for name, value in self._concept_measures.compute().items():
                self.log(f"concepts/{name}", value, sync_dist=True)

    # What hooks do

    def _need_concepts(self) -> None:
        if "concepts" not in self._modules:
            raise ValueError(
                f"{type(self).__name__} has no concept bottleneck: call `configure_model()` first; where it has no "
                "linear layer, name its head, `concept_head=`, or make `self.concepts = self.concept_layer(width)`."
            )
        self._listen()

    def _listen(self) -> None:
        if self._concept_listener is None:
            self._concept_listener = ConceptListener(self, self._concept_factors)
            self.concepts.register_forward_hook(self._concept_listener, with_kwargs=True)
            measures = ConceptMeasures(self.concepts, self._concept_place)
            self._concept_measures = measures.to(self.concepts.weight.device)

    @torch.compiler.disable
    def _expect(self, batch: Any) -> None:
        assert self._concept_listener is not None
        self._concept_listener.begin(self._labels_of(batch, needed=True))

    def _labels_of(self, batch: Any, needed: bool = False) -> Tensor | None:
        # on an accelerator they are looked at once, as each time waits for it; later ones make the loss NaN
        listener = self._concept_listener
        return labels_of(batch, self.concept_names, needed=needed, look=listener is None or not listener.heard)

    def _scoring_place(self, batch: Any) -> BeforeHead | None:
        """Return where the bottleneck stands before class scores; None where other layers follow, or it is called."""
        place = self._concept_place
        if place is not None and self._concept_scores is None:
            self._concept_scores = scores_classes(self, place, batch)
        return place if self._concept_scores else None

    def _classes_of(self, batch: Any) -> Tensor | None:
        """Return the class of each example, or None where the batch does not say in a way that is known."""
        try:
            found = known_task(self).labels(batch)
        except ValueError:
            return None
        return None if found is None or found.dim() != 1 or found.is_floating_point() else found
