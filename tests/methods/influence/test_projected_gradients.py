import os

import pytest
import torch
from digits import WEIGHT_DECAY, DigitsTask, digits, network, split, trained
from digits import train as trained_on
from full_disk import room_for
from purity import assert_same, state_of
from tiny import batch_of, classifier, tokenizer_for

from lightning_interpret import SequenceClassification
from lightning_interpret.functional.influence.datamodels import linear_datamodeling_score, subsets
from lightning_interpret.functional.influence.ensembles import MinusLoss, SubsetTrainer
from lightning_interpret.functional.influence.parameters import Parameters
from lightning_interpret.functional.ranks import area_under_curve, recall_at
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.influence import GradientSimilarity, ProjectedGradients

TASK = DigitsTask()


def part(count, start=0, dtype=torch.float32):
    return {name: values[start : start + count] for name, values in digits(dtype)[0].items()}


def pearson(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def all_gradients(fitted, batch):
    with explaining(fitted.module):
        return Parameters(fitted.blocks).of(fitted.uses(batch)).double()


@pytest.mark.parametrize("projection", ["rademacher", "lowrank"])
def test_products_of_projected_gradients_are_nearly_those_of_gradients(projection):
    train, queries = digits()
    exact = GradientSimilarity("dot").fit(trained(), split(train, 500), TASK).matrix(queries)[1]
    options = {"projection": projection, "dimension": 512 if projection == "rademacher" else 1800}
    found = ProjectedGradients(**options, curvature=False).fit(trained(), split(train, 500), TASK)
    assert pearson(found.matrix(queries)[1], exact) > 0.95
    assert found.approximation.notes[0].startswith(f"projected to {found.projection.dimension} numbers")


def test_with_a_dimension_for_each_parameter_scores_are_those_of_the_whole_fisher_matrix():
    module, train, queries = network(hidden=5, seed=1).double(), part(30, 0, torch.float64), part(4, 500, torch.float64)
    before = state_of(module)
    fitted = ProjectedGradients(10**6, projection="lowrank", damping=0.01).fit(
        module, split(train, 7), TASK, weight_decay=0.02
    )
    dot = GradientSimilarity("dot").fit(module, split(train, 7), TASK)
    g, q = all_gradients(dot, train), all_gradients(dot, queries)
    fisher = g.T @ g / 30 + 0.03 * torch.eye(g.shape[1], dtype=torch.float64)
    exact = q @ torch.linalg.solve(fisher, g.T) / 30
    ids, scores = fitted.matrix(queries)
    assert ids.tolist() == list(range(30))
    torch.testing.assert_close(scores, exact, rtol=1e-9, atol=1e-12)
    own = (g * torch.linalg.solve(fisher, g.T).T).sum(dim=1) / 30
    torch.testing.assert_close(fitted.self_influence()[1], own, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(fitted.self_influence([train])[1], own, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(fitted.matrix(queries, examples=[part(9, 5, torch.float64)])[1], exact[:, 5:14])
    row = fitted.scores(iter(split(queries, 3)), k=2, aggregate=True)[0]
    assert row.helpful[0].score == pytest.approx(float(exact.sum(dim=0).max()), rel=1e-9)
    stated = row.approximation
    assert (stated.damping, stated.weight_decay, stated.curvature, stated.examples, stated.seed) == (
        *(0.01, 0.02, "empirical fisher"),
        *(30, 0),
    )
    assert_same(before, state_of(module))


def test_a_tenth_of_the_mean_eigenvalue_damps_where_there_is_no_weight_decay():
    train = split(part(60), 20)
    fitted = ProjectedGradients(64).fit(trained(), train, TASK)
    mean = float(fitted.store.rows.square().sum(dim=1).mean() / 64)
    assert fitted.approximation.damping == pytest.approx(0.1 * mean, rel=1e-5)
    assert ProjectedGradients(64).fit(trained(), train, TASK, weight_decay=0.1).approximation.damping == 0.0
    with pytest.raises(ValueError, match=r"`damping=0.*no inverse. Set a larger"):
        ProjectedGradients(64, damping=0.0).fit(trained(), split(part(20), 20), TASK)


def reused(fitted):
    return any("reused" in note for note in fitted.approximation.notes)


def test_the_file_is_read_again_only_while_weights_data_and_options_are_the_same(tmp_path):
    folder, data = str(tmp_path / "kept"), split(part(40), 15)
    module = network(seed=3)

    def fit(batches=data, **options):
        return ProjectedGradients(**{"dimension": 32, "folder": folder, **options}).fit(module, batches, TASK)

    first = fit()
    assert not reused(first)
    scores = first.matrix(part(3, 500))[1]
    again = fit()
    assert reused(again)
    assert torch.equal(again.matrix(part(3, 500))[1], scores)
    assert reused(fit(damping=0.5))  # what the file does not depend on
    for options in ({"seed": 1}, {"dimension": 31}, {"projection": "lowrank"}, {"layers": "last"}):
        assert not reused(fit(**options)), options
        assert reused(fit(**options)), options
    relabelled = [{**batch, "labels": (batch["labels"] + (batch["example_id"] == 21)) % 10} for batch in data]
    assert not reused(fit(relabelled))  # one label was put right
    assert reused(fit())
    with torch.no_grad():
        module[2].bias[3] += 1e-6
    assert not reused(fit())
    assert reused(fit())


def test_what_is_there_in_part_or_is_no_such_file_is_made_anew(tmp_path):
    method, data = ProjectedGradients(32, str(tmp_path)), split(part(40), 15)
    scores = method.fit(trained(), data, TASK).matrix(part(3, 500))[1]
    (path,) = tmp_path.glob("gradients-*.bin")
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:-1], b"", whole[100:]):
        path.write_bytes(broken)
        fitted = method.fit(trained(), data, TASK)
        assert not reused(fitted)
        assert torch.equal(fitted.matrix(part(3, 500))[1], scores)
        assert path.read_bytes() == whole
    assert reused(method.fit(trained(), data, TASK))


def test_a_full_disk_is_a_clear_error_and_nothing_half_written_stays(tmp_path):
    method, data = ProjectedGradients(32, str(tmp_path)), split(part(40), 15)
    said = r"Could not write .*make room, or choose another `folder`"
    with room_for(1000), pytest.raises(OSError, match=said):
        method.fit(trained(), data, TASK)
    assert os.listdir(tmp_path) == []
    assert len(method.fit(trained(), data, TASK).store) == 40


def test_a_gradient_that_is_not_finite_is_left_out_and_counted_and_an_id_counts_once():
    train = part(40)
    train = {**train, "pixels": train["pixels"].clone()}
    train["pixels"][7] = float("nan")
    good = {name: torch.cat([values[:7], values[8:]]) for name, values in train.items()}
    twice = [*split(train, 16), {name: values[:5] for name, values in train.items()}]  # as a sampler pads
    fitted = ProjectedGradients(32).fit(trained(), twice, TASK)
    clean = ProjectedGradients(32).fit(trained(), split(good, 16), TASK)
    assert fitted.total == 39
    row, other = (each.scores(part(1, 500), k=3)[0] for each in (fitted, clean))
    assert (row.examples, row.skipped) == (39, 1)
    assert [each.example_id for each in row.helpful] == [each.example_id for each in other.helpful]
    assert row.helpful[0].score == pytest.approx(other.helpful[0].score, rel=1e-4)


@pytest.mark.parametrize("projection", ["rademacher", "lowrank"])
def test_texts_of_a_transformer_are_projected_and_batches_change_nothing(projection):
    module = classifier("bert", dtype=torch.float64)
    task = SequenceClassification(tokenizer_for("bert"))
    texts = ["the player was great .", "a dull film", "he is great", "bad movie .", "not bad"]
    batch = {**batch_of(task.tokenizer, texts, labels=[2, 0, 1, 0, 2]), "example_id": torch.arange(5)}
    singles = [task.take(batch, torch.tensor([i])) for i in range(5)]
    method = ProjectedGradients(600, projection=projection, curvature=False)
    scores = method.fit(module, [batch], task).matrix(batch)[1]
    torch.testing.assert_close(method.fit(module, singles, task).matrix(batch)[1], scores, rtol=1e-8, atol=1e-12)
    exact = GradientSimilarity("dot").fit(module, [batch], task).matrix(batch)[1]
    assert pearson(scores, exact) > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projection": "rademache"}, "Did you mean 'rademacher'"),
        ({"dimension": 0}, "`dimension=0`"),
        ({"damping": -1.0}, "`damping=-1.0`"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ProjectedGradients(**options)


def test_self_influence_finds_labels_that_were_changed():
    train, _ = digits()
    flipped = torch.zeros(1000, dtype=torch.bool)
    flipped[torch.randperm(1000, generator=torch.Generator().manual_seed(1))[:100]] = True
    other = train["labels"] + torch.randint(1, 10, (1000,), generator=torch.Generator().manual_seed(2))
    noisy = {**train, "labels": torch.where(flipped, other % 10, train["labels"])}
    module = trained_on(noisy)
    fitted = ProjectedGradients(512).fit(module, split(noisy, 250), TASK, weight_decay=WEIGHT_DECAY)
    ids, scores = fitted.self_influence()
    losses = TASK.losses(module, noisy).detach()
    assert area_under_curve(scores, flipped[ids]) > max(0.97, area_under_curve(losses, flipped) - 0.02)
    assert recall_at(scores, flipped[ids], 0.2) > 0.95


def test_a8_what_retraining_on_halves_does_is_foretold_by_projected_curvature_better_than_by_gradients_alone():
    train, queries = digits()
    masks = subsets(1000, 0.5, 40, seed=7)
    networks = SubsetTrainer(lambda seed: network(seed=seed), train["pixels"], train["labels"]).many(masks, [0] * 40)
    measured = MinusLoss(queries["pixels"], queries["labels"])
    with torch.no_grad():
        outcomes = torch.stack([measured(each) for each in networks])

    def lds(method):
        fitted = method.fit(trained(), split(train, 500), TASK, weight_decay=WEIGHT_DECAY)
        return float(linear_datamodeling_score(fitted.matrix(queries)[1], masks, outcomes).nanmean())

    assert lds(ProjectedGradients(512)) > 0.5
    assert lds(ProjectedGradients(512, projection="lowrank")) > 0.5
    assert 0.1 < lds(GradientSimilarity("cosine")) < lds(GradientSimilarity("dot")) < 0.45
