"""Integrated gradients of all output tokens by Inseq and by Captum, as both are made: a loop over tokens.

Both explain the log-probability of each token, from x' that has "<unk>" in the place of every word read: of the prompt
and of the output before the token. `inseq` is no requirement of this package: it is asked only where it is installed.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec

import torch
from captum.attr import LayerIntegratedGradients, LLMGradientAttribution, TextTokenInput
from generation_models import UNK, Prompts
from torch import Tensor

#: Scores of each output token, by row and place: one for each token read.
Found = dict[tuple[int, int], Tensor]


class Captum:
    """Captum's ``LLMGradientAttribution`` over ``LayerIntegratedGradients``; for models without an encoder.

    It takes a prompt at a time and holds the output before a token as it is. Here each token is asked about with that
    output as a part of the prompt, so that it is attributed to as by the others: as many passes, of as many tokens.
    """

    name = "Captum"

    def __init__(self, prompts: Prompts) -> None:
        self.prompts = prompts
        method = LayerIntegratedGradients(prompts.model, prompts.model.get_input_embeddings())
        self.method = LLMGradientAttribution(method, prompts.tokenizer)

    @staticmethod
    def missing(prompts: Prompts) -> str | None:
        """Return why it cannot be asked, or None."""
        return "LLMGradientAttribution takes no encoder-decoder" if prompts.encoder_decoder else None

    def read_as_it_is(self, row: int) -> bool:
        """Return whether the model is asked what it is asked without padding."""
        return True

    def scores(self, steps: int) -> Found:
        """Return the scores of all tokens."""
        found = {}
        for row, (prompt, output) in enumerate(zip(self.prompts.prompts, self.prompts.outputs, strict=True)):
            for place, target in enumerate(output):
                read = [*prompt, *output[:place]]
                asked = TextTokenInput(self.prompts.texts([read])[0], self.prompts.tokenizer)
                result = self.method.attribute(asked, target=torch.tensor([target]), baselines=UNK, n_steps=steps)
                found[row, place] = result.token_attr[0]
        return found


class Inseq:
    """Inseq's ``integrated_gradients``: a step a token, of the whole batch, as where it writes the output itself.

    Outputs that are given it would take a text at a time, of a model without an encoder; so it is quicker.

    Args:
        prompts: What is explained.
        chunk: Points in a pass; many are slow on a CPU.
    """

    name = "Inseq"

    def __init__(self, prompts: Prompts, chunk: int = 64) -> None:
        import inseq

        logging.getLogger("inseq").setLevel(logging.ERROR)
        self.prompts, self.chunk = prompts, chunk
        self.model = inseq.load_model(prompts.model, "integrated_gradients", tokenizer=prompts.tokenizer, device="cpu")

    @staticmethod
    def missing(prompts: Prompts) -> str | None:
        """Return why it cannot be asked, or None."""
        return None if find_spec("inseq") else "`inseq` is not installed"

    def read_as_it_is(self, row: int) -> bool:
        """Return whether the model is asked what it is asked without padding.

        Inseq gives no position ids: with padding at the left, positions that are learned are others.
        """
        lengths = [len(each) for each in self.prompts.prompts]
        return self.prompts.model.config.model_type != "gpt2" or lengths[row] == max(lengths)

    def scores(self, steps: int) -> Found:
        """Return the scores of all tokens."""
        read, written = self.prompts.prompts, self.prompts.outputs
        source = self.prompts.encoder_decoder
        whole = written if source else [[*a, *b] for a, b in zip(read, written, strict=True)]
        result = self.model.attribution_method.prepare_and_attribute(
            self.prompts.texts(read),
            self.prompts.texts(whole),
            show_progress=False,
            pretty_progress=False,
            attribute_target=source,
            attributed_fn="probability",
            attributed_fn_args={"logprob": True},
            attribution_args={"n_steps": steps, "internal_batch_size": self.chunk},
        )
        found = {}
        for row, given in enumerate(result[0].sequence_attributions):
            before = given.target_attributions.sum(dim=-1)  # (tokens read, outputs)
            ahead = None if not source else given.source_attributions.sum(dim=-1)
            for place in range(len(written[row])):
                if ahead is None:
                    found[row, place] = before[: len(read[row]) + place, place]
                else:
                    found[row, place] = torch.cat([ahead[: len(read[row]), place], before[: place + 1, place]])
        return found


PEERS = (Captum, Inseq)
