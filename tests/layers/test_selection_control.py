"""The control of the rate: what its term is, when its numbers move, and that nothing rounds or loses them."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from lightning_interpret.layers.selection_control import SelectionControl

RATES = torch.tensor([0.5, 0.1, 0.3])
MOVES = torch.tensor([0.2, 0.0, 0.1])


def moved(steps=20, rates=RATES, **options):
    control = SelectionControl(kind="lagrangian", **options)
    for step in range(steps):
        control.begin(step / steps)
        control.term(rates, MOVES)
    return control


def numbers(control):
    return control.get_extra_state()


def test_the_target_comes_down_from_everything_over_the_first_half():
    control = SelectionControl(target=0.2)
    found = []
    for progress in (0.0, 0.25, 0.4999999, 0.5, 0.9, 1.0, 7.0):
        control.begin(progress)
        found.append(control.target_now)
    assert found == pytest.approx([1.0, 0.6, 0.2, 0.2, 0.2, 0.2, 0.2], abs=1e-6)
    control = SelectionControl(target=0.2, anneal=0.1)
    control.begin(0.05)
    assert control.target_now == pytest.approx(0.6)
    for kind in ("lagrangian", "fixed"):
        assert SelectionControl(target=0.2, kind=kind).target_now == 0.2


@pytest.mark.parametrize("kind", ["anneal", "fixed"])
def test_the_term_is_the_distance_of_the_mean_rate_and_the_transitions(kind):
    control = SelectionControl(0.2, kind, coherence=2.0, weight=3.0)
    control.begin(0.25)
    rates = RATES.clone().requires_grad_()
    term = control.term(rates, MOVES)
    target = 0.6 if kind == "anneal" else 0.2
    assert term.item() == pytest.approx(3 * abs(0.3 - target) + 2 * 0.1)
    (gradient,) = torch.autograd.grad(term, rates)
    assert gradient.tolist() == pytest.approx([(-1 if target > 0.3 else 1)] * 3)


def test_the_multiplier_is_bastings_and_is_never_rounded():
    control = SelectionControl(0.2, "lagrangian", coherence=0.5)
    average = multiplier = None
    for step, rate in enumerate([0.9, 0.7, 0.1, 0.05, 0.4]):
        control.begin(step / 5)
        term = control.term(torch.tensor([rate]), torch.tensor([0.3]))
        over = float(torch.tensor(rate) - 0.2)
        multiplier = 0.1 if multiplier is None else min(multiplier * math.exp(0.05 * average), 1.0)
        average = over if average is None else 0.5 * average + 0.5 * over
        assert control.multiplier == multiplier
        assert term.item() == pytest.approx(multiplier * over + 0.5 * 0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_five_hundred_steps_are_as_long_in_every_precision(dtype):
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # as `precision="bf16-true"` does it
    try:
        control = SelectionControl(0.2, "lagrangian").to(dtype)
        for step in range(501):
            control.begin(step / 501)
            control.term(torch.tensor([0.25], dtype=torch.float32), torch.zeros(1, dtype=torch.float32))
    finally:
        torch.set_default_dtype(default)
    assert control.multiplier == pytest.approx(0.1 * math.exp(0.05 * 0.05 * 500), abs=1e-6)  # .349, not .1001


def test_the_multiplier_stays_within_its_bounds():
    assert moved(20, torch.ones(2), speed=1.0).multiplier == 1.0
    assert moved(10, torch.ones(2), multiplier=9.0, largest=5.0).multiplier == 5.0
    low = moved(40, torch.zeros(2), target=0.9, speed=1.0)
    assert low.multiplier == 1e-12
    for step in range(20):  # and comes back
        low.begin(step / 20)
        low.term(torch.ones(2), MOVES)
    assert low.multiplier > 1e-12


def test_nothing_moves_in_evaluation_without_gradients_nor_twice_in_a_step():
    control = moved()
    before, state = numbers(control), copy.deepcopy(vars(control))
    control.eval()
    for _ in range(3):
        control.term(RATES, MOVES)
    control.train()
    with torch.no_grad():
        control.term(RATES, MOVES)
    state["training"] = True
    assert vars(control) == state
    control.begin(1.0)
    after = numbers(control)
    assert after["multiplier"] == before["multiplier"]
    for other in (RATES, RATES + 0.5):  # closures, other gates and forwards that are computed again
        control.term(other, MOVES)
    once = moved(21)
    assert numbers(control) == numbers(once) | {"progress": 1.0}


def test_a_forward_that_is_computed_again_has_the_same_term():
    control = moved()
    control.begin(0.5)
    rates, terms = RATES.clone().requires_grad_(), []

    def forward(rates):
        terms.append(control.term(rates.square(), MOVES).detach())
        return control.term(rates.square(), MOVES)

    before = control.multiplier
    checkpoint(forward, rates, use_reentrant=False).backward()
    assert len(terms) == 2
    assert terms[0] == terms[1]
    torch.testing.assert_close(rates.grad, before * 2 * RATES / 3)


def test_a_state_is_restored_to_the_bit():
    control = moved(13, coherence=0.1)
    file = io.BytesIO()
    torch.save(control.state_dict(), file)
    file.seek(0)
    new = SelectionControl(kind="lagrangian", coherence=0.1)
    new.load_state_dict(torch.load(file, weights_only=True))
    others = (new, copy.deepcopy(control), pickle.loads(pickle.dumps(control)))
    for _ in range(5):
        for each in (control, *others):
            each.begin(0.7)
        terms = [each.term(RATES, MOVES) for each in (control, *others)]
        assert all(torch.equal(term, terms[0]) for term in terms)
        assert all(numbers(each) == numbers(control) for each in others)
    assert {type(value) for value in numbers(control).values()} == {float}


def test_the_term_compiles():
    control = SelectionControl(kind="lagrangian")
    compiled = torch.compile(lambda rates: control.term(rates.sigmoid(), MOVES) * 2, backend="eager")
    for step in range(12):
        control.begin(step / 12)
        torch.testing.assert_close(compiled(RATES), control.term(RATES.sigmoid(), MOVES) * 2)
    assert numbers(control) == numbers(moved(12, RATES.sigmoid()))


def _in_process(rank, address, queue):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    found = []
    for kind in ("lagrangian", "anneal"):
        control = SelectionControl(kind=kind)
        for step in range(6):
            control.begin(step / 6)
            rates = torch.tensor([0.1, 0.3]) if rank else torch.tensor([0.9, 0.9])
            term = control.term(rates.requires_grad_(), torch.zeros(2))
            (gradient,) = torch.autograd.grad(term, rates)
        if rank:  # an evaluation that one process runs by itself waits for no other
            control.eval().term(rates, torch.zeros(2))
        found.append((numbers(control), term.item(), gradient.tolist()))
    queue.put((rank, found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_hold_the_same_numbers(tmp_path):
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    torch.multiprocessing.start_processes(
        _in_process, (f"file://{tmp_path}/meet", queue), nprocs=2, start_method="fork"
    )
    found = dict((queue.get(), queue.get()))
    assert found[0] == found[1]
    alone = SelectionControl(kind="lagrangian")
    for step in range(6):
        alone.begin(step / 6)
        alone.term(torch.tensor([0.9, 0.9, 0.1, 0.3]), torch.zeros(4))
    assert found[0][0][0] == pytest.approx(numbers(alone), abs=1e-6)
    assert found[0][1][2] == [0.5, 0.5]  # of the first process alone it would be the same, of the second not


@pytest.mark.parametrize("target", [0, 1, -0.1, 1.2, float("nan"), True, "0.2"])
def test_a_target_that_is_no_share_is_refused(target):
    with pytest.raises(ValueError, match=r"`target=.*` must lie between 0 and 1"):
        SelectionControl(target)


def test_other_bad_options_are_refused_by_name():
    for options, said in (
        ({"kind": "geco"}, r"`kind='geco'` does not exist"),
        ({"coherence": -1.0}, r"`coherence=-1.0` must be 0 or more"),
        ({"weight": 0.0}, r"`weight=0.0` must be positive"),
        ({"speed": 0.1}, r"`speed=0.1` is an option of `kind='lagrangian'`, not of 'anneal'"),
        ({"kind": "fixed", "anneal": 0.1}, r"`anneal=0.1` is an option of `kind='anneal'`"),
        ({"anneal": 0.0}, r"`anneal=0.0` must be above 0 and at most 1"),
        ({"smoothing": 1.0}, r"`smoothing=1.0` must be at least 0 and less than 1"),
        ({"multiplier": math.inf}, r"`multiplier=inf` must be positive"),
    ):
        with pytest.raises(ValueError, match=said):
            SelectionControl(**options)
