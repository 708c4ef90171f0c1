"""LRP on recurrent layers (Arras et al., 2017): gates are constants, and with shared biases the sum is the score."""

import numpy as np
import pytest
import torch
from relevances import assert_law, propagate
from torch import nn

from lightning_interpret.functional.relevance import Rule

SHARE = Rule.named("epsilon", epsilon=1e-3, bias="share")


class Reader(nn.Module):
    """A recurrent layer and a head on its last states, as in Arras et al. (2017)."""

    def __init__(self, kind, *, bias=True, **options):
        super().__init__()
        torch.manual_seed(1)
        self.layer = kind(5, 4, batch_first=True, **options)
        self.head = nn.Linear(8 if options.get("bidirectional") else 4, 3, bias=bias)
        self.double().eval()

    def forward(self, x):
        states = self.layer(x)[0]
        half = states.shape[-1] // 2
        if self.layer.bidirectional:
            states = torch.cat([states[:, -1, :half], states[:, 0, half:]], dim=-1)
        else:
            states = states[:, -1]
        return self.head(states)


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(3, 6, 5).double()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
def test_the_lstm_identity(x, both, layers):
    """With full bias share the sum of the relevances is the score."""
    model = Reader(nn.LSTM, bidirectional=both, num_layers=layers)
    found, score, _ = propagate(model, x, SHARE)
    torch.testing.assert_close(found.flatten(1).sum(dim=1), score, rtol=1e-9, atol=1e-9)
    absorbing, score, absorbed = propagate(model, x, "epsilon")
    assert float((absorbing.flatten(1).sum(dim=1) - score).abs().max()) > 1e-2
    assert float(absorbed["bias"].abs().max()) > 1e-2
    assert_law(absorbing, score, absorbed)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("rule", ["epsilon", "gamma", "attn_lrp"])
def test_the_law_holds_for_recurrent_layers(x, kind, rule):
    found, score, absorbed = propagate(Reader(kind, bidirectional=True, num_layers=2), x, rule)
    assert_law(found, score, absorbed)
    assert float(found.abs().max()) > 1e-4


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_cells_are_met_as_the_layers_are(x, kind):
    model = Reader(kind)
    cell = (nn.LSTMCell if kind is nn.LSTM else nn.GRUCell)(5, 4).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in model.layer.state_dict().items()})

    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = cell, model.head

        def forward(self, x):
            state = None
            for step in x.unbind(dim=1):
                state = self.cell(step, state)
            return self.head(state[0] if isinstance(state, tuple) else state)

    found, _, _ = propagate(model, x, "epsilon")
    stepped, score, absorbed = propagate(Steps(), x, "epsilon")
    torch.testing.assert_close(stepped, found, rtol=1e-10, atol=1e-12)
    assert_law(stepped, score, absorbed)


def test_an_lstm_is_the_textbooks(x):
    """Arras et al. (2017), sections 2.2 and 2.3, in loops over time; no bias, so that ε alone stabilises."""
    epsilon = 1e-3
    model = Reader(nn.LSTM, bias=False)
    for name in ("bias_ih_l0", "bias_hh_l0"):
        nn.init.zeros_(getattr(model.layer, name))
    found, score, _ = propagate(model, x, Rule.named("epsilon", epsilon=epsilon))
    w_x, w_h = model.layer.weight_ih_l0.numpy(), model.layer.weight_hh_l0.numpy()

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    def back(inputs, weight, relevances):
        y = weight @ inputs
        return (weight * inputs / (y + np.where(y >= 0, epsilon, -epsilon))[:, None] * relevances[:, None]).sum(axis=0)

    for row in range(len(x)):
        h, c, kept = np.zeros(4), np.zeros(4), []
        for step in x[row].numpy():
            i, f, g, o = np.split(w_x @ step + w_h @ h, 4)
            before = (step, h, c)
            carried, fresh = sigmoid(f) * c, sigmoid(i) * np.tanh(g)
            c = carried + fresh
            h = sigmoid(o) * np.tanh(c)
            kept.append((*before, carried, fresh, c))
        r_h = back(h, model.head.weight[:1].numpy(), score[row : row + 1].numpy())
        r_c = np.zeros(4)
        for place in reversed(range(len(kept))):
            step, h_before, _, carried, fresh, c = kept[place]
            r_c = r_c + r_h
            r_fresh, r_carried = fresh / c * r_c, carried / c * r_c
            both = back(np.concatenate([step, h_before]), np.concatenate([w_x, w_h], axis=1)[8:12], r_fresh)
            np.testing.assert_allclose(found[row, place].numpy(), both[:5], rtol=1e-6, atol=1e-9)
            r_h, r_c = both[5:], r_carried
