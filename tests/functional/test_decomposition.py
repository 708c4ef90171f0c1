"""Golden case T23: relevant + irrelevant = logit − bias for any subset; of everything, nothing is irrelevant."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_interpret.functional.decomposition import DecompositionError, contextual_decomposition


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Recurrent(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, **options)
        self.head = nn.Linear(10 if self.lstm.bidirectional else 5, 3)

    def forward(self, x):
        if self.lstm.batch_first:
            return self.head(self.lstm(x)[1][0][-1] if not self.lstm.bidirectional else self.lstm(x)[0][:, -1])
        return self.head(self.lstm(x.transpose(0, 1))[0].amax(dim=0))


class Convolutions(nn.Module):
    """Batch norm, a residual, a max pool, an activation in place, dropout."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Conv1d(6, 4, 3, padding=1), nn.BatchNorm1d(4), nn.Conv1d(4, 4, 1)
        self.pool, self.drop, self.head = nn.MaxPool1d(2), nn.Dropout(), nn.Linear(8, 3)
        self.norm.running_mean.copy_(torch.rand(4))

    def forward(self, x):
        h = F.relu(self.norm(self.first(x)), inplace=True)
        h = self.pool(h + torch.relu(self.second(h)))
        return self.head(self.drop(h).flatten(1))


class Gated(nn.Module):
    """Products, functions that are not 0 at 0, constants, examples joined with what follows."""

    def __init__(self):
        super().__init__()
        self.into, self.gate, self.head = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(15, 3)

    def forward(self, x):
        flat = x.reshape(-1, 4)
        h = (self.into(flat) * torch.sigmoid(self.gate(flat))).reshape(len(x), -1, 5)
        return self.head(torch.cat([h.sum(1), 1 - 2 * h.tanh().max(dim=1).values, h.mean(1).exp() / 3], dim=-1))


NETS = {
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3)
    ),
    "dead": lambda: nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3)),
    "conv": Convolutions,
    "gated": Gated,
    "lstm": lambda: Recurrent(batch_first=True),
    "stacked lstm": lambda: Recurrent(batch_first=True, num_layers=2, bidirectional=True),
    "time first": lambda: Recurrent(bias=False),
}


def built(name):
    torch.manual_seed(0)
    return NETS[name]().double().eval().requires_grad_(False), drawn(4, 6, 4, seed=1)


def bias_of(model):
    if isinstance(model, Gated):  # and what there is of its last functions at 0
        return model.head(torch.tensor([0, 1, 1 / 3], dtype=torch.float64).repeat_interleave(5))
    return (model.head if hasattr(model, "head") else model[-1]).bias


@pytest.mark.parametrize("name", NETS)
def test_t23_of_any_subset_the_parts_sum_to_the_logit_less_its_bias(name):
    model, x = built(name)
    for seed in range(5):
        relevant = torch.rand(4, 6, 1, generator=torch.Generator().manual_seed(seed)) < 0.5
        found = contextual_decomposition(model, x, relevant)
        torch.testing.assert_close(found.relevant + found.irrelevant, model(x) - bias_of(model), rtol=0, atol=1e-12)
        torch.testing.assert_close(found.bias, bias_of(model).expand(4, 3), rtol=0, atol=1e-12)
        assert float(found.relevant.abs().min()) > 0
        for row in range(4):
            alone = contextual_decomposition(model, x[row : row + 1], relevant[row : row + 1])
            torch.testing.assert_close(alone.relevant[0], found.relevant[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_t23_of_everything_nothing_is_irrelevant_and_of_nothing_nothing_relevant(name):
    model, x = built(name)
    if name in ("dead", "gated"):
        x[:2] = 0 if name == "gated" else -x[:2].abs()  # nothing but biases reaches the logits
    relevant = torch.tensor([True, False, True, False])[:, None, None]
    found = contextual_decomposition(model, x, relevant)
    every = relevant[:, 0, 0]
    assert found.irrelevant[every].abs().max() == 0
    assert found.relevant[~every].abs().max() == 0
    expected = model(x) - bias_of(model)
    torch.testing.assert_close(found.relevant[every], expected[every], rtol=0, atol=1e-12)
    torch.testing.assert_close(found.irrelevant[~every], expected[~every], rtol=0, atol=1e-12)
    assert torch.equal(contextual_decomposition(model, x, torch.tensor(True)).irrelevant, torch.zeros(4, 3).double())


def test_oracle_of_two_layers():
    """Equations 4, 5 and 7 of Singh et al., in loops."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).double().requires_grad_(False)
    x, relevant = drawn(4, seed=3), torch.tensor([True, False, False, True])
    found = contextual_decomposition(model, x[None], relevant[None])
    weights, biases, out = model[0].weight.tolist(), model[0].bias.tolist(), model[2].weight.tolist()
    hidden = []
    for row, bias in zip(weights, biases, strict=True):
        of = [
            sum(w * v for w, v, r in zip(row, x.tolist(), relevant, strict=True) if r == want) for want in (True, False)
        ]
        share = abs(of[0]) / (abs(of[0]) + abs(of[1]))
        b, c = of[0] + share * bias, of[1] + (1 - share) * bias
        hidden.append((max(b, 0.0), max(b + c, 0.0) - max(b, 0.0)))
    for part in (0, 1):
        expected = [sum(w * h[part] for w, h in zip(row, hidden, strict=True)) for row in out]
        assert found[part][0].tolist() == pytest.approx(expected, abs=1e-12)


def test_oracle_of_an_lstm():
    """Section 3.2 of Murdoch et al. with one unit, in scalars: three steps, of which the second is the phrase."""
    lstm = nn.LSTM(1, 1, batch_first=True).double().requires_grad_(False)
    x, phrase = [0.7, -1.3, 0.4], 1

    def sigmoid(z):
        return 1 / (1 + math.exp(-z))

    def three(a, b, bias, f):
        of_a = ((f(a + bias) - f(bias)) + (f(a + b + bias) - f(b + bias))) / 2
        return of_a, f(a + b + bias) - f(bias) - of_a, f(bias)

    w, v = lstm.weight_ih_l0.flatten().tolist(), lstm.weight_hh_l0.flatten().tolist()
    bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0).tolist()
    h, c = (0.0, 0.0), (0.0, 0.0)
    for t, value in enumerate(x):
        inputs = (value, 0.0) if t == phrase else (0.0, value)
        drive = [tuple(w[k] * inputs[p] + v[k] * h[p] for p in (0, 1)) for k in range(4)]
        i, f, g = (three(*drive[k], bias[k], f) for k, f in ((0, sigmoid), (1, sigmoid), (2, math.tanh)))
        relevant = (f[0] + f[2]) * c[0] + i[0] * (g[0] + g[2]) + i[2] * g[0] + (i[2] * g[2] if t == phrase else 0.0)
        c = relevant, sum(f) * sum(c) + sum(i) * sum(g) - relevant
        shown = three(*c, 0.0, math.tanh)
        opened = sigmoid(sum(drive[3]) + bias[3])
        h = opened * shown[0], opened * shown[1]
    points = torch.tensor(x, dtype=torch.float64)[None, :, None]
    found = contextual_decomposition(lambda x: lstm(x)[0][:, -1], points, torch.arange(3)[:, None] == phrase)
    assert [part.item() for part in found] == pytest.approx([*h, 0.0], abs=1e-12)
    assert sum(h) == pytest.approx(lstm(points)[0][0, -1].item(), abs=1e-12)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.softmax(dim=-1), "no rule for `softmax`"),
        (lambda x: F.dropout(x, 0.5), "no rule for `dropout`"),
        (lambda x: nn.LSTM(4, 5, proj_size=2).double()(x)[0], "no rule with a projection"),
        (lambda x: nn.LSTM(4, 5).double()(x, (drawn(1, 6, 5, seed=1),) * 2)[0], "state of zeros"),
        (lambda x: x[:, 0].mul_(2), "`mul` writes into a part"),
        (lambda x: (h := x * 2).__setitem__(0, 1.0) or h, "`setitem` writes into a part"),
        (lambda x: F.grid_sample(x[:, None], x[:, None, :, :2]), "no rule for `grid_sampler`"),
        (lambda x: torch.relu(x.reshape(3, 8) + 1), r"shape \(3, 8\) has no examples in its first dimension"),
        (lambda x: x.new_ones(4), "does not depend on the inputs"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(function, message):
    relevant = torch.zeros(4, 6, 1, dtype=torch.bool)
    relevant[0] = True
    x = drawn(4, 6, 4, seed=1) if "3, 8" not in message else drawn(4, 6, 1, seed=1)
    with pytest.raises(DecompositionError, match=message):
        contextual_decomposition(function, x, relevant)
    assert torch._C._len_torch_function_stack() == 0
