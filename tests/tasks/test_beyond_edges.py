"""What meets the tasks beyond one label a text at their edges: odd batches, precisions, models and settings."""

import pytest
import torch
from tiny import _BART, _ENDS, wordpiece
from tiny_tasks import _BERT, _SEQ2SEQ, _WORDS, answering, causal, numbers, seq2seq, tagging, weighed
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
    MBartConfig,
    MBartForConditionalGeneration,
)

from lightning_interpret import GradientTimesInput, IntegratedGradients, Regression
from lightning_interpret.modules.from_scratch import byte_level
from lightning_interpret.tasks import CausalGeneration, find_task

explain = GradientTimesInput()


@pytest.mark.parametrize("make", [tagging, answering])
def test_half_precision_has_no_number_as_low_as_never(make):
    case = make()
    single = explain(case.model, case.batch(), case.task, output="log_prob")
    case.model.half()
    half = explain(case.model, case.batch(), case.task, output="log_prob")
    assert half.target_name == single.target_name
    assert torch.allclose(half.target, single.target, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("place", [99, -1])
def test_an_answer_that_was_cut_off_is_none_that_is_known(place):
    case, batch = answering(), answering().batch()
    whole = case.task.losses(case.model, batch)
    batch["start_positions"][0] = batch["end_positions"][0] = place
    assert case.task.losses(case.model, batch).tolist() == [0, pytest.approx(whole[1].item())]
    assert explain(case.model, batch, case.task).gold == (None, "no answer")
    with pytest.raises(ValueError, match=r"answers of examples \[0\] .* cut off"):
        explain(case.model, batch, case.task, which="gold")


def test_the_best_answer_is_that_of_all_pairs():
    case = answering(longest=3)
    batch = case.batch()
    logits = case.task.logits(case.model, batch).detach()
    for row, (first, last) in enumerate(case.task.best(logits, batch).tolist()):
        inside = case.task._passage(batch)[row].nonzero().flatten().tolist()
        pairs = [(a, b) for a in inside for b in inside if 0 <= b - a < 3]
        assert (first, last) == max(pairs, key=lambda pair: float(logits[row, 0, pair[0]] + logits[row, 1, pair[1]]))


@pytest.mark.parametrize("make", [tagging, causal, lambda: numbers(multi_label=True)])
def test_labels_of_tokens_and_several_labels_are_the_last_of_a_tuple(make):
    case = make()
    batch = dict(case.batch())
    named = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = explain(case.model, case.batch(), case.task, which="gold")
    for given in ((named, batch["labels"]), (*named.values(), batch["labels"])):
        found = explain(case.model, given, case.task, which="gold")
        assert found.target_name == expected.target_name
        assert torch.allclose(found.scores, expected.scores)


def test_mbart_begins_with_the_last_token_of_the_output():
    case = seq2seq()
    ends = {**_ENDS, "decoder_start_token_id": 5}
    config = MBartConfig(**_WORDS, **_SEQ2SEQ, **_BART, **ends, forced_eos_token_id=None)
    case.model = weighed(MBartForConditionalGeneration(config))
    found = case.task.losses(case.model, case.batch())
    for i in range(2):
        given = {name: case.batch(i)[name] for name in ("input_ids", "attention_mask", "labels")}
        assert found[i].item() == pytest.approx(case.model(**given).loss.item(), rel=1e-4)
    own = seq2seq(continuation="own", max_new_tokens=3).task
    case.model.generation_config.decoder_start_token_id = 7
    prepared = own.prepared(case.model, case.batch())
    assert prepared["decoder_input_ids"][:, 0].tolist() == [7, 7]
    assert explain(case.model, prepared, own).prediction == explain(case.model, prepared, own).gold


def test_a_model_that_reads_both_ways_is_refused():
    case = causal()
    with pytest.raises(ValueError, match="is_decoder"):
        explain(weighed(BertLMHeadModel(BertConfig(**_BERT))), case.batch(), case.task)
    with pytest.raises(ValueError, match="Seq2SeqGeneration"):
        explain(seq2seq().model, case.batch(), case.task)


def test_labels_that_are_not_those_of_the_text_are_refused():
    case = causal()
    batch = case.batch()
    batch["labels"] = batch["labels"][:, 2:]
    with pytest.raises(ValueError, match="labels are"):
        explain(case.model, batch, case.task)
    case = tagging()
    batch = case.batch()
    batch["labels"][0, 2] = 17
    with pytest.raises(ValueError, match=r"labels \[17\]"):
        explain(case.model, batch, case.task, which="gold")


@pytest.mark.parametrize("make", [causal, seq2seq])
def test_the_model_writes_greedily_whatever_its_configuration_asks_for_and_only_where_it_has_places(make):
    case = make(continuation="own", max_new_tokens=60)
    settings = {"num_return_sequences": 2, "do_sample": True, "num_beams": 2, "return_dict_in_generate": True}
    settings |= {"penalty_alpha": 0.5, "top_k": 4, "prompt_lookup_num_tokens": 2}
    for name, value in settings.items():
        setattr(case.model.generation_config, name, value)
    case.model.generation_config.eos_token_id = 29
    prepared = case.task.prepared(case.model, case.batch())
    assert case.task.labels(prepared).shape[0] == 2
    read = prepared["decoder_input_ids" if make is seq2seq else "input_ids"].shape[1]
    assert 20 < read <= 40


def test_a_sequence_is_explained_at_a_layer_of_the_decoder_alone():
    case = seq2seq()
    batch = case.batch()
    batch["labels"] = torch.tensor([[5, 6, -100, -100, -100], [5, 6, 7, 8, 3]])
    options = {"layer": "model.decoder.layers.0", "which": "gold sequence"}
    together = IntegratedGradients()(case.model, batch, case.task, **options)
    apart = IntegratedGradients(internal_batch_size=1)(case.model, batch, case.task, **options)
    assert torch.allclose(together.scores, apart.scores, atol=1e-4)


def test_a_number_that_nobody_knows_is_no_gold():
    case = numbers()
    batch = case.batch()
    batch["labels"][1] = float("nan")
    assert explain(case.model, batch, case.task).notes == (("the true value is 1",), ())
    assert case.task.gold_names(batch) == ("1", None)


def test_words_are_found_once_a_call(monkeypatch):
    case, asked = tagging(gold=False), []
    units = type(case.task).units
    monkeypatch.setattr(type(case.task), "units", lambda self, batch: asked.append(1) or units(self, batch))
    IntegratedGradients(steps=4, tolerance=None, internal_batch_size=1)(case.model, case.batch(), case.task)
    assert len(asked) <= 4


def test_several_writers_are_told_apart_by_name():
    both = torch.nn.ModuleList([causal().model, causal().model])
    with pytest.raises(ValueError, match="`model='0'`"):
        find_task(both, tokenizer=wordpiece())
    with pytest.raises(ValueError, match="subclass of CausalGeneration"):
        CausalGeneration(wordpiece()).logits(torch.nn.Linear(1, 1), causal().batch())


@pytest.mark.parametrize("baseline", ["training_mean", "nearest"])
def test_references_are_read_with_their_outputs(baseline):
    case = seq2seq()
    method = IntegratedGradients(baseline=baseline, tolerance=1e-2)
    record = method(case.model, case.batch(0), case.task.with_references(case.batch()), which="gold")
    assert record.relative_error.max() < 0.05


def test_each_text_of_a_batch_has_its_own_parts():
    case = answering(roberta=True)
    batch, alone = case.batch(), case.task._passage(case.batch(0))
    ids, there = batch["input_ids"][1], batch["attention_mask"][1] != 0
    inner = there & (there.long().cumsum(dim=0) > 1) & (there.long().cumsum(dim=0) < there.sum())
    batch["input_ids"][1] = torch.where(inner, 7, ids)  # of which the question was left out
    found = case.task._passage(batch)
    assert torch.equal(found[0], alone[0])
    assert torch.equal(found[1], inner)


def test_ends_of_several_sizes_are_refused_by_name():
    decoder = BertConfig(**{**_BERT, "hidden_size": 8}, is_decoder=True, add_cross_attention=True)
    model = EncoderDecoderModel(encoder=BertModel(BertConfig(**_BERT)), decoder=BertLMHeadModel(decoder))
    model.config.decoder_start_token_id, model.config.pad_token_id = 2, 0
    case = seq2seq()
    with pytest.raises(ValueError, match="several sizes"):
        explain(model.eval(), case.batch(), case.task)


@pytest.mark.parametrize("make", [causal, seq2seq])
def test_the_scores_of_the_vocabulary_are_a_layer_too(make):
    case = make()
    record = GradientTimesInput()(case.model, case.batch(), case.task, layer="lm_head", which="gold", output="logit")
    assert record.relative_error.max() < 1e-4  # the logit is linear in the scores


def test_a_type_without_a_tag_that_begins_it_has_those_it_has():
    case = tagging(labels=["O", "E-x", "I-y", "L-z"])
    record = explain(case.model, case.batch(), case.task, which="z")
    assert set(record.target_name) == {"z"}


def test_parts_of_a_character_are_told_apart_and_texts_have_no_marks():
    tokenizer = byte_level(["a b"], end=True)
    model = weighed(
        GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1, n_positions=16))
    )
    batch = tokenizer(["äö"], return_tensors="pt")
    task = CausalGeneration(tokenizer)
    record = explain(model, batch, task)
    assert record.gold == tuple(tokenizer.convert_ids_to_tokens(batch["input_ids"][0])[1:])
    assert task.gold_names(batch) == ("äö",)


def test_a_score_without_a_problem_type_is_a_number():
    """`transformers` takes one label for a regression too."""
    case = numbers()
    case.model.config.problem_type = None
    assert type(find_task(case.model, tokenizer=wordpiece())) is Regression


@pytest.mark.parametrize(("name", "side"), [("bart", "right"), ("t5", "left")])
def test_padding_between_source_and_output_is_not_computed_with(name, side):
    case = seq2seq(name, side=side)
    batch = case.batch()
    there = batch["attention_mask"].sum(dim=1)
    width, short = batch["input_ids"].shape[1], int(there.argmin())
    assert there[short] < width
    seen = []

    def watch(module, args, kwargs):
        seen.append(kwargs["input_ids"].shape)

    method = IntegratedGradients(steps=4, tolerance=None, internal_batch_size=4)
    with_all = method(case.model, batch, case.task, which="gold", output="log_prob")
    handle = case.model.get_encoder().register_forward_pre_hook(watch, with_kwargs=True)
    method(case.model, batch, case.task, which="gold", output="log_prob")
    handle.remove()
    alone = method(case.model, case.batch(short), case.task, which="gold", output="log_prob")
    assert {tuple(shape) for shape in seen if len(shape) == 2} >= {(4, int(there[short])), (4, width)}
    rows = [i for i, of in enumerate(with_all.example) if of == short]
    found = [with_all.scores[i][~with_all.units.padding[i]] for i in rows]
    expected = [alone.scores[i][~alone.units.padding[i]] for i in range(len(rows))]
    for each, other in zip(found, expected, strict=True):
        assert torch.allclose(each, other, atol=1e-5)
