"""Golden cases T7 and T8, and Captum's LRP on a sequential net."""

import captum.attr
import pytest
import torch
from captum.attr._utils.lrp_rules import EpsilonRule
from relevances import propagate
from torch import nn

from lightning_interpret.functional.relevance import Rule, relevance


def net(corner=2.0, bias=None, activation=nn.ReLU, first=2.0, second=3.0):
    layers = nn.Sequential(nn.Linear(3, 3, bias=bias is not None), activation(), nn.Linear(3, 1, bias=False)).double()
    with torch.no_grad():
        layers[0].weight.fill_(first)
        layers[0].weight[0, 0] = corner
        layers[2].weight.fill_(second)
        if bias is not None:
            layers[0].bias.fill_(bias)
    return layers


X = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
GAMMAS = {"0": Rule("gamma", gamma=1.0), "2": Rule("gamma", gamma=0.25)}
T7 = {
    "epsilon": (net(), "epsilon", None, (18, 36, 54), 108),
    "negative": (net(-2), "epsilon", None, (6, 36, 54), 96),
    "gamma": (net(-2), "epsilon", GAMMAS, (28 / 3, 104 / 3, 52), 96),
    "alpha1_beta0": (net(-2), "alpha1_beta0", None, (12, 33.6, 50.4), 96),
    "identity": (net(-2), "epsilon", {"0": Rule("identity")}, (24, 36, 36), 96),
    "tanh": (net(0.1, None, nn.Tanh, 0.1, 0.1), "epsilon", None, (0.0269, 0.0537, 0.0806), 0.1611),
}  # fmt: skip


@pytest.mark.parametrize("case", T7.values(), ids=T7)
def test_t7(case):
    layers, rule, parts, expected, total = case
    found, score, _ = propagate(layers, X, rule, layers=parts)
    torch.testing.assert_close(found, torch.tensor([expected]).double(), rtol=0, atol=1e-4)
    assert float(found.sum()) == pytest.approx(total, abs=1e-4)
    assert float(score) == pytest.approx(total, abs=1e-4)


def test_t7_a_batch():
    found, _, _ = propagate(net(), torch.cat([X, 3 * X]), "epsilon")
    torch.testing.assert_close(found[1], torch.tensor([54.0, 108.0, 162.0]).double(), rtol=0, atol=1e-4)
    assert float(found[1].sum()) == pytest.approx(324, abs=1e-4)


def test_t7_a_skip_connection():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2, bias=False).double()
            nn.init.constant_(self.linear.weight, 5)

        def forward(self, x):
            return self.linear(x) + x

    found, _, _ = propagate(Skip(), torch.tensor([[2.0, 3.0]]).double(), "epsilon", column=1)
    torch.testing.assert_close(found, torch.tensor([[10.0, 18.0]]).double(), rtol=0, atol=1e-4)


def test_t7_what_a_bias_absorbs_is_said():
    found, score, absorbed = propagate(net(bias=1.0), X, Rule.named("epsilon", epsilon=1e-6))
    torch.testing.assert_close(found, torch.tensor([[18.0, 36.0, 54.0]]).double(), rtol=0, atol=1e-4)
    assert float(score) == 117
    assert float(absorbed["bias"]) == pytest.approx(9, abs=1e-4)
    assert set(absorbed) == {"bias", "epsilon"}
    assert abs(float(absorbed["epsilon"])) < 1e-4


def test_t8_softmax():
    logits = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    outgoing = torch.tensor([[1.0, 2.0, 3.0]]).double() / logits.detach().softmax(dim=1)
    with relevance(rule="attn_lrp") as scope:
        score = (logits.softmax(dim=1) * outgoing).sum(dim=1)
    (found,) = scope.relevance(score, logits)
    torch.testing.assert_close(found, torch.tensor([[-2.99145, 0.0, -2.45982]]).double(), rtol=0, atol=1e-5)
    assert float(scope.ledger.absorbed["softmax"]) == pytest.approx(6 + 2.99145 + 2.45982, abs=1e-5)


def test_t8_bilinear():
    attention = torch.tensor([[0.5, 0.5], [0.25, 0.75]], dtype=torch.float64, requires_grad=True)
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    with relevance(rule="attn_lrp") as scope:
        score = (attention @ values).sum()
    for_attention, for_values = scope.relevance(score, attention, values)
    expected = torch.tensor([[[0.75, 1.75], [0.375, 2.625]], [[0.375, 0.75], [1.875, 2.5]]]).double()
    torch.testing.assert_close(torch.stack([for_attention, for_values]), expected, rtol=0, atol=1e-12)
    assert float(for_attention.sum()) == float(for_values.sum()) == 5.5


def test_captum_agrees_on_a_net_of_relus():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    ).double()
    x = torch.randn(3, 2, 6, 6).double()
    found, _, _ = propagate(layers, x, Rule.named("epsilon", epsilon=1e-9), column=1)
    for layer in layers:
        layer.rule = EpsilonRule(epsilon=1e-9)
    expected = captum.attr.LRP(layers).attribute(x.requires_grad_(), target=1)
    assert float(expected.detach().abs().max()) > 1e-2
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-4)
