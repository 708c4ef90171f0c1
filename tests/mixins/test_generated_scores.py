"""What a language model gives labels and explanations: laws, and slow oracles in double precision."""

import pytest
import torch
from generated_toys import LABELS, batch_of, explaining_model, made, word_tokenizer
from torch.nn import functional as F

from lightning_interpret.functional.tokens import Tokens

ORDERS = ["predict_then_explain", "explain_then_predict", "jointly"]
PREFIXES = ["sun", "sun rain", "snow"]  # the second one begins with the first
every = pytest.mark.parametrize("name", ["t5", "bart", "gpt2", "llama"])
in_each = pytest.mark.parametrize("order", ORDERS)


def model_of(name, order="predict_then_explain", **options):
    return explaining_model(name, order, generated_labels=PREFIXES, generated_max_tokens=6, **options).double()


def texts(count=3, seed=0):
    return made(count, seed, length=(2, 7))


def ids(*words):
    return word_tokenizer()(" ".join(words))["input_ids"]


def following(module, source, before):
    """Log probabilities of the token that comes next in one text, by a forward of its own: nothing is padded."""
    model = module.model
    if model.config.is_encoder_decoder:
        decoder = torch.tensor([[model.config.decoder_start_token_id, *before]])
        logits = model(input_ids=torch.tensor([source]), decoder_input_ids=decoder).logits
    else:
        logits = model(input_ids=torch.tensor([[*source, *before]])).logits
    return logits[0, -1].log_softmax(dim=-1)


def one_by_one(module, source, lead, text):
    """Log probabilities of the tokens of one text."""
    return [following(module, source, [*lead, *text[:place]])[token].item() for place, token in enumerate(text)]


@every
@in_each
def test_labels_scored_together_are_labels_scored_one_by_one(name, order):
    module = model_of(name, order)
    words, labels, explanations = texts()
    batch = batch_of(words, labels, explanations)
    mark, because = ids("label:"), ids("explanation:")
    end = because if order == "jointly" else ids("[EOS]")
    module.train()  # where the explanations that are read are the batch's own
    with torch.no_grad():
        found = module(batch)
        for i, text in enumerate(words):
            source = [*because, *ids(explanations[i])] if order == "explain_then_predict" else ids(text)
            for label, spelled in enumerate(PREFIXES):
                alone = sum(one_by_one(module, source, mark, [*ids(spelled), *end]))
                assert found[i, label].item() == pytest.approx(alone, abs=1e-9)


@every
@in_each
def test_the_explanations_loss_is_the_mean_of_its_tokens(name, order):
    module = model_of(name, order, generated_weight=0.5)
    words, labels, explanations = texts()
    explanations[1] = explanations[1] + " and it"
    batch, losses = batch_of(words, labels, explanations), []
    mark, because, end = ids("label:"), ids("explanation:"), ids("[EOS]")
    with torch.no_grad():
        for text, label, explanation in zip(words, labels, explanations, strict=True):
            label, target = ids(PREFIXES[label]), [*ids(explanation), *end]
            source, lead = ids(text), because
            if order == "predict_then_explain":
                source = [*source, *mark, *label]
            if order == "jointly":
                lead, target = mark, [*label, *because, *target]
            losses += [-each for each in one_by_one(module, source, lead, target)]
        module.train()
        loss = module.training_step(batch, 0) - F.cross_entropy(module(batch), batch["labels"])
    assert loss.item() == pytest.approx(0.5 * sum(losses) / len(losses), abs=1e-9)


@every
@in_each
def test_padding_on_either_side_changes_nothing(name, order):
    module = model_of(name, order, **({"generated_reads": "both"} if order == "explain_then_predict" else {}))
    words, labels, explanations = texts()
    right = batch_of(words, labels, explanations)
    left = batch_of(words, labels, explanations, word_tokenizer(padding_side="left"))
    left["explanation_ids"] = F.pad(left["explanation_ids"], (2, 1), value=0)  # of the padding token, as well
    with torch.no_grad():
        together = module(right)
        assert torch.allclose(module(left), together, rtol=0, atol=1e-9)
        for i in range(len(words)):
            alone = batch_of(words[i : i + 1], labels[i : i + 1], explanations[i : i + 1])
            assert torch.allclose(module(alone), together[i], rtol=0, atol=1e-9)
        losses = [module._explanation_loss(batch).item() for batch in (left, right)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)


@every
@in_each
def test_what_is_written_is_the_likeliest_token_each_time(name, order):
    module = model_of(name, order)
    words, labels, _ = texts()
    batch = batch_of(words)
    explained = torch.tensor(labels)
    written = module.write_explanations(batch, explained)
    left = module.write_explanations(batch_of(words, tokenizer=word_tokenizer(padding_side="left")), explained)
    mark, because, end = ids("label:"), ids("explanation:"), ids("[EOS]")
    assert torch.equal(written.filled(-1), left.filled(-1))
    with torch.no_grad():
        for i, text in enumerate(words):
            source, lead, found = ids(text), because, []
            if order == "predict_then_explain":
                source = [*source, *mark, *ids(PREFIXES[labels[i]])]
            if order == "jointly":
                lead = [*mark, *ids(PREFIXES[labels[i]]), *because]
            while len(found) < 6:
                best = int(following(module, source, [*lead, *found]).argmax())
                if best == end[0]:
                    break
                found.append(best)
            assert written.ids[i][written.there[i]].tolist() == found


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_checkpointed_activations_give_the_same_scores_and_gradients(name):
    batch, found = batch_of(*texts()), []
    for checkpointed in (False, True):
        module = model_of(name).train()
        if checkpointed:
            model = module.model  # the second is the name up to transformers 5
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        module.training_step(batch, 0).backward()
        found.append([weight.grad for weight in module.parameters()])
    # Llama's norms compute in single precision
    assert all(torch.allclose(a, b, rtol=0, atol=1e-5) for a, b in zip(*found, strict=True))


@in_each
def test_rows_without_an_explanation_change_nothing(order):
    module = model_of("t5", order)
    words, labels, explanations = texts(6)
    batch = batch_of(words, labels, [*explanations[:4], "", "  "])
    some = batch_of(words[:4], labels[:4], explanations[:4])
    with torch.no_grad():
        loss = pytest.approx(module._explanation_loss(some).item(), abs=1e-9)
        assert module._explanation_loss(batch).item() == loss
        nobody = batch_of(words, labels, [""] * 6)
        assert module._explanation_loss(nobody).item() == 0
        assert torch.allclose(module(batch)[:4], module(some), atol=1e-9)
        unlabelled = batch_of(words, [*labels[:4], -1, -100], explanations)
        assert module._explanation_loss(unlabelled).item() == loss


def test_an_erased_explanation_is_one_of_no_tokens():
    module = model_of("t5", "explain_then_predict", generated_reads="both")
    batch = batch_of(texts()[0])
    with torch.no_grad():
        none = module({**batch, "written_ids": torch.full((3, 0), -100)})
        padded = module({**batch, "written_ids": torch.full((3, 3), -100)})
        written = module.write_explanations(batch)
        assert torch.allclose(none, padded, atol=1e-9)
        assert torch.allclose(module({**batch, "written_ids": written.filled(-100)}), module(batch), atol=1e-9)


def test_rows_are_closed_up_cut_and_put_one_after_another():
    rows = Tokens.of(torch.tensor([[-1, 4, -1, 5], [6, 7, 8, -1]]))
    assert rows.closed().filled(-1).tolist() == [[4, 5, -1], [6, 7, 8]]
    assert rows.closed(left=True).filled(-1).tolist() == [[-1, 4, 5], [6, 7, 8]]
    assert rows.cut(2).filled(-1).tolist() == [[4, 5], [6, 7]]
    assert rows.then(torch.tensor([9])).closed().filled(0).tolist() == [[4, 5, 9, 0], [6, 7, 8, 9]]
    assert Tokens.none(rows).closed().ids.shape == (2, 0)
    assert LABELS == ["sun", "rain", "snow"]
