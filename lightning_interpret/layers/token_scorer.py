"""A small network that reads the embeddings of a text for a gate of its own."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.names import check_whole


class TokenScorer(nn.Module):
    """Masked convolutions over the tokens with GELU, residual sums and norms: ``(B, T, D) → (B, T, H)``.

    What may not be selected is a vector of zeros to it, before each convolution: what stands there, and how far a text
    is padded on either side, changes nothing. A token's features depend on ``layers · (kernel // 2)`` tokens before and
    after it.

    Args:
        width: Width of the embeddings, D.
        hidden: Width of the features, H; by default that of the embeddings, and at most 128.
        layers: How many convolutions.
        kernel: How many tokens each reads, an odd number.

    Attributes:
        hidden: H.

    Raises:
        ValueError: If an option is no whole number above 0, or the kernel is even.
    """

    def __init__(self, width: int, hidden: int | None = None, layers: int = 2, kernel: int = 3) -> None:
        super().__init__()
        self.hidden = min(width, 128) if hidden is None else hidden
        check_whole(width=width, hidden=self.hidden, layers=layers, kernel=kernel)
        if kernel % 2 == 0:
            raise ValueError(f"`kernel={kernel}` must be odd, so that a token is in the middle of what is read for it.")
        widths = [width, *[self.hidden] * layers]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel, padding=kernel // 2) for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(self.hidden) for _ in range(layers))

    def forward(self, embeddings: Tensor, selectable: Tensor) -> Tensor:
        """Return features of each token, 0 where it may not be selected.

        Args:
            embeddings: ``(B, T, D)``.
            selectable: Which tokens may be selected, bool ``(B, T)``.
        """
        masked = ~selectable.bool()[..., None]
        x = embeddings.masked_fill(masked, 0)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            read = F.gelu(convolution(x.transpose(1, 2)).transpose(1, 2))
            x = norm(read + x if x.shape == read.shape else read).masked_fill(masked, 0)
        return x
