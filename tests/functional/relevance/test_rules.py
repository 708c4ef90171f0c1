"""The rules against the textbook's equations in loops, and the law F(x) = Σ R + Σ absorbed on what nets are made of."""

import math

import numpy as np
import pytest
import torch
from relevances import assert_law, propagate
from torch import nn
from torch.nn import functional as F

from lightning_interpret.functional.relevance import Rule, relevance

EPSILON = 0.05
LINEAR = {
    "epsilon": Rule.named("epsilon", epsilon=EPSILON),
    "gamma": Rule.named("gamma", epsilon=EPSILON, gamma=0.4),
    "alpha1_beta0": Rule.named("alpha1_beta0", epsilon=EPSILON),
    "share": Rule.named("epsilon", epsilon=EPSILON, bias="share"),
    "gamma, share": Rule.named("gamma", epsilon=EPSILON, gamma=0.4, bias="share"),
}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


# Oracles


def handed_back(x, weight, bias, relevances, rule):
    """R of a linear layer's inputs, term by term (Bach et al., 2015; Montavon et al., 2019; Arras et al., 2017)."""
    found = np.zeros_like(x)
    for j, row in enumerate(weight):
        y = sum(x[i] * row[i] for i in range(len(x))) + bias[j]
        parts = [x[i] * row[i] for i in range(len(x))] + [bias[j]]
        if rule.linear == "alpha1_beta0":
            parts = [max(part, 0.0) for part in parts]
        elif rule.linear == "gamma":
            parts = [part + rule.gamma * (max(part, 0.0) if y > 0 else min(part, 0.0)) for part in parts]
        total = sum(parts)
        stabiliser = rule.epsilon if total >= 0 else -rule.epsilon
        if rule.bias == "share":
            there = sum(value != 0 for value in x)
            for i in range(len(x)):
                parts[i] += (parts[-1] + stabiliser) / there if x[i] != 0 else 0.0
        for i in range(len(x)):
            found[i] += parts[i] / (total + stabiliser) * relevances[j]
    return found


@pytest.mark.parametrize("rule", LINEAR.values(), ids=LINEAR)
def test_a_net_of_relus_is_the_textbooks(rule):
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2))
    x = torch.randn(6, 4)
    found, score, absorbed = propagate(net, x, rule, column=1)
    first, second, last = (net[i] for i in (0, 2, 4))
    for row in range(len(x)):
        hidden = first(x[row]).relu()
        deeper = second(hidden).relu()
        back = np.array([0.0, float(score[row])])
        for layer, inputs in ((last, deeper), (second, hidden), (first, x[row])):
            arrays = (inputs.numpy(), layer.weight.numpy(), layer.bias.numpy())
            back = handed_back(*arrays, back, rule)
        np.testing.assert_allclose(found[row].numpy(), back, rtol=1e-9, atol=1e-11)
    assert_law(found, score, absorbed)


@pytest.mark.parametrize("rule", ["attn_lrp", "cp_lrp"])
def test_a_block_of_attention_is_the_textbooks(rule):
    """One head, residual, layer norm, GELU: every equation of Achtibat et al. (2024) in loops, without a bias."""
    size, tokens = 3, 4
    parts = {name: torch.randn(size, size) for name in ("q", "k", "v", "o", "up", "down")}
    norm, read = torch.randn(size), torch.randn(size)

    class Block(nn.Module):
        def forward(self, x):
            q, k, v = (F.linear(x, parts[name]) for name in "qkv")
            h = x + F.linear(F.scaled_dot_product_attention(q, k, v), parts["o"])
            h = F.layer_norm(h, (size,), norm)
            return F.linear((h + F.linear(F.gelu(F.linear(h, parts["up"])), parts["down"]))[:, 0], read[None])

    x = torch.randn(2, tokens, size)
    found, score, absorbed = propagate(Block(), x, rule)
    for row in range(2):
        expected, left = block_by_loops(x[row].numpy(), {n: w.numpy() for n, w in parts.items()}, norm, read, rule)
        np.testing.assert_allclose(found[row].numpy(), expected, rtol=1e-9, atol=1e-11)
        assert float(absorbed.get("softmax", torch.zeros(2))[row]) == pytest.approx(left, abs=1e-11)
    assert_law(found, score, absorbed)


def block_by_loops(x, w, norm, read, rule):
    """Return R of the block's inputs, and what the softmax rule did not hand on; plain LRP-0 at the linear layers."""

    def back(inputs, weight, relevances):  # rows of tokens
        plain = Rule("epsilon")
        return np.stack([
            handed_back(i, weight, np.zeros(len(weight)), r, plain) for i, r in zip(inputs, relevances, strict=True)
        ])  # fmt: skip

    gelu = np.vectorize(lambda a: a * 0.5 * (1 + math.erf(a / math.sqrt(2))))
    q, k, v = x @ w["q"].T, x @ w["k"].T, x @ w["v"].T
    logits = q @ k.T / math.sqrt(x.shape[1])
    s = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mixed = s @ v
    attended = mixed @ w["o"].T
    h = x + attended
    deviation = np.sqrt(h.var(axis=1, keepdims=True) + 1e-5)
    normal = (h - h.mean(axis=1, keepdims=True)) / deviation * norm.numpy()
    up = normal @ w["up"].T
    act = gelu(up)
    down = act @ w["down"].T
    # and back: the read-out, the residual, the MLP with the identity rule at GELU
    r_sum = np.zeros_like(x)
    r_sum[0] = (normal + down)[0] * read.numpy()
    shares = np.divide(r_sum, normal + down, out=np.zeros_like(x), where=r_sum != 0)
    r_normal = normal * shares + back(normal, w["up"], back(act, w["down"], down * shares))
    # layer norm with a constant deviation is the linear map (1 − 1/n) of each row
    n = x.shape[1]
    centre = (np.eye(n) - 1 / n) * norm.numpy()[:, None]
    r_h = np.stack([
        handed_back(h[t], centre / deviation[t], np.zeros(n), r_normal[t], Rule("epsilon"))
        for t in range(len(x))
    ])  # fmt: skip
    r_x, r_attended = r_h * x / h, r_h * attended / h
    r_mixed = back(mixed, w["o"], r_attended)
    r_s, r_v = np.zeros_like(s), np.zeros_like(v)
    for t in range(len(x)):
        for u in range(len(x)):
            for d in range(n):
                part = s[t, u] * v[u, d] / mixed[t, d] * r_mixed[t, d]
                r_s[t, u] += part / 2
                r_v[u, d] += part / 2 if rule == "attn_lrp" else part
    r_x = r_x + back(x, w["v"], r_v)
    if rule == "cp_lrp":
        return r_x, 0.0
    r_logits = logits * (r_s - s * r_s.sum(axis=1, keepdims=True))
    r_q, r_k = np.zeros_like(q), np.zeros_like(k)
    for t in range(len(x)):
        for u in range(len(x)):
            for d in range(n):
                part = q[t, d] * k[u, d] / (q[t] @ k[u]) * r_logits[t, u] / 2
                r_q[t, d] += part
                r_k[u, d] += part
    return r_x + back(x, w["q"], r_q) + back(x, w["k"], r_k), float(r_s.sum() - r_logits.sum())


# The law


def act(function):
    class Act(nn.Module):
        def forward(self, x):
            return function(x)

    return Act()


PARTS = {
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "elu": nn.ELU(),
    "prelu": nn.PReLU(4),
    "softplus": nn.Softplus(),
    "sigmoid": nn.Sigmoid(),
    "in place": nn.Sequential(nn.ReLU(inplace=True), nn.Hardtanh(inplace=True)),
    "batch norm": nn.BatchNorm1d(4).eval(),
    "layer norm": nn.LayerNorm(4),
    "group norm": act(lambda x: F.group_norm(x, 2, torch.arange(4).double(), torch.ones(4).double())),
    "rms norm": nn.RMSNorm(4),
    "rms norm by hand": act(lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)),
    "unit length": act(lambda x: F.normalize(x, dim=-1)),
    "gated": act(lambda x: F.silu(x) * (x + 1)),
    "glu": act(lambda x: F.glu(torch.cat([x, 2 * x], dim=-1))),
    "highway": act(lambda x: torch.sigmoid(x) * x.tanh() + (1 - torch.sigmoid(x)) * x),
    "squared": act(lambda x: x * x + x.square()),
    "max and constants": act(lambda x: torch.where(x > 0, x, 0.3) - torch.maximum(x, x.flip(-1)) + x.clamp(-0.5, 0.2)),
    "written into": act(lambda x: written_into(x)),
    "addmm": act(lambda x: torch.addmm(torch.ones(4), x, torch.eye(4) * 2)),
    "einsum": act(lambda x: torch.einsum("bi,bj->bj", x, x.tanh())),
    "variance": act(
        lambda x: x + x.var(dim=-1, keepdim=True) + x.std(dim=-1, keepdim=True) + x.norm(dim=-1, keepdim=True)
    ),
}


def written_into(x):
    made = torch.ones(len(x), 4)
    made[:, 1:3] = x[:, :2]
    made += x
    made[:, 0].add_(x[:, 1])
    made.mul_(x.mean(dim=1, keepdim=True))
    made.masked_fill_(made > 2, -1.0)
    return made / 3


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_the_law_holds_for(part):
    net = nn.Sequential(nn.Linear(3, 4), part, nn.Linear(4, 2)).double()
    found, score, absorbed = propagate(net, torch.randn(5, 3), "epsilon")
    assert_law(found, score, absorbed)
    assert float(found.abs().max()) > 1e-3


def test_the_law_holds_for_what_is_written_into_views():
    """Longformer masks its chunks so; a hook on such a view crashed torch 2.13."""

    class Writes(nn.Module):
        def forward(self, x):
            made = torch.ones(2, 4)
            made[:, 2:].copy_(x[:, :2])
            made[:, 1:].add_(0.7)
            pairs = made.view(2, 2, 2)
            pairs[:, 0] = x[:, :2] * 3
            pairs[:, 1].masked_fill_(pairs[:, 1] > 1.5, 2.0)
            other = x.view(2, 2, 2) * 1
            other.view(2, 4).add_(1)
            return torch.stack([made.sum(1) + other.flatten(1).sum(1) + torch.sigmoid_(other.view(2, 4)).sum(1)], 1)

    found, score, absorbed = propagate(Writes(), torch.rand(2, 4), "epsilon")
    assert_law(found, score, absorbed)
    assert set(absorbed) == {"constants"}


@pytest.mark.parametrize("rule", LINEAR.values(), ids=LINEAR)
def test_the_law_holds_for_convolutions(rule):
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4).eval(), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2),
        nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    found, score, absorbed = propagate(net, torch.randn(3, 2, 8, 8), rule)
    assert_law(found, score, absorbed)


def test_weights_that_require_gradients_are_constants():
    x, weight = torch.randn(3, 4, requires_grad=True), nn.Parameter(torch.randn(2, 4))
    for turned in (lambda: weight.T, weight.t):
        with relevance(rule="epsilon") as scope:
            score = (x @ turned()).sum(dim=1)
        torch.testing.assert_close(scope.relevance(score, x)[0], x.detach() * weight.detach().sum(dim=0))


def test_share_hands_everything_on():
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), nn.GELU(), nn.Linear(3, 2))
    x = torch.randn(7, 4)
    found, score, _ = propagate(net, x, LINEAR["share"])
    torch.testing.assert_close(found.sum(dim=1), score, rtol=1e-10, atol=1e-12)
    kept, _, absorbed = propagate(net, x, LINEAR["epsilon"])
    assert float((kept.sum(dim=1) - score).abs().min()) > 1e-4
    assert float(absorbed["bias"].abs().min()) > 1e-4


def test_nothing_divides_by_an_input_that_is_zero():
    net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.GELU(), nn.Linear(4, 2, bias=False))
    for rule in LINEAR.values():
        found, _, _ = propagate(net, torch.zeros(2, 3), rule)
        assert torch.equal(found, torch.zeros(2, 3))


class ByHand(nn.Module):
    """GELU's tanh form, in five functions, as models write it."""

    def forward(self, x):
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class Neighbours(nn.Module):
    """No function of each element: it looks beyond them."""

    def forward(self, x):
        return x - x.mean(dim=-1, keepdim=True)


def test_an_activation_of_several_functions_is_met_as_a_whole():
    linear, head, x = nn.Linear(3, 4), nn.Linear(4, 2), torch.randn(5, 3)
    by_hand, score, absorbed = propagate(nn.Sequential(linear, ByHand(), head), x, "epsilon")
    one, _, _ = propagate(nn.Sequential(linear, nn.GELU("tanh"), head), x, "epsilon")
    torch.testing.assert_close(by_hand, one, rtol=1e-12, atol=1e-12)
    assert_law(by_hand, score, absorbed)


def test_a_module_that_looks_beyond_the_element_is_not():
    linear, head, x = nn.Linear(3, 4), nn.Linear(4, 2), torch.randn(5, 3)
    found, score, absorbed = propagate(nn.Sequential(linear, Neighbours(), head), x, "epsilon")
    direct, _, _ = propagate(nn.Sequential(linear, act(lambda h: h - h.mean(-1, keepdim=True)), head), x, "epsilon")
    assert torch.equal(found, direct)
    assert_law(found, score, absorbed)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [None, "boolean", "added"])
def test_attention_in_one_kernel_is_attention_in_parts(causal, masked):
    q, k, v = torch.randn(2, 4, 5, 3), torch.randn(2, 2, 5, 3), torch.randn(2, 2, 5, 3)
    keep = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    keep[1, :, :, 3:] = False
    keep[1, :, 4] = False  # a query with nothing to attend to
    mask = {None: None, "boolean": keep, "added": torch.randn(2, 1, 5, 5)}[masked]
    if causal and mask is not None:
        return

    def whole(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=True)

    def parts(q, k, v):
        k, v = (t.repeat_interleave(2, dim=1) for t in (k, v))
        logits = q @ k.transpose(-2, -1) / math.sqrt(3)
        if causal:
            logits = logits.masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -torch.inf)
        elif mask is not None:
            logits = logits.masked_fill(~keep, -1e9) if masked == "boolean" else logits + mask
        weights = logits.softmax(-1)
        return (weights * keep.any(-1, keepdim=True) if masked == "boolean" else weights) @ v

    found = []
    for attend in (whole, parts):
        leaves = [t.clone().requires_grad_() for t in (q, k, v)]
        with relevance(rule="attn_lrp") as scope:
            score = attend(*leaves).flatten(1).sum(dim=1)
        found.append(scope.relevance(score, *leaves))
        assert_law(sum(r.flatten(1).sum(1) for r in found[-1])[:, None], score.detach(), scope.ledger.absorbed)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
