"""Randomised weights: drawn as before training, put in a block at a time, and never left in the module."""

import pytest
import torch
from tiny import classifier
from torch import nn

from lightning_interpret.functional.randomisation import (
    MODEL,
    OWN,
    SHUFFLED,
    blocks,
    cascade,
    randomised,
    reinitialised,
)
from lightning_interpret.functional.scope import saved_tensors


class Scale(nn.Module):
    """A layer whose parameter nothing initialises."""

    def __init__(self, size):
        super().__init__()
        self.factor = nn.Parameter(torch.linspace(0.5, 2, size))

    def forward(self, x):
        return self.factor * x


class Recurrent(nn.Module):
    """No container: an embedding, a layer of the user's, an LSTM, a head whose weight is tied to the embedding's."""

    def __init__(self):
        super().__init__()
        self.words, self.scale = nn.Embedding(12, 8), Scale(8)
        self.lstm, self.norm = nn.LSTM(8, 8, batch_first=True), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 12)
        self.head.weight = self.words.weight
        with torch.no_grad():
            for value in self.parameters():
                value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
            self.norm.running_mean.add_(3)

    def forward(self, ids):
        return self.head(self.norm(self.lstm(self.scale(self.words(ids)))[0][:, -1]))


def same(values, others):
    return all(torch.equal(values[name], others[name]) for name in others)


@pytest.mark.parametrize("make", [Recurrent, lambda: classifier("bert"), lambda: classifier("t5")])
def test_weights_are_drawn_anew_and_the_module_stays_as_it_is(make):
    module = make()
    before = {name: value.clone() for name, value in saved_tensors(module).items()}
    ids, state = {name: id(value) for name, value in saved_tensors(module).items()}, torch.get_rng_state()
    found, again, other = reinitialised(module, 1), reinitialised(module, 1), reinitialised(module, 2)
    assert same(found.values, again.values)
    assert not same(found.values, other.values)
    assert same(saved_tensors(module), before)
    assert {name: id(value) for name, value in saved_tensors(module).items()} == ids
    assert torch.equal(torch.get_rng_state(), state)
    assert found.values.keys() == before.keys()
    for name, value in module.named_parameters():
        constant = bool((value == value.flatten()[0]).all())  # as a norm's weight is before training
        assert constant or not torch.equal(found.values[name], value), name


def test_it_says_how_each_was_drawn():
    module = Recurrent()
    found = reinitialised(module)
    assert found.how["scale.factor"] == SHUFFLED
    assert found.values["scale.factor"].sort().values.tolist() == module.scale.factor.sort().values.tolist()
    assert {how for name, how in found.how.items() if name != "scale.factor"} == {OWN}
    assert torch.equal(found.values["words.weight"], found.values["head.weight"])
    assert (found.values["norm.weight"] == 1).all()
    assert (found.values["norm.running_mean"] == 0).all()
    bert = nn.ModuleDict({"encoder": classifier("bert"), "extra": nn.Linear(2, 2)})
    found = reinitialised(bert)
    assert {how for name, how in found.how.items() if name.startswith("encoder.")} == {MODEL}
    assert found.how["extra.weight"] == OWN
    words = found.values["encoder.bert.embeddings.word_embeddings.weight"]
    assert 0.01 < words.std() < 0.03  # the configuration's range
    assert (found.values["encoder.bert.encoder.layer.0.output.LayerNorm.weight"] == 1).all()


@pytest.mark.parametrize("own", [lambda self: None, lambda self, gain=1.0: None])
def test_a_modules_own_initialisation_of_all_it_has_is_not_asked_of_a_layer(own):
    module = type("Own", (nn.Sequential,), {"_init_weights": own})(nn.Linear(3, 2))
    found = reinitialised(module)
    assert set(found.how.values()) == {OWN}
    assert not torch.equal(found.values["0.weight"], module[0].weight)


def test_blocks_are_the_members_of_containers_and_what_stands_beside_them():
    assert list(blocks(classifier("bert"))) == [
        "bert.embeddings",
        "bert.encoder.layer.0",
        "bert.encoder.layer.1",
        "bert.pooler",
        "classifier",
    ]
    assert list(blocks(Recurrent())) == ["words", "scale", "lstm", "norm", "head"]
    assert list(blocks(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))) == ["0", "2"]
    for module in (classifier("bert"), classifier("t5"), Recurrent()):
        names = [name for block in blocks(module).values() for name in block]
        assert sorted(names) == sorted(saved_tensors(module))


def test_a_cascade_goes_from_the_head_down_and_ends_with_everything():
    module = classifier("bert")
    initial = reinitialised(module).values
    steps = list(cascade(module, initial))
    assert [name for name, _ in steps] == list(reversed(blocks(module)))
    assert set(steps[0][1]) == {"classifier.weight", "classifier.bias"}
    assert same(steps[-1][1], initial)
    assert steps[-1][1].keys() == initial.keys()
    assert [name for name, _ in cascade(module, {"classifier.bias": torch.zeros(3)})] == ["classifier"]


def test_what_is_explained_is_the_module_with_those_weights():
    module = Recurrent().eval()
    ids = torch.randint(0, 12, (4, 5), generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    initial = reinitialised(module).values
    explain = lambda: module(ids).detach()  # noqa: E731
    found = randomised(explain, module, initial, cascading=True)
    assert list(found) == ["head", "norm", "lstm", "scale", "words"]
    everything = randomised(explain, module, initial)["all"]
    other = Recurrent().eval()
    other.load_state_dict(initial)
    assert torch.equal(everything, other(ids))
    torch.testing.assert_close(found["words"], everything)
    assert not torch.equal(found["norm"], everything)
    assert same(module.state_dict(), before)


def test_it_is_put_back_also_when_the_explanation_fails_and_wrong_names_are_refused():
    module = Recurrent()
    before = {name: id(value) for name, value in module.named_parameters()}

    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        randomised(fail, module, reinitialised(module).values)
    assert {name: id(value) for name, value in module.named_parameters()} == before
    with pytest.raises(ValueError, match=r"`initial` has 'tail.weight', which the module has not"):
        randomised(fail, module, {"tail.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="`initial` is empty"):
        randomised(fail, module, {})


def test_parts_that_are_compiled_are_drawn_as_they_are_without_compilation():
    def module(compiled):
        torch.manual_seed(0)
        parts = [nn.Linear(3, 4), nn.Linear(4, 2)]
        return nn.Sequential(*(torch.compile(part, backend="eager") if compiled else part for part in parts))

    plain, compiled = (reinitialised(module(compiled)).values for compiled in (False, True))
    assert [name.replace("_orig_mod.", "") for name in compiled] == list(plain)
    assert all(torch.equal(a, b) for a, b in zip(plain.values(), compiled.values(), strict=True))
