"""Turn-over dropout where there is little to read, or something wrong with it: what is said, and what is left out."""

import pytest
import torch
from digits import split
from torch import nn
from turn_over import TASK, Masked, by_hand, perceptron, pixels

from lightning_interpret import TurnOverDropoutInfluence
from lightning_interpret.data import TrainingExamples

HEAD, DEEP = ["input of net.4"], ["net.0", "net.2"]


def fitted(sites=HEAD, examples=None, **options):
    return TurnOverDropoutInfluence(**options).fit(perceptron(sites), examples or [pixels(12)], TASK)


def test_a_module_without_masks_is_told_what_to_do():
    with pytest.raises(ValueError, match=r"Sequential was not trained with turn-over dropout.*TurnOverDropoutMixin"):
        TurnOverDropoutInfluence().fit(nn.Sequential(nn.Linear(64, 10)), [pixels(3)], TASK)
    plain = perceptron(HEAD)
    plain.turn_over_dropout.plain = True
    with pytest.raises(ValueError, match="drawn anew at each step"):
        TurnOverDropoutInfluence().fit(plain, [pixels(3)], TASK)


def test_masks_that_the_forward_does_not_come_to_are_refused():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(64, 10), nn.Linear(64, 10)

        def forward(self, x):
            return self.used(x)

    for sites in (["net.idle"], []):
        with pytest.raises(ValueError, match="turn_over_layers="):
            TurnOverDropoutInfluence().fit(Masked(Unused(), sites).double(), [pixels(3)], TASK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shortlist": 0}, "shortlist"),
        ({"shortlist": "near"}, "shortlist"),
        ({"layers": "last"}, "leave it out"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TurnOverDropoutInfluence(**options)


def test_an_examples_own_mask_needs_its_id_in_the_batch():
    class Without(torch.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, i):
            return {name: pixels(6)[name][i] for name in ("pixels", "labels")}

    class Known:
        def __init__(self):
            data = TrainingExamples(Without(), ids=range(6))
            self.batches, self.take = data.batches, data.take

    found = fitted(examples=Known())
    assert found.matrix(pixels(2, part=1))[1].shape == (2, 6)  # scores need the ids alone
    with pytest.raises(ValueError, match=r"carry no `example_id`.*WithIds"):
        found.self_influence()
    with pytest.raises(ValueError, match="carry no `example_id`"):
        fitted(examples=[{name: pixels(3)[name] for name in ("pixels", "labels")}])


def test_ids_other_than_those_of_training_are_refused():
    class Renamed:
        def batches(self):
            yield torch.arange(100, 112), pixels(12)

        def take(self, ids):
            yield from ()

    with pytest.raises(ValueError, match=r"other ids \(100, ...\) than the `example_id` of their batches \(0"):
        fitted(examples=Renamed())


@pytest.mark.parametrize("sites", [HEAD, DEEP])
def test_of_fewer_examples_than_are_asked_for_all_are_shown_and_one_is_enough(sites):
    few = fitted(sites, [pixels(3)], shortlist=50).scores(pixels(2, part=1), 10)
    assert [sum(each.score != 0 for each in (*row.helpful, *row.harmful)) for row in few] == [3, 3]
    one = fitted(sites, [pixels(1)])
    ids, scores = one.matrix(pixels(1, part=1))
    expected = by_hand(perceptron(sites), TASK, [0], pixels(1, part=1))
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-10)
    assert ids.tolist() == one.self_influence()[0].tolist() == [0]


@pytest.mark.parametrize("options", [{}, {"shortlist": 4}])
@pytest.mark.parametrize("sites", [HEAD, DEEP])
def test_a_query_that_is_not_finite_costs_no_other_its_record(sites, options):
    queries = pixels(3, part=1)
    alone = fitted(sites, **options).scores({name: values[[0, 2]] for name, values in queries.items()}, 3)
    queries["pixels"] = queries["pixels"].clone()
    queries["pixels"][1] = torch.nan
    rows = fitted(sites, **options).scores(queries, 3)
    assert rows[1].reasons["influence"] == "the query's value is not finite"
    for row, other in zip((rows[0], rows[2]), alone, strict=True):
        assert [each.example_id for each in row.helpful] == [each.example_id for each in other.helpful]
        assert [each.score for each in row.helpful] == pytest.approx([each.score for each in other.helpful], abs=1e-10)


def test_a_training_example_that_is_not_finite_is_left_out_of_the_means():
    train = pixels(6)
    train["pixels"] = train["pixels"].clone()
    train["pixels"][2] = torch.nan
    found = fitted(examples=split(train, 4))
    _, own = found.self_influence()
    assert own.isfinite().tolist() == [True, True, False, True, True, True]
    assert found.scalars()["seen_loss"][1] == 5
    assert found.scores(pixels(1, part=1), 3)[0].examples == 6  # its mask is a mask like any other


def test_what_is_made_of_gradients_cannot_be_measured():
    from lightning_interpret.methods.influence.base import SecondOrder

    class Saliency(SecondOrder):
        def __call__(self, module, batch):
            return TASK.losses(module, batch)

    with pytest.raises(ValueError, match="made of gradients"):
        fitted().matrix(pixels(2, part=1), Saliency())
    with pytest.raises(ValueError, match="shortlist='all'"):
        fitted(shortlist=3).matrix(pixels(2, part=1), lambda module, batch: TASK.logits(module, batch).flatten())
    with pytest.raises(ValueError, match="no `queries`"):
        fitted().scores(iter(()))
