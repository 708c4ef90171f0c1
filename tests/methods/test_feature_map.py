"""What LayerCam, Odam and DifferenceMap share: options, targets, accounts, and the repaired form."""

import pytest
import torch
from tiny import TEXTS, Bag, bag_task, batch_of, wordpiece
from torch import nn

from lightning_interpret import DifferenceMap, IntegratedGradients, LayerCam, Odam
from lightning_interpret.methods import METHODS

MAPS = [LayerCam, Odam, DifferenceMap]


def case(**options):
    return Bag(nn.Sequential(nn.Linear(6, 6), nn.GELU())).double(), batch_of(wordpiece(), **options), bag_task()


def at_zero(model, batch, layer):
    """The logits with a layer's output put to zero, by a hook of one's own."""
    handle = model.get_submodule(layer).register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    try:
        with torch.no_grad():
            return model(batch["input_ids"], batch["attention_mask"])
    finally:
        handle.remove()


def test_they_are_found_by_name():
    assert {"layer_cam": LayerCam, "odam": Odam, "difference_map": DifferenceMap}.items() <= METHODS.items()


@pytest.mark.parametrize("method", MAPS)
def test_a_published_map_says_its_baseline_its_target_and_its_error(method):
    model, batch, task = case()
    record = method()(model, batch, task, which="good-bad")
    with torch.no_grad():
        at_x = model(batch["input_ids"], batch["attention_mask"])
    baseline = at_zero(model, batch, "middle")
    assert record.layer == "middle"
    assert record.method == method.name
    assert record.baseline == "zero features"
    torch.testing.assert_close(record.target, at_x[:, 2] - at_x[:, 0])
    torch.testing.assert_close(record.baseline_target, baseline[:, 2] - baseline[:, 0])
    torch.testing.assert_close(record.attribution_target, record.target - record.baseline_target)
    torch.testing.assert_close(record.error, record.scores.sum(dim=1) - record.attribution_target)
    assert float(record.relative_error.min()) > 0.01
    assert record.cut is None
    assert {"cut", "converged", "partial_error"} <= record.reasons.keys()
    assert record.scores[record.units.padding].tolist() == [0] * int(record.units.padding.sum())


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("layer", ["embedding", "middle"])
@pytest.mark.parametrize("output", ["logit", "log_prob", "prob"])
def test_what_was_absorbed_is_the_error(method, layer, output):
    model, batch, task = case()
    record = method()(model, batch, task, layer=layer, output=output)
    lost = torch.tensor([sum(row.values()) for row in record.absorbed], dtype=torch.float64)
    torch.testing.assert_close(lost, -record.error, rtol=0, atol=1e-12)
    every = {"negative locations", "higher orders"}
    for row in record.absorbed:
        assert every <= row.keys()
        assert row["higher orders"] != 0
        assert row.keys() <= {*every, "negative gradients", "scale", "special tokens"}
    kept = record[0]
    assert sum(kept.scores) + sum(kept.absorbed.values()) == pytest.approx(kept.attribution_target, abs=1e-12)


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("layer", [None, "embedding"])
def test_a_repaired_map_is_the_integrated_gradients_at_the_layer(method, layer):
    model, batch, task = case()
    record = method(repaired=True, tolerance=1e-4)(model, batch, task, layer=layer, which="good-bad")
    same = IntegratedGradients(tolerance=1e-4)(model, batch, task, layer=layer or "middle", which="good-bad")
    assert torch.equal(record.scores, same.scores)
    assert record.method == f"{method.name}_repaired"
    assert record.baseline == same.baseline == "pad"
    assert record.cut
    assert all(record.converged)
    assert float(record.relative_error.max()) < 1e-4
    assert bool((record.scores < 0).any())
    assert record.scores.shape == method()(model, batch, task, layer=layer, which="good-bad").scores.shape


@pytest.mark.parametrize("method", [maps(repaired=repaired) for maps in MAPS for repaired in (False, True)], ids=str)
def test_a_batch_is_one_by_one(method):
    model, batch, task = case()
    record = method(model, batch, task)
    for row, text in zip(record, TEXTS, strict=True):
        alone = method(model, batch_of(wordpiece(), [text]), task)[0]
        assert row.scores == pytest.approx(alone.scores, abs=1e-10)
        assert row.error == pytest.approx(alone.error, abs=1e-10)
        if row.absorbed:
            assert row.absorbed == pytest.approx(alone.absorbed, abs=1e-10)


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("option", [{"baseline": "zero"}, {"steps": 5}, {"tolerance": None}, {"max_steps": 20}])
def test_options_of_the_path_are_refused_where_there_is_none(method, option):
    with pytest.raises(ValueError, match=r"is an option of the repaired map.*set `repaired=True`"):
        method(**option)
    assert method(repaired=True, **option).baseline_used is not None
    assert method().baseline_used is None


@pytest.mark.parametrize(("option", "value"), [("internal_batch_size", 0), ("error_floor", -1), ("baseline", "zeros")])
def test_options_out_of_their_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"`{option}="):
        LayerCam(repaired=True, **{option: value})


def test_gradients_and_forwards_are_what_the_rows_cost():
    model, batch, task = case()
    counted = {True: 0, False: 0}
    logits = task.logits

    def counts(module, batch):
        found = logits(module, batch)
        counted[found.requires_grad] += len(found)
        return found

    task.logits = counts
    for method in (LayerCam(), Odam(), DifferenceMap(), LayerCam(repaired=True)):
        for layer in ("middle", None):
            method(model, batch, task, layer=layer)  # with the trial of the layer
        counted.update({True: 0, False: 0})
        record = method(model, batch, task, layer="middle")
        assert int(record.gradients.sum()) == counted[True]
        assert int(record.forwards.sum()) == counted[False]
        searched = {True: counted[True] + 1, False: counted[False] + 1}
        counted.update({True: 0, False: 0})
        method(model, batch, task)
        assert counted == searched  # to find the layer took one example


class Residual(nn.Module):
    """h ↦ h + relu(Ah + b)."""

    def __init__(self):
        super().__init__()
        self.linear, self.relu = nn.Linear(6, 6), nn.ReLU()

    def forward(self, hidden):
        return hidden + self.relu(self.linear(hidden))


class Linear(Bag):
    """Linear behind its middle."""

    def forward(self, ids, mask):
        mask = mask.unsqueeze(-1).double()
        return self.head((self.middle(self.embedding(ids)) * mask).sum(dim=1) / mask.sum(dim=1))


def test_g7_zero_features_of_a_layer_that_is_passed_by_are_another_target():
    """Exact where nothing bends behind the layer, and yet not of F(x) − F(x')."""
    model, (_, batch, task) = Linear(Residual()).double(), case()
    drawn = Odam()(model, batch, task, layer="middle.relu")
    whole = IntegratedGradients()(model, batch, task, layer="embedding")
    at_x, at_baseline = (found.gather(1, index) for found, index in zero_and_all(model, batch, "middle.relu"))
    torch.testing.assert_close(drawn.attribution_target, (at_x - at_baseline)[:, 0])
    for row in drawn.absorbed:
        assert row["higher orders"] == pytest.approx(0, abs=1e-12)
    assert float((drawn.attribution_target - whole.attribution_target).abs().min()) > 0.01


def zero_and_all(model, batch, layer):
    """The logits at x and with a layer at zero, each with the class predicted at x."""
    with torch.no_grad():
        at_x = model(batch["input_ids"], batch["attention_mask"])
    index = at_x.argmax(dim=1, keepdim=True)
    return (at_x, index), (at_zero(model, batch, layer), index)


# The layer


def test_the_layer_is_the_last_cut_whose_tokens_reach_the_score():
    class Reads(Bag):
        """The head reads the first token; before it the tokens are mixed, around it there is a way past."""

        def __init__(self):
            super().__init__()
            self.mix, self.after, self.around = nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)
            self.double()

        def forward(self, ids, mask):
            hidden = self.middle(self.embedding(ids))
            mixed = self.after(self.mix(hidden) + hidden.mean(dim=1, keepdim=True) + self.around(hidden))
            return self.head(mixed[:, 0])

    _, batch, task = case()
    assert LayerCam()(Reads(), batch, task).layer == "middle"  # `mix` and `around` are no cuts, `after` is read at one

    class Silent(Reads):
        def forward(self, ids, mask):
            return 0 * super().forward(ids, mask)

    assert LayerCam()(Silent(), batch, task).layer == "after"  # nothing moves the score: the last cut there is


def test_a_model_of_one_layer_is_explained_there():
    class Flat(Bag):
        def forward(self, ids, mask):
            return self.head(torch.tanh(self.hidden(self.embedding(ids).sum(dim=1))))

    _, batch, task = case()
    assert Odam()(Flat().double(), batch, task).layer == "embedding"
