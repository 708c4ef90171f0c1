"""Digests of weights and of data, so that what was computed of them is used again only while they are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn


class Digest:
    """A digest that values are added to one after the other, the same in every process.

    Tensors and arrays count to the bit, with their shape and type; mappings, sequences and dataclasses by what they
    hold; texts, bytes and numbers as they are. Of objects of another kind it is the type alone: their parts may be
    addresses, which differ between processes.
    """

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)

    def add(self, *values: Any) -> None:
        """Add values; their order counts."""
        for value in values:
            if isinstance(value, Tensor):
                self._part(f"tensor {value.dtype} {tuple(value.shape)}", as_bytes(value))
            elif hasattr(value, "tobytes") and hasattr(value, "dtype") and not value.dtype.hasobject:
                self._part(f"array {value.dtype} {value.shape}", value.tobytes())
            elif isinstance(value, Mapping):
                self._part(f"mapping {len(value)}")
                for pair in value.items():
                    self.add(*pair)
            elif is_dataclass(value) and not isinstance(value, type):
                self.add({each.name: getattr(value, each.name) for each in fields(value)})
            elif isinstance(value, tuple | list):
                self._part(f"sequence {len(value)}")
                self.add(*value)
            elif isinstance(value, str):
                self._part("text", value.encode(errors="surrogatepass"))
            elif isinstance(value, bytes):
                self._part("bytes", value)
            elif isinstance(value, int | float | complex | None):
                self._part(f"{type(value).__name__} {value!r}")
            else:
                self._part(f"{type(value).__module__}.{type(value).__qualname__}")

    def __str__(self) -> str:
        return self._hash.hexdigest()

    def _part(self, head: str, body: Any = b"") -> None:
        self._hash.update(f"{head} {len(body)}\n".encode())
        self._hash.update(body)


def digest_of(*values: Any) -> str:
    """Return the digest of some values."""
    digest = Digest()
    digest.add(*values)
    return str(digest)


def weights_hash(module: nn.Module) -> str:
    """Return a digest of a module's parameters and buffers, with their names."""
    digest = Digest()
    for named in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        for name, value in named:
            digest.add(name, value)
    return str(digest)


def as_bytes(tensor: Tensor) -> Any:
    """Return the bytes of a tensor, as what ``hashlib`` and files take."""
    whole = tensor.detach().cpu()
    whole = whole if whole.layout is torch.strided else whole.to_dense()
    return whole.contiguous().reshape(-1).view(torch.uint8).numpy().data
