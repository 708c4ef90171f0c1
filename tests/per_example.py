"""Per-example gradients held to one-at-a-time autograd: the oracle, and what runs a model for a trial."""

import torch

from lightning_interpret.functional.influence.blocks import find_blocks
from lightning_interpret.functional.influence.gradients import recording
from lightning_interpret.functional.influence.trial import check, settle
from lightning_interpret.functional.scope import explaining


def settled(model, losses, layers="all"):
    """The blocks that a trial keeps, and why it leaves out others; inside the explaining scope."""
    used, left = settle(find_blocks(model, layers), losses)
    left |= check(used, losses)
    return [block for block in used if block.name not in left], left


def by_hooks(model, losses, count, layers="all"):
    """Gradients of each example in each block by hooks, as {name: (B, numel)}, the blocks, and what was left out."""
    with explaining(model):
        blocks, left = settled(model, losses, layers)
        with recording(blocks, count) as record:
            values = losses(count)
        uses = record.gradients(values.sum())
        found = {each.block.name: each.block.flat(each.gradient()) for each in uses}
        # a product with queries is the product of gradients, however it is computed
        for each in uses:
            own = each.block.flat(each.gradient())
            for queries in (each.gradient(), each.block.unflat(own[:1])):
                wanted = each.block.flat(queries) @ own.T
                torch.testing.assert_close(
                    each.scores(queries), wanted, rtol=1e-4, atol=1e-6 * float(own.square().sum())
                )
    return found, blocks, left


def by_autograd(model, losses, count, blocks):
    """The same one at a time, by autograd at the weights."""
    found = {block.name: [] for block in blocks}
    for i in range(count):
        model.zero_grad()
        losses(count)[i].backward()
        for block in blocks:
            grads = {
                key: torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for key, p in block.parameters.items()
            }
            found[block.name].append(block.stacked(grads).flatten())
    model.zero_grad()
    return {name: torch.stack(rows) for name, rows in found.items()}


def assert_right(model, losses, count, *, layers="all", left=(), tolerance=1e-10):
    """Gradients by hooks are autograd's, but for layers that the trial leaves out; returns the blocks."""
    found, blocks, out = by_hooks(model, losses, count, layers)
    assert set(out) == set(left), out
    true = by_autograd(model, losses, count, blocks)
    near(found, true, tolerance)
    return blocks


def near(found, true, tolerance):
    """Gradients in each block are the same, next to the largest."""
    assert set(found) == set(true)
    size = max(float(each.abs().max()) for each in true.values())
    for name, gradient in found.items():
        error = float((gradient - true[name]).abs().max())
        assert error <= tolerance * size, (name, error / size)
