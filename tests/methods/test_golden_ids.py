"""Golden cases T13 (ids are perturbed, never text) and T25 (the default baseline is the padding token, by its id)."""

import pytest
import torch
from tiny import Bag, BagTask, batch_of, classifier, tokenizer_for, wordpiece

from lightning_interpret import GradientTimesInput, IntegratedGradients, Occlusion, explain
from lightning_interpret.functional.baselines import fill_tokens
from lightning_interpret.functional.features import find_layer
from lightning_interpret.tasks import SequenceClassification, find_task

UNAFFABLE = ["[CLS]", "he", "is", "un", "##aff", "##able", "[SEP]"]


class OneSubWord(SequenceClassification):
    """A baseline in which one sub-word is absent and all else is as in x."""

    def __init__(self, tokenizer, token):
        super().__init__(tokenizer, ["a", "b", "c"])
        self.token = tokenizer.convert_tokens_to_ids(token)

    def baseline(self, module, batch, features, baseline):
        ids = batch["input_ids"]
        absent = ids == self.token
        return find_layer(module, self.layer(module))(
            fill_tokens(ids, absent, getattr(self.tokenizer, f"{baseline.kind}_token_id"))
        )


class Recorded(list):
    """The ids that an embedding looks up, as token tuples: also those of a baseline, looked up past its hooks."""

    def __init__(self, model, tokenizer):
        super().__init__()
        self.embedding, self.tokenizer, self.ids = model.get_input_embeddings(), tokenizer, []
        self.look_up, self.embedding.forward = self.embedding.forward, self._record

    def _record(self, ids):
        self.ids.append(ids.clone())
        self.extend(tuple(self.tokenizer.convert_ids_to_tokens(row)) for row in ids)
        return self.look_up(ids)

    def remove(self):
        del self.embedding.forward


@pytest.mark.parametrize("kind", ["mask", "pad"])
def test_t13_ids_are_perturbed_never_text(kind, monkeypatch):
    tokenizer, model = wordpiece(), classifier("bert", dtype=torch.float64)
    batch = batch_of(tokenizer, ["he is unaffable"])
    assert tokenizer.convert_ids_to_tokens(batch["input_ids"][0]) == UNAFFABLE

    def never(*args, **kwargs):
        raise AssertionError("a text was tokenized again")

    for name in ("__call__", "encode", "_encode_plus", "tokenize"):
        monkeypatch.setattr(type(tokenizer), name, never)
    seen = Recorded(model, tokenizer)
    record = IntegratedGradients(baseline=kind, tolerance=1e-6)(model, batch, OneSubWord(tokenizer, "##aff"))
    seen.remove()
    perturbed = [token if token != "##aff" else getattr(tokenizer, f"{kind}_token") for token in UNAFFABLE]
    assert set(seen) == {tuple(UNAFFABLE), tuple(perturbed)}  # never [he, is, unable], never a shorter text
    row = record[0]
    assert row.tokens == tuple(UNAFFABLE)
    assert [token for token, score in zip(row.tokens, row.scores, strict=True) if score != 0] == ["##aff"]
    assert row.converged
    model.get_input_embeddings().weight.data[tokenizer.convert_tokens_to_ids("##aff")] = (
        model.get_input_embeddings().weight.data[getattr(tokenizer, f"{kind}_token_id")]
    )
    with torch.no_grad():
        without = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[0]
    assert row.baseline_target == pytest.approx(
        float(without[int(row.target_name == "b") + 2 * (row.target_name == "c")])
    )


def test_t13_all_content_is_replaced_in_place():
    tokenizer, model = wordpiece(), classifier("bert")
    seen = Recorded(model, tokenizer)
    explain(model, tokenizer, "he is unaffable", method=IntegratedGradients(baseline="mask"))
    assert set(seen) == {tuple(UNAFFABLE), ("[CLS]", *["[MASK]"] * 5, "[SEP]")}


def test_t13_deleting_a_sub_word_leaves_the_others_as_they_are():
    tokenizer, model = wordpiece(), classifier("bert")
    seen = Recorded(model, tokenizer)
    explain(model, tokenizer, "he is unaffable", method=Occlusion(baseline="delete"))
    seen.remove()
    content = UNAFFABLE[1:-1]
    shorter = {("[CLS]", *content[:i], *content[i + 1 :], "[SEP]") for i in range(5)}
    assert ("[CLS]", "he", "is", "un", "##able", "[SEP]") in shorter  # and never [he, is, unable]
    assert set(seen) == {tuple(UNAFFABLE), ("[CLS]", "[SEP]"), *shorter}


@pytest.mark.parametrize("options", [{}, {"baseline": "mask"}])
def test_t25_default_baseline_is_never_id_zero(options):
    tokenizer, model = tokenizer_for("roberta"), classifier("roberta")
    assert (tokenizer.bos_token_id or tokenizer.cls_token_id, tokenizer.pad_token_id, model.config.pad_token_id) == (
        0,
        1,
        1,
    )
    looked_up = Recorded(model, tokenizer)
    batch = batch_of(tokenizer)
    record = IntegratedGradients(**options)(model, batch, find_task(model, tokenizer=tokenizer))
    looked_up.remove()
    assert record.baseline == options.get("baseline", "pad")
    assert all(row.baseline == record.baseline for row in record)
    expected = 4 if options else 1
    ids = batch["input_ids"]
    content = (ids != 0) & (ids != 1) & (ids != 2)
    others = [seen for seen in looked_up.ids if seen.shape == ids.shape and not torch.equal(seen, ids)]
    assert others
    assert all(seen[content].unique().tolist() == [expected] for seen in others)
    assert all(torch.equal(seen[~content], ids[~content]) for seen in others)


def test_t25_default_baseline_needs_no_name_from_the_tokenizer_if_the_model_has_it():
    tokenizer, model = wordpiece(pad_token=None), classifier("bert")
    assert tokenizer.pad_token_id is None
    record = explain(model, tokenizer, "a dull film")
    assert record.baseline == "pad"
    torch.testing.assert_close(record.scores, explain(model, wordpiece(), "a dull film").scores)


def test_t25_a_tokenizer_without_a_mask_token_names_what_there_is():
    tokenizer, model = wordpiece(mask_token=None), classifier("bert")
    task = find_task(model, tokenizer=tokenizer)
    method = IntegratedGradients(baseline="mask")
    with pytest.raises(
        ValueError, match=r"`baseline='mask'`, but the tokenizer has no mask token\. There is: "
    ) as caught:
        method(model, batch_of(tokenizer), task)
    assert "pad, unk, zero, mean" in str(caught.value)
    assert "'text: ...'" in str(caught.value)
    with pytest.raises(ValueError, match="the tokenizer has no mask token"):
        task.check(model, "predicted", method.baseline_used)


# The other baselines


def baseline_embeddings(baseline, texts=("a dull film", "the player was not bad")):
    """What stands at each token under a baseline, and the embedding's weights."""
    model, tokenizer = Bag(), wordpiece()
    task, batch = BagTask(tokenizer), batch_of(tokenizer, texts)
    with torch.no_grad():
        features = model.embedding(batch["input_ids"])
        found = task.baseline(model, batch, features, GradientTimesInput(baseline=baseline).baseline_used)
    return found, features, model.embedding.weight.detach(), task.units(batch)


@pytest.mark.parametrize("kind", ["pad", "mask", "unk", "zero", "mean"])
def test_what_stands_at_the_content(kind):
    found, features, weight, units = baseline_embeddings(kind)
    expected = {
        "pad": weight[0],
        "unk": weight[1],
        "mask": weight[4],
        "zero": torch.zeros(6),
        "mean": weight.mean(dim=0),
    }[kind]
    content = ~units.special & ~units.padding
    torch.testing.assert_close(found[content], expected.expand(int(content.sum()), 6))
    assert torch.equal(found[~content], features[~content])


def test_zero_at_every_token_leaves_padding_alone():
    found, features, _, units = baseline_embeddings(GradientTimesInput().baseline)
    assert found[~units.padding].abs().sum() == 0
    assert torch.equal(found[units.padding], features[units.padding])


def test_a_neutral_text_is_tiled_over_the_content():
    found, _, weight, units = baseline_embeddings("text: the movie")
    the, movie = wordpiece().convert_tokens_to_ids(["the", "movie"])
    content = ~units.special & ~units.padding
    torch.testing.assert_close(found[0][content[0]], weight[[the, movie, the]])
    torch.testing.assert_close(found[1][content[1]], weight[[the, movie, the, movie, the, movie]])


def test_a_neutral_text_without_tokens_is_refused():
    model = Bag()
    tokenizer = wordpiece()
    with pytest.raises(ValueError, match="the tokenizer makes no token of this text"):
        IntegratedGradients(baseline="text: \u200b")(model, batch_of(tokenizer), BagTask(_Mute(tokenizer)))


class _Mute:
    """A tokenizer that makes nothing of a text."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def __call__(self, text, **options):
        return {"input_ids": []}
