"""What is explained: predicted, gold, a label or a contrast; as a logit, a log-probability, a probability, a margin."""

import math

import pytest
import torch
from tiny import Bag, BagTask, MeanPooled, MeanPooledTask, bag_task, batch_of, classifier, wordpiece
from torch import nn
from transformers import BertForSequenceClassification

from lightning_interpret import IntegratedGradients, SequenceClassification, Task
from lightning_interpret.tasks import find_task
from lightning_interpret.tasks.classification import parse_which

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [0.5, -1.0, 0.0]], dtype=torch.float64)
LABELS = ("very-bad", "so-so", "good")
TASK = SequenceClassification(wordpiece(), LABELS)
BATCH = {"labels": torch.tensor([2, 1])}


def values(which, output):
    targets = TASK.resolve(LOGITS, BATCH, which)
    return targets, TASK.score(LOGITS, targets, output).tolist()


@pytest.mark.parametrize(
    ("which", "names", "expected"),
    [
        ("predicted", ("so-so", "very-bad"), [3, 0.5]),
        ("gold", ("good", "so-so"), [2, -1]),
        ("good", ("good", "good"), [2, 0]),
        ("very-bad", ("very-bad", "very-bad"), [1, 0.5]),
        ("very-bad-so-so", ("very-bad-so-so",) * 2, [-2, 1.5]),
        ("good-very-bad", ("good-very-bad",) * 2, [1, -0.5]),
        ("good - so-so", ("good-so-so",) * 2, [-1, 1]),
    ],
)
def test_which(which, names, expected):
    targets, found = values(which, "logit")
    assert targets.name == names
    assert targets.example.tolist() == [0, 1]
    assert found == expected


def test_a_contrast_of_a_class_with_itself_is_refused():
    with pytest.raises(ValueError, match="contrasts a class with itself"):
        values("good-good", "logit")


def test_a_label_that_reads_as_a_contrast_is_the_label():
    task = SequenceClassification(wordpiece(), ["a", "b", "a-b"])
    assert task.resolve(LOGITS, {}, "a-b").index.tolist() == [2, 2]
    assert parse_which("a-b-b", ["a", "b", "a-b"]) == (2, 1)


PROBABILITIES = LOGITS.softmax(dim=1)


@pytest.mark.parametrize(
    ("which", "output", "expected"),
    [
        ("good", "prob", PROBABILITIES[:, 2]),
        ("good", "log_prob", PROBABILITIES[:, 2].log()),
        ("predicted", "prob", PROBABILITIES.amax(dim=1)),
        ("predicted", "margin", torch.tensor([1.0, 0.5], dtype=torch.float64)),  # to the runner-up
        ("gold", "margin", torch.tensor([-1.0, -1.5], dtype=torch.float64)),  # to the highest of the others
        ("good-so-so", "prob", PROBABILITIES[:, 2] - PROBABILITIES[:, 1]),
        ("good-so-so", "log_prob", LOGITS[:, 2] - LOGITS[:, 1]),
        ("good-so-so", "margin", LOGITS[:, 2] - LOGITS[:, 1]),
    ],
)
def test_outputs(which, output, expected):
    assert values(which, output)[1] == pytest.approx(expected.tolist())


@pytest.mark.parametrize("output", ["logit", "log_prob", "prob", "margin"])
@pytest.mark.parametrize("which", ["predicted", "gold", "good", "bad-dull"])
def test_a_record_holds_the_values_and_is_complete(which, output):
    model, task = Bag().double(), bag_task()
    batch = batch_of(task.tokenizer, labels=[1, 2])
    record = IntegratedGradients(tolerance=1e-6, error_floor=1e-3)(model, batch, task, which=which, output=output)
    with torch.no_grad():
        logits = task.logits(model, batch)
    targets = task.resolve(logits, batch, which)
    torch.testing.assert_close(record.target, task.score(logits, targets, output))
    assert (record.output, record.target_name) == (output, targets.name)
    assert all(record.converged)
    torch.testing.assert_close(record.scores.sum(dim=1), record.target - record.baseline_target, rtol=0, atol=1e-5)


def test_the_prediction_is_frozen_at_x():
    """At the baseline another class may win, and another class may be the runner-up: both stay those of x."""
    model, task = Bag().double(), bag_task()
    batch = batch_of(task.tokenizer)
    with torch.no_grad():
        logits = task.logits(model, batch)
        absent = batch["input_ids"].where(batch["input_ids"] <= 3, 0)
        at_baseline = task.logits(model, {"input_ids": absent, "attention_mask": batch["attention_mask"]})
    first, second = logits.topk(2, dim=1).indices.T
    assert not torch.equal(at_baseline.topk(2, dim=1).indices, logits.topk(2, dim=1).indices)
    record = IntegratedGradients(tolerance=None)(model, batch, task, output="margin")
    rows = torch.arange(2)
    torch.testing.assert_close(record.baseline_target, at_baseline[rows, first] - at_baseline[rows, second])


def test_contrasts_are_differences_of_two_attributions():
    model, task = Bag().double(), bag_task()
    batch = batch_of(task.tokenizer)
    # to the last bit where the nodes are the same for each target, to the error where they are where the target moves
    for method, error in ((IntegratedGradients(rule="midpoint", tolerance=None), 1e-12), (IntegratedGradients(), 1e-3)):
        found = {which: method(model, batch, task, which=which).scores for which in ("good", "bad", "good-bad")}
        torch.testing.assert_close(found["good-bad"], found["good"] - found["bad"], rtol=0, atol=error)


@pytest.mark.parametrize("which", ["goood", "good-baad", "so", "very-bad-", "-", ""])
def test_unknown_names_are_told_what_there_is(which):
    with pytest.raises(ValueError, match="does not exist") as caught:
        TASK.resolve(LOGITS, BATCH, which)
    assert "There is: predicted, gold, very-bad, so-so, good" in str(caught.value)


def test_a_near_name_is_told():
    with pytest.raises(ValueError, match="Did you mean 'good'"):
        TASK.resolve(LOGITS, BATCH, "goood")


def test_gold_without_labels_is_refused():
    with pytest.raises(ValueError, match=r"`which='gold'`, but the batch has no labels"):
        TASK.resolve(LOGITS, {"input_ids": None}, "gold")


@pytest.mark.parametrize("output", ["prob", "log_prob", "margin"])
def test_one_class_has_a_logit_and_nothing_else(output):
    model = Bag(classes=1).double()
    task = BagTask(wordpiece())
    batch = batch_of(task.tokenizer)
    with pytest.raises(ValueError, match=rf"`output='{output}'` needs two classes or more; the model has one score"):
        IntegratedGradients()(model, batch, task, output=output)
    assert all(IntegratedGradients()(model, batch, task).converged)


def test_labels_that_do_not_fit_the_model_are_refused():
    with pytest.raises(ValueError, match=r"names 2 classes; the model has 3"):
        SequenceClassification(wordpiece(), ["a", "b"]).resolve(LOGITS, {}, "predicted")


def test_classes_without_names_are_numbers():
    task = SequenceClassification(wordpiece())
    assert task.resolve(LOGITS, {}, "predicted").name == ("1", "0")
    assert task.resolve(LOGITS, {}, "2-0").name == ("2-0", "2-0")
    assert task.gold_names(BATCH) == ("2", "1")


@pytest.mark.parametrize("labels", [[-1, 1], [-100, 1]])
def test_an_example_without_a_label_has_no_class_for_gold(labels):
    """What data sets write where a label is missing is no class, and not the last one."""
    assert TASK.gold_names({"labels": torch.tensor(labels)})[0] not in LABELS


def test_gold_where_an_example_has_no_label_is_refused():
    with pytest.raises(ValueError, match="gold"):
        TASK.resolve(LOGITS, {"labels": torch.tensor([-100, 1])}, "gold")


def test_scores_are_in_single_precision_at_least():
    for dtype, expected in [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ]:
        logits = LOGITS.to(dtype)
        assert TASK.score(logits, TASK.resolve(logits, {}, "predicted"), "prob").dtype == expected


def test_losses_are_those_of_each_example():
    model, task = Bag().double(), bag_task()
    batch = batch_of(task.tokenizer, labels=[1, 2])
    logits = task.logits(model, batch)
    assert task.losses(model, batch).shape == (2,)
    torch.testing.assert_close(task.losses(model, batch).mean(), nn.functional.cross_entropy(logits, batch["labels"]))
    with pytest.raises(ValueError, match="has no loss"):
        task.losses(model, batch_of(task.tokenizer))


# Finding and checking a task


def test_a_classifier_of_transformers_needs_no_task():
    model = classifier("bert")
    model.config.id2label = {0: "bad", 1: "dull", 2: "good"}
    task = find_task(model, tokenizer=wordpiece())
    assert task.label_names(3) == ("bad", "dull", "good")
    assert task.layer(model) == "bert.embeddings.word_embeddings"


def test_a_module_around_it_needs_none_either():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.tokenizer = nn.ModuleDict({"model": classifier("bert")}), wordpiece()

    module = Around()
    task = find_task(module)
    assert task.tokenizer is module.tokenizer
    record = IntegratedGradients()(module, batch_of(module.tokenizer), task)
    assert record.layer == "net.model.bert.embeddings.word_embeddings"
    inner = IntegratedGradients()(module.net["model"], batch_of(module.tokenizer), task)
    assert torch.equal(record.scores, inner.scores)


def test_the_task_of_the_module_comes_before_what_is_inferred_and_the_one_given_before_both():
    own, given = bag_task(), MeanPooledTask(wordpiece())

    class Owns(Bag):
        def interpret_task(self) -> Task:
            return own

    assert find_task(Owns()) is own
    assert find_task(Owns(), task=given) is given


@pytest.mark.parametrize(
    ("make", "held"), [(Bag, "no `transformers` model"), (lambda: MeanPooled("bert"), "a BertModel")]
)
def test_what_cannot_be_inferred_is_asked_for(make, held):
    with pytest.raises(ValueError, match=f"holds {held}, and no task can be inferred.*Give `task=`"):
        find_task(make(), tokenizer=wordpiece())


def test_no_tokenizer_is_an_error_that_says_where_to_give_it():
    task = find_task(classifier("bert"))
    with pytest.raises(ValueError, match=r"`tokenizer=None`: to show tokens, their tokenizer is needed"):
        task.check(classifier("bert"), "predicted", None)


def test_a_tokenizer_may_be_the_directory_it_is_saved_in(tmp_path):
    wordpiece().save_pretrained(tmp_path)
    task = SequenceClassification(str(tmp_path))
    assert task.tokenizer.convert_tokens_to_ids(["the", "##er"]) == wordpiece().convert_tokens_to_ids(["the", "##er"])


def test_what_can_be_known_before_a_batch_is_checked():
    model = classifier("bert")
    task = SequenceClassification(wordpiece(), ["bad", "dull", "good"])
    task.check(model, "good-bad", IntegratedGradients(baseline="mask").baseline_used)
    with pytest.raises(ValueError, match=r"`which='god'` does not exist\. Did you mean"):
        task.check(model, "god", None)
    with pytest.raises(ValueError, match="holds no `transformers` model: give a `task=`"):
        task.check(Bag(), "predicted", None)


def test_a_model_without_class_scores_asks_for_a_task():
    model = MeanPooled("bert")
    with pytest.raises(ValueError, match="BertModel returns no class scores"):
        SequenceClassification(wordpiece()).logits(model, batch_of(wordpiece()))


def test_ids_that_are_missing_are_named():
    with pytest.raises(ValueError, match=r"no `input_ids` of shape \(batch, tokens\); it has \['pixels'\]"):
        SequenceClassification(wordpiece()).units({"pixels": torch.zeros(1, 2)})


def test_without_an_attention_mask_padding_is_where_the_ids_are():
    task, batch = SequenceClassification(wordpiece()), batch_of(wordpiece())
    units = task.units(batch["input_ids"])
    assert torch.equal(units.padding, batch["attention_mask"] == 0)


def test_a_batch_may_hold_more_than_the_model_takes():
    model, task = classifier("bert"), find_task(classifier("bert"), tokenizer=wordpiece())
    assert isinstance(model, BertForSequenceClassification)
    batch = batch_of(wordpiece(), labels=[0, 1], example_ids=[3, 4])
    batch["weight"] = torch.ones(2)
    assert task.logits(model, batch).shape == (2, 3)
    assert math.isfinite(float(task.losses(model, batch).sum()))


def test_a_token_that_frames_texts_frames_them_though_it_is_the_unknown_one_too():
    """OPT's ``</s>`` begins every text, and its tokenizer's BOS, EOS and UNK are that one token."""
    tokenizer = wordpiece(cls_token=None, sep_token=None, bos_token="[UNK]", eos_token="[UNK]")
    end = tokenizer.unk_token_id
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == end
    units = SequenceClassification(tokenizer).units(torch.tensor([[end, 5, 6, end]]))
    assert units.special.tolist() == [[True, False, False, True]]
    only = SequenceClassification(wordpiece()).units(torch.tensor([[2, 1, 4, 3]]))  # [CLS] [UNK] [MASK] [SEP]
    assert only.special.tolist() == [[True, False, False, True]]


def test_labels_that_are_not_one_class_an_example_are_no_gold_class():
    assert TASK.gold_names({"labels": torch.zeros(2, 3, dtype=torch.long)}) is None
    assert TASK.gold_names({"labels": torch.tensor([11, 0])})[0] is None
    with pytest.raises(ValueError, match=r"one class an example, but the labels have \(2, 3\)"):
        TASK.resolve(LOGITS, {"labels": torch.zeros(2, 3, dtype=torch.long)}, "gold")
