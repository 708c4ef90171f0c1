"""Token gates: masked, finite and deterministic at evaluation, of the rate they say, the same alone and in a batch."""

import copy
import pickle
from dataclasses import FrozenInstanceError
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from lightning_interpret.functional.gates import HardKumaraswamy, budgets, select
from lightning_interpret.layers.token_gate import BUDGETED, KINDS, TokenGate

B, T, D = 5, 7, 6
LENGTHS = torch.tensor([7, 4, 2, 1, 0])
FIELDS = ("z", "probabilities", "rate", "transitions")
each_kind = pytest.mark.parametrize("kind", KINDS)


def batch(dtype=torch.float32):
    features = torch.randn(B, T, D, generator=torch.Generator().manual_seed(0))
    return features.to(dtype), torch.arange(T) < LENGTHS[:, None]


def gate_of(kind, *, training=False, seed=0, **options):
    torch.manual_seed(seed)
    return TokenGate(D, kind, **options).train(training)


def grown(gate, factor):
    with torch.no_grad():
        gate.weight.mul_(factor)
    return gate


@each_kind
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1.0, 1e4])
def test_what_is_not_selectable_gets_nothing_and_every_gradient_is_finite(kind, training, dtype, factor):
    features, selectable = batch(dtype)
    features = features.masked_fill(~selectable[..., None], torch.nan).requires_grad_()  # whatever stands there
    gate = grown(gate_of(kind, training=training), factor)
    selection = gate(features, selectable, target=0.4)
    wide = torch.promote_types(dtype, torch.float32)
    for name in FIELDS:
        value = getattr(selection, name)
        assert value.dtype == wide
        assert value.isfinite().all()
        assert value.min().item() >= 0
        assert value.max().item() <= 1
    for value in (selection.z, selection.probabilities):
        assert not value[~selectable].any()
    assert selection.rate[4].item() == selection.transitions[4].item() == selection.transitions[3].item() == 0.0
    parts = [getattr(selection, name) for name in FIELDS] + [
        torch.zeros(1) if kind != "reinforce" else selection.log_prob
    ]
    sum((part * torch.rand_like(part)).sum() for part in parts).backward()
    for tensor in (features, gate.weight, gate.bias):
        assert tensor.grad.isfinite().all()
    assert not features.grad[~selectable].any()


@each_kind
def test_evaluation_is_deterministic_and_training_is_not(kind):
    features, selectable = batch()
    gate = gate_of(kind, training=True)
    assert len({tuple(gate(features, selectable, 0.4).z.flatten().tolist()) for _ in range(20)}) > 1
    gate.eval()
    state = torch.get_rng_state()
    assert torch.equal(gate(features, selectable, 0.4).z, gate(features, selectable, 0.4).z)
    assert torch.equal(torch.get_rng_state(), state)


@each_kind
def test_a_row_is_what_it_is_alone_and_however_far_it_is_padded(kind):
    features, selectable = batch(torch.float64)
    gate = gate_of(kind)
    together = gate(features, selectable, 0.4)
    for i, length in enumerate(LENGTHS.tolist()):
        for before, after in ((0, 0), (0, 9), (4, 2)):
            if before + length + after == 0:
                continue
            row = F.pad(features[i : i + 1, :length], (0, 0, before, after), value=3.0)
            alone = gate(row, F.pad(selectable[i : i + 1, :length], (before, after)), 0.4)
            for name in ("rate", "transitions"):
                torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[i])
            for name in ("z", "probabilities"):
                found = getattr(alone, name)[0]
                torch.testing.assert_close(found[before : before + length], getattr(together, name)[i, :length])
                assert not found[:before].any()
                assert not found[before + length :].any()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in BUDGETED])
def test_rate_and_transitions_are_those_of_what_is_drawn(kind):
    features, selectable = batch()
    gate = gate_of(kind, training=True)
    told = gate(features, selectable)
    many = 20_000
    with torch.no_grad():
        drawn = gate(features.repeat(many, 1, 1), selectable.repeat(many, 1)).z != 0
    drawn = drawn.reshape(many, B, T).float()
    torch.testing.assert_close(drawn.mean(dim=0), told.probabilities.detach(), atol=0.015, rtol=0)
    rate = (drawn.sum(dim=2) / LENGTHS.clamp(min=1)).mean(dim=0)
    torch.testing.assert_close(rate, told.rate.detach(), atol=0.01, rtol=0)
    both = selectable[:, 1:] & selectable[:, :-1]
    changes = ((drawn.diff(dim=2) != 0) & both).sum(dim=2) / both.sum(dim=1).clamp(min=1)
    torch.testing.assert_close(changes.mean(dim=0), told.transitions.detach(), atol=0.01, rtol=0)


@pytest.mark.parametrize("kind", BUDGETED)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("target", [0.05, 0.4, 1.0])
def test_a_gate_with_a_budget_keeps_to_it_and_says_by_probability_what_is_in_it(kind, training, target):
    features, selectable = batch()
    selection = gate_of(kind, training=training)(features, selectable, target)
    budget = budgets(selectable, target)
    torch.testing.assert_close(selection.z.sum(dim=1), budget.float())
    torch.testing.assert_close(selection.rate, budget / LENGTHS.clamp(min=1))
    chosen = select(selection.probabilities, selectable, target)
    assert (selection.probabilities[chosen] >= 0.5).all()
    assert (selection.probabilities[~chosen] < 0.5).all()
    if not training:
        assert torch.equal(chosen, select(selection.z, selectable, target))


def test_a_gate_with_a_budget_wants_one():
    for kind in BUDGETED:
        with pytest.raises(ValueError, match=r"selects a share of the tokens: give it, `target=0.2`"):
            gate_of(kind)(*batch())
        with pytest.raises(ValueError, match=r"`share=1.5` must be above 0"):
            gate_of(kind)(*batch(), target=1.5)


def test_log_prob_is_that_of_the_whole_selection():
    features, selectable = batch()
    for training in (True, False):
        selection = gate_of("reinforce", training=training)(features, selectable)
        p = selection.probabilities
        expected = torch.where(selection.z > 0, p, 1 - p).log().masked_fill(~selectable, 0).sum(dim=1)
        torch.testing.assert_close(selection.log_prob, expected)
        assert not selection.z.requires_grad
    assert gate_of("gumbel")(features, selectable).log_prob is None


def test_hard_kumaraswamy_reads_the_likeliest_at_evaluation():
    features, selectable = batch()
    gate = grown(gate_of("hard_kumaraswamy"), 20)
    law = HardKumaraswamy.of_logits(F.linear(features, gate.weight, gate.bias))
    selection = gate(features, selectable)
    torch.testing.assert_close(selection.z, law.likeliest * selectable)
    assert {0.0, 1.0} < set(selection.z[selectable].tolist())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in BUDGETED])
def test_a_gate_starts_dense(kind):
    features, selectable = batch()
    rates = [gate_of(kind, open_bias=bias)(features * 0, selectable).rate[:4] for bias in (-2.0, 0.0, 1.0, 4.0)]
    assert all((a < b).all() for a, b in pairwise(rates))
    default = gate_of(kind)(features * 0, selectable)
    torch.testing.assert_close(default.rate[:4], rates[2])
    assert (default.rate[:4] > 0.7).all()


def test_a_budget_holds_a_gate_that_cannot_decide():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(20, 60, (200, 1), generator=generator)
    selectable = torch.arange(60) < lengths
    gate = grown(gate_of("gumbel", open_bias=0.0), 1e-6)
    selection = gate(torch.randn(200, 60, D, generator=generator), selectable)
    chosen = select(selection.probabilities, selectable, 0.2)
    assert chosen.sum() / selectable.sum() == pytest.approx(0.2, abs=0.02)


@each_kind
def test_autocast_does_not_touch_it(kind):
    features, selectable = batch()
    gate = gate_of(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = gate(features, selectable, 0.4)
    for name in FIELDS:
        assert torch.equal(getattr(inside, name), getattr(gate(features, selectable, 0.4), name))


@each_kind
def test_copies_are_their_own_and_state_is_all_there_is(kind):
    features, selectable = batch()
    gate = gate_of(kind)
    other = gate_of(kind, seed=1)
    other.load_state_dict(gate.state_dict())
    for copied in (copy.deepcopy(gate), pickle.loads(pickle.dumps(gate)), other):
        assert torch.equal(copied(features, selectable, 0.4).z, gate(features, selectable, 0.4).z)
        assert copied.weight is not gate.weight


@pytest.mark.parametrize("kind", [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_it_compiles(kind):
    features, selectable = batch()
    gate = gate_of(kind)
    compiled = torch.compile(gate, backend="aot_eager")
    for target in (0.4, 0.3):
        torch.testing.assert_close(compiled(features, selectable, target).z, gate(features, selectable, target).z)


def test_a_selection_cannot_be_changed():
    selection = gate_of("gumbel")(*batch())
    with pytest.raises(FrozenInstanceError):
        selection.z = selection.rate


def test_bad_options_and_shapes_are_refused_by_name():
    for options, said in (
        ({"kind": "gumble"}, r"`kind='gumble'` does not exist. Did you mean 'gumbel'"),
        ({"temperature": 0.0}, r"`temperature=0.0` must be positive"),
        ({"kind": "reinforce", "temperature": 0.5}, r"`temperature=0.5`: a gate of `kind='reinforce'` has none"),
        ({"open_bias": float("inf")}, r"`open_bias=inf` must be a finite number"),
    ):
        with pytest.raises(ValueError, match=said):
            TokenGate(D, **options)
    with pytest.raises(ValueError, match=r"`width=0` must be a whole number"):
        TokenGate(0)
    features, selectable = batch()
    for wrong in ((features[..., :-1], selectable), (features, selectable[:, :-1]), (features[0], selectable[0])):
        with pytest.raises(ValueError, match=r"takes `features` \(B, T, 6\) and `selectable` \(B, T\), not"):
            gate_of("gumbel")(*wrong)
