"""Two laws of every operation: Σ m Δx = Δy, and m is the gradient where x' is x. And: its value is its own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_interpret.functional.operations import ELEMENTWISE
from lightning_interpret.functional.rescale import Rescale, deep_lift

SHAPE = (3, 4, 6)


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


W, K, V = drawn(6, 6), drawn(5, 4, 3), drawn(6)
SEEN = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)


def heads(x):
    return x.unflatten(-1, (2, 3)).transpose(1, 2)


def attend(x, keys=2, **options):
    q, k, v = heads(x), heads(x @ W), heads(torch.tanh(x))
    return F.scaled_dot_product_attention(q, k[:, :keys], v[:, :keys], **options)


def in_place(x):
    h = x @ W
    h += 1
    F.relu(h, inplace=True)
    h = h + x
    h *= x
    h[:, 0] = x[:, 1] * 2
    h.div_(1 + x.square()).masked_fill_(x > 10, 0.0)
    return (h + x).clamp_(max=3).sigmoid_()


def into_memory_as_found(x):
    out = torch.empty_like(x)
    out[:, :2] = x[:, :2] * x[:, 2:]
    return out[:, :2].exp()


def into_memory_by_views(x):
    out = torch.empty_like(x)
    out[:, 2:].copy_(x[:, 2:])
    out[:, :2].fill_(0.0).add_(x[:, :2])
    return out.exp()


FUNCTIONS = {
    # products and quotients
    "mul": lambda x: x * x.flip(-1),
    "square by itself": lambda x: x * x,
    "matmul": lambda x: x @ x.transpose(1, 2),
    "einsum": lambda x: torch.einsum("bij,bkj->bik", x, torch.tanh(x)),
    "linear in its weight": lambda x: F.linear(x[0], x[1], x[2, :, 0]),
    "conv in its weight": lambda x: F.conv1d(x, x[:, :4, :3]),
    "baddbmm": lambda x: torch.baddbmm(x[..., :4], x, x.transpose(1, 2), beta=0.5, alpha=2),
    "addmm": lambda x: torch.addmm(x[0, :, :4], x[1], x[2].T),
    "addcmul": lambda x: torch.addcmul(x, x.exp(), x.sin(), value=0.3),
    "addcdiv": lambda x: torch.addcdiv(x, x, 1 + x.exp(), value=0.3),
    "lerp": lambda x: torch.lerp(x, x.exp(), 0.3),
    "div": lambda x: x.flip(-1) / (1 + x * x),
    "constant over": lambda x: 2 / (1 + x * x),
    "rdiv": lambda x: 3 - 1 / (2 + x.abs()) ** 1.5,
    "pow of a constant": lambda x: 2**x,
    # normalisations
    "layer_norm": lambda x: F.layer_norm(x, (6,), V, V),
    "layer_norm of two": lambda x: F.layer_norm(x, (4, 6)),
    "rms_norm": lambda x: F.rms_norm(x, (6,), V),
    "group_norm": lambda x: F.group_norm(x, 2, V[:4], V[:4]),
    "instance_norm": lambda x: F.instance_norm(x, weight=V[:4], bias=V[:4]),
    "batch_norm": lambda x: F.batch_norm(x, V[:4], V[:4].abs(), V[:4], V[:4]),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "var": lambda x: x.var(dim=-1) + x.std(dim=1, keepdim=True).sum(-1) + x.var(),
    "norm": lambda x: x.norm(dim=-1) + torch.linalg.vector_norm(x, 3, dim=-1),
    "cosine_similarity": lambda x: F.cosine_similarity(x, x.exp(), dim=-1),
    # softmax
    "softmax": lambda x: F.softmax(3 * x, dim=-1),
    "softmax of one": lambda x: x.softmax(1),
    "log_softmax": lambda x: F.log_softmax(3 * x, dim=1),
    "logsumexp": lambda x: torch.logsumexp(x, dim=(1, 2)) + x.logsumexp(-1).sum(1),
    "masked softmax": lambda x: (x @ x.transpose(1, 2)).masked_fill(~SEEN[[0, 2, 2, 3]], -torch.inf).softmax(-1),
    # attention
    "attention": attend,
    "causal attention": lambda x: attend(x, is_causal=True, scale=0.7),
    "attention that sees nothing": lambda x: attend(x, attn_mask=SEEN),
    "attention with a bias": lambda x: attend(x, attn_mask=drawn(4, 4)),
    "grouped attention": lambda x: attend(x, keys=1, enable_gqa=True),
    # the largest
    "max of a dimension": lambda x: x.max(dim=1).values + x.min(1)[0],
    "max of all": lambda x: x.max() + x.min() + x.amin((0, 2)),
    "maximum": lambda x: torch.maximum(x, 0.3 * x.flip(-1)) + torch.minimum(x, V),
    "max_pool1d": lambda x: F.max_pool1d(x, 2, 1, padding=1),
    "max_pool2d": lambda x: F.max_pool2d(x, 2, ceil_mode=True) + nn.MaxPool2d(2, return_indices=True)(x)[0],
    "max_pool3d": lambda x: F.max_pool3d(x[None], 2),
    "adaptive_max_pool": lambda x: F.adaptive_max_pool1d(x, 4) + F.adaptive_max_pool2d(x, (2, 4))[:, :1],
    # others
    "conv": lambda x: F.conv1d(x, K) + F.conv_transpose1d(x, K.transpose(0, 1)[..., :1]).amax(dim=1)[:, None, 1:5],
    "glu": lambda x: F.glu(x, dim=-1),
    "prelu": lambda x: F.prelu(x, V[:4]),
    "bounds of a tensor": lambda x: x[:1].clamp(-0.5 * V.abs()[:4, None], V.abs()[:4, None]),
    "where": lambda x: torch.where(SEEN[0, None, :, None], x.exp(), x.sin()).unbind(1)[0],
    "in place": in_place,
    "into memory as found": into_memory_as_found,
    "into memory by views": into_memory_by_views,
    "interpolate": lambda x: F.interpolate(x, scale_factor=2, mode="linear").tanh(),
}
POSITIVE = {"log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal", "acosh", "lgamma", "digamma"}
INSIDE = {"asin", "acos", "atanh", "erfinv", "logit"}
ARGUMENTS = {
    "threshold": (0.1, 0.0),
    "pow": (3,),
    "float_power": (2,),
    "clamp": (-0.5, 0.5),
    "clamp_min": (0.2,),
    "clamp_max": (0.2,),
    "prelu": (torch.tensor(0.1).double(),),
}


def elementwise(name):
    homes = (torch, torch._C._nn, torch.Tensor)
    function = next(getattr(home, name) for home in homes if hasattr(home, name))
    arguments = ARGUMENTS.get(name, ())
    if name in POSITIVE:
        return lambda x: function(x.abs() + (1.1 if name == "acosh" else 0.1), *arguments)
    if name in INSIDE:
        return lambda x: function(0.5 + 0.4 * x.sin(), *arguments)
    return lambda x: function(x, *arguments)


CASES = FUNCTIONS | {f"elementwise {name}": elementwise(name) for name in sorted(ELEMENTWISE)}


def a_score(function):
    """A scalar that is far from linear in what the function returns, the same for all rows."""

    def score(points, rows):
        found = function(points)
        weights = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).reshape(found.shape)
        return torch.stack([(found * weights).sum()])

    return score


@pytest.mark.parametrize("name", CASES)
def test_the_sum_is_exact(name):
    x, baseline, rows = drawn(*SHAPE, seed=2), drawn(*SHAPE, seed=3), torch.arange(3)
    baseline[0, 0], baseline[:, -1] = x[0, 0], 0.0  # some did not change, some are at 0
    score = a_score(CASES[name])
    found = deep_lift(score, x, baseline)
    change = score(x, rows) - score(baseline, rows)
    assert found.isfinite().all()
    assert abs(float(found.sum() - change)) <= 1e-12 * max(1.0, float(found.abs().sum()))


@pytest.mark.parametrize("name", CASES)
def test_without_a_change_multipliers_are_the_gradient(name):
    x = drawn(*SHAPE, seed=2)
    expected = torch.autograd.grad(a_score(CASES[name])(x.requires_grad_(), None).sum(), x)[0]
    x = x.detach()
    reference = Rescale()
    with reference:
        a_score(CASES[name])(reference.track(x.clone().requires_grad_()), None)
    scope, points = Rescale(reference), x.clone().requires_grad_()
    with scope:
        value = a_score(CASES[name])(scope.track(points), None)
    torch.testing.assert_close(torch.autograd.grad(value.sum(), points)[0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_those_of_the_operations(name):
    x = drawn(*SHAPE, seed=2)
    with torch.no_grad():
        plain = FUNCTIONS[name](x.clone())
    for scope in (reference := Rescale(), Rescale(reference)):
        with scope:
            found = FUNCTIONS[name](scope.track(x.clone().requires_grad_()))
        assert torch.equal(found, plain)


def test_a_softmax_of_large_and_distant_logits_keeps_its_sum():
    """Multipliers of a softmax are at most 1, however far its logits are from those at x'."""
    x, baseline = 300 * drawn(8, 5).float() + 1000, 300 * drawn(8, 5, seed=5).float()
    found = deep_lift(lambda points, rows: points.softmax(-1)[:, 0], x, baseline, chunk=3)
    change = x.softmax(-1)[:, 0] - baseline.softmax(-1)[:, 0]
    assert float(change.abs().max()) > 0.9
    torch.testing.assert_close(found.sum(1), change, rtol=0, atol=1e-4)  # 1e-7 of the 1000 that is added
    assert float((found / (x - baseline)).abs().max()) <= 1
