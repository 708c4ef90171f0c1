"""ConceptBottleneckMixin: what reaches what, interventions, explanations, what is logged; case 12 of the design."""

import math

import pytest
import torch
from concept_toys import NAMES, Net, Plain, accuracy, batch_of, fit, loader, seeded
from purity import assert_same, state_of
from torch.nn import functional as F

from lightning_interpret.functional.concepts import concept_loss

NAN = float("nan")


def attached(**options):
    module = seeded(**options)
    module.configure_model()
    return module


def trained(folder, *, relevant=True, max_epochs=20, **options):
    module, texts = seeded(**options), {"relevant": relevant, "batch_size": 64}
    held = loader(600, seed=1, **texts)
    trainer = fit(
        module,
        folder,
        loader(1500, shuffle=True, **texts),
        held,
        max_epochs=max_epochs,
        check_val_every_n_epoch=max_epochs,
    )
    return module, {name: float(value) for name, value in trainer.callback_metrics.items()}


def everything(batch, turned=False):
    truth = 1 - batch["concepts"] if turned else batch["concepts"]
    return {name: truth[:, k] for k, name in enumerate(NAMES)}


def test_case_12_concepts_decide_and_can_be_set(tmp_path):
    module, found = trained(tmp_path)
    assert found["concepts/accuracy"] >= 0.97
    assert abs(found["concepts/task_accuracy"] - found["concepts/intervened_accuracy"]) <= 0.02
    assert found["concepts/ablated_accuracy"] <= 0.58
    assert abs(found["concepts/leakage"]) <= 0.05
    batch = batch_of(600, seed=1)
    assert accuracy(module, batch) == pytest.approx(found["concepts/task_accuracy"], abs=1e-6)
    with module.intervene(everything(batch)):
        right = accuracy(module, batch)
    assert right == pytest.approx(found["concepts/intervened_accuracy"], abs=1e-6)
    with module.intervene(everything(batch, turned=True)):
        assert accuracy(module, batch) <= 1 - right + 0.05
    with module.intervene(dict.fromkeys(NAMES, 0.5)):
        assert accuracy(module, batch) == pytest.approx(found["concepts/ablated_accuracy"], abs=1e-6)


def test_case_12_irrelevant_concepts_leak_in_joint_training_alone(tmp_path):
    _, stopped = trained(tmp_path, relevant=False, max_epochs=10)
    assert stopped["concepts/accuracy"] >= 0.97
    assert stopped["concepts/task_accuracy"] <= 0.6
    assert abs(stopped["concepts/leakage"]) <= 0.08
    options = {"concept_stop_gradient": False, "concept_weight": 0.01}
    _, joint = trained(tmp_path, relevant=False, max_epochs=10, **options)
    assert joint["concepts/task_accuracy"] >= 0.9
    assert joint["concepts/leakage"] >= 0.35
    assert joint["concepts/intervened_accuracy"] <= 0.6


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_case_12_on_three_seeds_and_in_every_mode(seed, tmp_path):
    for mode in ("soft", "hard", "logit"):
        _, found = trained(tmp_path, seed=seed, max_epochs=30, concept_mode=mode)
        assert found["concepts/accuracy"] >= 0.97
        assert abs(found["concepts/task_accuracy"] - found["concepts/intervened_accuracy"]) <= 0.02
        assert found["concepts/ablated_accuracy"] <= 0.58
        _, stopped = trained(tmp_path, seed=seed, relevant=False, concept_mode=mode)
        assert stopped["concepts/task_accuracy"] <= 0.6
        assert abs(stopped["concepts/leakage"]) <= 0.08
        options = {"concept_stop_gradient": False, "concept_weight": 0.01, "concept_mode": mode}
        _, joint = trained(tmp_path, seed=seed, relevant=False, **options)
        assert joint["concepts/task_accuracy"] >= 0.9
        assert joint["concepts/leakage"] >= 0.3


def test_the_loss_has_the_concepts_once_and_stops_the_tasks_gradient():
    module, batch = attached(concept_weight=2.0), batch_of(8, known=0.7)
    module.train()
    loss = module.training_step(batch, 0)
    h = module.encode(batch)
    scores = module.concepts.scores(h)
    task = F.cross_entropy(F.linear(scores.sigmoid(), module.last.weight, module.last.bias), batch["labels"])
    assert torch.allclose(loss, task + 2 * concept_loss(scores, batch["concepts"]))
    assert module.auxiliary_loss() == 0.0
    module.zero_grad()
    F.cross_entropy(module(batch), batch["labels"]).backward()
    assert module.first.weight.grad is None
    assert module.concepts.weight.grad is None
    assert module.last.weight.grad.abs().sum() > 0


def test_joint_training_free_concepts_and_the_residual_let_the_task_through():
    for options in (
        {"concept_stop_gradient": False},
        {"concept_names": NAMES, "concept_count": 2},
        {"concept_residual": True},
    ):
        module, batch = attached(**options), batch_of(8)
        module.train()
        F.cross_entropy(module(batch), batch["labels"]).backward()
        assert module.first.weight.grad.abs().sum() > 0
        moved = module.concepts.weight.grad
        expected = {"concept_stop_gradient": 5, "concept_names": 0, "concept_residual": 0}[next(iter(options))]
        assert int((moved[:5].abs().sum(dim=1) > 0).sum() if moved is not None else 0) == expected


def test_free_concepts_are_kept_sparse_and_apart():
    module, batch = attached(concept_count=3, concept_sparsity=0.5, concept_decorrelation=2.0), batch_of(8)
    del batch["concepts"]
    module.train()
    loss = module.training_step(batch, 0)
    found = module.concepts.scores(module.encode(batch)).sigmoid()
    squares = torch.corrcoef(found.T).square()
    apart = (squares.sum() - 3) / 6
    task = F.cross_entropy(module(batch), batch["labels"])
    assert loss.item() == pytest.approx((task + 0.5 * found.mean() + 2 * apart).item(), rel=0.02)


def test_a_second_pass_in_a_step_is_not_counted():
    class Twice(Net):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self(batch)
            return loss

    batch = batch_of(8)
    twice, once = attached(kind=Twice), attached()
    assert torch.equal(twice.training_step(batch, 0), once.training_step(batch, 0))


@pytest.mark.parametrize("mode", ["soft", "hard", "logit"])
@pytest.mark.parametrize("residual", [False, True])
def test_contributions_add_up_to_the_target(mode, residual):
    module, batch = attached(concept_mode=mode, concept_residual=residual), batch_of(6, known=0.6)
    with torch.no_grad():
        logits, h = module.eval()(batch), module.encode(batch)
    module.train()
    before = state_of(module)
    found = module.explain(batch)
    assert_same(before, state_of(module), objects=True)
    weight, bias = module.last.weight.detach(), module.last.bias.detach()
    scores = module.concepts.scores(h).detach()
    for i, row in enumerate(found):
        target = int(logits[i].argmax())
        assert row.prediction == row.target_name == ("bad", "good")[target]
        assert row.target == pytest.approx(logits[i, target].item(), abs=1e-6)
        assert row.bias == pytest.approx(bias[target].item(), abs=1e-6)
        rest = (weight[target, 5:] @ h[i]).item() if residual else None
        assert row.residual == (rest if rest is None else pytest.approx(rest, abs=1e-5))
        parts = sum(each.contribution for each in row.concepts) + row.bias + (row.residual or 0.0)
        assert parts == pytest.approx(row.target + row.error, abs=1e-9)
        assert abs(row.error) < 1e-5
        assert row.mode == mode
        sizes = [abs(each.contribution) for each in row.concepts]
        assert sizes == sorted(sizes, reverse=True)
        for each in row.concepts:
            k = NAMES.index(each.name)
            assert each.probability == pytest.approx(scores[i, k].sigmoid().item(), abs=1e-6)
            assert each.contribution == pytest.approx(weight[target, k].item() * each.value, abs=1e-6)
            gold = batch["concepts"][i, k].item()
            assert each.gold == (None if math.isnan(gold) else gold)
            assert not each.intervened


def test_an_explanation_within_an_intervention_is_of_what_was_set():
    module, batch = attached(), batch_of(4)
    plain = module.explain(batch, which="good")
    with module.intervene({"food": torch.tensor([0.0, 1.0, NAN, 1.0])}):
        found = module.explain(batch, which="good")
        with torch.no_grad():
            logits = module.eval()(batch)
    weight = module.last.weight[1, 0].item()
    for i, value in enumerate((0.0, 1.0, NAN, 1.0)):
        food, before = ({each.name: each for each in rows[i].concepts}["food"] for rows in (found, plain))
        assert food.intervened == (value == value)
        assert food.probability == before.probability
        assert food.value == (before.value if math.isnan(value) else value)
        moved = weight * (food.value - before.value)
        assert found[i].target - plain[i].target == pytest.approx(moved, abs=1e-6)
        assert found[i].target == pytest.approx(logits[i, 1].item(), abs=1e-6)
    assert module.explain(batch, which="good") == plain


def test_a_contrast_and_gold_are_explained():
    module, batch = attached(), batch_of(5)
    logits = module.eval()(batch)
    contrast = module.explain(batch, which="good-bad")
    assert [row.target for row in contrast] == pytest.approx((logits[:, 1] - logits[:, 0]).tolist(), abs=1e-5)
    gold = module.explain(batch, which="gold")
    assert [row.target for row in gold] == pytest.approx(logits[range(5), batch["labels"]].tolist(), abs=1e-5)
    assert [row.gold for row in gold] == [("bad", "good")[label] for label in batch["labels"]]


def test_a_layer_of_the_modules_own_and_what_is_not_linear():
    class Own(Net):
        def __init__(self, **options):
            super().__init__(**options)
            self.concepts = self.concept_layer(24)
            self.last = torch.nn.Linear(5, 2)

        def forward(self, batch):
            return self.last(self.concepts(self.encode(batch)).square())

    module, batch = seeded(Own), batch_of(4)
    module.configure_model()
    row = module.explain(batch)[0]
    assert all(each.contribution is None for each in row.concepts)
    assert (row.bias, row.error) == (None, None)
    assert "not linear in the concepts" in row.reasons["contribution"]
    module.train()
    scores = module.concepts.scores(module.encode(batch))
    task = F.cross_entropy(module(batch), batch["labels"])
    assert torch.allclose(module.training_step(batch, 0), task + concept_loss(scores, batch["concepts"]))
    with pytest.raises(ValueError, match="what it calls itself cannot be taken out"):
        module.detach_concepts()


def test_the_curve_goes_from_the_models_concepts_to_the_true_ones():
    module, data = attached(), list(loader(40, seed=1, batch_size=20))
    with torch.no_grad():  # concepts at random, and a head that counts them
        module.concepts.weight.normal_(0, 3, generator=torch.Generator().manual_seed(1))
        module.last.weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 5))
        module.last.bias.copy_(torch.tensor([2.5, -2.5]))
    module.train()
    before = state_of(module)
    found = module.concept_curve(data)
    assert_same(before, state_of(module), objects=True)
    batch = batch_of(40, seed=1)
    assert found.shape == (6,)
    assert found[-1] == 1.0
    assert found[0] == pytest.approx(accuracy(module, batch), abs=1e-6)
    assert found[0] < 0.8
    assert torch.equal(module.concept_curve(data, points=2), found[[0, -1]])
    with module.intervene(everything(batch)):
        assert module.concept_curve([batch], points=2).tolist() == [1.0, 1.0]


def test_validation_logs_what_a_loop_finds(tmp_path):
    module = attached(concept_residual=True)
    batch = batch_of(64, seed=1, known=0.8)
    trainer = fit(module, tmp_path, loader(), loader(64, seed=1, known=0.8, batch_size=20))
    found = trainer.callback_metrics
    with torch.no_grad():
        h = module.eval().encode(batch)
        values = module.concepts.scores(h).sigmoid()
        weight, bias = module.last.weight, module.last.bias
        known = ~batch["concepts"].isnan()
        met = ((values > 0.5) == (batch["concepts"] > 0.5)) & known
        each = [met[:, k].sum() / known[:, k].sum() for k in range(5)]
        parts = values @ weight[:, :5].T, h @ weight[:, 5:].T
        variances = [(part - part.mean(dim=1, keepdim=True)).var(dim=0, correction=0).sum() for part in parts]
        fixed = torch.where(known, batch["concepts"], values)
        labels = batch["labels"]
        wanted = {
            "accuracy": sum(each) / 5,
            "residual_share": variances[1] / sum(variances),
            "task_accuracy": (sum(parts) + bias).argmax(dim=1).eq(labels).float().mean(),
            "intervened_accuracy": (fixed @ weight[:, :5].T + parts[1] + bias).argmax(dim=1).eq(labels).float().mean(),
            "ablated_accuracy": (0.5 * weight[:, :5].sum(dim=1) + parts[1] + bias)
            .argmax(dim=1)
            .eq(labels)
            .float()
            .mean(),
        }
    for name, value in wanted.items():
        assert found[f"concepts/{name}"].item() == pytest.approx(value.item(), abs=1e-5), name
    assert found["concepts/leakage"].isfinite()
    assert {"train_concepts", "val_loss"} <= found.keys()


def test_discovered_concepts_log_no_more_than_can_be_known(tmp_path):
    module = seeded(concept_count=3)
    found = fit(module, tmp_path).callback_metrics
    assert {name for name in found if name.startswith("concepts/")} == {
        f"concepts/{name}" for name in ("leakage", "task_accuracy", "ablated_accuracy")
    }
    assert "train_free_concepts" in found
    assert [each.name for each in sorted(module.explain(batch_of(1))[0].concepts, key=lambda each: each.name)] == [
        "free_1", "free_2", "free_3"
    ]  # fmt: skip


def test_without_the_bottleneck_it_is_the_plain_module(tmp_path):
    module, plain = attached(), seeded(Plain)
    module.detach_concepts()
    assert module.state_dict().keys() == plain.state_dict().keys()
    fit(module, tmp_path)
    fit(plain, tmp_path)
    assert module.losses == plain.losses
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    with pytest.raises(ValueError, match="No concept bottleneck is attached"):
        module.detach_concepts()
    with pytest.raises(ValueError, match="has no concept bottleneck"):
        module.intervene({"food": 1.0})
    module.attach_concepts()
    assert module.last.in_features == 5
    with pytest.raises(ValueError, match="call `detach_concepts"):
        module.attach_concepts()
