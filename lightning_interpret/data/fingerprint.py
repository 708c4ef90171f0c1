"""A hash of what examples hold, the same in every process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Digest(Protocol):
    """What ``hashlib`` makes."""

    def update(self, data: bytes, /) -> None:
        """Take more in."""


def absorb(digest: Digest, value: Any) -> None:
    """Feed a nest of tensors, arrays, texts, numbers, mappings, sequences and dataclasses to a hash.

    Of objects of another kind it is the type alone: their parts may be addresses, which differ between processes.
    """
    if isinstance(value, Tensor):
        _part(digest, f"tensor {value.dtype} {tuple(value.shape)}", _bytes(value))
    elif hasattr(value, "tobytes") and hasattr(value, "dtype") and not value.dtype.hasobject:
        _part(digest, f"array {value.dtype} {value.shape}", value.tobytes())
    elif isinstance(value, Mapping):
        _part(digest, f"mapping {len(value)}")
        for key, each in value.items():
            absorb(digest, key)
            absorb(digest, each)
    elif is_dataclass(value) and not isinstance(value, type):
        absorb(digest, {each.name: getattr(value, each.name) for each in fields(value)})
    elif isinstance(value, tuple | list):
        _part(digest, f"sequence {len(value)}")
        for each in value:
            absorb(digest, each)
    elif isinstance(value, str):
        _part(digest, "text", value.encode(errors="surrogatepass"))
    elif isinstance(value, bytes):
        _part(digest, "bytes", value)
    elif isinstance(value, int | float | complex | None):
        _part(digest, f"{type(value).__name__} {value!r}")
    else:
        _part(digest, f"{type(value).__module__}.{type(value).__qualname__}")


def _part(digest: Digest, head: str, body: bytes = b"") -> None:
    digest.update(f"{head} {len(body)}\n".encode())
    digest.update(body)


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().to_dense() if tensor.layout is not torch.strided else tensor.detach().cpu()
    return plain.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
