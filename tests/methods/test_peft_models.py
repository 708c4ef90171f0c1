"""Adapters of PEFT: the scores of the merged model, per-example gradients of what trains, or an error by name."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from peft import (
    IA3Config,
    LoHaConfig,
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from purity import assert_same, state_of
from tiny import REFERENCES, batch_of, classifier, lively, tokenizer_for
from torch import nn
from torch.nn import functional as F

from lightning_interpret import IntegratedGradients, SequenceClassification
from lightning_interpret.methods import METHODS
from lightning_interpret.methods.influence import EkfacInfluence, ExactInfluence, GradientSimilarity
from lightning_interpret.methods.neighbors import NearestNeighbors
from lightning_interpret.tasks import find_task
from lightning_interpret.tasks.transformer import call

DOCS = Path(__file__).parents[2] / "docs" / "wrapped_models.md"
KIND = {"task_type": TaskType.SEQ_CLS}
FAMILIES = {
    "gradient_times_input": {},
    "integrated_gradients": {"tolerance": None, "steps": 4},
    "smooth_grad": {"samples": 2},
    "deep_lift": {},
    "layerwise_relevance": {},
    "contextual_decomposition": {},
    "occlusion": {},
    "attention_rollout": {},
    "gradient_attention": {},
    "value_zeroing": {},
}
FEW = ["integrated_gradients", "layerwise_relevance", "occlusion"]


class Holder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model


def adapted(config=None, name="bert", **options):
    """A tiny classifier with an adapter whose weights do something, in double precision."""
    config = LoraConfig(**{"r": 4, "lora_dropout": 0.5, **KIND, **options}) if config is None else config
    return drawn(get_peft_model(classifier(name), config))


def drawn(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(key in name for key in ("lora_", "ia3_", "hada_")):
                weight.normal_(0, 0.3, generator=generator)
    return model.double()


def labelled(tokenizer):
    batch = dict(batch_of(tokenizer, list(REFERENCES), labels=[2, 0, 1, 2, 0]))
    return batch | {"example_id": torch.arange(len(REFERENCES))}


def assert_equal(model, plain, name="bert", methods=FAMILIES):
    """Every family gives the scores of the plain model, and leaves the one with the adapter as it was."""
    tokenizer, holder = tokenizer_for(name), Holder(model).train()
    batch, before = batch_of(tokenizer), state_of(holder)
    for each in methods:
        method = METHODS[each](**FAMILIES[each])
        found, expected = (
            method(module, batch, find_task(module, tokenizer=tokenizer)).scores for module in (holder, Holder(plain))
        )
        assert float((found - expected).abs().max()) <= 1e-5, each
        assert float(expected.abs().max()) > 1e-3, each
    assert_same(before, state_of(holder))


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        pytest.param("bert", FAMILIES, id="bert"),
        *(pytest.param(name, FEW, marks=pytest.mark.slow, id=name) for name in ["gpt2", "t5", "bart"]),
    ],
)
def test_lora_is_explained_as_the_merged_model(name, methods):
    model = adapted(name=name)
    assert_equal(model, deepcopy(model).merge_and_unload(), name, methods)


def second_adapter():
    model = adapted()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["query", "dense"], **KIND))
    model.set_adapter("second")
    return drawn(model)


MADE = {
    "on embeddings": lambda: adapted(target_modules=["word_embeddings", "query"]),
    "dora": lambda: adapted(use_dora=True),
    "second adapter": second_adapter,
    "ia3": lambda: adapted(IA3Config(target_modules=["query", "dense"], feedforward_modules=["dense"], **KIND)),
    "loha": lambda: adapted(LoHaConfig(target_modules=["query"], **KIND)),
}


@pytest.mark.parametrize("made", MADE)
def test_other_adapters_in_layers_are_explained_as_the_merged_model(made):
    model = MADE[made]()
    assert_equal(model, deepcopy(model).merge_and_unload(), methods=FEW)


def test_an_adapter_that_is_merged_in_place_or_switched_off_is_explained_as_it_is():
    model, tokenizer = adapted(), tokenizer_for("bert")
    merged = deepcopy(model).merge_and_unload()
    model.merge_adapter()
    assert_equal(model, merged, methods=FEW)
    notes = GradientSimilarity().fit(model, [labelled(tokenizer)], find_task(model, tokenizer=tokenizer)).approximation
    assert any("not covered" in note and "lora_A" in note for note in notes.notes)
    model.unmerge_adapter()
    with model.disable_adapter():
        assert_equal(model, classifier("bert").double(), methods=FEW)


def test_an_adapter_that_transformers_adds_itself():
    model, config = classifier("bert"), LoraConfig(r=4, target_modules=["query", "value"])
    plain = deepcopy(model)
    model.add_adapter(config)
    drawn(model)
    merged = get_peft_model(plain, config).double()
    merged.base_model.model.load_state_dict(model.state_dict())
    assert_equal(model, merged.merge_and_unload(), methods=FEW)


def by_autograd(model, batch):
    """Cosines between the gradients of single examples over all that trains."""
    trained = [weight for weight in model.eval().parameters() if weight.requires_grad]
    rows = []
    for i in range(len(batch["labels"])):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        grads = torch.autograd.grad(F.cross_entropy(logits[i], batch["labels"][i]), trained)
        rows.append(torch.cat([grad.flatten() for grad in grads]))
    rows = F.normalize(torch.stack(rows), dim=1)
    return rows @ rows.T


def test_influence_is_over_the_adapters_and_the_saved_head():
    model, tokenizer = adapted(), tokenizer_for("bert")
    batch, task = labelled(tokenizer), find_task(model, tokenizer=tokenizer)
    fitted = GradientSimilarity(similarity="cosine").fit(Holder(model).train(), [batch], task)
    assert fitted.approximation.coverage == 1.0
    torch.testing.assert_close(fitted.matrix(batch)[1], by_autograd(model, batch), rtol=1e-6, atol=1e-9)
    ekfac = EkfacInfluence(damping=0.1).fit(model, [batch], task)
    assert ekfac.approximation.coverage == 1.0
    assert bool(ekfac.matrix(batch)[1].isfinite().all())


def test_the_head_and_the_features_are_those_of_the_merged_model():
    model, tokenizer = adapted(), tokenizer_for("bert")
    merged, batch = deepcopy(model).merge_and_unload(), labelled(tokenizer)
    found = []
    for each in (model, merged):
        task = find_task(each, tokenizer=tokenizer)
        scores = ExactInfluence(damping=0.1).fit(each, [batch], task).matrix(batch)[1]
        near = NearestNeighbors().fit(each, [batch], task).find(batch, k=3)
        found.append((scores, [[n.example_id for n in row.neighbors] for row in near]))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-8)
    assert found[0][1] == found[1][1]


PROMPTS = {
    "PROMPT_TUNING": PromptTuningConfig(num_virtual_tokens=3, **KIND),
    "P_TUNING": PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=8, **KIND),
    "PREFIX_TUNING": PrefixTuningConfig(num_virtual_tokens=3, **KIND),
}


class WithPrompt(SequenceClassification):
    """Of the guide."""

    def logits(self, module, batch):
        return module.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits

    def layer(self, module):
        return next(name for name, _ in module.named_modules() if name.endswith("word_embeddings"))


@pytest.mark.parametrize("kind", PROMPTS)
def test_prompts_are_refused_by_name_and_explained_by_a_task_that_calls_them(kind):
    """The model inside a PEFT model was called without its prompt, and explained as if it had none."""
    tokenizer, module = tokenizer_for("bert"), Holder(get_peft_model(classifier("bert"), PROMPTS[kind]).eval())
    batch = batch_of(tokenizer)
    task, method = find_task(module, tokenizer=tokenizer), IntegratedGradients(tolerance=0.01)
    match = f"has a {kind} adapter, which changes what goes into BertForSequenceClassification"
    with pytest.raises(ValueError, match=match):
        method(module, batch, task)
    with pytest.raises(ValueError, match=match):
        GradientSimilarity().fit(module, [labelled(tokenizer)], task)
    assert "adapter, which changes what goes into" in " ".join(DOCS.read_text().split())
    record = method(module, batch, WithPrompt(tokenizer, ["a", "b", "c"]))
    with torch.no_grad():
        logits = module.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(record.target.float(), logits.amax(dim=1))
    assert all(record.converged)


@pytest.mark.parametrize(("name", "layer"), [("t5", "q"), ("bart", "q_proj")])
def test_an_adapter_on_embeddings_that_are_read_at_both_ends_is_refused(name, layer):
    model, tokenizer = adapted(name=name, target_modules=[layer, "embed_tokens"]), tokenizer_for(name)
    with pytest.raises(ValueError, match="An adapter is on the word embeddings of") as error:
        IntegratedGradients()(model, batch_of(tokenizer), find_task(model, tokenizer=tokenizer))
    assert "embeds the text once for the encoder and once for the decoder" in str(error.value)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_model_with_adapters_is_called_with_all_that_the_model_takes(name):
    """Segments and the positions of left-padded texts were not passed on."""
    model = lively(get_peft_model(classifier(name), LoraConfig(r=4, **KIND)))
    batch = dict(batch_of(tokenizer_for(name, padding_side="left" if name == "gpt2" else "right")))
    if name == "bert":
        batch["token_type_ids"] = torch.ones_like(batch["input_ids"])
    inner = model.base_model.model
    with torch.no_grad():
        assert torch.equal(call(model, batch).logits, call(inner, batch).logits)
        short = {key: batch[key] for key in ("input_ids", "attention_mask")}
        assert not torch.allclose(call(model, batch).logits, model(**short).logits)
