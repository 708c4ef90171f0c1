"""Masks of turn-over dropout: a fixed random mask an example, made of its id by an integer hash and stored nowhere.

Every number is a non-negative integer below 2⁶³ at every step, so that no backend rounds or overflows and a mask is the
same on every device, in every precision and process.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

_LOW = 2**32 - 1
_BITS = 24  # of the hash that are compared with the rate


def unit_keys(name: str, size: int, seed: int = 0) -> Tensor:
    """Return a key for each unit of a layer, long ``(size,)`` on the CPU: of other layers and seeds, others.

    Args:
        name: Name of the layer.
        size: Its units.
        seed: Seed of all masks.
    """
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    first, second = (int.from_bytes(part, "little") for part in (digest[:4], digest[4:]))
    return _mixed(second ^ _mixed((first + torch.arange(size)) & _LOW))


def kept(ids: Tensor, keys: Tensor, rate: float) -> Tensor:
    """Return which units each example keeps, m(z), bool ``(B, units)``: each with probability 1 − rate.

    The hash is three rounds of a 32-bit mixer whose two multipliers are below 2³¹. The two halves of an id are mixed
    one after the other, so that two ids never have the same state.

    Args:
        ids: Ids of the examples, long ``(B,)``, 0 or more.
        keys: Keys of the units, long ``(units,)``, by :func:`unit_keys`.
        rate: Probability that a unit is dropped.
    """
    keys = keys.to(ids.device)
    low = _mixed(ids & _LOW)
    high = _mixed((ids >> 32) ^ low)
    drawn = _mixed(high[:, None] ^ _mixed((low[:, None] + keys) & _LOW))
    return (drawn >> (32 - _BITS)) >= round(rate * 2**_BITS)


def checked_ids(ids: Any, *, values: bool = True) -> Tensor:
    """Return ids of examples as a long tensor ``(B,)``, where they are.

    Args:
        ids: A tensor, an array or a list of integers.
        values: Whether it is looked for negative ones, which waits for the device that they are on.

    Raises:
        ValueError: If they are not one integer from 0 to 2⁶³ − 1 an example.
    """
    what = " ".join(repr(ids).split())[:60]
    try:
        found = torch.as_tensor(ids)
        whole = not (found.is_floating_point() or found.is_complex() or found.dtype in (torch.bool, torch.uint64))
        if whole and found.dim() == 1 and not (values and len(found) and int(found.min()) < 0):
            return found.long()
        what = f"{what}, {found.dtype} {tuple(found.shape)}"
    except (TypeError, ValueError, RuntimeError, OverflowError):  # whatever it is that makes no tensor
        pass
    raise ValueError(
        f"`example_id` ({what}): masks are made of one integer from 0 to 2⁶³ − 1 for each example, a vector (B,). "
        "`WithIds(data_set)` numbers the examples."
    )


def _mixed(value: Tensor) -> Tensor:
    """Return a bijection of 32-bit numbers in which every bit of the input moves every bit of the output."""
    value = ((value ^ (value >> 15)) * 0x2C1B3C6D) & _LOW
    value = ((value ^ (value >> 12)) * 0x297A2D39) & _LOW
    return value ^ (value >> 15)
