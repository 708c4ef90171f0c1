"""Retraining: in one pass or one by one, in processes, interrupted, and from a file."""

import json
from functools import partial

import pytest
import torch
from digits import digits, network, train
from purity import assert_same, state_of
from retrained import Averager, Mean, outcome
from torch import nn

from lightning_interpret.functional.influence.datamodels import leave_one_out, subsets
from lightning_interpret.functional.influence.ensembles import MinusLoss, SubsetTrainer, perceptron
from lightning_interpret.functional.influence.retraining import retrain

MASKS = subsets(30, 0.5, 4, seed=0)


def first_digits(count=120, epochs=3, make=network, **options):
    batch, _ = digits()
    return SubsetTrainer(
        partial(make, 8), batch["pixels"][:count], batch["labels"][:count], epochs=epochs, batch_size=25, **options
    )


def expected(seeds):
    means = torch.stack([mask.nonzero().double().mean() for mask in MASKS])
    values = means[:, None] + 10 * torch.tensor(seeds)
    return torch.stack([values, -values], dim=2)


# Many at once


def test_networks_trained_at_once_are_those_trained_alone():
    batch, _ = digits()
    masks = torch.cat([subsets(120, 0.5, 3, seed=0), leave_one_out(120, torch.tensor([5]))])
    before = torch.get_rng_state()
    found = first_digits().many(masks, [0, 1, 0, 2])
    assert torch.equal(torch.get_rng_state(), before)
    for mask, seed, one in zip(masks, [0, 1, 0, 2], found, strict=True):
        part = {name: values[:120][mask] for name, values in batch.items()}
        alone = plain(part, seed)
        assert not one.training
        for a, b in zip(one.parameters(), alone.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-4)
        assert_same(state_of(one)["tensors"], state_of(first_digits()(mask, seed))["tensors"])


def test_the_course_of_a_training_ends_where_the_training_ends():
    mask, trainer = torch.ones(120, dtype=torch.bool), first_digits()
    seen = [([p.clone() for p in one.parameters()], rate) for one, rate in trainer.course(mask, 3)]
    assert [rate for _, rate in seen] == pytest.approx([0.1 * 2 / 3, 0.1 / 3, 0])
    assert not torch.equal(seen[0][0][0], seen[1][0][0])
    for a, b in zip(seen[-1][0], trainer(mask, 3).parameters(), strict=True):
        assert torch.equal(a, b)


def plain(batch, seed):
    """One network, one step after the other."""
    model, generator, count = network(8, seed), torch.Generator().manual_seed(seed), len(batch["labels"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    steps = 3 * -(-count // 25)
    for epoch in range(3):
        for i, rows in enumerate(torch.randperm(count, generator=generator).split(25)):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - (epoch * -(-count // 25) + i) / steps)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch["pixels"][rows]), batch["labels"][rows]).backward()
            optimizer.step()
    return model


def test_the_training_of_the_golden_cases_is_the_same_at_once():
    batch, _ = digits()
    mask = subsets(1000, 0.5, 1, seed=0)[0]
    [found] = SubsetTrainer(partial(network, 32), batch["pixels"], batch["labels"]).many(mask[None], [1])
    alone = train({name: values[mask] for name, values in batch.items()}, seed=1)
    for a, b in zip(found.parameters(), alone.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def normed(hidden, seed):
    return nn.Sequential(nn.Linear(64, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 10))


@pytest.mark.parametrize(
    ("trainer", "masks", "message"),
    [
        (first_digits(), torch.ones(2, 120, dtype=torch.bool), r"Expected masks \(1, 120\)"),
        (first_digits(), torch.ones(1, 90, dtype=torch.bool), r"but got \(1, 90\)"),
        (first_digits(), torch.zeros(1, 120, dtype=torch.bool), "a subset is empty"),
        (first_digits(make=normed), torch.ones(1, 120, dtype=torch.bool), "buffers .*running_mean"),
    ],
)
def test_what_cannot_be_trained_at_once_is_refused(trainer, masks, message):
    with pytest.raises(ValueError, match=message):
        trainer.many(masks, [0])


# One by one, in processes, from a file


def test_outcomes_are_in_the_order_of_subsets_and_seeds(tmp_path):
    found = retrain(Averager(), MASKS, outcome, seeds=[0, 3], folder=tmp_path)
    assert torch.equal(found.outcomes[:, :, :2], expected([0, 3]))
    assert found.outcomes[:, :, 2].isnan().all()  # what is not finite is no outcome
    assert (found.trained, found.reused) == (8, 0)
    again = retrain(Averager(refuses=0), MASKS, outcome, seeds=[0, 3], folder=tmp_path)
    assert torch.equal(again.outcomes.nan_to_num(), found.outcomes.nan_to_num())
    assert (again.trained, again.reused) == (0, 8)


def test_workers_find_what_one_process_finds(tmp_path):
    batch, queries = digits()
    trainer = SubsetTrainer(partial(perceptron, 64, 6, 10), batch["pixels"][:60], batch["labels"][:60], epochs=2)
    masks, measure = subsets(60, 0.5, 3, seed=0), MinusLoss(queries["pixels"][:5], queries["labels"][:5])
    run = partial(retrain, trainer, masks, measure, seeds=[2, 0], together=2)
    found = run(workers=2, folder=tmp_path)
    assert torch.allclose(found.outcomes, run().outcomes, atol=1e-6)
    assert run(folder=tmp_path).reused == 6


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(tmp_path):
    with pytest.raises(RuntimeError, match=r"seeds \[3\] failed: no such seed"):
        retrain(Averager(refuses=3), MASKS, outcome, seeds=[0, 3], folder=tmp_path)
    file = tmp_path / "retraining.jsonl"
    assert len(file.read_text().splitlines()) == 1  # the first subset's first seed
    with open(file, "a") as lines:
        lines.write('{"key": "", "subset": "12')  # a run that was killed while it wrote
    seen = []
    found = retrain(Averager(), MASKS, outcome, seeds=[0, 3], folder=tmp_path, progress=lambda *at: seen.append(at))
    assert (found.trained, found.reused) == (7, 1)
    assert seen == [(i, 8) for i in range(2, 9)]
    assert torch.equal(found.outcomes[:, :, :2], expected([0, 3]))
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 8
    more = retrain(Averager(), subsets(30, 0.5, 5, seed=0), outcome, seeds=[0, 3], folder=tmp_path)
    assert (more.trained, more.reused) == (2, 8)  # one subset more


def test_only_what_was_kept_under_the_same_key_is_used_again(tmp_path):
    retrain(Averager(), MASKS, outcome, folder=tmp_path, key="a")
    assert retrain(Averager(), MASKS, outcome, folder=tmp_path, key="b").reused == 0
    assert retrain(Averager(), MASKS, outcome, folder=tmp_path, key="a").reused == 4
    with pytest.raises(ValueError, match="measured at other queries"):
        retrain(Averager(), MASKS, lambda model: outcome(model)[:1], folder=tmp_path, key="a", seeds=[0, 1])


def test_a_file_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "retraining.jsonl").write_text('{"text": "mine"}\n')
    with pytest.raises(ValueError, match=r"retraining.jsonl:1 is no training of ours"):
        retrain(Averager(), MASKS, outcome, folder=tmp_path)
    assert (tmp_path / "retraining.jsonl").read_text() == '{"text": "mine"}\n'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": MASKS.float()}, "must be bool"),
        ({"masks": MASKS[:0]}, "There are 0 subsets"),
        ({"seeds": []}, r"seeds \[\]"),
        ({"seeds": [1, 1]}, r"seeds \[1, 1\]"),
        ({"workers": 0}, "`workers=0`"),
        ({"together": 0}, "`together=0`"),
        ({"workers": 2, "train": lambda mask, seed: Mean(0.0)}, "cannot be sent to another process"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_trained(options, message):
    options = {"train": Averager(), "masks": MASKS, "outcomes": outcome} | options
    with pytest.raises(ValueError, match=message):
        retrain(**options)
