"""DeepLIFT of small networks: closed forms, an oracle, Captum, whole architectures."""

import math

import captum.attr
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import ViTConfig, ViTForImageClassification

from lightning_interpret.functional.rescale import deep_lift


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of(function, x, baseline):
    """DeepLIFT of a function of one vector."""
    score = lambda points, rows: torch.stack([function(point) for point in points])  # noqa: E731
    points = [torch.tensor([values], dtype=torch.float64) for values in (x, baseline)]
    return deep_lift(score, *points)[0].tolist()


RELU = torch.relu


@pytest.mark.parametrize(
    ("function", "x", "baseline", "expected"),
    [
        # T1, two nets of one function: the rescale rule sees how it is computed
        (lambda x: RELU(RELU(x[0]) - 1 - RELU(x[1])), (3, 1), (0, 0), (1.5, -0.5)),
        (lambda x: RELU(RELU(x[0] - 1) - RELU(x[1])), (3, 1), (0, 0), (2.0, -1.0)),
        # T2, saturation, where the gradient is 0
        (lambda x: 1 - RELU(1 - x[0]), (2,), (0,), (1.0,)),
        # T3, a product and its baseline
        (lambda x: x[0] * x[1], (2, 3), (0, 0), (3.0, 3.0)),
        (lambda x: x[0] * x[1], (2, 3), (1, 1), (2.0, 3.0)),
        # T4, a linear layer of 4 units of which one is closed at x'
        (
            lambda x: RELU(x.sum(0, keepdim=True) + torch.tensor([-10.0, 1, 1, 1]).double()).sum() - 1,
            (20, 50, 30),
            (0, 0, 0),
            (78.0, 195.0, 117.0),
        ),
        # T5, a linear function
        (lambda x: x[0] + 2 * x[1] + 3 * x[2], (1, 1, 1), (0, 0, 0), (1.0, 2.0, 3.0)),
        # a quotient: Δ(a/b) = (Δa − q̄Δb)/b̄ with q = 2 and 1/2, so q̄ = 5/4, b̄ = 3/2
        (lambda x: x[0] / x[1], (2, 1), (1, 2), (2 / 3, 5 / 6)),
    ],
)
def test_closed_forms(function, x, baseline, expected):
    assert of(function, x, baseline) == pytest.approx(expected, abs=1e-12)


def test_oracle_of_a_gated_layer():
    """F = Σ v relu(Ax + a) tanh(Bx), with each multiplier written out."""
    a, b, bias, v = (drawn(*shape, seed=i).tolist() for i, shape in enumerate([(3, 4), (3, 4), (3,), (3,)], start=5))
    x, baseline = drawn(2, 4, seed=9), drawn(2, 4, seed=10)

    def score(points, rows):
        into, gate, shift, out = (torch.tensor(weights, dtype=torch.float64) for weights in (a, b, bias, v))
        return (torch.relu(points @ into.T + shift) * torch.tanh(points @ gate.T)) @ out

    expected = []
    for now, before in zip(x.tolist(), baseline.tolist(), strict=True):
        row = [0.0] * 4
        for k in range(3):
            into = [sum(w * p for w, p in zip(a[k], point, strict=True)) + bias[k] for point in (now, before)]
            gate = [sum(w * p for w, p in zip(b[k], point, strict=True)) for point in (now, before)]
            value, share = [max(z, 0.0) for z in into], [math.tanh(z) for z in gate]
            for j in range(4):
                slope_in = (value[0] - value[1]) / (into[0] - into[1]) * (share[0] + share[1]) / 2
                slope_gate = (share[0] - share[1]) / (gate[0] - gate[1]) * (value[0] + value[1]) / 2
                row[j] += v[k] * (slope_in * a[k][j] + slope_gate * b[k][j]) * (now[j] - before[j])
        expected.append(row)
    torch.testing.assert_close(
        deep_lift(score, x, baseline), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_oracle_of_an_attention():
    """One query's softmax over three logits, and the product with its values, written out."""
    z, z0, v, v0 = ([0.3, -1.2, 2.0], [1.0, 0.4, -0.7], [1.0, 3.0, -2.0], [0.5, 0.5, 1.5])
    y, y0 = ([math.exp(t) / sum(map(math.exp, logits)) for t in logits] for logits in (z, z0))
    mean = [(p - q) / (math.log(p) - math.log(q)) for p, q in zip(y, y0, strict=True)]
    shift = sum(m * (s - t) for m, s, t in zip(mean, z, z0, strict=True)) / sum(mean)
    change = [m * (s - t - shift) for m, s, t in zip(mean, z, z0, strict=True)]
    assert change == pytest.approx([p - q for p, q in zip(y, y0, strict=True)])  # Δy, as it has to be
    by_values = [(p + q) / 2 * (s - t) for p, q, s, t in zip(y, y0, v, v0, strict=True)]
    of_output = [(s + t) / 2 for s, t in zip(v, v0, strict=True)]
    common = sum(m * o for m, o in zip(mean, of_output, strict=True)) / sum(mean)
    by_logits = [m * (o - common) * (s - t) for m, o, s, t in zip(mean, of_output, z, z0, strict=True)]
    found = of(lambda x: torch.softmax(x[:3], dim=0) @ x[3:], z + v, z0 + v0)
    assert found == pytest.approx(by_logits + by_values, abs=1e-12)


def mlp():
    layers = [nn.Linear(72, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3)]
    return nn.Sequential(nn.Flatten(), *layers)


def pooled():  # Captum's own sum is wrong where a ReLU feeds a max pool at once
    begin = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.MaxPool2d(2)]
    return nn.Sequential(*begin, nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))


@pytest.mark.parametrize("baseline", [0.0, 0.7, "drawn"])
@pytest.mark.parametrize("build", [mlp, pooled])
def test_agrees_with_captum(build, baseline):
    torch.manual_seed(0)
    model, x = build().double(), drawn(4, 2, 6, 6, seed=2)
    at = drawn(4, 2, 6, 6, seed=3) if baseline == "drawn" else torch.full_like(x, baseline)
    expected = captum.attr.DeepLift(model).attribute(x, at, target=1)
    found = deep_lift(lambda points, rows: model(points)[:, 1], x, at, chunk=3)
    assert float(expected.abs().max()) > 1e-2
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


class ConvNet(nn.Module):
    """Convolution, batch norm, max pool, and a residual block."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm, self.pool = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.MaxPool2d(2)
        self.conv, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(36, 3)
        self.norm.running_mean.copy_(0.2 * torch.rand(4))
        self.norm.running_var.copy_(torch.rand(4) + 0.5)
        self.eval().double().requires_grad_(False)

    def forward(self, x):
        h = self.pool(F.relu(self.norm(self.stem(x)), inplace=True))
        h = h + torch.relu(self.conv(h))
        return self.head(h.flatten(1))


class Recurrent(nn.Module):
    """A recurrent layer over a padded or a packed batch."""

    def __init__(self, layer, packed):
        super().__init__()
        self.layer, self.packed, self.cell = layer, packed, nn.LSTMCell(6, 2)
        self.double().eval().requires_grad_(False)

    def forward(self, x):
        lengths = torch.tensor([4, 2, 3])
        if self.packed:
            x = nn.utils.rnn.pack_padded_sequence(x, lengths, self.layer.batch_first, enforce_sorted=False)
        hidden, last = self.layer(x)
        if self.packed:
            hidden = nn.utils.rnn.pad_packed_sequence(hidden, self.layer.batch_first)[0]
        last = last[0] if isinstance(last, tuple) else last
        of_cell = self.cell(hidden[:, 0] @ torch.ones(hidden.shape[-1], 6).double())[1]
        return (hidden.sum((1, 2)) if self.layer.batch_first else hidden.sum((0, 2))) + last.sum((0, 2)) + of_cell.sum()


RECURRENT = {
    "lstm": lambda: nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True),
    "projected lstm": lambda: nn.LSTM(6, 5, proj_size=3, bias=False),
    "gru": lambda: nn.GRU(6, 5, num_layers=2, batch_first=True),
    "rnn": lambda: nn.RNN(6, 5, bidirectional=True, batch_first=True),
    "relu rnn": lambda: nn.RNN(6, 5, nonlinearity="relu"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name, packed):
    torch.manual_seed(0)
    layer = RECURRENT[name]()
    model, shape = Recurrent(layer, packed), (3, 4, 6)
    x, baseline = drawn(*shape, seed=2), drawn(*shape, seed=3)
    if not layer.batch_first:
        inner = model.forward
        model.forward = lambda points: inner(points.transpose(0, 1).contiguous())
    found = deep_lift(lambda points, rows: model(points), x, baseline)
    assert float((found.sum() - (model(x) - model(baseline)).sum()).abs()) <= 1e-12 * float(found.abs().sum())
    if packed:
        assert found[1, 2:].abs().sum() == 0  # beyond its length
    points = x.clone().requires_grad_()
    expected = torch.autograd.grad(model(points).sum(), points)[0]
    near = deep_lift(lambda points, rows: model(points), x, x - 1e-5) / 1e-5
    torch.testing.assert_close(near, expected, rtol=0, atol=1e-3)


def vit():
    config = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    model = ViTForImageClassification(ViTConfig(**config, image_size=6, patch_size=3, num_channels=2, num_labels=3))
    return lambda x: model.double().eval().requires_grad_(False)(x).logits


def encoder():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=False, activation="gelu", norm_first=True)
    model, padding = nn.TransformerEncoder(layer, 2).double().eval(), torch.tensor([[False] * 9 + [True] * 3] * 4)
    return lambda x: model(x.reshape(4, 12, 6).transpose(0, 1), src_key_padding_mask=padding)[0]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("build", [ConvNet, vit, encoder], ids=["conv", "vit", "encoder"])
def test_the_sum_is_exact_of_whole_models_row_by_row(build):
    torch.manual_seed(1)
    model, x, baseline = build(), drawn(4, 2, 6, 6, seed=2), drawn(4, 2, 6, 6, seed=3)
    score = lambda points, rows: F.log_softmax(model(points), dim=-1)[:, 0]  # noqa: E731
    found, rows = deep_lift(score, x, baseline), torch.arange(4)
    change = score(x, rows) - score(baseline, rows)
    assert bool(((found.flatten(1).sum(1) - change).abs() <= 1e-9 * found.abs().flatten(1).sum(1)).all())
    assert float(change.abs().min()) > 1e-3
    if build is not encoder:  # which takes 4 rows
        for size in (1, 3):
            shuffled = torch.tensor([2, 0, 3, 1])
            torch.testing.assert_close(deep_lift(score, x, baseline, chunk=size, order=shuffled), found)
