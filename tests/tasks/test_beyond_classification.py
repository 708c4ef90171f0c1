"""What holds of every task beyond one label a text: batch = loop, padding-exact, complete, and as it is written."""

import pytest
import torch
from tiny import TEXTS, wordpiece
from tiny_tasks import SUBJECTS, answering, causal, numbers, seq2seq, subject, tagging

from lightning_interpret import (
    GradientTimesInput,
    IntegratedGradients,
    Occlusion,
    SequentialIntegratedGradients,
    TargetsRow,
    explain,
)
from lightning_interpret.explanations import Attribution
from lightning_interpret.tasks import Generation, Regression, find_task

OUTPUTS = ("logit", "log_prob", "prob", "margin")


def of_example(record, example):
    return [row for row, i in zip(record, record.example.tolist(), strict=True) if i == example]


def which_of(task):
    return "predicted" if isinstance(task, Regression) else "gold"


def outputs_of(task):
    return ("logit",) if isinstance(task, Regression) else OUTPUTS


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_batch_is_a_loop_over_its_examples_and_padding_is_nothing(name):
    case = subject(name)
    for output in outputs_of(case.task):
        method = GradientTimesInput()
        together = method(case.model, case.batch(), case.task, which=which_of(case.task), output=output)
        for i in range(len(TEXTS)):
            alone = method(case.model, case.batch(i), case.task, which=which_of(case.task), output=output)
            mine = of_example(together, i)
            assert [row.target_name for row in mine] == [row.target_name for row in alone]
            assert len(mine) > 0
            for a, b in zip(mine, alone, strict=True):
                assert (a.tokens, a.span, a.words, a.segment, a.gold) == (b.tokens, b.span, b.words, b.segment, b.gold)
                assert a.scores == pytest.approx(b.scores, rel=1e-4, abs=2e-6)
                assert a.target == pytest.approx(b.target, rel=1e-4, abs=2e-6)


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_scores_of_each_target_sum_to_what_they_are_to_explain(name):
    case = subject(name)
    for output in ("logit",) if "t5" in name else outputs_of(case.task):  # whose kinks take long
        record = IntegratedGradients(tolerance=1e-3, max_steps=1024)(
            case.model, case.batch(), case.task, which=which_of(case.task), output=output
        )
        floor = record.attribution_target.abs().clamp(min=0.01)
        assert ((record.target - record.baseline_target - record.scores.sum(dim=1)).abs() <= 2e-3 * floor).all()


@pytest.mark.parametrize(
    "name", ["causal-gpt2-left", "seq2seq-bart", "tagging-right", "answering-right", "multi-label"]
)
def test_sequential_integrated_gradients_give_each_token_what_leaving_it_out_takes_away(name):
    case = subject(name)
    found = SequentialIntegratedGradients(tolerance=1e-3, max_steps=1024)(
        case.model, case.batch(), case.task, which="gold", output="logit"
    )
    left_out = Occlusion(baseline="mask")(case.model, case.batch(), case.task, which="gold", output="logit")
    assert torch.allclose(found.scores.double(), left_out.scores.double(), rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("name", ["causal-gpt2-right", "causal-llama-left", "seq2seq-bart", "seq2seq-t5"])
def test_what_comes_after_a_token_is_no_part_of_it(name):
    case = subject(name)
    record = IntegratedGradients()(case.model, case.batch(), case.task, which="gold", output="log_prob")
    for row in record:
        assert row.span == (len(row.tokens), len(row.tokens) + 1)
        assert row.segment_names[1] == "output"
        assert len(row.scores) == len(row.tokens) == len(row.segment)


@pytest.mark.parametrize("name", ["causal-gpt2-right", "seq2seq-bart"])
@pytest.mark.parametrize("output", ["logit", "log_prob"])
def test_a_sequence_is_the_sum_of_its_tokens(name, output):
    case = subject(name)
    method = IntegratedGradients(tolerance=1e-4, max_steps=2048)
    tokens = method(case.model, case.batch(), case.task, which="gold", output=output)
    whole = method(case.model, case.batch(), case.task, which="gold sequence", output=output)
    first, rest = (
        method(case.model, case.batch(0), case.task, which=f"gold {s}", output=output) for s in ("0:2", "2:")
    )
    for i in range(len(TEXTS)):
        rows = of_example(tokens, i)
        assert whole.target[i] == pytest.approx(sum(row.target for row in rows), rel=1e-4)
        summed = TargetsRow.of(rows, "grid").summed_scores()
        assert whole[i].scores == pytest.approx(summed, rel=1e-2, abs=1e-3)
    assert first.target[0] + rest.target[0] == pytest.approx(float(whole.target[0]), rel=1e-4)


@pytest.mark.parametrize("make", [causal, seq2seq])
def test_the_probability_of_a_sequence_is_the_product_of_those_of_its_tokens(make):
    case = make()
    tokens = GradientTimesInput()(case.model, case.batch(0), case.task, which="gold", output="prob")
    whole = GradientTimesInput()(case.model, case.batch(0), case.task, which="gold sequence", output="prob")
    assert whole.target[0] == pytest.approx(float(tokens.target.prod()), rel=1e-4)


@pytest.mark.parametrize("make", [causal, seq2seq])
def test_what_the_model_writes_itself_is_what_generate_gives_and_each_token_is_the_likeliest(make):
    case = make(continuation="own", max_new_tokens=4)
    record = GradientTimesInput()(case.model, case.batch(), case.task)
    assert record.prediction == record.gold == record.target_name
    prepared = case.task.prepared(case.model, case.batch())
    assert case.task.prepared(case.model, prepared) is prepared
    labels = case.task.labels(prepared)
    options = {"do_sample": False, "num_beams": 1, "max_new_tokens": 4}
    for i in range(len(TEXTS)):
        one = case.batch(i)
        if make is causal:
            prompt = one["input_ids"][one["labels"] == -100][None]
            written = case.model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)[
                0, prompt.shape[1] :
            ]
        else:
            written = case.model.generate(
                one["input_ids"], attention_mask=one["attention_mask"], decoder_start_token_id=3, **options
            )[0, 1:]
        kept = labels[i][labels[i] != -100]
        assert torch.equal(kept, written[: len(kept)])


@pytest.mark.parametrize("make", [causal, seq2seq])
@pytest.mark.parametrize("attribute", ["input", "output"])
def test_the_input_or_the_earlier_output_alone_can_be_what_is_attributed_to(make, attribute):
    case = make(attribute=attribute)
    record = IntegratedGradients(tolerance=1e-3)(case.model, case.batch(), case.task, which="gold", output="logit")
    assert record.error.abs().max() < 1e-2
    for row in record:
        held = [score for score, s in zip(row.scores, row.segment, strict=True) if s == (attribute == "input")]
        assert held == [0] * len(held)
    assert record.scores.abs().sum() > 0


@pytest.mark.parametrize("make", [causal, seq2seq])
def test_a_contrast_is_the_difference_of_the_two_tokens(make):
    case = make()
    batch = case.batch()
    labels = batch["labels"]
    batch["contrast_labels"] = torch.where(labels == -100, labels, (labels + 1) % 20)
    method, other = GradientTimesInput(), case.batch()
    found = method(case.model, batch, case.task, which="contrast", output="log_prob")
    mine = method(case.model, case.batch(), case.task, which="gold", output="log_prob")
    assert len(found) == len(mine)
    read = dict(other)
    resolved = case.task.resolve(case.task.logits(case.model, read), read, "gold")
    for token in range(len(mine)):
        place = int(resolved.classes[token, 0])
        assert found.target_name[token] != mine.target_name[token]
        assert place == int(labels[labels != -100][token]) or make is causal
    one, two = (method(case.model, case.batch(), case.task, which=which) for which in ("film", "good"))
    both = method(case.model, case.batch(), case.task, which="film-good")
    assert torch.allclose(both.scores, one.scores - two.scores, atol=1e-5)


def test_the_vocabulary_is_scored_at_the_places_of_the_targets_alone():
    case = causal()
    seen = []
    head = case.model.get_output_embeddings()
    head.register_forward_hook(lambda part, args, output: seen.append(tuple(output.shape[:2])))
    batch = case.task.prepared(case.model, case.batch())
    targets = case.task.resolve(case.task.logits(case.model, batch), batch, "gold")
    seen.clear()
    rows = torch.arange(len(targets.example))
    scored = case.task.scores(case.model, case.task.take(batch, targets.example), targets.at(rows), "log_prob")
    assert seen == [(len(rows), 1)]
    assert torch.allclose(scored, case.task.score(case.task.logits(case.model, batch), targets, "log_prob"), atol=1e-5)


def test_losses_are_those_of_the_model_of_each_example_alone():
    for case in (causal(), causal("llama", side="left"), seq2seq(), seq2seq("t5"), tagging(), answering()):
        found = case.task.losses(case.model, case.batch())
        for i in range(len(TEXTS)):
            accepted = ("input_ids", "attention_mask", "labels", "token_type_ids", "start_positions", "end_positions")
            batch = {name: value for name, value in case.batch(i).items() if name in accepted}
            assert found[i].item() == pytest.approx(case.model(**batch).loss.item(), rel=1e-4)


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_record_is_json_both_ways(name):
    case = subject(name)
    record = GradientTimesInput()(case.model, case.batch(), case.task)
    assert Attribution.from_dict(record.to_dict()).to_dict() == record.to_dict()
    rows = of_example(record, 0)
    shown = TargetsRow.of(rows, case.task.view or "labels", prediction="a", gold="b")
    assert TargetsRow.from_dict(shown.to_dict()) == shown
    assert len(shown.by_segment()) == len(rows)


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_task_of_a_model_is_found_by_its_head(name):
    case = subject(name)
    if name == "multi-label":
        case.model.config.problem_type = "multi_label_classification"
    if name.startswith("regression"):
        case.model.config.problem_type = "regression"
    assert type(find_task(case.model, tokenizer=wordpiece())) is type(case.task)


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_is_no_target_is_refused_by_name_before_any_batch(name):
    case = subject(name)
    with pytest.raises(ValueError, match="which"):
        case.task.check(case.model, "nowhere", None)
    case.task.check(case.model, "predicted", None)


@pytest.mark.parametrize("make", [causal, seq2seq, tagging, answering])
def test_tokens_cannot_be_deleted_where_targets_stand_at_places(make):
    case = make()
    with pytest.raises(ValueError, match="delete"):
        Occlusion(baseline="delete")(case.model, case.batch(), case.task)


def test_a_word_that_is_read_in_part_is_spelled_by_that_part():
    case = causal()
    record = GradientTimesInput()(case.model, case.batch(0), case.task, which="gold")
    partial = next(row for row in record if row.tokens[-1] == "un")
    assert partial.words[-1 if partial.word_ids[-1] == len(partial.words) - 1 else partial.word_ids[-1]] == "un"


def test_a_generation_without_a_token_of_output_is_refused():
    case = causal()
    batch = case.batch()
    batch["labels"] = torch.full_like(batch["input_ids"], -100)
    with pytest.raises(ValueError, match="no token of an output"):
        GradientTimesInput()(case.model, batch, case.task)
    case = seq2seq()
    batch = case.batch()
    del batch["labels"]
    with pytest.raises(ValueError, match="labels"):
        GradientTimesInput()(case.model, batch, case.task)
    assert isinstance(case.task, Generation)


def test_all_is_output_without_labels():
    case = causal()
    batch = case.batch()
    del batch["labels"]
    record = GradientTimesInput()(case.model, batch, case.task, which="gold")
    assert len(record) == int(batch["attention_mask"].sum()) - len(TEXTS)
    assert record.units.segment is None


def test_numbers_are_explained_as_they_are():
    case = numbers()
    record = IntegratedGradients()(case.model, case.batch(), case.task)
    assert record.target_name == ("value", "value")
    assert record.gold is None
    assert record.notes == (("the true value is 1",), ("the true value is 0",))
    with pytest.raises(ValueError, match="log_prob"):
        IntegratedGradients()(case.model, case.batch(), case.task, output="log_prob")
    with pytest.raises(ValueError, match="gold"):
        IntegratedGradients()(case.model, case.batch(), case.task, which="gold")


def test_an_answer_is_read_in_the_passage_or_is_none():
    case = answering()
    record = GradientTimesInput()(case.model, case.batch(), case.task, which="gold")
    assert record.target_name == ("is un", "no answer")
    assert record.span == ((6, 8), None)
    none = GradientTimesInput()(case.model, case.batch(), case.task, which="no answer", output="margin")
    best = GradientTimesInput()(case.model, case.batch(), answering(unanswerable=False).task, output="margin")
    assert torch.allclose(none.target, -best.target)
    for row in best:
        assert row.span[0] > row.tokens.index("[SEP]")
        assert row.span[1] - row.span[0] <= 30


def test_an_entity_is_its_words_together():
    case = tagging()
    record = GradientTimesInput()(case.model, case.batch(), case.task, which="gold", output="log_prob")
    words = GradientTimesInput()(case.model, case.batch(), case.task, which="words", output="log_prob")
    assert len(words) == int((case.batch()["labels"] != -100).sum())
    assert set(record.target_name) <= {"person", "group"}
    entity = next(row for row in record if row.span[1] - row.span[0] > 1)
    assert entity.gold == entity.target_name
    person = GradientTimesInput()(case.model, case.batch(), case.task, which="person")
    group = GradientTimesInput()(case.model, case.batch(), case.task, which="group")
    both = GradientTimesInput()(case.model, case.batch(), case.task, which="person-group")
    assert torch.allclose(both.scores, person.scores - group.scores, atol=1e-5)


def test_a_text_without_an_entity_has_the_word_most_like_one():
    case = tagging()
    case.model.classifier.bias.data[0] = 100
    record = GradientTimesInput()(case.model, case.batch(), case.task)
    assert len(record) == len(TEXTS)
    assert record.prediction == ("O", "O")


def test_places_of_words_are_found_without_labels():
    with_labels, without = tagging(), tagging(gold=False)
    assert torch.equal(with_labels.task.places(with_labels.batch()), without.task.places(without.batch()))


@pytest.mark.parametrize("make", [causal, seq2seq])
def test_two_continuations_are_contrasted_over_what_both_are_made_from(make):
    case, method = make(attribute="input"), IntegratedGradients(tolerance=1e-4, max_steps=2048)
    other = case.batch()
    labels = other["labels"]
    other["labels"] = torch.where(labels == -100, labels, (labels * 3) % 20 + 5)
    if make is causal:
        other["input_ids"] = torch.where(labels == -100, other["input_ids"], other["labels"])
    options = {"which": "gold sequence", "output": "log_prob"}
    first, second = (method(case.model, batch, case.task, **options) for batch in (case.batch(), other))
    found = first.contrast(second)
    for row, a, b in zip(found, first, second, strict=True):
        assert row.target == pytest.approx(a.target - b.target)
        assert sum(row.scores) == pytest.approx(row.attribution_target, abs=2e-3)
        assert len(row.scores) == len(row.tokens) == sum(part == 0 for part in a.segment)
        assert row.segment is None
    mine, its = (method(case.model, batch, make().task, **options) for batch in (case.batch(), other))
    with pytest.raises(ValueError, match="attribute='input'"):
        mine.contrast(its)
    with pytest.raises(ValueError, match="one method"):
        first.contrast(GradientTimesInput()(case.model, other, case.task, **options))


def test_the_scores_themselves_can_be_attributed_to():
    case = causal()
    record = IntegratedGradients()(case.model, case.batch(), case.task, which="gold", layer="lm_head")
    for row in record:
        wanted = [0.0] * (len(row.tokens) - 1) + [row.attribution_target]
        assert row.scores == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    ("make", "texts", "targets"),
    [
        (causal, [("he is", "not dull .")], 3),
        (causal, ["he is not dull"], 5),
        (seq2seq, [("he is", "a film")], 3),
        (tagging, ["he is not dull"], 1),
        (answering, [("is he", "he is not dull .")], 1),
        (numbers, [("he is", "a film"), ("he", "is a film")], 2),
    ],
)
def test_they_are_explained_in_one_line_of_a_notebook(make, texts, targets):
    case = make()
    if isinstance(case.task, Regression):
        case.model.config.problem_type = "regression"
    record = explain(case.model, case.task.tokenizer, texts, method="gradient_times_input", task=None)
    assert len(record) >= targets
    assert record.example.tolist() == sorted(record.example.tolist())
    assert set(record.example.tolist()) == set(range(len(texts)))
    if make is numbers:
        assert record[0].segment_names == ("first", "second")


def test_a_text_alone_is_refused_where_two_are_read():
    for make in (answering, seq2seq):
        case = make()
        with pytest.raises(ValueError, match="pairs of texts"):
            explain(case.model, case.task.tokenizer, "he is", task=case.task)
    case = seq2seq(continuation="own", max_new_tokens=3)
    assert len(explain(case.model, case.task.tokenizer, "he is", method="gradient_times_input", task=case.task)) >= 1
