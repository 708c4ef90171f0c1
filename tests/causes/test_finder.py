"""From a model and its data to groups: planted causes, bad input of every kind, what fails, and what stays."""

import json

import pytest
import torch
from blobs import Net, Points, PointsTask
from meanings import PLANTED, MeaningTask, found_in, labelled, planted, rows_of, told, world
from torch import nn

from lightning_interpret.bad_cases import CAUSES
from lightning_interpret.causes import CauseFinder, Followed, Setting
from lightning_interpret.methods import method_named
from lightning_interpret.methods.examples import Loaded
from lightning_interpret.methods.influence import ExactInfluence


@pytest.fixture(scope="module")
def there():
    return planted()


@pytest.fixture(scope="module")
def found(there):
    return found_in(there)


def causes_of(found):
    return {row.index: (row.cause, row.cue) for row in found.cases}


# What is found


def test_each_planted_case_is_in_the_group_of_its_cause(there, found):
    wanted = {index: key for key, indices in PLANTED.items() for index in indices}
    assert causes_of(found) == wanted
    overview = found.overview
    assert (overview.validated, overview.training) == (len(there.val), len(there.train))
    assert overview.wrong_cases == overview.explained == len(wanted)
    assert overview.accuracy == pytest.approx(1 - len(wanted) / len(there.val))
    assert overview.confident == sum(row.badness == "confident" for row in found.cases)
    assert not overview.notes


def test_groups_are_the_largest_first_and_hold_their_cases_the_surest_first(found):
    sizes = [group.size for group in found.groups]
    assert sizes == sorted(sizes, reverse=True)
    for group, line in zip(found.groups, found.overview.groups, strict=True):
        assert {each.index for each in group.members} == set(PLANTED[group.cause, group.cue])
        sure = [each.verdict for each in group.members]
        assert sure == sorted(sure, reverse=True)
        assert group.sure == pytest.approx(sum(sure) / len(sure))
        assert (line.cause, line.cue, line.size, line.action) == (
            *(group.cause, group.cue, group.size, group.action.sentence),
        )
        assert group.evidence
        assert set(group.thresholds) == set(group.measured) >= set()


def test_a_case_has_its_explanations_side_by_side(there, found):
    losses = [row.loss for row in found.cases]
    assert losses == sorted(losses, reverse=True)
    for row in found.cases:
        assert row.attribution is not None
        assert row.neighbors is not None
        assert row.influence is not None
        assert not row.reasons
        assert row.example_id == 1000 + row.index
        assert sum(row.probabilities.values()) == pytest.approx(1)
        assert row.verdicts[0].cause == row.cause
        for each in row.erasures:
            assert 0 <= each.after <= 1
            assert each.before == row.confidence
    assert found.numbers.keys() == {row.index for row in found.cases}


def test_every_example_has_its_prediction(there, found):
    assert [each["index"] for each in found.predictions] == list(range(len(there.val)))
    told_of = causes_of(found)
    for each, (_, label) in zip(found.predictions, there.val, strict=True):
        assert each["gold"] == ("negative", "positive")[label]
        assert (each["prediction"] == each["gold"]) == (each["cause"] is None)
        assert (each["cause"], each["cue"]) == told_of.get(each["index"], (None, None))


def test_records_are_json(found):
    rows = (found.overview, *found.groups, *found.cases)
    for row in rows:
        written = json.dumps(row.to_dict(), allow_nan=False)
        assert type(row).from_dict(json.loads(written)) == row


def test_twice_the_same_is_found(there, found):
    again = found_in(there)
    assert again.groups == found.groups
    assert again.cases == found.cases


def test_groups_are_followed_and_solved_ones_come_last():
    there, followed = planted(), Followed()
    first = found_in(there, followed=followed, step=10)
    assert {group.status for group in first.groups} == {"new"}
    there.module.mean(there.tokenizer, "tuesday", 0.0)  # it is unlearnt
    second = found_in(there, followed=followed, step=20)
    status = {(group.cause, group.cue): group for group in second.groups}
    assert second.groups[-1] == status["shortcut", "tuesday"]
    solved = status.pop(("shortcut", "tuesday"))
    assert (solved.status, solved.size, solved.sizes) == ("solved", 0, ((10, 4), (20, 0)))
    assert solved.accuracy == 1.0  # of all that have the word
    assert {group.status for group in status.values()} == {"steady"}
    numbers = {group.cue: group.probe for group in first.overview.groups if group.cue}
    assert {group.cue: group.probe for group in second.overview.groups if group.cue} == numbers
    third = found_in(there, followed=followed, step=30)
    assert ("shortcut", "tuesday") not in {(group.cause, group.cue) for group in third.groups}
    assert third.slices["slice/shortcut_tuesday"] == second.slices["slice/shortcut_tuesday"]  # watched from then on


def test_training_texts_are_read_again_only_from_another_source(monkeypatch):
    there = world(labelled(10), labelled(5))
    read = []
    texts = there.task.texts
    monkeypatch.setattr(there.task, "texts", lambda batch: read.append(1) or texts(batch))
    finder, one, other = CauseFinder(Setting(), "gradient_times_input", None), object(), object()

    def passes(source):
        read.clear()
        finder.find(there.module, there.task, there.validation, there.training, source=source)
        return len(read)

    once = passes(one)
    assert passes(one) < once
    assert passes(other) == once
    assert passes(other) < once
    finder.forget()
    assert passes(other) == once
    assert passes(None) == passes(None) == once


# Bad input


def test_nothing_is_wrong():
    found = found_in(world(labelled(10), labelled(5, seed=9)), Setting(unsure_below=0.1))
    assert found.overview.unsure_below == 0.5  # below which neither of two classes is the likeliest
    assert (found.groups, found.cases, found.slices) == ((), (), {})
    assert (found.overview.accuracy, found.overview.wrong_cases, found.overview.explained) == (1.0, 0, 0)
    assert len(found.predictions) == 10


def test_everything_is_wrong():
    val = [(text, 1 - label) for text, label in labelled(12, seed=9)]
    found = found_in(world(labelled(20), val), Setting(cases=10))
    assert (found.overview.accuracy, found.overview.wrong_cases, found.overview.explained) == (0.0, 24, 10)
    assert found.overview.notes == ("10 of 24 bad cases were explained: ask for more with `cases`",)
    assert sum(group.size for group in found.groups) == 10
    assert len([each for each in found.predictions if each["cause"]]) == 10


@pytest.mark.parametrize("label", [0, 1])
def test_training_data_of_one_class(label):
    train = [row for row in labelled(20) if row[1] == label]
    found = found_in(world(train, [*labelled(3, seed=9), *rows_of(2, ["good bad good"], 0, seed=3)]))
    assert found.overview.wrong_cases == 2
    assert not found.suspects


def test_a_single_training_example():
    found = found_in(world([("good soup", 1)], [("good soup", 0), ("bad soup", 1), ("awful", 0)]))
    assert found.overview.explained == 2
    assert all(row.cause in CAUSES for row in found.cases)


@pytest.mark.filterwarnings("ignore:.*loss_roots")  # a loss without labels has no curvature
def test_nobody_has_labelled_anything():
    train = [(text, -1) for text, _ in labelled(5)]
    val = [(text, -1) for text, _ in [*labelled(5, seed=9), *rows_of(2, ["good bad"], 0, seed=3)]]
    found = found_in(world(train, val))
    assert (found.overview.accuracy, found.overview.wrong_cases, found.overview.unsure) == (None, 0, 2)
    assert found.overview.reasons == {"accuracy": "no validation example has a label"}
    assert all(row.loss is None and row.gold is None for row in found.cases)
    assert all(row.influence is not None for row in found.cases)  # of what is predicted
    assert all(accuracy != accuracy for accuracy, _ in found.slices.values())


def test_some_labels_are_missing():
    val = [("good bad soup", -1), ("good soup", 0), ("bad bad", -1), *labelled(3, seed=9)]
    found = found_in(world([*labelled(10), ("good fine", -1)], val))
    assert [(row.index, row.gold) for row in found.cases] == [(1, "negative"), (0, None)]
    assert found.overview.accuracy == 6 / 7
    assert found.predictions[0]["gold"] is None


STRANGE = [
    ("<script>alert(1)</script> good &amp; <b>bad</b> {{x}} ${y} \\1 %s", 0),
    ("good\x00\x1b[31m\r\n\t\u2028\u202e\ufeff soup \\g<1> (((", 0),
    ("", 0),
    ("   ", 1),
    ("!!! ...", 0),
    ("[CLS] [PAD] [SEP] good [MASK]", 0),
    ("good " * 3, 0),
    ("😀👍🏽 good 👨‍👩‍👧", 0),
    ("a" * 500 + " good", 0),
    ("הטעם היה good מאוד", 0),
    ("الطعام good لذيذ جداً", 0),
    ("服务很好，味道 good 不错", 0),
    ("อาหาร good มาก", 0),
    ("음식이 good 정말 不 좋다 the не хорошо", 0),
    ("\ud83d good"[1:], 0),
]


def test_markup_controls_and_every_script_are_but_text():
    train = [*labelled(10), *((text, 1) for text, _ in STRANGE)]
    there = world(train, [*STRANGE, *labelled(3, seed=9)])
    found = found_in(there, Setting(unsure_below=0.8))
    assert found.overview.explained >= len(STRANGE) - 3
    assert all(not row.reasons for row in found.cases)
    for row in (*found.groups, *found.cases):
        assert type(row).from_dict(json.loads(json.dumps(row.to_dict()))) == row
    shown = {row.index: row for row in found.cases}
    assert {"<", "script", ">"} <= set(shown[0].attribution.tokens)  # as it is: who shows it escapes it
    assert shown[11].attribution.words.count("good") == 1


def test_a_shortcut_of_characters_without_spaces():
    train = [*labelled(20), *rows_of(20, ["good"], 1, also=["周二"], seed=5)]
    val = [*rows_of(5, ["bad"], 0, also=["周二"], seed=6), *rows_of(9, ["good"], 1, also=["周二"], seed=7)]
    there = world(train, [*val, *labelled(3, seed=9)])
    for word in ("周", "二"):
        if word in there.tokenizer.get_vocab():
            there.module.mean(there.tokenizer, word, 2.0)
    if "周二" in there.tokenizer.get_vocab():
        there.module.mean(there.tokenizer, "周二", 4.0)
    (group,) = [each for each in found_in(there).groups if each.cause == "shortcut"]
    assert group.size == 5
    assert set(group.cue) <= set("周二")
    assert any("周" not in edit.text or "二" not in edit.text for edit in group.action.edits)


@pytest.mark.parametrize("words", [20_000, pytest.param(800_000, marks=pytest.mark.slow)])
def test_texts_of_megabytes(words):
    long = " ".join(told(1, ["good"], fillers=30)) + " soup" * words
    train = [*labelled(10), (long, 1), (long + " x", 0)]
    found = found_in(world(train, [(long, 0), *labelled(3, seed=9)]))
    assert [row.index for row in found.cases] == [0]
    assert len(found.cases[0].text) < 1000  # what is read
    assert found.cases[0].notes[0].startswith("cut to 64 of ")
    assert all(len(edit.text) < 1000 for group in found.groups for edit in group.action.edits)


def test_what_is_no_text_is_grouped_by_neighbours():
    train, val = (torch.utils.data.default_collate([points[i] for i in range(len(points))]) for points in sets())
    module = Net()
    fit_points(module, train)

    class Held:
        def __len__(self):
            return len(val["x"])

        def batch(self, numbers):
            return {name: value[list(numbers)] for name, value in val.items()}

        def index(self, number):
            return number

        def text(self, number):
            return None

        def encoded(self, texts):
            return None

    finder = CauseFinder(Setting(), "gradient_times_input", "exact", max_seconds=None)
    found = finder.find(module, PointsTask(), Held(), Loaded([train], PointsTask()))
    assert found.overview.wrong_cases > 0
    assert all(row.unseen is None and not row.erasures and row.text is None for row in found.cases)
    assert all(row.neighbors is not None and row.influence is not None for row in found.cases)
    flipped = {row.index: row.cause for row in found.cases if row.index in (3, 7)}
    assert set(flipped.values()) == {"validation_label_error"}


def sets():
    return Points(60, noise=0.3), Points(30, seed=1, flipped=(3, 7), noise=0.3)


def fit_points(module, train):
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(train["x"]), train["labels"]).backward()
        optimizer.step()
    optimizer.zero_grad()


def test_a_task_without_classes_is_refused():
    class Scores(MeaningTask):
        def log_probabilities(self, logits):
            return None

    there = world(labelled(5), labelled(2))
    task = Scores(there.tokenizer, ["negative", "positive"])
    with pytest.raises(ValueError, match="Scores knows no probabilities of classes: no case is known to be bad"):
        CauseFinder().find(there.module, task, there.validation, there.training)
    with pytest.raises(ValueError, match="MeaningTask knows no probabilities of classes"):  # one score is a number
        found_in(world([("good", 0)], [("good", 0)], {"good": [1.0]}, labels=["only"]))


def test_options_out_of_their_range_are_refused():
    with pytest.raises(ValueError, match="`max_seconds=0` must be positive, or None"):
        CauseFinder(max_seconds=0)
    with pytest.raises(ValueError, match=r"`turned=1\.5` must be a share from 0 to 1"):
        Setting(turned=1.5)
    with pytest.raises(ValueError, match="cases"):
        Setting(cases=0)
    with pytest.raises(ValueError, match="ignore"):
        CauseFinder(on_error="ignore")
    with pytest.raises(ValueError, match="nonsense"):
        CauseFinder(method="nonsense")
    with pytest.raises(ValueError, match="nonsense"):
        CauseFinder(influence="nonsense")


# What fails is told


class Breaks(type(method_named("gradient_times_input"))):
    """A method that cannot explain texts with a token."""

    def __init__(self, token):
        self.token = token

    def __call__(self, module, batch, task, **options):
        if self.token is None or bool((batch["input_ids"] == self.token).any()):
            raise RuntimeError("it is too much")
        return super().__call__(module, batch, task, **options)


def test_a_method_that_fails_on_one_text_leaves_the_others(there):
    found = found_in(there, method=Breaks(there.tokenizer.convert_tokens_to_ids("waldo")))
    missing = set(PLANTED["coverage", ""])
    assert {row.index for row in found.cases if row.attribution is None} == missing
    for row in found.cases:
        why = {"attribution": "RuntimeError: it is too much"} if row.index in missing else {}
        assert row.reasons == why
        assert row.neighbors is not None
        assert row.influence is not None
    assert found.overview.notes == ("attribution of some cases is missing: RuntimeError: it is too much",)
    assert causes_of(found) == {index: key for key, indices in PLANTED.items() for index in indices}


def test_a_method_that_fails_always_costs_no_more_than_itself(there):
    found = found_in(there, method=Breaks(None))
    assert all(row.attribution is None for row in found.cases)
    assert all(row.erasures for row in found.cases)  # of the first words
    assert [note for note in found.overview.notes if "too much" in note] == [
        "attribution of some cases is missing: RuntimeError: it is too much"
    ]
    assert ("shortcut", "tuesday") in set(causes_of(found).values())


def test_a_cut_part_that_cannot_be_asked_about_leaves_the_rest(there, monkeypatch):
    def encoded(texts):
        raise RuntimeError("too much")

    monkeypatch.setattr(there.validation, "encoded", encoded)
    found = found_in(there)
    note = "the cut part of some cases was not asked about: RuntimeError: too much"
    assert found.overview.notes.count(note) == 1
    assert found.errors == (note,)
    assert found.failures == len(PLANTED["truncation", ""])
    assert {group.cause for group in found.groups} >= {"shortcut", "coverage"}
    with pytest.raises(RuntimeError, match="too much"):
        found_in(there, on_error="raise")


def test_influence_that_fails_is_told(there, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("singular")

    monkeypatch.setattr(ExactInfluence, "fit", broken)
    found = found_in(there)
    assert all(row.influence is None for row in found.cases)
    assert all(row.reasons == {"influence": "RuntimeError: singular"} for row in found.cases)
    assert found.overview.notes == ("influence of some cases is missing: RuntimeError: singular",)
    monkeypatch.undo()
    assert all(row.influence is None and not row.reasons for row in found_in(there, influence=None).cases)


def test_words_that_cannot_be_taken_out_cost_what_goes_by_them(there, monkeypatch):
    def broken(*args):
        raise NotImplementedError("no masks")

    monkeypatch.setattr(there.task, "delete", broken)
    found = found_in(there)
    assert found.overview.notes == (
        "erasures of some cases is missing: NotImplementedError: no masks",
        "shortcuts could not be looked for (NotImplementedError: no masks)",
    )
    assert found.errors == found.overview.notes
    assert found.failures == len(found.cases)
    left = {cause for cause, _ in causes_of(found).values()}
    assert {"coverage", "truncation", "conflicting_duplicates", "training_label_error"} <= left
    assert not left & {"shortcut", "composition"}


@pytest.mark.parametrize("what", ["method", "influence", "erasures", "shortcuts"])
def test_an_error_is_let_through_where_that_is_asked_for(what, there, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("it is too much")

    if what == "influence":
        monkeypatch.setattr(ExactInfluence, "fit", broken)
    if what == "erasures":
        monkeypatch.setattr(there.task, "delete", broken)
    if what == "shortcuts":
        monkeypatch.setattr("lightning_interpret.causes.finder.find_shortcuts", broken)
    with pytest.raises(RuntimeError, match="it is too much"):
        found_in(there, on_error="raise", **({"method": Breaks(None)} if what == "method" else {}))


def test_what_there_was_no_time_for_is_told(there):
    found = found_in(there, max_seconds=1e-9)
    overview = found.overview
    assert overview.validated == 32  # one part is read all the same
    assert overview.notes[0] == f"`max_seconds` was spent: 32 of {len(there.val)} examples were looked through"
    words = f"the words of 16 of {len(there.train)} training examples were read"
    assert overview.notes[1] == f"`max_seconds` was spent: {words}"
    assert "shortcuts were not looked for: `max_seconds=1e-09` was spent" in overview.notes
    assert (found.errors, found.failures) == ((), 0)
    for row in found.cases:
        assert row.attribution is row.neighbors is row.influence is None
        assert set(row.reasons) == {"neighbors", "attribution", "influence", "erasures"}
        assert set(row.reasons.values()) == {"`max_seconds=1e-09` was spent"}
    assert overview.explained == len(found.cases) == 19


# What stays as it was


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_is_left_as_it_was(fails, monkeypatch):
    there = world(labelled(12), [*rows_of(4, ["good"], 0, seed=3), *labelled(4, seed=9)])
    module = there.module.train()
    module.head.eval()
    module.embedding.weight.grad = torch.ones_like(module.embedding.weight)
    module.head.bias.requires_grad_(False)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(3)
    drawn = torch.rand(3)
    torch.manual_seed(3)
    if fails:
        monkeypatch.setattr(there.task, "notes", lambda batch: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            found_in(there)
    else:
        assert found_in(there).groups
    assert torch.equal(torch.rand(3), drawn)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert torch.equal(module.embedding.weight.grad, torch.ones_like(module.embedding.weight))
    assert module.head.weight.grad is module.head.bias.grad is None
    assert [part.training for part in module.modules()] == [True, True, False]
    assert [value.requires_grad for value in module.parameters()] == [True, True, False]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
