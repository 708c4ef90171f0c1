"""Neighbours of tags, answers, generated tokens, numbers and labels: what stands for an example, what it says."""

import pytest
import torch
from several_tasks import KINDS, made, parts_of

from lightning_interpret import NearestNeighbors

#: What the features of each are, as records say it.
LAYERS = {
    "tagging": "input of classifier, mean over the tokens",
    "answering": "input of qa_outputs, mean over the tokens",
    "continuing": "input of lm_head, mean over the prompt",
    "translating": "model.encoder, mean over the source",
    "measuring": "input of classifier",
    "labelling": "input of classifier",
}


def fitted_of(kind, **options):
    module, task, batch = made(kind)
    return NearestNeighbors(k=3, **options).fit(module, parts_of(task, batch), task), batch


def hidden(module, part, batch, kind):
    """What the layer reads or returns, by a hook."""
    found = []
    handle = (
        part.register_forward_hook(lambda *given: found.append(given[2][0]))
        if kind == "translating"
        else part.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    )
    KINDS[kind]()[1].logits(module, batch)
    handle.remove()
    return found[0].detach()


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_is_its_own_nearest_by_the_features_that_are_said(kind):
    fitted, batch = fitted_of(kind)
    rows = fitted.find(batch)
    assert {row.layer for row in rows} == {LAYERS[kind]}
    assert [row.neighbors[0].example_id for row in rows] == batch["example_id"].tolist()
    assert all(row.neighbors[0].distance < 1e-4 for row in rows)


@pytest.mark.parametrize(("kind", "name"), [("continuing", "lm_head"), ("translating", "model.encoder")])
def test_features_of_what_is_generated_are_means_over_what_it_is_generated_from(kind, name):
    fitted, batch = fitted_of(kind)
    module, _, _ = made(kind)
    values = hidden(module, module.get_submodule(name), batch, kind)
    there = batch["attention_mask"] == 1
    if kind == "continuing":
        there = there & (batch["labels"] == -100)
    assert bool((there.sum(dim=1) < values.shape[1]).any())
    wanted = torch.stack([value[own].mean(dim=0) for value, own in zip(values, there, strict=True)])
    torch.testing.assert_close(fitted.store.features, wanted.float(), rtol=1e-4, atol=1e-5)
    changed = dict(batch)
    if kind == "continuing":  # another output, the same prompt: the same features
        output = (batch["labels"] != -100) & (torch.arange(there.shape[1]) > 4)
        changed["input_ids"] = torch.where(output, 7, batch["input_ids"])
        changed["labels"] = torch.where(output, 7, batch["labels"])
        assert not torch.equal(changed["input_ids"], batch["input_ids"])
        torch.testing.assert_close(fitted.reader.read(changed)[1], fitted.reader.read(batch)[1])


@pytest.mark.parametrize("kind", ["tagging", "answering", "continuing", "translating"])
def test_what_has_no_one_class_has_neighbours_without_a_vote_and_says_why(kind):
    fitted, batch = fitted_of(kind)
    row = fitted.find(batch)[1]
    assert len(row.neighbors) == 3
    assert (row.shares, row.probabilities, row.means, row.conformity) == ({}, None, None, None)
    assert "has no one class that its neighbours could vote for" in row.reasons["shares"]
    assert all(each.gold for each in row.neighbors)
    assert "neighbours could vote for" in str(row)


def test_neighbours_of_a_number_say_their_mean(tmp_path):
    for _ in range(2):  # the second time from the file
        fitted, batch = fitted_of("measuring", folder=str(tmp_path))
        assert torch.equal(fitted.store.numbers.isnan(), batch["labels"].isnan())
        row = fitted.find(batch)[0]
        places = [batch["example_id"].tolist().index(each.example_id) for each in row.neighbors]
        wanted = batch["labels"][places].double().nanmean(dim=0)
        assert list(row.means) == ["stars", "price"]
        assert list(row.means.values()) == pytest.approx(wanted.tolist())
        assert (row.shares, row.reasons) == ({}, {})
        assert "neighbours' mean stars" in str(row)
    assert fitted.store.reused


def test_neighbours_of_several_labels_vote_for_each():
    fitted, batch = fitted_of("labelling")
    module, task, _ = made("labelling")
    row = fitted.find(batch)[2]
    places = [batch["example_id"].tolist().index(each.example_id) for each in row.neighbors]
    assert row.shares == pytest.approx(
        dict(zip(("funny", "sad", "long"), batch["labels"][places].mean(dim=0).tolist(), strict=True))
    )
    likely = task.logits(module, batch)[2].sigmoid().tolist()
    assert list(row.model_probabilities.values()) == pytest.approx(likely, rel=1e-5)
