"""SpanExplanationMixin: a prediction that is made from one vector, the weighed sum of all spans of the text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.layers import last_linear
from lightning_interpret.functional.spans import sharpness
from lightning_interpret.layers.spans import SpanPool, SpanSite
from lightning_interpret.mixins.joint import JointMixin
from lightning_interpret.mixins.spans.places import states_layer, states_width
from lightning_interpret.mixins.spans.rows import explained
from lightning_interpret.names import check_whole
from lightning_interpret.rationales import SpanExplanation
from lightning_interpret.tasks import batches, find_task
from lightning_interpret.tasks.transformer import framing_ids, transformer_in
from lightning_interpret.trainer.optimisation import check_trained
from lightning_interpret.trainer.progress import progress


class SpanExplanationMixin(JointMixin):
    """The head reads one vector, H = Σ α h over the spans of a text, and α is the explanation (Sun et al., 2020).

    Between the encoder's token states and whatever reads them stands a :class:`SpanPool`: each stretch of up to
    ``span_width`` tokens has a vector h and, by a softmax over all of them, a share α. In the place of every state
    comes H, so that a head that takes the first token, the last one, or a mean reads H and nothing else. A span holds
    neither special tokens nor padding, and so crosses no segment border.

    To the loss comes λ (1 − Σ α²), as ``train_span_sharpness``: 0 where one span has all the weight. (The paper
    subtracts λ Σ α², with the same gradient, from a loss that may then be negative.) λ rises from 0, so that weights
    are not sharp before the encoder knows what to look for. The larger it is, the sharper are the weights; what that
    costs in accuracy ``PlainTwin`` measures. Weights say where the evidence is, and seldom where
    exactly it begins and ends; :meth:`explain` puts beside each what erasing the span does to the prediction.

    Args:
        span_layer: Name of the layer that returns the states, ``(B, T, D)``, by itself or first; by default the last
            one of a `transformers` encoder, before its pooler, or of a decoder. What else it returns stays as it is.
        span_head: Name of a layer whose input becomes H, where the states stay as they are: of a recurrent layer, whose
            last states the head may read, or of an encoder-decoder. By default every state becomes H.
        span_width: Most tokens of a span.
        span_sharpness: λ; 0 for no term.
        span_ramp: Share of the training over which λ rises; from there on, where training has no end, and outside of a
            trainer it is whole. 0 for none.

    Raises:
        ValueError: If an option makes no sense; when the layer is attached, if there is no such layer, or none by
            default; when the module is called, if states and ids do not belong together; in training, if the layers do
            not run, no optimizer has them, or what is padding is not known.

    Example::

        class Classifier(SpanExplanationMixin, TextClassifier):
            pass

        model = Classifier("bert-base-uncased", labels=["bad", "good"])
        Trainer().fit(model, TextDataModule(...))
        print(model.explain(batch))
    """

    spans: SpanPool

    def __init__(
        self,
        *args: Any,
        span_layer: str | None = None,
        span_head: str | None = None,
        span_width: int = 8,
        span_sharpness: float = 1.0,
        span_ramp: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_whole(span_width=span_width)
        if isinstance(span_sharpness, bool) or not 0 <= span_sharpness < math.inf:
            raise ValueError(f"`span_sharpness={span_sharpness!r}` must be 0 or more, and finite.")
        self._span_layer, self._span_head = span_layer, span_head
        if isinstance(span_ramp, bool) or not 0 <= span_ramp <= 1:
            raise ValueError(f"`span_ramp={span_ramp!r}` must lie between 0 and 1: it is a share of the training.")
        self._span_width, self._span_sharpness = span_width, float(span_sharpness)
        self._span_ramp = span_ramp
        self._span_share = _number(1.0)  # of λ
        self._span_site: SpanSite | None = None
        self._spans_detached = False
        self._span_name: str | None = None  # of the layer that was found
        self._span_checked = False  # what is padding

    # Attaching

    def attach(self) -> None:
        """Put the layer in its place where that has not been done; after others, which may change the head."""
        super().attach()
        if self._span_site is None:
            if not self._spans_detached and last_linear(self) is not None:
                self.attach_spans()
        elif self._span_head is not None:
            self._span_site.put_into(find_layer(self, self._span_head))

    def attach_spans(self) -> None:
        """Read the states and hand H on from now on: before optimizers are made, and a checkpoint is loaded.

        Raises:
            ValueError: If that has been done, or no layer can be found.
        """
        if self._span_site is not None:
            raise ValueError(f"{type(self).__name__} has a span layer already: call `detach_spans()` first.")
        task = find_task(self)
        encoder = transformer_in(self)
        name = states_layer(self, encoder) if self._span_layer is None else self._span_layer
        layer, embedding = find_layer(self, name), find_layer(self, task.layer(self))
        head = None if self._span_head is None else find_layer(self, self._span_head)
        if head is None and isinstance(layer, nn.RNNBase):
            raise ValueError(
                f"`span_layer={name!r}` ({type(layer).__name__}) returns its last states beside all of them, and the "
                "text would be read there too: name the layer that is to read H, `span_head=`."
            )
        if encoder is not None and self._span_layer is None:
            width = int(encoder.config.hidden_size)
        else:
            width = states_width(name, layer)
        pool = SpanPool(width, self._span_width)
        site = SpanSite(pool, self._framing_ids, self._spans_weighed)
        site.attach(layer, embedding, None if encoder is None else encoder.base_model, head)
        weight = next(embedding.parameters(), pool.bias)
        self.spans = pool.to(weight.device, weight.dtype)
        self._span_site, self._spans_detached, self._span_name = site, False, name

    def detach_spans(self) -> None:
        """Take the layer out for good: what is left is the module without it, and its checkpoints are too.

        Raises:
            ValueError: If no layer is attached.
        """
        if self._span_site is None:
            raise ValueError(f"No span layer is attached to {type(self).__name__}.")
        self._span_site.detach()
        self._span_site, self._spans_detached = None, True
        del self.spans

    def become_plain(self) -> None:
        """Take the layer out for good."""
        super().become_plain()
        self.detach_spans()

    def explain(self, batch: Any, which: str = "predicted", k: int = 5, baseline: str = "default") -> SpanExplanation:
        """Return the spans of the largest weights of each example, each beside what its erasure does.

        What is erased has the embeddings of a baseline. ``control`` is the mean of what is lost without other spans as
        long as the foremost one, drawn at random, eight at most. Notes say where the prediction moves though all spans
        stay as they are, as the module reads the text in another way too, and where weights are nearly even, as they
        are after a few hundred steps at the learning rate of an encoder.

        Args:
            batch: A batch, on whatever device.
            which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
            k: How many spans.
            baseline: What stands at tokens that are erased; by default what the task has, ``pad`` of a text.

        Raises:
            ValueError: If no layer is attached, or an option makes no sense.
        """
        check_whole(k=k)
        return explained(self, self._attached_site(), batch, find_task(self), which, k, Baseline.ensure(baseline))

    explain_spans = explain  # by its kind, where another mixin stands first

    # Hooks

    def on_fit_start(self) -> None:
        """Look whether the layer is in its place."""
        super().on_fit_start()
        if not self._spans_detached:
            self._attached_site()

    def on_train_start(self) -> None:
        """Look whether the layer will be trained; look at the tokenizer now, and not inside of a compiled step."""
        super().on_train_start()
        if self._span_site is not None:
            check_trained(self, "spans")
            self._span_site.know(self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Let λ rise; look once whether padding is known."""
        mask = batches.get(batch, "attention_mask")
        if self._span_site is not None and not self._span_checked:
            self._span_checked, self._span_site.ran = True, False
            if isinstance(mask, Tensor):
                self._span_site.check(mask == 0)
        together = self.trainer.accumulate_grad_batches  # batches of one step have one λ
        done = progress(self.trainer, batch_idx - batch_idx % together) if self._span_ramp else None
        self._span_share = _number(1.0 if done is None else min(done / self._span_ramp, 1.0))
        return super().on_train_batch_start(batch, batch_idx)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look whether the layer has run."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        there = outputs or not self.automatic_optimization
        if there and self._span_site is not None and not self._span_site.ran:
            asked = f"`span_layer={self._span_layer!r}`, `span_head={self._span_head!r}`"
            raise ValueError(
                f"{asked}: spans have not been weighed and read in this training step. Name layers that the step calls"
                + (f", as {self._span_name!r} is not." if self._span_head is None else ".")
            )

    def on_train_end(self) -> None:
        """Forget how far training had come."""
        super().on_train_end()
        self._span_share = _number(1.0)

    def _attached_site(self) -> SpanSite:
        self.attach()
        if self._span_site is None:
            raise ValueError(
                f"{type(self).__name__} has no span layer: it has been detached, or the module has no linear layer yet "
                "(`configure_model`)."
            )
        return self._span_site

    def _spans_weighed(self, weights: Tensor) -> None:
        if not self.training or self._span_sharpness == 0:
            return
        sharp = sharpness(weights)
        there = sharp > 0  # texts that have a span
        blunt = ((1 - sharp) * there).sum() / there.sum().clamp(min=1)
        self.add_term("span_sharpness", self._span_sharpness * self._span_share * blunt)

    def _framing_ids(self) -> Iterable[int]:
        """Return the ids that are in no span: of the tokenizer, or else of padding alone."""
        task: Any = find_task(self)
        try:
            return framing_ids(task.tokenizer)
        except (AttributeError, ValueError):  # of a task without a tokenizer, or with none
            model, embedding = transformer_in(self), find_layer(self, task.layer(self))
            config = getattr(model, "config", None) if isinstance(model, PreTrainedModel) else None
            pads = {getattr(config, "pad_token_id", None), getattr(embedding, "padding_idx", None)}
            return [pad for pad in pads if pad is not None]


def _number(value: float) -> Tensor:
    """Return a number that changes in training: as a tensor it is no constant of a compiled step."""
    return torch.tensor(value, dtype=torch.float32)
