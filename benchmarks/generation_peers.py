"""Integrated gradients of all output tokens by Inseq and by Captum, as both are made: a loop over tokens.

Both explain the log-probability of each token, from x' that has "<unk>" in the place of every word read: prompt and
earlier output. `inseq` 0.7.1 is no requirement of this package: where it is not installed, it is left out.
"""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec

import torch
from captum.attr import LayerIntegratedGradients, LLMGradientAttribution, TextTokenInput
from generation_models import UNK, Prompts
from torch import Tensor, nn

#: Scores of each output token, by row and place: one a token read. The second is ΔF, from the method's own F.
Found = dict[tuple[int, int], tuple[Tensor, float]]


class CaptumPeer:
    """Captum's `LLMGradientAttribution` of `LayerIntegratedGradients`.

    It takes one prompt at a time, holds the output before a token as it is, and has the next token's target. Here each
    token is asked about with the output before it as a part of the prompt, so that it is attributed to as with the
    others: as many passes, of as many tokens, as in one call.
    """

    name = "Captum LLMGradientAttribution"

    def __init__(self, prompts: Prompts) -> None:
        self.prompts = prompts
        self.layer = prompts.model.get_input_embeddings()
        method = LayerIntegratedGradients(prompts.model, self.layer)
        self.method = LLMGradientAttribution(method, prompts.tokenizer)
        self.device = next(prompts.model.parameters()).device

    def scores(self, steps: int, chunk: int | None = None) -> Found:
        """Return the scores of all tokens; ``chunk`` is the number of points in a pass."""
        found = {}
        pairs = zip(self.prompts.prompts, self.prompts.outputs, strict=True)
        for row, (prompt, output) in enumerate(pairs):
            for place, target in enumerate(output):
                read = [*prompt, *output[:place]]
                asked = TextTokenInput(self.prompts.texts([read])[0], self.prompts.tokenizer, baselines=UNK)
                options = {"n_steps": steps, "internal_batch_size": chunk}
                result = self.method.attribute(
                    asked, target=torch.tensor([target], device=self.device), **options, baselines=UNK
                )
                found[row, place] = result.token_attr[0].cpu(), self._moved(read, target)
        return found

    def _moved(self, read: list[int], target: int) -> float:
        return float("nan")  # F(x) and F(x') are no part of its result: the benchmark reads them


class InseqPeer:
    """Inseq's ``integrated_gradients``, a step for each token of a padded batch, as where it writes the output itself.

    Given outputs it would take a text at a time for a model without an encoder; this way it is quicker.
    """

    name = "Inseq"

    def __init__(self, prompts: Prompts) -> None:
        import inseq

        logging.getLogger("inseq").setLevel(logging.ERROR)
        self.prompts = prompts
        self.model = inseq.load_model(
            prompts.model, "integrated_gradients", tokenizer=prompts.tokenizer, device=str(prompts.model.device)
        )

    @staticmethod
    def is_there() -> bool:
        """Return whether Inseq is installed."""
        return find_spec("inseq") is not None

    def scores(self, steps: int, chunk: int | None = None, rows: list[int] | None = None) -> Found:
        """Return the scores of all tokens of the rows, and ΔF by its own convergence delta where asked one at a time."""
        rows = list(range(len(self.prompts.prompts))) if rows is None else rows
        read, written = [self.prompts.prompts[i] for i in rows], [self.prompts.outputs[i] for i in rows]
        whole = self.prompts.encoder_decoder
        given = written if whole else [[*a, *b] for a, b in zip(read, written, strict=True)]
        options = {"n_steps": steps, "internal_batch_size": chunk}
        method = self.model.attribution_method
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = method.prepare_and_attribute(
                self.prompts.texts(read),
                self.prompts.texts(given),
                show_progress=False,
                pretty_progress=False,
                attribute_target=whole,
                attributed_fn="probability",
                attributed_fn_args={"logprob": True},
                attribution_args=options,
            )
        return result
