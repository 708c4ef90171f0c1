"""RationaleMixin: select the tokens that matter, and predict from these alone."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from torch import nn

from lightning_interpret.functional.scope import explaining
from lightning_interpret.layers.embedding_hooks import word_embeddings
from lightning_interpret.layers.selection_control import SelectionControl
from lightning_interpret.layers.token_gate import TokenGate
from lightning_interpret.layers.token_selection import EVALUATIONS, Read, TokenSelection
from lightning_interpret.mixins.joint import JointMixin
from lightning_interpret.mixins.rationale.leaks import check_known_padding, check_leak
from lightning_interpret.mixins.rationale.parts import default_layer, generator_of, kinds_of, tokenizer_of
from lightning_interpret.mixins.rationale.rows import rationale_of
from lightning_interpret.mixins.rationale.terms import begin_batch, consistency, reinforce, supervision
from lightning_interpret.mixins.rationale.watch import SelectionWatch, failures, unfinished
from lightning_interpret.mixins.task import known_task
from lightning_interpret.names import check_positive, choose
from lightning_interpret.rationales import Rationale
from lightning_interpret.tasks import batches
from lightning_interpret.trainer._compat import fast_dev_run, logs_in_training_step
from lightning_interpret.trainer.optimisation import check_trained

BASELINES = ("moving_average", "batch", "none")


class RationaleMixin(JointMixin):
    """Select, then predict from the selection alone (Lei et al., 2016; Bastings et al., 2019; Jain et al., 2020).

    A gate at the word embeddings multiplies each by z: what was not selected is a vector of zeros, or the fill, so
    that the prediction is a function of the selection. z is drawn in training and deterministic at evaluation, when
    exactly the target share of each text is selected. A term of the loss, ``train_rationale``, holds the rate in
    training at the target. At first everything is read, so that there is a predictor before tokens are taken from it
    (``rationale_warmup``); then the target comes down from everything over half of what is left of the training. Either
    keeps a predictor from settling on a bad early selection, to which it would hold the gate (interlocking).

    Where it acts is read off the ids that the embeddings are called with, so that it is the same on every path, and
    Monitors explain the model as it is deployed. Outside of a trainer call ``configure_model()`` first. Without one
    in training, say how far it has come: ``module.rationale.control.begin(progress)``.

    Scopes: ``module.rationale.selecting(z)``, ``.everything()`` and ``.complement()``.

    A batch may hold people's rationales, ``batch["rationale"]``, ``(B, T)`` as the ids: bool, or numbers with -100 or
    NaN on padding and where nobody was asked. A row in which nothing is selected has none, and is left out.

    Logged: ``rationale/rate``, ``rationale/target`` and ``rationale/lambda`` in training; at each validation
    ``rationale/rate_eval``, ``rationale/gap`` (that rate less the one in training since the last), and on at most 256
    examples ``rationale/complement_accuracy`` (from what was not selected) and ``rationale/leak_probe``: how often the
    prediction can be told from where tokens were selected, beside the commonest one, ``rationale/leak_majority``.

    Args:
        rationale_layer: Name of the word embeddings; by default those that the module's task names, or the only one.
        rationale_gate: ``gumbel``, ``hard_kumaraswamy``, ``reinforce``, ``top_k`` or ``sparsemax``.
        rationale_target: The share of a text's tokens to select, special tokens not counted.
        rationale_control: ``anneal``, ``lagrangian`` or ``fixed``.
        rationale_weight: Weight of the term that holds the rate.
        rationale_coherence: Weight of the transitions between selected and not.
        rationale_generator: What the gate reads: ``own``, a small network of its own on the embeddings; ``shared``,
            the encoder, which reads the whole text first; a part of the module by name, or a module, which makes
            ``(B, T, width)`` of embeddings ``(B, T, D)``.
        rationale_evaluation: ``budget`` for exactly the target share; ``threshold`` for the gate's own decision.
        rationale_words: Whether the budget is spent on whole words.
        rationale_keep_special: Whether tokens that frame a text are always kept; otherwise they never are.
        rationale_fill: What stands in the place of a token that was not selected: ``zero``, or the ``mask`` token.
        rationale_warmup: Share of the training in which everything is read, and the gate learns from people's
            rationales alone.
        rationale_supervision: Weight of the binary cross-entropy with people's rationales, where a batch has them.
        rationale_consistency: Weight of KL(p(y | whole text) ‖ p(y | selection)); costs two forward passes a step.
        rationale_baseline: What ``reinforce`` holds a loss against: the ``moving_average`` of those before, the mean of
            the others in the ``batch``, or ``none``.

    Raises:
        ValueError: If an option does not exist or makes no sense; when the gate is attached, if there are no such
            embeddings; in training, if they do not run, no optimizer has the gate, what is padding is not known, the
            module reads tokens past them too, people's rationales are of other tokens, or its length is too little
            known for the target ever to be reached.

    Example::

        class Classifier(RationaleMixin, TextClassifier):
            pass

        model = Classifier("bert-base-uncased", labels=["bad", "good"], rationale_target=0.2)
    """

    rationale: TokenSelection

    def __init__(
        self,
        *args: Any,
        rationale_layer: str | None = None,
        rationale_gate: str = "gumbel",
        rationale_target: float = 0.2,
        rationale_control: str = "anneal",
        rationale_weight: float = 1.0,
        rationale_coherence: float = 0.0,
        rationale_generator: str | nn.Module = "own",
        rationale_evaluation: Literal["budget", "threshold"] = "budget",
        rationale_words: bool = False,
        rationale_keep_special: bool = True,
        rationale_fill: Literal["zero", "mask"] = "zero",
        rationale_warmup: float = 0.3,
        rationale_supervision: float = 0.0,
        rationale_consistency: float = 0.0,
        rationale_baseline: Literal["moving_average", "batch", "none"] = "moving_average",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(rationale_target, bool) or not 0 < rationale_target < 1:
            raise ValueError(
                f"`rationale_target={rationale_target!r}` must lie between 0 and 1: a share of the tokens."
            )
        choose("rationale_evaluation", rationale_evaluation, EVALUATIONS)
        choose("rationale_baseline", rationale_baseline, BASELINES)
        choose("rationale_fill", rationale_fill, ("zero", "mask"))
        check_positive(rationale_weight=rationale_weight)
        if isinstance(rationale_warmup, bool) or not 0 <= rationale_warmup < 1:
            raise ValueError(f"`rationale_warmup={rationale_warmup!r}` must be at least 0 and less than 1, a share.")
        for name, value in (("supervision", rationale_supervision), ("consistency", rationale_consistency)):
            if not value >= 0:
                raise ValueError(f"`rationale_{name}={value!r}` is a weight, and must be 0 or more.")
        # in a mapping, as a generator that is a module would become a child of this one
        self._rationale: dict[str, Any] = {
            "layer": rationale_layer,
            "gate": rationale_gate,
            "generator": rationale_generator,
            "words": rationale_words,
            "fill": rationale_fill,
            "baseline": rationale_baseline,
            "warmup": rationale_warmup,
            "supervision": rationale_supervision,
            "consistency": rationale_consistency,
            "control": {
                "target": rationale_target,
                "kind": rationale_control,
                "coherence": rationale_coherence,
                "weight": rationale_weight,
            },
            "selection": {"evaluation": rationale_evaluation, "keep_special": rationale_keep_special},
        }
        SelectionControl(**self._rationale["control"])  # what cannot work is refused now
        TokenGate(1, rationale_gate)
        self._rationale_detached = False
        self._rationale_batch: Any = None
        self._rationale_heard = 0  # calls of the embeddings in this step
        self._rationale_reads: list[Read] = []
        self._rationale_rates: list[Any] = [0.0, 0.0]  # the sum since the last validation, and of how many steps
        self._rationale_annealed = False  # whether the target was there all the time since the last validation
        self._rationale_watch: SelectionWatch | None = None
        self._rationale_told: set[str] = set()

    # Attaching

    def attach(self) -> None:
        """Attach the gate where that has not been done, and the embeddings are there."""
        super().attach()
        if "rationale" in self._modules or self._rationale_detached:
            return
        if self._rationale["layer"] is not None or default_layer(self) is not None:
            self.attach_rationale()

    def attach_rationale(self) -> None:
        """Gate the embeddings from now on: before optimizers are made, and a checkpoint is loaded.

        Raises:
            ValueError: If there is a gate already, or no such embeddings.
        """
        if "rationale" in self._modules:
            raise ValueError(f"{type(self).__name__} has a gate already: call `detach_rationale()` first.")
        options = self._rationale
        layer = options["layer"] or default_layer(self)
        if layer is None:
            raise ValueError(
                f"`rationale_layer=None`: {type(self).__name__} has no word embeddings (nn.Embedding): name them."
            )
        embedding = word_embeddings(self, layer)
        found = generator_of(self, embedding, options["generator"])
        selection = TokenSelection(
            TokenGate(found.width, options["gate"]),
            SelectionControl(**options["control"]),
            kinds_of(self, embedding, words=options["words"]),
            found.child,
            fill=self._rationale_fill,
            **options["selection"],
        )
        selection.to(embedding.weight.device).train(self.training)  # type: ignore[arg-type]
        selection.attach(self, layer, shared=found.shared, reader=found.reader)
        self.rationale, self._rationale_detached = selection, False

    def detach_rationale(self) -> None:
        """Take the gate out: what is left is the module without it.

        Raises:
            ValueError: If none is attached.
        """
        if "rationale" not in self._modules:
            raise ValueError(f"No gate is attached to {type(self).__name__}.")
        self.rationale.detach()
        del self.rationale
        self._rationale_detached = True

    def become_plain(self) -> None:
        """Take the gate out for good."""
        super().become_plain()
        self.detach_rationale()

    def explain(self, batch: Any, which: str = "predicted") -> Rationale:
        """Return what was selected of each text, and what is predicted from it, from all of it and from the rest.

        Args:
            batch: A batch, on whatever device.
            which: ``predicted``, ``gold`` or a label: the class whose probabilities are told.

        Raises:
            ValueError: If the gate was taken out, or ``which`` is a contrast.
        """
        self.attach()
        if "rationale" not in self._modules:
            raise ValueError(f"{type(self).__name__} has no gate: call `attach_rationale()`.")
        with explaining(self, full_precision=True):
            batch = batches.to_full_precision(batches.to(batches.clone(batch), self.device))
            return rationale_of(self, batch, known_task(self), which)

    explain_rationale = explain  # by its kind, where another mixin stands first

    # Training

    def on_train_start(self) -> None:
        """Look whether the gate will be trained."""
        super().on_train_start()
        if "rationale" in self._modules:
            check_trained(self, "rationale")

    def on_train_epoch_start(self) -> None:
        """Say how far training has come, before other mixins' hooks run the module."""
        super().on_train_epoch_start()
        begin_batch(self, 0)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Say how far training has come; look once whether the module reads past the gate."""
        begin_batch(self, batch_idx)
        if "rationale" in self._modules and "leak" not in self._rationale_told:
            self._rationale_told.add("leak")
            check_leak(self, batch)
        return super().on_train_batch_start(batch, batch_idx)

    def begin_step(self, batch: Any) -> None:
        """Listen to what is selected."""
        super().begin_step(batch)
        if "rationale" not in self._modules and not self._rationale_detached:  # of a step that no trainer runs
            self.attach_rationale()
        if self._rationale_detached:
            return
        self._rationale_batch, self._rationale_heard = batch, 0
        self._rationale_reads = self.rationale.listen()

    @torch.compiler.disable
    def finish_step(self) -> None:
        """Record the terms of what was selected."""
        super().finish_step()
        reads = [each for each in self._rationale_reads if each.selection is not None]
        self._rationale_reads.clear()
        self._rationale_heard += len(reads)
        if not reads or not self.training:
            return
        if "padding" not in self._rationale_told:
            self._rationale_told.add("padding")
            check_known_padding(self, reads[0], batches.get(self._rationale_batch, "attention_mask"))
        control = self.rationale.control
        rates, there = (torch.cat(each) for each in zip(*(read.rates for read in reads), strict=True))
        with torch.autocast(self.device.type, enabled=False):
            # a text of special tokens alone costs nothing
            expected = torch.cat([read.selection.rate for read in reads])  # type: ignore[union-attr]
            moved = torch.cat([read.selection.transitions for read in reads])  # type: ignore[union-attr]
            if self.rationale.warming:  # nothing to control, and a multiplier would grow to its largest meanwhile
                cost = 0.0 * (expected + moved).sum()
            else:
                cost = control.term(torch.where(there, expected, control.target_now), moved)
            self.add_term("rationale", cost)
        self._add_terms_of_one(reads)
        rate = (rates * there).sum() / there.sum().clamp(min=1)
        self._rationale_rates = [self._rationale_rates[0] + rate.detach(), self._rationale_rates[1] + 1]
        if logs_in_training_step(self):
            figures: dict[str, Any] = {
                "rate": rate.detach(),
                "target": control.target_now,
                "lambda": _multiplier(control),
            }
            self.log_dict({f"rationale/{name}": value for name, value in figures.items()}, batch_size=1)

    def _add_terms_of_one(self, reads: list[Read]) -> None:
        """Record the terms that are made of the texts of a batch, which are embedded once."""
        options, batch = self._rationale, self._rationale_batch
        wanted = [name for name in ("supervision", "consistency") if options[name] > 0]
        wanted += ["gate='reinforce'"] if options["gate"] == "reinforce" else []
        if wanted and len(reads) != 1:
            raise ValueError(
                f"`rationale_{wanted[0]}` is of the texts of a batch, embedded together once in a step, and here "
                f"{self.rationale.hooks.layer!r} ran {len(reads)} times."  # type: ignore[union-attr]
            )
        warming = self.rationale.warming  # there is no selection that a loss could be of
        if options["gate"] == "reinforce" and not warming:
            self.add_term("rationale_reinforce", reinforce(self, reads[0], batch, options["baseline"]))
        if options["supervision"] and (cost := supervision(reads[0], batch)) is not None:
            self.add_term("rationale_supervision", options["supervision"] * cost)
        if options["consistency"] and not warming:
            self.add_term("rationale_consistency", options["consistency"] * consistency(self, reads[0], batch))

    def end_step(self) -> None:
        """Listen no more."""
        super().end_step()
        self._rationale_batch, self._rationale_reads = None, []
        if "rationale" in self._modules:
            self.rationale.hush()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Say how far the next batch will be; look once whether the embeddings have run."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        begin_batch(self, batch_idx + 1)
        if "rationale" not in self._modules or not (outputs or not self.automatic_optimization):
            return
        if not self._rationale_heard and "idle" not in self._rationale_told:
            raise ValueError(
                f"`rationale_layer={self.rationale.hooks.layer!r}` has not run in this training step with gradients, "  # type: ignore[union-attr]
                "so that nothing was selected: name the word embeddings that the step calls."
            )
        self._rationale_told.add("idle")  # in other steps it may

    # Validation

    def on_validation_start(self) -> None:
        """Begin to count."""
        super().on_validation_start()
        counted = "rationale" in self._modules and not self.trainer.sanity_checking
        self._rationale_watch = SelectionWatch(self) if counted else None

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Listen to the first forward pass, which is the step's own."""
        super().on_validation_batch_start(batch, batch_idx, dataloader_idx)
        if self._rationale_watch is not None:
            self._rationale_reads = self.rationale.listen(1)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Count what was selected."""
        super().on_validation_batch_end(outputs, batch, batch_idx, dataloader_idx)
        if self._rationale_watch is None:
            return
        self._rationale_watch.hear(self._rationale_reads)
        self.rationale.hush()
        self._rationale_reads = []
        self._rationale_watch.ask(batch)

    def on_validation_epoch_end(self) -> None:
        """Log what was selected, and warn once of what goes wrong."""
        super().on_validation_epoch_end()
        watch, self._rationale_watch = self._rationale_watch, None
        if watch is None:
            return
        figures, (total, steps) = watch.figures(), self._rationale_rates
        if steps and "rationale/rate_eval" in figures:
            figures["rationale/gap"] = figures["rationale/rate_eval"] - total / steps
        self.log_dict(figures, sync_dist=True)
        if self.trainer.state.fn == "fit" and steps:
            self._warn(failures(figures, total / steps, self.rationale, annealed=self._rationale_annealed))
            control = self.rationale.control
            self._rationale_rates = [0.0, 0.0]
            self._rationale_annealed = control.target_now - control.target < 1e-6

    def on_train_end(self) -> None:
        """Warn of a target that training has not come to."""
        super().on_train_end()
        if "rationale" in self._modules and not fast_dev_run(self.trainer):
            self._warn(unfinished(self.rationale))

    def _warn(self, found: dict[str, str]) -> None:
        for name in found.keys() - self._rationale_told:
            self._rationale_told.add(name)
            warnings.warn(f"The rationale's gate {found[name]}", stacklevel=2)

    @property
    def _rationale_fill(self) -> int | None:
        """Id of the token that stands for one that was not selected."""
        if self._rationale["fill"] == "zero":
            return None
        found = getattr(tokenizer_of(self), "mask_token_id", None)
        if found is None:
            raise ValueError("`rationale_fill='mask'`, but there is no tokenizer with a mask token: use 'zero'.")
        return int(found)


def _multiplier(control: SelectionControl) -> float:
    return control.weight * (control.multiplier if control.kind == "lagrangian" else 1.0)
