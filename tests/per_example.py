"""Per-example gradients held to one-at-a-time autograd: the oracle, and what runs a model for a trial."""

import torch
from torch import nn
from torch.nn import functional as F

from lightning_interpret.functional.influence.blocks import find_blocks
from lightning_interpret.functional.influence.gradients import recording
from lightning_interpret.functional.influence.trial import check, settle
from lightning_interpret.functional.scope import explaining


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def runs(model, inputs, labels=None):
    """What runs a model on the first n of some examples, again and again."""

    def losses(n):
        rows = torch.arange(n) % len(inputs)
        logits = model(inputs[rows])
        return F.cross_entropy(logits, (rows % logits.shape[1]) if labels is None else labels[rows], reduction="none")

    return losses


class Tied(nn.Module):
    """An embedding that is its own decoder, and two layers that share a weight, each with a bias of its own."""

    def __init__(self, *, bias=True, padding=None, both=True):
        super().__init__()
        self.embedding = nn.Embedding(9, 6, padding_idx=padding)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.norm, self.again = nn.LayerNorm(6), nn.LayerNorm(6)
        self.second.weight, self.again.weight, self.again.bias = self.first.weight, self.norm.weight, self.norm.bias
        self.decoder = nn.Linear(6, 9, bias=bias)
        if both:
            self.decoder.weight = self.embedding.weight

    def forward(self, ids):
        hidden = self.norm(torch.tanh(self.first(self.embedding(ids))))
        return self.decoder(self.again(torch.tanh(self.second(hidden)))).mean(dim=1)


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
            for queries in (each.gradient(), own[:1].reshape(1, *each.block.shape)):
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
