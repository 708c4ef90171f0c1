"""The bottleneck alone: what it hands on, what gradients pass, what is set by hand, what it refuses."""

import copy
import pickle
from threading import Thread

import pytest
import torch

from lightning_interpret.layers.concept_bottleneck import ConceptBottleneck, checked_labels

NAN = float("nan")


def layer(**options):
    torch.manual_seed(0)
    made = ConceptBottleneck(5, ["a", "b"], **{"free": 1} | options)
    with torch.no_grad():
        made.bias.copy_(torch.randn(3))
    return made


def drawn(rows=4):
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("mode", "made"),
    [("soft", torch.sigmoid), ("hard", lambda scores: (scores > 0).float()), ("logit", lambda scores: scores)],
)
def test_what_is_handed_on(mode, made):
    h, part = drawn(), layer(mode=mode)
    scores = h @ part.weight.T + part.bias
    for training in (True, False):
        assert torch.allclose(part.train(training)(h), made(scores), atol=1e-6)
    if mode == "hard":
        assert set(part(h).flatten().tolist()) == {0.0, 1.0}  # to the bit
    with_residual = layer(mode=mode, residual=True)
    assert torch.equal(with_residual(h), torch.cat([part(h), h], dim=1))
    assert with_residual.size == 8


@pytest.mark.parametrize("mode", ["soft", "hard", "logit"])
def test_in_training_the_task_moves_free_concepts_alone(mode):
    part, h = layer(mode=mode), drawn().requires_grad_()
    part(h).sum().backward()
    assert (part.weight.grad.abs().sum(dim=1) > 0).tolist() == [False, False, True]
    free = part.weight.detach()[2]
    assert torch.allclose(h.grad / h.grad[:, :1], (free / free[0]).expand(4, 5), atol=1e-5)
    for other in (layer(mode=mode, stop_gradient=False), layer(mode=mode).eval()):
        other(drawn()).sum().backward()
        assert bool((other.weight.grad.abs().sum(dim=1) > 0).all())


@pytest.mark.parametrize("mode", ["soft", "hard", "logit"])
def test_a_concept_is_set_and_left_again(mode):
    part, h = layer(mode=mode).eval(), drawn()
    before = part(h)
    probabilities = torch.tensor([0.0, 1.0, NAN, 1.0])
    with part.intervene({"b": probabilities, "free_1": 1}):
        found = part(h)
        with part.intervene({"b": 0.0}):
            inner = part(h)
        assert torch.equal(part(h), found)
    shown = part.of_probabilities(probabilities)
    assert torch.equal(found[:, 0], before[:, 0])
    assert torch.equal(found[:, 1], torch.where(shown.isnan(), before[:, 1], shown))
    assert len(set(found[:, 2].tolist())) == 1
    assert torch.equal(inner[:, 2], found[:, 2])
    assert len(set(inner[:, 1].tolist())) == 1
    assert torch.equal(part(h), before)


def test_an_inner_block_leaves_what_an_outer_one_has_set():
    part, h = layer().eval(), drawn(2)
    with part.intervene({"a": 1.0}), part.intervene({"a": torch.tensor([NAN, 0.0])}):
        assert part(h)[:, 0].tolist() == [1.0, 0.0]


def test_a_block_ends_and_is_of_its_thread_and_its_copy_alone():
    part, h = layer().eval(), drawn()
    before, seen = part(h), []
    other = copy.deepcopy(part)
    with part.intervene({"a": 1.0}):
        thread = Thread(target=lambda: seen.append(part(h)))
        thread.start()
        thread.join()
        assert torch.equal(seen[0], before)
        assert torch.equal(other(h), before)
        assert torch.equal(copy.deepcopy(part)(h), before)
        assert not torch.equal(part(h), before)
    assert torch.equal(part(h), before)
    with pytest.raises(ValueError, match="is given"), part.intervene({"a": 1.0}):
        part(h[:, :2])
    assert torch.equal(part(h), before)


def test_half_precision_computes_in_single_and_hands_on_what_it_was_given():
    part, h = layer(residual=True).bfloat16(), drawn().bfloat16()
    found = part(h)
    assert found.dtype == torch.bfloat16
    scores = h.float() @ part.weight.float().T + part.bias.float()
    assert torch.equal(part.scores(h), scores)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert part.scores(drawn()).dtype == torch.float32


def test_state_names_the_concepts_and_those_of_others_are_refused():
    part, h = layer(), drawn()
    other = ConceptBottleneck(5, ["a", "b"], free=1)
    other.load_state_dict(part.state_dict())
    assert torch.equal(other(h), part(h))
    assert torch.equal(pickle.loads(pickle.dumps(part))(h), part(h))
    with pytest.raises(
        ValueError, match=r"names=\['a', 'b', 'free_1'\], and this one has names=\['b', 'a', 'free_1'\]"
    ):
        ConceptBottleneck(5, ["b", "a"], free=1).load_state_dict(part.state_dict())
    with pytest.raises(ValueError, match="mode='soft', and this one has mode='hard'"):
        ConceptBottleneck(5, ["a", "b"], free=1, mode="hard").load_state_dict(part.state_dict())


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        ([], {}, "There are no concepts: give `concept_names"),
        (["a", "b", "a"], {}, "has 'a' more than once"),
        (["free_1"], {"free": 1}, "has 'free_1' more than once"),
        ("food", {}, "must be a list of names"),
        ([""], {}, "must be a list of names"),
        (["a"], {"free": -1}, "concept_count=-1"),
        (["a"], {"mode": "sofft"}, "Did you mean 'soft'"),
    ],
)
def test_options_that_make_no_sense(names, options, said):
    with pytest.raises(ValueError, match=said):
        ConceptBottleneck(5, names, **options)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"aa": 1.0}, r"`intervene='aa'` does not exist. Did you mean 'a'\?"),
        ({"a": 1.5}, "'a' is set to 1.5, and must be a probability from 0 to 1"),
        ({"a": torch.tensor([0.5, -1.0])}, "must be a probability"),
        ({"a": torch.ones(2, 2)}, "must be a probability"),
        ({"a": torch.ones(3)}, "'a' is set for 3 examples, and the batch has 4"),
    ],
)
def test_what_cannot_be_set(values, said):
    part = layer()
    with pytest.raises(ValueError, match=said), part.intervene(values):
        part(drawn())
    assert torch.equal(part(drawn()), layer()(drawn()))


def test_features_that_are_no_vector_an_example_are_refused():
    with pytest.raises(ValueError, match=r"is given \(2, 3, 5\): name a head .* `concept_head=`"):
        layer()(torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"vector of width 5 an example, \(B, 5\), but is given \(2, 4\)"):
        layer()(torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.zeros(4, 3), r"has shape \(4, 3\), and must be a tensor \(B, 2\): a label for each of food, price"),
        (torch.zeros(4), r"has shape \(4,\)"),
        ([[0, 1]], "is a list"),
        (torch.tensor([[0, 2]]), "has 2 for 'price'.*more than two values are not supported"),
        (torch.tensor([[-0.5, 1]]), "has -0.5 for 'food'"),
    ],
)
def test_labels_that_cannot_be_read(labels, said):
    with pytest.raises(ValueError, match=said):
        checked_labels(labels, ["food", "price"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.long, torch.int8])
def test_labels_of_any_type(dtype):
    found = checked_labels(torch.tensor([[0, 1], [-1, 1]]).to(dtype), ["food", "price"])
    assert found.dtype == torch.float32
    assert found.tolist() == [[0, 1], [-1, 1]]
    assert checked_labels(torch.tensor([[True, False]]), ["food", "price"]).tolist() == [[1, 0]]
