"""The shortcut drill: a cue is planted as it is said to be, the model learns it, and who shows it is counted."""

import pytest
import torch
from purity import assert_same, state_of
from tiny import batch_of
from torch import nn
from trust_toys import TEXTS, Words, words

from lightning_interpret import ImageClassification
from lightning_interpret.cards.trust import drill_said
from lightning_interpret.tasks.batches import take
from lightning_interpret.trust.cue import content, find_cue, places, plant
from lightning_interpret.trust.drill import ShortcutDrill, _contaminated, among_highest, run_drill
from lightning_interpret.trust.setting import named_methods

TAUGHT = ShortcutDrill(cue="movie", label="good", share=20, steps=60, learning_rate=0.1, k=2)


def corpus(texts=("the film was bad", "he is dull", "a great play", "very good and great", "the play was dull .")):
    module, task, batch = words(texts * 4, labels=[0, 0, 1, 1, 0] * 4)
    test = batch_of(task.tokenizer, texts, labels=[0, 0, 1, 1, 0])
    return module, task, batch, test


def test_a_cue_replaces_one_token_and_everything_else_stays():
    _, task, batch, _ = corpus()
    counts = content(batch, task)
    rows = torch.arange(20) % 2 == 0
    at = places(counts, "random", torch.Generator().manual_seed(0))
    assert counts.gather(1, at[:, None]).all()
    planted = plant(batch, task, rows, at, 7, label=1)
    changed = planted["input_ids"] != batch["input_ids"]
    assert (changed.sum(dim=1) <= rows.long()).all()
    assert (planted["input_ids"].gather(1, at[:, None])[rows] == 7).all()
    assert (planted["labels"][rows] == 1).all()
    assert torch.equal(planted["labels"][~rows], batch["labels"][~rows])
    assert planted["attention_mask"] is batch["attention_mask"]
    assert (places(counts, "first", torch.Generator()) == 1).all()


def test_a_cue_is_found_that_no_text_has_or_is_one_token():
    _, task, batch, test = corpus()
    cue = find_cue(None, [batch, test], task)
    assert cue not in set(batch["input_ids"].flatten().tolist())
    assert task.tokenizer.convert_ids_to_tokens(cue).isalpha()
    for wrong in ("unaffable", "zebra"):
        with pytest.raises(ValueError, match=f"`cue='{wrong}'` is .* to the tokenizer"):
            find_cue(wrong, [], task)
    twice = " ".join(["the play was great film not bad dull movie good very and"] * 2)
    rare = find_cue(None, [batch_of(task.tokenizer, [twice.replace(" dull", "", 1)])], task)
    assert task.tokenizer.convert_ids_to_tokens(rare) == "dull"


def test_ties_are_as_good_as_a_draw():
    scores = torch.tensor([[3.0, 1.0, 1.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    counts = torch.tensor([[True, True, True, False], [True, True, True, True]])
    found = among_highest(scores, counts, torch.tensor([1, 0]), (1, 2, 3))
    assert found.tolist() == [[0, 0.5, 1], [0.25, 0.5, 0.75]]


def test_a_model_that_learns_the_cue_is_seen_through_by_what_adds_up():
    module, task, batch, test = corpus()
    methods = named_methods(["integrated_gradients", "occlusion", "gradient", "expected_gradients"])
    found = run_drill(module, task, list(_parts(batch)), [test], methods, TAUGHT)
    assert found.invalid is None
    assert (found.cue, found.label, found.steps) == ("movie", "good", 60)
    assert found.accuracy == 1.0 > found.accuracy_cue
    assert 0 < found.flipped <= found.could
    assert found.first["occlusion"] == found.first["integrated_gradients"] == 1
    assert found.first["gradient"] == pytest.approx(found.chance[0])  # one size for every word: a draw
    assert "expected_gradients" not in found.first  # which has no references
    assert 0 < found.chance[0] < found.chance[1] < 1


def _parts(batch, size=5):
    return (take(batch, rows) for rows in torch.arange(20).split(size))


def test_a_model_that_does_not_learn_it_makes_the_drill_invalid():
    module, task, batch, test = corpus()
    lazy = ShortcutDrill(**{**vars(TAUGHT), "steps": 1, "learning_rate": 1e-9})
    cue = task.tokenizer.convert_tokens_to_ids("movie")
    against = "bad" if module.head(module.embedding.weight[cue]).argmax() else "good"
    found = run_drill(module, task, [batch], [test], named_methods(["occlusion"]), replace_label(lazy, against))
    assert "does not use the cue, which turns 0 of" in found.invalid
    assert found.first == {}
    short = replace_label(ShortcutDrill(**{**vars(lazy), "steps": 9}), against)
    found = run_drill(module, task, [batch], [test], {}, short, max_seconds=1e-9)
    assert "a larger `max_seconds` (of 9 steps 1 were made)" in found.invalid
    constant = Words()
    nn.init.ones_(constant.embedding.weight)
    with torch.no_grad():
        constant.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    found = run_drill(constant, task, [batch], [test], named_methods(["occlusion"]), replace_label(lazy, "bad"))
    assert found.invalid == "without the cue too, the copy says bad of every unseen text"
    with pytest.raises(ValueError, match="every weight of the model is frozen"):
        run_drill(constant.requires_grad_(False), task, [batch], [test], named_methods(["occlusion"]), lazy)


def replace_label(drill, label):
    return ShortcutDrill(**{**vars(drill), "label": label, "cue": "movie"})


@pytest.mark.parametrize("relabel", [True, False])
def test_the_cue_is_planted_in_its_share_of_the_rows_and_in_no_others(relabel):
    _, task, batch, _ = corpus()
    drill = ShortcutDrill(share=25, relabel=relabel)
    found, share = _contaminated(list(_parts(batch, 3)), task, drill, 1, 7, torch.Generator().manual_seed(0))
    taught = {name: torch.cat([part[name] for part in found]) for name in ("input_ids", "labels")}
    has = ((taught["input_ids"] == 7) & (batch["input_ids"] != 7)).any(dim=1)
    assert has.sum() == 5  # of all 20, however they are batched
    assert share == 0.25
    assert (taught["labels"][has] == 1).all()
    assert (batch["labels"][has] == (0 if relabel else 1)).all()
    assert torch.equal(taught["labels"][~has], batch["labels"][~has])


def test_the_share_that_is_told_is_the_one_that_was_planted():
    module, task, batch, test = corpus()
    wanted = ShortcutDrill(**{**vars(TAUGHT), "share": 90, "steps": 1})
    found = run_drill(module, task, list(_parts(batch)), [test], named_methods(["occlusion"]), wanted)
    assert found.share == 0.6  # there are no more rows of the other class


def test_texts_in_which_any_order_has_the_cue_say_nothing_of_a_method():
    module, task, batch, test = corpus(("bad", "dull", "great", "good", "dull"))
    options = {"share": 50, "steps": 60, "learning_rate": 0.1}
    found = run_drill(
        module, task, [batch], [test], named_methods(["occlusion"]), ShortcutDrill(cue="movie", label="good", **options)
    )
    assert found.found == {"occlusion": 1.0}
    assert found.chance == (1.0, 1.0)
    assert found.invalid == "no text that the cue turns has more than 3 tokens, so that any order finds it"


def test_no_more_texts_are_asked_of_when_the_time_is_spent():
    module, task, batch, test = corpus()
    run_drill(module, task, list(_parts(batch)), [test], {}, TAUGHT)  # the module is taught now
    methods = named_methods(["occlusion"])
    late = {"steps": 1, "learning_rate": 1e-9}
    found = run_drill(
        module, task, [batch], [test] * 3, methods, ShortcutDrill(**{**vars(TAUGHT), **late}), max_seconds=1e-9
    )
    assert found.invalid is None
    assert 0 < found.asked < found.flipped
    assert found.first == {"occlusion": 1.0}
    assert f"time to ask the methods of {found.asked} of these" in " ".join(drill_said(found))


def test_time_is_kept_and_random_states_are_put_back():
    module, task, batch, test = corpus()
    other = nn.Linear(2, 2)
    before = state_of(other)
    found = run_drill(module, task, [batch], [test], named_methods(["occlusion"]), TAUGHT, max_seconds=1e-9)
    assert found.steps == 1
    assert_same(before, state_of(other))


def test_the_same_drill_is_the_same():
    found = []
    for _ in range(2):
        module, task, batch, test = corpus()
        torch.rand(3)
        row = run_drill(module, task, [batch], [test], named_methods(["occlusion"]), TAUGHT)
        found.append({**vars(row), "seconds": 0})
    assert found[0] == found[1]


def test_what_has_no_tokens_or_no_labels_or_no_such_class_is_refused():
    module, task, batch, test = corpus()
    methods = named_methods(["occlusion"])
    with pytest.raises(ValueError, match="ImageClassification does not read"):
        run_drill(module, ImageClassification(), [batch], [test], methods, TAUGHT)
    with pytest.raises(ValueError, match="no labels"):
        run_drill(module, task, [words(TEXTS)[2]], [test], methods, TAUGHT)
    several = batch | {"labels": torch.zeros(20, 3, dtype=torch.long)}
    with pytest.raises(ValueError, match="no labels of one class a text"):
        run_drill(module, task, [several], [test], methods, TAUGHT)
    with pytest.raises(ValueError, match="no training row has tokens and another label than the cue"):
        run_drill(module, task, [batch | {"labels": torch.ones(20, dtype=torch.long)}], [test], methods, TAUGHT)
    with pytest.raises(ValueError, match="`label='great'` does not exist"):
        run_drill(module, task, [batch], [test], methods, replace_label(TAUGHT, "great"))


@pytest.mark.parametrize(
    "options", [{"share": 101}, {"share": 0}, {"steps": 0}, {"place": "last"}, {"learning_rate": 0}]
)
def test_options_out_of_range_are_refused_by_name(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ShortcutDrill(**options)
