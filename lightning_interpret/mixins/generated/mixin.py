"""GeneratedRationaleMixin: a model that writes the label it predicts, and why, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.nn import functional as F

from lightning_interpret.functional.scope import explaining
from lightning_interpret.functional.tokens import Tokens
from lightning_interpret.layers.explanation_format import ExplanationFormat
from lightning_interpret.mixins.generated.rows import WRITTEN, Figures, described_rows
from lightning_interpret.mixins.generated.words import room, settle
from lightning_interpret.mixins.joint import JointMixin
from lightning_interpret.names import check_whole
from lightning_interpret.rationales import GeneratedRationale
from lightning_interpret.tasks import batches
from lightning_interpret.tasks.labels_in_words import LabelsInWords
from lightning_interpret.tasks.transformer import special_mask, transformer_in
from lightning_interpret.tasks.writing import Writer, writer_of

READ = "is_read"  # by a label, as it stands


class GeneratedRationaleMixin(JointMixin):
    """Predicts a label and explains it in free text, with one language model of `transformers`, trained for both.

    A class's score is the log probability of its words: the module's ``forward`` returns :meth:`label_scores`, and its
    own ``training_step`` takes their cross-entropy, as any classifier does. The mixin adds to it the mean loss of the
    tokens of ``batch["explanation_ids"]``, long ``(B, E)`` without special tokens and −100 as padding, over the rows
    that have any: e-SNLI's α (Camburu et al., 2018) is ``1 / (1 + generated_weight)``. The orders are:

    ``predict_then_explain``
        The label is decided from the text; the explanation is written from text and label. It is post hoc: nothing
        that it says can have moved the label.
    ``explain_then_predict``
        The explanation is written from the text, and the label is read from the explanation: in training a person's,
        elsewhere the model's own. A model that reads the text as well, with ``generated_reads="both"``, may find the
        label there and pass the explanation over: erasing it and exchanging it with another example's tells.
    ``jointly``
        One sequence, "label: y explanation: e" (Narang et al., 2020), learnt as a whole; post hoc, too.

    A row without an explanation has no part in the explanations' loss. Where the label is read from the explanation
    alone there is nothing to read it from, so that the row has no gradient at all; else its label is learnt as any. A
    class whose rows have none is told of.

    Logged at validation, on a few examples: ``generated/log_likelihood``, ``generated/probability`` of the label, where
    it reads the explanation also ``generated/erased`` (without it) and ``generated/shuffled_accuracy`` (with another
    example's); with gold explanations ``generated/overlap``, and ``generated/shuffled_overlap`` (of another example's),
    which says what the first is worth.

    The module has a ``tokenizer``, and its ``labels`` if ``generated_labels`` are not given.

    Args:
        generated_order: ``predict_then_explain``, ``explain_then_predict`` or ``jointly``.
        generated_weight: Factor of the explanation's loss.
        generated_labels: What is written for each class, in order; by default the module's ``labels``.
        generated_reads: What ``explain_then_predict`` predicts from: the ``explanation``, or ``both``.
        generated_label_mark: What stands before a label; it may be empty where there is an encoder.
        generated_explanation_mark: What stands before an explanation; the same.
        generated_max_tokens: Tokens that an explanation has at most; longer ones are cut, and it is said once.
        generated_validated: How many validation examples a process measures; 0 for none.
        generated_model: Name of the language model in the module, where there are several.

    Raises:
        ValueError: If an option makes no sense; on first use, if there is no model that writes, no tokenizer, no
            labels, or words that the tokenizer does not know or that two labels share; in training, if batches have no
            explanations, or no labels.
    """

    generated: ExplanationFormat

    def __init__(
        self,
        *args: Any,
        generated_order: Literal["predict_then_explain", "explain_then_predict", "jointly"] = "predict_then_explain",
        generated_weight: float = 1.0,
        generated_labels: Sequence[str] | None = None,
        generated_reads: Literal["explanation", "both"] = "explanation",
        generated_label_mark: str = "label:",
        generated_explanation_mark: str = "explanation:",
        generated_max_tokens: int = 64,
        generated_validated: int = 64,
        generated_model: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_whole(generated_max_tokens=generated_max_tokens)
        check_whole(0, generated_validated=generated_validated)
        if not 0 <= generated_weight < float("inf"):
            raise ValueError(f"`generated_weight={generated_weight!r}` must be a finite number of at least 0.")
        if generated_order == "jointly" and not generated_explanation_mark.strip():
            raise ValueError(
                "`generated_explanation_mark=''` ends the label with `generated_order='jointly'`: give one."
            )
        self.generated = ExplanationFormat(generated_order, generated_reads)
        self._generated_weight, self._generated_words = float(generated_weight), generated_labels
        self._generated_marks = (generated_label_mark, generated_explanation_mark)
        self._generated_limit, self._generated_validated = generated_max_tokens, generated_validated
        self._generated_model = generated_model
        self._generated_told: set[str] = set()
        self._generated_counts: Tensor | None = None  # of an epoch's rows by class: all, and those with an explanation
        self._generated_rooms: dict[str, int] = {}  # tokens that a text may have
        self.generated.figures = Figures()

    # What a module calls

    def label_scores(self, batch: Any) -> Tensor:
        """Return the log probability of each label's words, and of what ends them, ``(B, C)``, at least in float32.

        Where the prediction reads the explanation, that is the batch's ``written_ids`` ``(B, E)`` if there are any,
        padded with −100; else in training ``explanation_ids``; else what the model writes now. In training rows that
        have nothing to read a label from have no gradient.
        """
        writer, source = self._writer(), self._label_source(batches.as_mapping(batch))
        form, rows = self.generated, len(source.ids)
        logs = writer.log_probs(source, form.label_mark, form.labels(rows), len(form.words))
        scores = logs.sum(dim=1).reshape(rows, len(form.words))
        if not (self.training and form.explains_first and form.reads == "explanation"):
            return scores
        told = source.lengths > len(form.explanation_mark)
        return scores.where(told[:, None], scores.detach())

    @property
    def rows_per_example(self) -> int:
        """One row for each label, where labels are scored."""
        return max(1, len(self._label_names()))

    def label_batch(self, batch: Any) -> Any:
        """Return a batch whose ``input_ids`` are what labels are read from: an explanation, where one is read."""
        if not self.generated.explains_first:
            return batch
        parts = batches.as_mapping(batch)
        with torch.no_grad():
            source = self._label_source(parts).closed()
        shape = parts["input_ids"].shape
        kept = {name: each for name, each in parts.items() if getattr(each, "shape", ())[:2] != shape}
        ids = source.filled(self._writer().pad)
        return {**kept, "input_ids": ids, "attention_mask": source.there.long(), READ: torch.ones_like(ids[:, 0])}

    def explain(self, batch: Any, which: str = "predicted") -> GeneratedRationale:
        """Return what the model writes to explain each prediction, with what that is worth.

        Args:
            batch: A batch, on whatever device.
            which: The class that is explained: ``predicted``, ``gold`` or a label.
        """
        self._writer()  # what it settles outlasts the scope
        with explaining(self, full_precision=True), torch.no_grad():
            batch = batches.to_full_precision(batches.to(batch, self.device))
            return described_rows(self, batch, which)

    explain_generated = explain  # by its kind, where another mixin stands first

    def interpret_task(self) -> LabelsInWords:
        """Return how Monitors read this module: by its ``forward``."""
        return LabelsInWords(self.tokenizer, self._label_names())

    # Hooks

    def attach(self) -> None:
        """Settle what is written, once model, tokenizer and labels are there."""
        super().attach()
        if "generated" not in self._modules or self.generated.settled or transformer_in(self) is None:
            return
        if getattr(self, "tokenizer", None) is not None and self._label_names():
            self._writer()

    def begin_step(self, batch: Any) -> None:
        """Add the explanations' loss."""
        super().begin_step(batch)
        if not self.generated.plain:
            self.add_term("explanation", self._generated_weight * self._explanation_loss(batch))

    def on_train_epoch_end(self) -> None:
        """Tell once of training data without an explanation, or a class without one."""
        super().on_train_epoch_end()
        counts, self._generated_counts = self._generated_counts, None
        if self.generated.plain or counts is None:
            return
        seen, told = self.trainer.strategy.reduce(counts, reduce_op="sum").tolist()
        if not any(told):
            self._tell("none", "learnt: no training row of this epoch has an explanation")
            return
        form, names = self.generated, self._label_names()
        alone = form.explains_first and form.reads == "explanation"
        for name, rows, explained in zip(names, seen, told, strict=True):
            if rows and not explained:
                what = "not learnt: no training row of this epoch that has this label has one"
                self._tell(f"those of {name!r}", what + (", nor can the label be learnt without" if alone else ""))

    def on_validation_epoch_start(self) -> None:
        """Begin to measure."""
        super().on_validation_epoch_start()
        self._figures.begin()

    def on_validation_batch_end(self, outputs: Any, batch: Any, *args: Any, **kwargs: Any) -> None:
        """Measure some examples."""
        super().on_validation_batch_end(outputs, batch, *args, **kwargs)
        if not self.generated.plain and not self.trainer.barebones:
            self._figures.add(self, batch, self._generated_validated)

    def on_validation_epoch_end(self) -> None:
        """Log what was measured."""
        super().on_validation_epoch_end()
        if not self.generated.plain and not self.trainer.barebones:
            self.log_dict(self._figures.computed())

    @property
    def _figures(self) -> Figures:
        figures = self.generated.figures
        assert isinstance(figures, Figures)
        return figures

    def become_plain(self) -> None:
        """Learn no explanations, and read none: the label is predicted from the text alone."""
        super().become_plain()
        self.generated.plain = True

    # Writing

    def write_explanations(self, batch: Any, labels: Tensor | None = None) -> Tokens:
        """Return what the model writes for each example, greedily.

        Args:
            batch: The batch.
            labels: The class that each explanation is of, ``(B,)``; needed where it is predicted first.
        """
        writer, text = self._writer(), self._text(batches.as_mapping(batch))
        labels = text.ids.new_zeros(len(text.ids)) if labels is None else labels
        source = self.generated.explanation_source(self._shortened(text, "explanation"), labels)
        return writer.write(source, self.generated.explanation_start(text, labels), self._generated_limit)

    def explanation_log_probs(self, batch: Any, labels: Tensor, explanation: Tokens) -> tuple[Tensor, Tensor]:
        """Return the log probability of each token that is learnt where an explanation is, and which are there.

        Both are ``(B, S)``: the explanation and its end, after the label's words where both are one sequence.
        """
        writer, text = self._writer(), self._text(batches.as_mapping(batch))
        source = self.generated.explanation_source(self._shortened(text, "explanation"), labels)
        target = self.generated.explanation_text(labels, explanation)
        return writer.log_probs(source, self.generated.explanation_lead(), target), target.there

    def _explanation_loss(self, batch: Any) -> Tensor:
        """Return the mean loss of a token of the batch's explanations; 0 where there are none."""
        self._writer()
        parts = batches.as_mapping(batch)
        explanation, labels = self.given_explanations(parts), self.interpret_task().labels(parts)
        if explanation is None:
            raise ValueError(
                f"The batch has no `explanation_ids`, which `generated_order={self.generated.order!r}` learns: give "
                "`TextDataModule(explanation_column=...)`, or token ids (B, E) with -100 as padding: a row without an "
                "explanation has nothing else."
            )
        if labels is None:
            raise ValueError(f"The batch has no labels ({', '.join(batches.LABEL_NAMES)}) to explain.")
        classes = labels.clamp(0, len(self.generated.words) - 1)
        labelled = labels == classes
        known = (explanation.lengths > 0) & labelled
        if self._steps:
            rows = torch.stack([labelled, known])[:, :, None] & F.one_hot(classes, len(self.generated.words)).bool()
            counts = rows.sum(dim=1)
            self._generated_counts = counts if self._generated_counts is None else self._generated_counts + counts
        if not bool(known.any()):
            return torch.zeros((), device=explanation.ids.device)
        log_probs, there = self.explanation_log_probs(parts, classes, explanation)
        there = there & known[:, None]
        return -(log_probs * there).sum() / there.sum()

    def _label_source(self, parts: dict[str, Any]) -> Tokens:
        text = self._text(parts)
        if READ in parts:
            return text
        return self.generated.label_source(self._shortened(text, "label"), self._explanation_read(parts, text))

    def _explanation_read(self, parts: dict[str, Any], text: Tokens) -> Tokens | None:
        """Return the explanation that a prediction reads; ``None`` where it reads none."""
        if not self.generated.explains_first:
            return None
        if isinstance(parts.get(WRITTEN), Tensor):
            return Tokens.of(parts[WRITTEN].to(text.ids.device))
        return self.given_explanations(parts) if self.training else self.write_explanations(parts)

    # What is read

    def _text(self, parts: dict[str, Any]) -> Tokens:
        task = self.interpret_task()
        return Tokens.of(task.input_ids(parts), task.attention_mask(parts))

    def given_explanations(self, parts: dict[str, Any]) -> Tokens | None:
        """Return the batch's own explanations, without gaps, special tokens and what is too long; None without any."""
        ids = parts.get("explanation_ids")
        if not isinstance(ids, Tensor):
            return None
        task = self.interpret_task()
        given = Tokens.of(ids, (ids >= 0) & ~special_mask(ids, task.tokenizer)).closed()
        if given.ids.shape[1] > self._generated_limit:
            self._tell("explanations", f"cut to {self._generated_limit} tokens (`generated_max_tokens`)")
        return given.cut(self._generated_limit)

    def _shortened(self, text: Tokens, written: Literal["label", "explanation"]) -> Tokens:
        """Return a text that leaves room for what is written, and for what is read besides."""
        most = self._generated_rooms[written]
        if text.ids.shape[1] <= most or int(text.lengths.max()) <= most:
            return text
        self._tell("texts", f"cut to {most} tokens where the {written} is written, to leave room for what is added")
        return text.cut(most)

    def _tell(self, subject: str, what: str) -> None:
        if subject not in self._generated_told:
            self._generated_told.add(subject)
            rank_zero_warn(f"Generated explanations: {subject} are {what}.")

    def _label_names(self) -> list[str]:
        """Return the names of the classes; none where they are not known yet."""
        given = getattr(self, "labels", None) or self._generated_words or ()
        return [str(each) for each in given]

    # What writes

    def _writer(self) -> Writer:
        """Return how the model writes; the first time, what it writes is settled.

        Raises:
            ValueError: If something is missing.
        """
        model = transformer_in(self, self._generated_model)
        if model is None:
            raise ValueError(f"{type(self).__name__} holds no `transformers` model: give it one that writes.")
        tokenizer = getattr(self, "tokenizer", None)
        if tokenizer is None:
            raise ValueError(f"{type(self).__name__} has no `tokenizer`, which labels are written with: give it one.")
        writer = writer_of(model, tokenizer)
        if not self.generated.settled:
            self._settle(writer, tokenizer)
        return writer

    @torch.inference_mode(False)
    def _settle(self, writer: Writer, tokenizer: Any) -> None:
        form, words, marks = self.generated.to(self.device), self._generated_words, self._generated_marks
        settle(form, writer, tokenizer, labels=self._label_names(), words=words, marks=marks)
        self._generated_rooms, self._generated_limit = room(form, writer, tokenizer, self._generated_limit)
