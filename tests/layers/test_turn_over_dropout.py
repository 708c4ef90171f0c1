"""Turn-over dropout as a layer: no gradient from an example reaches what it does not use, whatever the module does."""

import copy
import math
import pickle

import pytest
import torch
from digits import DigitsTask, digits
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightning_interpret import TurnOverDropoutInfluence
from lightning_interpret.data import TrainingExamples
from lightning_interpret.functional.features import LayerError
from lightning_interpret.layers import TurnOverDropout

SITES = ["input of net.2", "input of net.4"]


class Net(nn.Module):
    """A network that is masked, and does not know it."""

    def __init__(self, sites=SITES, net=None, **options):
        super().__init__()
        torch.manual_seed(0)
        layers = (nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 30), nn.GELU(), nn.Linear(30, 3))
        self.net = nn.Sequential(*layers) if net is None else net
        self.dropout = TurnOverDropout(**options)
        self.dropout.attach(self, sites)

    def forward(self, x):
        return self.net(x)


def inputs(count=4):
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.9])
def test_no_gradient_of_an_example_reaches_weights_that_its_masked_units_feed(rate):
    net, ids = Net(rate=rate), torch.tensor([2**40 + 3])
    net.dropout.begin(ids)
    net(inputs(1)).square().sum().backward()
    first, second = (net.dropout.factors(site, ids, size)[0] > 0 for site, size in zip(SITES, (40, 30), strict=True))
    middle, last = net.net[2].weight.grad, net.net[4].weight.grad
    assert (last[:, ~second] == 0).all()
    assert last[:, second].abs().sum(dim=0).gt(0).all()
    assert (middle[:, ~first] == 0).all()
    assert (middle[~second] == 0).all()
    assert (net.net[0].weight.grad[~first] == 0).all()
    assert (net.net[0].bias.grad[~first] == 0).all()
    assert (middle[second][:, first] != 0).any()


def test_the_other_part_never_learns_an_example():
    net = Net()
    net.dropout.eval()
    x, ids = inputs(1), torch.tensor([7])
    with net.dropout.unseen(ids):
        before = net(x)
    net.dropout.train().begin(ids)
    optimizer = torch.optim.SGD([weight for weight in net.parameters() if weight.dim() > 1], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    with net.dropout.unseen(ids):
        assert torch.equal(net(x), before)
    with net.dropout.seen(ids):
        assert float(net(x).square().sum()) < 0.5 * float(before.square().sum())


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_masked_values_are_the_values_on_average(rate):
    dropout, ids = TurnOverDropout(rate), torch.arange(20000)
    for flipped, kept in ((False, 1 - rate), (True, rate)):
        factors = dropout.factors("head", ids, 8, flipped=flipped).double()
        limit = 4 * math.sqrt((1 / kept - 1) / len(ids))
        assert float((factors.mean(dim=0) - 1).abs().max()) < limit
    seen, unseen = (dropout.factors("head", ids, 8, flipped=flipped) for flipped in (False, True))
    assert torch.equal((seen > 0).int() + (unseen > 0).int(), torch.ones(20000, 8, dtype=torch.int))


def test_training_and_scopes_use_the_masks_that_are_told():
    net, x, ids = Net(rate=0.3).eval(), inputs(), torch.tensor([5, 2**40, 0, 5])
    plain = net(x)
    first, second = (net.dropout.factors(site, ids, size) for site, size in zip(SITES, (40, 30), strict=True))
    hidden = net.net[1](net.net[0](x)) * first
    by_hand = torch.nn.functional.linear(net.net[3](net.net[2].forward(hidden)) * second, net.net[4].weight)
    with net.dropout.seen(ids.tolist()):
        assert torch.allclose(net(x), by_hand + net.net[4].bias, atol=1e-6)
        seen = net(x)
        with net.dropout.unseen(ids):
            assert not torch.equal(net(x), seen)
        assert torch.equal(net(x), seen)
    assert torch.equal(net(x), plain)
    net.train().dropout.begin(ids)
    assert torch.equal(net(x), seen)
    with net.dropout.unseen(ids):  # a scope goes before the batch
        assert not torch.equal(net(x), seen)
    assert torch.equal(net(x).sum(), net(x).sum())
    net.dropout.begin(None)
    with pytest.raises(ValueError, match=r"does not know which examples.*`training_step`.*WithIds.*`module.eval\(\)`"):
        net(x)
    assert torch.equal(net.eval()(x), plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_masks_are_the_same_in_every_precision(dtype):
    net, ids = Net(rate=0.3), torch.tensor([2**24 + 1, 2**53 + 1])
    masks = net.dropout.factors(SITES[1], ids, 30) > 0
    net.to(dtype).dropout.begin(ids)
    seen = []
    handle = net.net[4].register_forward_pre_hook(lambda part, args: seen.append(args[0]))
    with torch.no_grad():
        net.net[2].bias.fill_(100.0)  # none is zero of itself
        net(inputs(2).to(dtype))
    handle.remove()
    assert seen[0].dtype == dtype
    assert torch.equal(seen[0] != 0, masks)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device in this machine")
def test_masks_are_the_same_on_a_device():
    net, ids = Net(rate=0.3).double(), torch.tensor([1, 2**40, 3, 2**63 - 1])
    net.dropout.begin(ids)
    x = inputs().double()
    true = net(x)
    net.cuda().dropout.begin(ids.cuda())
    assert torch.allclose(net(x.cuda()).cpu(), true)


@pytest.mark.parametrize("reentrant", [True, False])
def test_activations_that_are_computed_again_have_the_same_masks(reentrant):
    found = []
    for again in (False, True):
        net = Net()
        net.dropout.begin(torch.arange(4))
        x = inputs().requires_grad_()
        y = checkpoint(net, x, use_reentrant=reentrant) if again else net(x)
        y.square().sum().backward()
        found.append([x.grad, *(weight.grad for weight in net.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_compiled_module_has_the_same_masks():
    net, x = Net(), inputs()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)  # nothing of it is left to Python
    for start in (0, 100, 2**40):
        net.dropout.begin(torch.arange(start, start + 4))
        assert torch.equal(compiled(x), net(x))
    inside = Net()
    inside.net[2] = torch.compile(inside.net[2], backend="aot_eager")
    inside.dropout.attach(inside, SITES)
    for each in (inside, net):
        each.dropout.begin(torch.arange(4))
    assert torch.equal(inside(x), net(x))


def test_plain_is_plain_dropout_at_the_same_places():
    net = Net(rate=0.3)
    net.dropout.plain = True
    layers = [*net.net[:2], nn.Dropout(0.3), *net.net[2:4], nn.Dropout(0.3), net.net[4]]
    net.dropout.begin(None)
    torch.manual_seed(3)
    found = net(inputs())
    net.dropout.detach()
    torch.manual_seed(3)
    assert torch.equal(found, nn.Sequential(*layers)(inputs()))
    assert torch.equal(net.eval()(inputs()), nn.Sequential(*layers).eval()(inputs()))


# Shapes


def reached(net, layer, x, sites, ids):
    """Return what a layer is given, masked, over what it is given otherwise."""
    kept, masked = [], Net(sites, net).eval()
    handle = layer.register_forward_pre_hook(lambda part, args: kept.append(args[0].detach()))
    masked(x)
    with masked.dropout.seen(ids):
        masked(x)
    handle.remove()
    masked.dropout.detach()
    return kept[1] / kept[0], masked


@pytest.mark.parametrize(
    ("layers", "shape", "site", "units"),
    [
        ([nn.Linear(5, 6), nn.Identity()], (3, 7, 5), "net.0", (3, 1, 6)),
        ([nn.LayerNorm(5), nn.Identity()], (3, 7, 5), "net.0", (3, 1, 5)),
        ([nn.LayerNorm(5), nn.Identity()], (3, 7, 4, 5), "net.0", (3, 1, 1, 5)),
        ([nn.Conv1d(5, 6, 1), nn.Identity()], (3, 5, 7), "net.0", (3, 6, 1)),
        ([nn.Conv2d(5, 6, 1), nn.Identity()], (3, 5, 7, 4), "net.0", (3, 6, 1, 1)),
        ([nn.Identity(), nn.Conv2d(5, 6, 1)], (3, 5, 7, 4), "input of net.1", (3, 5, 1, 1)),
        ([nn.BatchNorm1d(5), nn.Identity()], (3, 5, 7), "net.0", (3, 5, 1)),
        ([nn.Identity(), nn.LSTM(5, 6, batch_first=True)], (3, 7, 5), "input of net.1", (3, 1, 5)),
    ],
)
def test_units_are_channels_or_the_last_dimension(layers, shape, site, units):
    ids = torch.tensor([4, 9, 2])
    ratio, masked = reached(nn.Sequential(*layers), layers[1], torch.rand(shape) + 1, [site], ids)
    size = max(units[1:])
    factors = masked.dropout.factors(site, ids, size).reshape(units).expand(ratio.shape)
    assert torch.allclose(ratio, factors, atol=1e-4)


def test_time_may_come_first_where_the_layer_says_so():
    ids, x = torch.tensor([4, 9]), torch.randn(5, 2, 8)  # (time, batch, units)
    masked = []
    for first in (False, True):
        torch.manual_seed(0)
        net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=not first), 1)
        module = Net(["net.layers.0.linear1", "input of net.layers.0.norm2", "net.layers.0"], net).eval()
        with module.dropout.seen(ids):
            masked.append(module(x if first else x.transpose(0, 1)))
    assert torch.allclose(masked[1], masked[0].transpose(0, 1), atol=1e-6)


def test_influence_reads_masks_of_channels():
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))
            self.head = nn.Linear(64, 10)
            self.dropout = TurnOverDropout()
            self.dropout.attach(self, ["net.1", "input of net.3", "input of head"])

        def forward(self, x):
            return self.head(self.net(x).flatten(1))

    module, (train, queries) = Small().double().eval(), digits(torch.float64)
    train, query = ({name: value[:n] for name, value in part.items()} for part, n in ((train, 20), (queries, 1)))
    rows = [{name: value[i] for name, value in train.items()} for i in range(20)]
    found = TurnOverDropoutInfluence().fit(module, TrainingExamples(rows), DigitsTask()).scores(query, k=20)[0]
    scores = {each.example_id: each.score for each in (*found.helpful, *found.harmful)}
    for i, score in scores.items():
        losses = []
        for scope in (module.dropout.unseen, module.dropout.seen):
            with scope([i]), torch.no_grad():
                losses.append(float(DigitsTask().losses(module, query)))
        assert score == pytest.approx(losses[0] - losses[1], abs=1e-9)
    assert len(scores) == 20


# Bad input


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan"), "half", True])
def test_a_rate_is_between_0_and_1(rate):
    with pytest.raises(ValueError, match=rf"`rate={rate!r}` of turn-over dropout must lie between 0 and 1"):
        TurnOverDropout(rate)


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (["net.3", "net.33"], r"`turn_over_layers='net.33'` does not exist. Did you mean 'net.3'"),
        (["input of net.7"], "`turn_over_layers='net.7'` does not exist"),
        ([], r"`turn_over_layers=\[\]` must name one layer at least"),
        (["net.0", "net.0"], "each once"),
    ],
)
def test_layers_that_cannot_be_are_refused_and_nothing_is_changed(sites, message):
    net = Net()
    with pytest.raises(ValueError, match=message):
        net.dropout.attach(net, sites)
    assert net.dropout.sites == tuple(SITES)


def test_states_of_a_recurrent_layer_would_stay_unmasked():
    with pytest.raises(LayerError, match=r"'net.0' \(LSTM\) returns its states.*name 'input of ...' of the layer that"):
        Net(["net.0"], nn.Sequential(nn.LSTM(5, 6)))


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (nn.Embedding(5, 4), torch.tensor([1, 2]), None),
        (nn.Flatten(0), inputs(2), r"'net.0' is no tensor of numbers \(batch, ..., units\) but torch.float32 \(10,\)"),
        (nn.MaxPool1d(2, return_indices=True), inputs(2)[None], "but tuple: name a layer that returns one"),
        (nn.Identity(), torch.ones(2, 3, dtype=torch.long), "but torch.int64"),
        (nn.Identity(), torch.ones(7, 2, 5), r"'net.0' has shape \(7, 2, 5\), and masks are of 2 examples.*the batch"),
        (
            nn.Identity(),
            torch.ones(3, 5),
            r"has shape \(3, 5\), and masks are of 2 examples.*another layer, or give ids",
        ),
    ],
)
def test_what_cannot_be_masked_is_said_by_name(layer, x, message):
    net = Net(["net.0"], nn.Sequential(layer))
    net.dropout.begin(torch.tensor([1, 2]))
    if message is None:
        assert net(x).shape == (2, 4)
        return
    with pytest.raises(ValueError, match=message):
        net(x)


def test_factors_are_given_for_every_site():
    net = Net().eval()
    with (
        pytest.raises(ValueError, match=r"`factors` has none of shape \(B, 30\) for the site 'input of net.4'"),
        net.dropout.masked({SITES[0]: torch.ones(1, 40)}),
    ):
        net(inputs())


# Copies and states


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_masks_by_its_own_dropout_and_is_left_by_itself(copied):
    net, x, ids = Net(), inputs(), torch.arange(4)
    net.dropout.begin(ids)
    other = copied(net)
    assert torch.equal(other(x), net(x))
    other.dropout.begin(ids + 9)
    assert not torch.equal(other(x), net(x))
    other.dropout.detach()
    assert not any(part._forward_pre_hooks for part in other.modules())
    assert torch.equal(other(x), copy.deepcopy(net).eval()(x))
    assert net.dropout.sites == tuple(SITES)


def test_rate_and_seed_are_those_of_the_checkpoint_and_what_differs_is_said(tmp_path):
    net, other = Net(rate=0.25, seed=4), Net()
    torch.save(net.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    with pytest.warns(UserWarning, match=r"its rate is that of the checkpoint, 0.25, and not 0.5") as said:
        other.load_state_dict(state)
    assert [str(each.message).split()[3] for each in said] == ["rate", "seed"]
    ids = torch.arange(3)
    assert torch.equal(other.dropout.factors("a", ids, 9), net.dropout.factors("a", ids, 9))
    with pytest.warns(UserWarning, match=r"with masks at input of net.2, .* here they are at net.0: give `turn_over"):
        Net(["net.0"], rate=0.25, seed=4).load_state_dict(state)
