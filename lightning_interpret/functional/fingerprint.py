"""Digests of weights and of data, so that what was computed of them is used again only while they are the same."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn


class Digest:
    """A digest that values are added to one after the other: tensors to the bit, all else by its ``repr``."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)

    def add(self, *values: Any) -> None:
        """Add values; order, shapes and dtypes count."""
        for value in values:
            if isinstance(value, Tensor):
                self._hash.update(f"{value.dtype}{tuple(value.shape)}".encode())
                self._hash.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            else:
                self._hash.update(repr(value).encode())

    def __str__(self) -> str:
        return self._hash.hexdigest()


def weights_hash(module: nn.Module) -> str:
    """Return a digest of a module's parameters and buffers, with their names."""
    digest = Digest()
    for named in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        for name, value in named:
            digest.add(name, value)
    return str(digest)
