"""Value zeroing: what each position's vector owes to the values of each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lightning_interpret.functional.attention import AttentionError
from lightning_interpret.functional.attention.rollout import rollout
from lightning_interpret.functional.attention.zeroing import value_zeroing
from lightning_interpret.methods.attention.attended import Attended
from lightning_interpret.methods.attention.base import AttentionMethod


@dataclass(frozen=True)
class ValueZeroing(AttentionMethod):
    """Value zeroing (Mohebbi et al., 2023): how far a position's vector turns without the values of each token.

    For each layer 1 − cos between its output with and without the values of a token, in all heads; rows are normalised,
    and the layers' maps multiplied (rollout without a residual half: the outputs hold it already). Takes a forward a
    token, of all layers at once. The scores of a text sum to 1. Not for encoder-decoders, whose decoder reads two.

    Args:
        read: The position: ``first`` or ``last`` token, the ``mean`` over all, or ``auto``: where a generated token is
            predicted, a tagged word begins, an answer begins and ends; of other targets those that the score depends
            on, as its gradient in the last layer's attention says.
        inside: Name of the module in which attention is read; by default all of it.
        internal_batch_size: Texts in one pass; by default those of 2,048 tokens (4,096 on a GPU), fewer long ones.

    Raises:
        ValueError: If an option does not exist; on a call (an
            :class:`~lightning_interpret.functional.attention.AttentionError`), if there is no self-attention over the
            tokens, or none in a layer whose output could be read.
    """

    name: ClassVar[str] = "value_zeroing"

    def check_ends(self, layer: str, words: str) -> None:
        """Refuse: a layer of a decoder reads two texts.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "value_zeroing compares what layers return without the values of a token of the text that they read, and a "
            "layer of the decoder of an encoder-decoder (Seq2SeqGeneration) reads two, for which it is not defined: "
            "use 'attention_rollout' or 'gradient_attention'."
        )

    def scores(self, found: Attended) -> Tensor:
        """Return what the position that is read owes to each token."""
        if not found.layers:
            raise AttentionError(
                "Value zeroing compares what layers of self-attention return, and this model has attention of one "
                "position alone: use 'attention_weights'."
            )
        read = found.read(self.read)
        distances = value_zeroing(
            found.module,
            found.forward,
            found.layers,
            found.there,
            found.chunk,
            inside=found.inside,
            after=found.after,
        )
        return (read[:, None] @ rollout(distances, found.there, residual=False))[:, 0]

    def passes(self, found: Attended) -> Tensor:
        """Return a forward for each token, and one that they are compared with."""
        return found.there.sum(dim=1).cpu() + 1
