"""Contextual decomposition: its identity on any subset, a slow oracle of an LSTM, every kind of operation, refusals."""

import pytest
import torch
from tiny import batch_of, classifier, lively, tokenizer_for
from torch import nn
from torch.nn import functional as F

from lightning_interpret import SequenceClassification
from lightning_interpret.functional.features import features
from lightning_interpret.functional.hierarchy.contextual import (
    Contextual,
    ContextualError,
    Decomposition,
    contextual_decomposition,
)

DOUBLE = torch.float64


def _decomposed(model, inputs, baselines, inside, **options):
    """Of a model that takes features ``(M, T, D)`` and returns ``(M,)``; ``inside`` is ``(M, T)``."""
    spread = inside[..., None].expand_as(inputs)
    rows = torch.arange(len(inputs))
    return contextual_decomposition(lambda x, _: model(x), inputs, baselines, spread, rows, **options)


def _identity(model, inputs, baselines, tolerance=1e-5, *, scaled=False):
    """T23: β + γ = F(x) − κ for any subset, with one κ; of all γ = 0, of nothing β = 0.

    κ is what the model says at x', but for models that scale by what they have at x.
    """
    size, generator = inputs.shape[1], torch.Generator().manual_seed(0)
    some = torch.rand(8, size, generator=generator) < 0.5
    inside = torch.cat([some, torch.ones(1, size, dtype=torch.bool), torch.zeros(1, size, dtype=torch.bool)])
    many = len(inside)
    found = _decomposed(model, inputs.expand(many, -1, -1), baselines.expand(many, -1, -1), inside)
    with torch.no_grad():
        total, constant = model(inputs).double(), model(baselines).double()
    constant = found.constant[:1] if scaled else constant
    assert torch.allclose(found.total, total.expand(many), atol=tolerance)
    assert torch.allclose(found.constant, constant.expand(many), atol=tolerance)
    assert torch.allclose(found.relevant + found.irrelevant, (total - constant).expand(many), atol=tolerance)
    assert abs(float(found.irrelevant[-2])) < tolerance
    assert abs(float(found.relevant[-1])) < tolerance
    assert float(found.relevant[:8].std()) > 1e-3  # and it tells the subsets apart
    return found


class Recurrent(nn.Module):
    def __init__(self, kind, *, layers=1, both=False, **options):
        super().__init__()
        self.rnn = getattr(nn, kind)(6, 5, num_layers=layers, bidirectional=both, batch_first=True, **options)
        self.head = nn.Linear(10 if both else 5, 3)
        lively(self).to(DOUBLE).requires_grad_(False)

    def forward(self, x):
        hidden, _ = self.rnn(x)
        return self.head(hidden[:, -1] + hidden[:, 0])[:, 1]


def _inputs(rows=1, size=5, width=6, seed=0):
    return torch.randn(rows, size, width, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("options", [{}, {"layers": 2, "both": True}, {"bias": False}])
def test_the_identity_of_recurrent_layers(kind, options):
    x = _inputs()
    _identity(Recurrent(kind, **options), x, torch.zeros_like(x), 1e-10)
    _identity(Recurrent(kind, **options), x, _inputs(seed=1), 1e-10)


def test_an_lstm_is_decomposed_as_murdoch_has_it():
    """Word by word: gates are linearised, and β of a product is all that the rest has no part in."""
    model, x = Recurrent("LSTM"), _inputs()
    inside = torch.tensor([[False, True, True, False, False]])
    w_i, w_h, b_i, b_h = (p.detach() for p in model.rnn._flat_weights)

    def linearised(f, b, r, i):
        both, only, other, none = f(b + r + i), f(b + r), f(b + i), f(b)
        return none, 0.5 * (only - none + both - other), 0.5 * (other - none + both - only)

    def product(p, q):
        (k1, r1, _), (k2, r2, _) = p, q
        relevant = r1 * r2 + r1 * k2 + k1 * r2
        return k1 * k2, relevant, sum(p) * sum(q) - k1 * k2 - relevant

    zero = torch.zeros(5, dtype=DOUBLE)
    h = c = (zero, zero, zero)
    kept = []
    for t in range(5):
        word = w_i @ x[0, t]
        parts = [w_h @ part for part in h]
        parts[0] = parts[0] + b_i + b_h
        parts[1 if inside[0, t] else 2] = parts[1 if inside[0, t] else 2] + word
        i, f, g, o = zip(*(part.chunk(4) for part in parts), strict=True)
        i, f, o = (linearised(torch.sigmoid, *gate) for gate in (i, f, o))
        g = linearised(torch.tanh, *g)
        c = tuple(a + b for a, b in zip(product(f, c), product(i, g), strict=True))
        h = product(o, linearised(torch.tanh, *c))
        kept.append(h)
    expected = [model.head.weight.detach()[1] @ (kept[-1][part] + kept[0][part]) for part in range(3)]
    found = _decomposed(model, x, torch.zeros_like(x), inside)
    assert float(found.relevant) == pytest.approx(float(expected[1]), abs=1e-12)
    assert float(found.irrelevant) == pytest.approx(float(expected[2]), abs=1e-12)
    assert float(found.constant) == pytest.approx(float(expected[0] + model.head.bias[1].detach()), abs=1e-12)


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "gpt2", "llama", "t5", "bart"])
def test_the_identity_of_transformers(name):
    """In float64, a model of two layers, at its word embeddings, padding and all."""
    module, task = classifier(name, dtype=DOUBLE), SequenceClassification(tokenizer_for(name))
    module.requires_grad_(False)
    batch = batch_of(task.tokenizer, ["he is unaffable and a very good film", "the player was great"][:1])

    def forward():
        return task.logits(module, batch)

    size = tuple(batch["input_ids"].shape)
    with torch.no_grad(), features(module, task.layer(module), forward, units=size) as (opened, _, x):

        def model(points):
            some = task.take(batch, torch.zeros(len(points), dtype=torch.long))
            return opened.put(points, lambda: task.logits(module, some))[:, 0]

        _identity(model, x, torch.zeros_like(x), 1e-10, scaled=True)


def test_products_of_both_go_to_the_rest_or_are_shared():
    x, inside = torch.tensor([[[2.0], [3.0]]]), torch.tensor([[True, False]])

    def model(x):
        return (x[:, 0] * x[:, 1]).squeeze(1)

    for cross, relevant in (("irrelevant", 0.0), ("shared", 3.0)):
        found = _decomposed(model, x, torch.zeros_like(x), inside, cross=cross)
        assert float(found.relevant) == relevant
        assert float(found.relevant + found.irrelevant) == 6.0
    found = _decomposed(model, x, torch.ones_like(x), inside)  # over κ = 1: what the first does with a constant is its
    assert (float(found.relevant), float(found.constant)) == (1.0, 1.0)


def test_the_identity_is_found_and_not_made(monkeypatch):
    """γ is carried as β is: were what both do together given to neither, the sum would miss F(x)."""
    monkeypatch.setattr(Contextual, "_hand_out", lambda *_, **__: None)
    x, inside = _inputs(), torch.tensor([[True, True, False, False, False]])
    found = _decomposed(Recurrent("LSTM"), x, torch.zeros_like(x), inside)
    assert abs(float(found.constant + found.relevant + found.irrelevant - found.total)) > 1e-3


def test_a_sum_of_words_is_decomposed_into_them_exactly():
    x = _inputs(size=4)
    weight = _inputs(size=1, seed=3)[0, 0]

    def model(x):
        return (x @ weight).sum(dim=1) + 0.7

    inside = torch.eye(4, dtype=torch.bool)
    found = _decomposed(model, x.expand(4, -1, -1), torch.zeros_like(x).expand(4, -1, -1), inside)
    assert torch.allclose(found.relevant, x[0] @ weight, atol=1e-12)
    assert torch.allclose(found.constant, torch.full((4,), 0.7, dtype=DOUBLE), atol=1e-12)


OPERATIONS = {
    "relu": lambda x: torch.relu(x).sum((1, 2)),
    "relu_ in place": lambda x: (x * 1).relu_().sum((1, 2)),
    "gelu": lambda x: F.gelu(x).mean((1, 2)),
    "layer_norm, scaled": lambda x: (F.layer_norm(x, (6,), torch.ones(6).double() * 2) ** 3).sum((1, 2)),
    "rms_norm, scaled": lambda x: (F.rms_norm(x, (6,)) ** 3).sum((1, 2)),
    "group_norm, scaled": lambda x: F.group_norm(x.transpose(1, 2), 3, torch.ones(6).double()).tanh().sum((1, 2)),
    "a norm that is written out, scaled": lambda x: (x / x.var(2, keepdim=True).sqrt()).tanh().sum((1, 2)),
    "softmax": lambda x: (x.softmax(1) * x).sum((1, 2)),
    "max over words": lambda x: x.max(dim=1).values.sum(1),
    "amax": lambda x: x.amax(dim=1).tanh().sum(1),
    "division, scaled": lambda x: (x[:, 0] / (x[:, 1].square() + 1)).sum(1),
    "exp": lambda x: (x / 4).exp().sum((1, 2)),
    "einsum": lambda x: torch.einsum("btd,bsd->bts", x, x).tanh().sum((1, 2)),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True).sum((1, 2)),
    "addmm": lambda x: torch.addmm(torch.ones(6, dtype=DOUBLE), x[:, 0], torch.ones(6, 6, dtype=DOUBLE)).tanh().sum(1),
    "convolution": lambda x: F.conv1d(x.transpose(1, 2), torch.ones(2, 6, 3).to(x), padding=1).relu().sum((1, 2)),
    "max pooling": lambda x: F.max_pool1d(x.transpose(1, 2), 2).tanh().sum((1, 2)),
    "glu": lambda x: F.glu(x).sum((1, 2)),
    "detach": lambda x: x.detach().tanh().sum((1, 2)),
    "a gate that is written out": lambda x: (torch.sigmoid(x) * torch.tanh(x)).cumsum(1).sum((1, 2)),
    "log_softmax": lambda x: x.sum(2).log_softmax(1)[:, 0],
    "masked": lambda x: x.masked_fill(torch.arange(6) == 0, -torch.inf).softmax(2).square().sum((1, 2)),
    "log of a probability": lambda x: x.sum(2).softmax(1).log()[:, 0] + x.tanh().sum((1, 2)),
    "rms_norm, written out and scaled": lambda x: (x * x.square().mean(2, keepdim=True).rsqrt()).tanh().sum((1, 2)),
    "lstm cell": None,  # made when it is tried
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_identity_of_operations(name):
    torch.manual_seed(0)
    model = OPERATIONS[name]
    if name == "lstm cell":
        cell = nn.LSTMCell(6, 4).to(DOUBLE).requires_grad_(False)

        def model(x):
            return cell(x[:, 0])[0].sum(1) + x[:, 1:].tanh().sum((1, 2))

    _identity(model, _inputs(), _inputs(seed=2) / 2, 1e-10, scaled="scaled" in name)


@torch.jit.script
def _scripted(x):
    return x.tanh() * 2.0


def _written(x):
    """Into a buffer of constants, by views of it and of what was computed."""
    buffer = torch.zeros(len(x), 5, 6, dtype=x.dtype)
    buffer[:, 1:] = x[:, 1:].tanh()
    buffer[:, 0].copy_(x[:, 0])
    half = buffer[:, :, :3]
    half.mul_(2)
    half += x[:, :, 3:]
    return buffer.square().sum((1, 2))


def test_what_is_written_in_place_is_met_through_views():
    _identity(_written, _inputs(), torch.zeros(1, 5, 6, dtype=DOUBLE), 1e-10)


def test_values_are_the_models_own_to_the_bit():
    module = Recurrent("LSTM", layers=2)
    x = _inputs(rows=3)
    found = _decomposed(module, x, torch.zeros_like(x), torch.ones(3, 5, dtype=torch.bool))
    with torch.no_grad():
        assert torch.equal(found.total, module(x))
    assert isinstance(found, Decomposition)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: torch.fft.rfft(x).abs().sum((1, 2)), "no rule for `fft_rfft`"),
        (lambda x: F.dropout(x, 0.5, training=True).sum((1, 2)), "`dropout` drops at random"),
        (lambda x: F.batch_norm(x.transpose(1, 2), None, None, training=True).sum((1, 2)), "`batch_norm` with the"),
        (lambda x: torch.tensor(x.sum((1, 2)).tolist()), "cannot be met"),
        (lambda x: _scripted(x).sum((1, 2)) + x.sum((1, 2)), "cannot be met"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(model, message):
    x = _inputs()
    with pytest.raises(ContextualError, match=message):
        _decomposed(model, x, torch.zeros_like(x), torch.ones(1, 5, dtype=torch.bool))


def test_shapes_and_comparisons_are_no_numbers_of_the_span():
    def model(x):
        high = (x.sum(2) > 0).unsqueeze(2)
        return (x * high + torch.zeros_like(x)).sum((1, 2)) / x.shape[1]

    x = _inputs().abs()
    _identity(model, x, x / 2)


def test_a_scope_knows_only_what_it_tracks():
    scope, other = Contextual(), Contextual()
    x = scope.track(torch.ones(2), (torch.zeros(2), torch.ones(2), torch.zeros(2)))
    assert other.states(x) is None
    assert scope.states(torch.ones(2)) is None
    assert scope.states(3) is None
