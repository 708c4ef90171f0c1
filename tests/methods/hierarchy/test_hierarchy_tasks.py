"""Trees of every task: one a target, whose scores are the model's own answers to texts with other tokens away."""

import pytest
import torch
from every_task import NAMES, made

from lightning_interpret.methods.hierarchy import HIERARCHICAL, Hedge, MaskedLanguageModel, SamplingAndOcclusion
from lightning_interpret.tasks import Generation, Task
from lightning_interpret.tasks.batches import clone

SEVERAL = {"TokenClassification": [0, 0, 1], "MultiLabelClassification": [0, 0, 1]}


def trees(name, method="hedge", which=None, **options):
    model, task, batch = made(name, dtype=torch.float64)
    which = which or ("predicted" if name == "Regression" else "gold")
    which = f"{which} sequence" if "Generation" in name and " " not in which else which
    found = HIERARCHICAL[method](**options)(model, batch, task, which=which, output="logit")
    return model, task, batch, found


@pytest.mark.parametrize("method", ["hedge", pytest.param("soc", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_a_tree_of_each_target_has_all_of_it_at_the_root(name, method):
    model, task, batch, found = trees(name, method)
    prepared = task.prepared(model, batch)
    logits = task.logits(model, prepared)
    which = "gold sequence" if "Generation" in name else "predicted" if name == "Regression" else "gold"
    targets = task.resolve(logits, prepared, which)
    scores = task.score(logits, targets, "logit").tolist()
    assert list(found.example) == targets.example.tolist() == SEVERAL.get(name, [0, 1])
    assert [row.target_name for row in found] == list(targets.name)
    assert [row.target for row in found] == pytest.approx(scores)
    for row in found:
        assert row.nodes[0].score == pytest.approx(row.target - row.baseline_target, abs=1e-9)
        assert row.nodes[0].end == len(row.words)  # of what is written later there is no word
    assert [len(rows) for rows in found.by_example(2)] == [list(found.example).count(i) for i in (0, 1)]


@pytest.mark.parametrize("name", ["CausalGeneration", pytest.param("Seq2SeqGeneration", marks=pytest.mark.slow)])
def test_contextual_decomposition_is_the_same_where_the_whole_vocabulary_is_scored(name, monkeypatch):
    *_, found = trees(name, "acd")
    monkeypatch.setattr(Generation, "scores", Task.scores)  # of the logits at all places, as those of a classifier
    *_, again = trees(name, "acd")
    for one, other in zip(found, again, strict=True):
        assert [node.score for node in one.nodes] == pytest.approx([node.score for node in other.nodes])
        assert any(abs(node.score) > 1e-3 for node in one.nodes)


@pytest.mark.parametrize("name", ["CausalGeneration", "Seq2SeqGeneration", "TokenClassification", "QuestionAnswering"])
def test_a_span_has_the_answer_with_the_span_alone_less_that_with_nothing(name):
    model, task, batch, found = trees(name)
    prepared = task.prepared(model, batch)
    targets = task.resolve(task.logits(model, prepared), prepared, "gold sequence" if "Gen" in name else "gold")
    content = task.content(prepared, torch.zeros(0))

    def answered(row, kept):
        """F of a text of which only these tokens (of those that count) are there: others are the padding token."""
        i = int(targets.example[row])
        given, left = clone(prepared), content[i].clone()
        left[content[i].nonzero().flatten()[kept]] = False
        source = prepared["input_ids"].shape[1]
        for part, where in (("input_ids", slice(None, source)), ("decoder_input_ids", slice(source, None))):
            if part in given:
                given[part][i][left[where]] = task.tokenizer.pad_token_id
        with torch.no_grad():
            return float(task.score(task.logits(model, given), targets, "logit")[row])

    for row, tree in enumerate(found):
        words = [word for word, special in zip(tree.word_ids, tree.special, strict=True) if not special]
        for node in tree.nodes:
            kept = [k for k, word in enumerate(words) if node.start <= word < node.end]
            assert node.score == pytest.approx(answered(row, kept) - answered(row, []), abs=1e-9), (row, node)


def test_a_token_that_is_written_has_a_tree_of_what_is_read_for_it():
    *_, found = trees("CausalGeneration", which="gold 1:2")
    assert [row.words for row in found] == [("he", "was", "great", "and", "not", "bad"), ("a", "dull")]
    assert [row.span for row in found] == [(6, 7), (2, 3)]
    *_, found = trees("TokenClassification")
    assert [row.span for row in found] == [(1, 2), (5, 7), (3, 4)]
    assert [row.gold for row in found] == ["person", "film", "film"]


def test_what_does_not_apply_is_refused_before_any_batch():
    model, task, _ = made("CausalGeneration")
    with pytest.raises(ValueError, match=r"`baseline='delete'`: hedge .* CausalGeneration explains stands at places"):
        Hedge(baseline="delete").check(model, task, "predicted", "logit")
    model, task, _ = made("Regression")
    with pytest.raises(ValueError, match=r"`output='margin'`: hedge of a Regression .* use `output='logit'`"):
        Hedge().check(model, task, "predicted", "margin")
    model, task, _ = made("Seq2SeqGeneration")
    with pytest.raises(ValueError, match=r"`sampler`: .* encoder-decoder \(Seq2SeqGeneration\) embeds two"):
        SamplingAndOcclusion(sampler=MaskedLanguageModel("none")).check(model, task, "predicted", "logit")
