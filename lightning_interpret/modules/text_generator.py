"""TextGenerator: any `transformers` model that writes, with an encoder or without, as a LightningModule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric
from torchmetrics.text import BLEUScore

from lightning_interpret.functional.tokens import Tokens
from lightning_interpret.modules.text_module import TextModule, ids_of, token_loss
from lightning_interpret.names import check_whole
from lightning_interpret.tasks import CausalGeneration, Seq2SeqGeneration
from lightning_interpret.tasks.encode import max_tokens
from lightning_interpret.tasks.transformer import call
from lightning_interpret.tasks.writing import auto_class


class TextGenerator(TextModule):
    """Fine-tune a `transformers` model to write: a translation, an answer to a prompt, or how a text goes on.

    Logged: ``train_loss``; ``val_loss`` (a token), ``val_perplexity``, and ``val_bleu`` of what the model writes itself
    in the first batches of a validation; the same under ``test_``. Batches are as those of
    :class:`~lightning_interpret.GenerationDataModule`.

    Args:
        model: Name or directory of a `transformers` model: T5, BART, Marian, GPT-2, Llama and their kin.
        generate: Options of the model's ``generate``, such as ``{max_new_tokens: 40, num_beams: 4}``; by default it
            writes greedily, at most 64 tokens.
        bleu_batches: Batches of each evaluation in which the model writes, for ``val_bleu``; 0 for none. By default 4
            for an encoder-decoder and, as writing takes long, none for a decoder unless ``generate`` is given.
        options: ``learning_rate``, ``weight_decay``, ``warmup``, ``tokenizer`` and ``config``, as of
            :class:`~lightning_interpret.TextClassifier`.

    Raises:
        ValueError: If neither ``model`` nor ``config`` is given, or both; or if the model has no decoder.
        OSError: If the model is neither a directory nor a name that can be reached.
    """

    def __init__(
        self,
        model: str | None = None,
        generate: dict[str, Any] | None = None,
        bleu_batches: int | None = None,
        **options: Any,
    ) -> None:
        if bleu_batches is not None:
            check_whole(0, bleu_batches=bleu_batches)
        super().__init__(model, **options)
        length = {} if "max_length" in (generate or {}) else {"max_new_tokens": 64}
        self.generation = {"do_sample": False, "num_beams": 1, **length, **(generate or {})}
        usual = 4 if self.encoder_decoder or generate else 0
        self.bleu_batches = usual if bleu_batches is None else bleu_batches
        self.configure_model()

    @property
    def encoder_decoder(self) -> bool:
        """Whether the model has an encoder, which reads a source."""
        return bool(self.config.is_encoder_decoder)

    @property
    def auto_class(self) -> Any:
        """The class of `transformers` that makes the model.

        Raises:
            ValueError: If it would have no decoder.
        """
        return auto_class(self.config)

    def forward(self, batch: Any) -> Tensor:
        """Return the scores of the vocabulary at each place, ``(B, T, V)``.

        They are for the token of the labels at that place in an encoder-decoder, and for the next one in a decoder.
        """
        if not self.encoder_decoder:
            return super().forward(batch)
        model: Any = self.model
        read = model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
        return call(model, {**batch, "decoder_input_ids": read}).logits

    def interpret_task(self) -> Seq2SeqGeneration | CausalGeneration:
        """Return how Monitors read this module."""
        return (Seq2SeqGeneration if self.encoder_decoder else CausalGeneration)(self.tokenizer)

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Return for each source or prompt its ``example_id`` and the ``text`` that the model writes."""
        texts = self.write(batch)
        return [{"example_id": i, "text": text} for i, text in zip(ids_of(batch, len(texts)), texts, strict=True)]

    def write(self, batch: Any) -> list[str]:
        """Return what the model writes after each source or prompt of a batch.

        It goes on with the whole text where all of it is to be learnt, or nothing. It writes no more than the model has
        places for; of a prompt that leaves less than half of these it reads the end.
        """
        model: Any = self.model
        options = {"pad_token_id": self.tokenizer.pad_token_id} | self.generation
        asked, places = options.get("max_new_tokens"), max_tokens(self.tokenizer, self)
        ids, there = batch["input_ids"], batch["attention_mask"] != 0
        if self.encoder_decoder:
            if asked and places:
                options["max_new_tokens"] = min(asked, places - 1)  # one is for the token that it begins with
            written = model.generate(input_ids=ids, attention_mask=there.long(), **options)
        else:
            if "labels" in batch:
                before = there & ((batch["labels"] != -100).long().cumsum(dim=1) == 0)
                there = torch.where(before.any(dim=1, keepdim=True), before, there)
            prompt = Tokens.of(ids, there).closed(left=True)  # what is written stands right behind it
            if asked and places:
                asked = options["max_new_tokens"] = min(asked, max(places - prompt.ids.shape[1], places // 2))
                prompt = Tokens(prompt.ids[:, asked - places :], prompt.there[:, asked - places :])
            filled = prompt.filled(self.tokenizer.pad_token_id)
            written = model.generate(input_ids=filled, attention_mask=prompt.there.long(), **options)
            written = written[:, filled.shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(written, skip_special_tokens=True)]

    def _new_metrics(self) -> dict[str, Metric]:
        return {"perplexity": _Perplexity(), "bleu": BLEUScore()}

    def _loss(self, output: Tensor, batch: Any) -> Tensor:
        return token_loss(output, self._answers(batch))[0]

    def _answers(self, batch: Any) -> Tensor:
        """Return the token that each place of the scores is of, long ``(B, T)``; −100 where there is none."""
        labels = batch["labels"]
        if self.encoder_decoder:
            return labels
        following = F.pad(labels[:, 1:], (0, 1), value=-100)
        return following.masked_fill(batch["attention_mask"] == 0, -100)  # padding says nothing of a first token

    def _evaluate(self, stage: str, batch: Any, batch_idx: int) -> None:
        loss, count = token_loss(self(batch), self._answers(batch))
        self.log(f"{stage}_loss", loss, prog_bar=True, batch_size=max(1, count), sync_dist=True)
        self._log_metric(f"{stage}_perplexity", loss, count)
        if batch_idx < self.bleu_batches:
            gold = batch["labels"].masked_fill(batch["labels"] == -100, self.tokenizer.pad_token_id)
            wanted = self.tokenizer.batch_decode(gold, skip_special_tokens=True)
            self._log_metric(f"{stage}_bleu", self.write(batch), [[text.strip()] for text in wanted], prog_bar=True)


class _Perplexity(MeanMetric):
    """The exponential of the mean loss of a token."""

    def compute(self) -> Tensor:
        """Return it, ``()``."""
        return super().compute().exp()
