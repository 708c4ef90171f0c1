"""What metrics ask of a model: the ids it would be given, in a batch as alone, and a module that stays as it was."""

import textwrap

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from purity import assert_same, state_of
from tiny import LONG, SHORT, TEXTS, MeanPooled, MeanPooledTask, classifier, tokenizer_for
from tiny_images import images_of, model_of
from torch.utils.data import DataLoader

from lightning_interpret import GradientTimesInput, ImageClassification, Perturbed, SequenceClassification
from lightning_interpret.functional.erasure import BINS
from lightning_interpret.functional.faithfulness import comprehensiveness, leave_one_out
from lightning_interpret.functional.randomisation import randomised, reinitialised
from lightning_interpret.functional.soft_erasure import soft_sufficiency
from lightning_interpret.metrics import Comprehensiveness, MaxSensitivity, Randomisation
from lightning_interpret.tasks.encode import encode

TOKENIZER = tokenizer_for("bert")


def made(texts=TEXTS, name="bert"):
    return classifier(name, dtype=torch.float64), encode(TOKENIZER, list(texts)), SequenceClassification(TOKENIZER)


def test_t13_an_absent_sub_word_is_the_padding_token_in_its_place():
    module, batch, task = made(["he is unaffable"])
    model, ids = Perturbed(module, batch, task), batch["input_ids"]
    place = ids[0].tolist().index(TOKENIZER.convert_tokens_to_ids("##aff"))
    masks = torch.ones(2, ids.shape[1], dtype=torch.bool)
    masks[1, place] = False
    replaced = torch.where(masks, ids, TOKENIZER.pad_token_id)
    with torch.no_grad():
        wanted = module(input_ids=replaced, attention_mask=torch.ones_like(replaced)).logits.softmax(dim=1)
    predicted = wanted[0].argmax()
    torch.testing.assert_close(model.kept(masks, torch.tensor([0, 0])), wanted[:, predicted])
    torch.testing.assert_close(model.target, wanted[0, predicted][None])
    nothing = torch.zeros_like(masks[:1])  # special tokens are present whatever it says
    kept = ~model.counts
    assert torch.equal(model.kept(nothing, torch.tensor([0])), model.kept(kept, torch.tensor([0])))


def test_what_is_answered_is_what_is_asked_for():
    module, batch, task = made()
    with torch.no_grad():
        logits = module(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    best = logits.amax(dim=1)
    torch.testing.assert_close(Perturbed(module, batch, task, output="logit").target, best)
    gold = Perturbed(module, batch, task, which="1", output="logit")
    torch.testing.assert_close(gold.kept(gold.counts, torch.arange(2)), logits[:, 1])


def test_a_text_in_a_batch_is_as_alone():
    module, task = MeanPooled("bert", torch.float64), MeanPooledTask(TOKENIZER)
    together = Perturbed(module, encode(TOKENIZER, [LONG, SHORT]), task)
    alone = Perturbed(module, encode(TOKENIZER, [SHORT]), task)
    few = alone.counts.shape[1]
    scores = torch.randn(2, together.counts.shape[1], generator=torch.Generator().manual_seed(0)).double()
    for measure, ask in ((comprehensiveness, "kept"), (soft_sufficiency, "softly")):
        both = measure(scores, together.counts, getattr(together, ask))
        one = measure(scores[1:, :few], alone.counts, getattr(alone, ask))
        torch.testing.assert_close(both[1:], one, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        leave_one_out(together.counts, together.kept)[1:, :few], leave_one_out(alone.counts, alone.kept)
    )


def test_elements_are_kept_where_their_number_is_below_the_share():
    module, batch, task = made()
    model = Perturbed(module, batch, task, baseline="zero", output="logit", internal_batch_size=3)
    shares = torch.rand(4, model.counts.shape[1], generator=torch.Generator().manual_seed(0))
    rows, seeds = torch.tensor([0, 1, 1, 0]), torch.tensor([5, 5, 6, 7])
    found = model.softly(shares, rows, seeds)
    words = module.get_input_embeddings().weight
    for k, (row, seed) in enumerate(zip(rows.tolist(), seeds.tolist(), strict=True)):
        ids, mask = batch["input_ids"][row], batch["attention_mask"][row]
        noise = torch.rand(len(ids), 16, generator=torch.Generator().manual_seed(seed))
        keep = (noise < shares[k, :, None]) | ~model.counts[row, :, None]
        with torch.no_grad():
            logits = module(inputs_embeds=(words[ids] * keep)[None], attention_mask=mask[None]).logits[0]
        best = module(input_ids=ids[None], attention_mask=mask[None]).logits[0].argmax()
        assert float(found[k]) == pytest.approx(float(logits[best]), abs=1e-9)


def test_the_module_is_left_as_it_was():
    module, batch, task = made()
    module.train()
    model, before = Perturbed(module, batch, task), state_of(module)
    every = torch.arange(2)
    model.kept(~model.counts, every)
    model.softly(torch.full(model.counts.shape, 0.5), every, every)
    model.scores("gradient_times_input", weights=reinitialised(module).values)
    model.explainer("gradient")(model.inputs, every)
    assert_same(before, state_of(module))


def test_with_other_weights_the_class_is_the_one_that_the_module_gives_with_its_own():
    module, batch, task = made()
    model, initial = Perturbed(module, batch, task), reinitialised(module).values
    found = model.scores("gradient_times_input", weights=initial)
    predicted = module(**{name: batch[name] for name in ("input_ids", "attention_mask")}).logits.argmax(dim=1)
    other = classifier("bert", dtype=torch.float64)
    other.load_state_dict(initial)
    for row, label in enumerate(predicted.tolist()):
        wanted = GradientTimesInput()(other, batch, task, which=str(label)).scores[row]
        torch.testing.assert_close(found[row], wanted)
    steps = randomised(lambda: model.scores("gradient_times_input"), module, initial, cascading=True)
    metric = Randomisation(stages=len(steps))
    metric.update(model.scores("gradient_times_input"), torch.stack(list(steps.values())), model.counts)
    torch.testing.assert_close(list(steps.values())[-1], found)
    assert metric.curve().shape == (5,)
    assert metric.reason is None


@pytest.mark.parametrize("name", ["gradient_times_input", "integrated_gradients"])
def test_noise_is_met_by_the_method_as_if_it_were_in_the_embedding(name):
    module, batch, task = made([LONG])
    model = Perturbed(module, batch, task)
    noise = 0.1 * torch.randn(model.inputs.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = noise * model.counts[:, :, None]  # special tokens of the baseline are those of x, without it
    explain, at_x = model.explainer(name), model.scores(name)
    torch.testing.assert_close(explain(model.inputs, torch.tensor([0])), at_x)
    found = explain(model.inputs + noise, torch.tensor([0]))
    noisy, words = classifier("bert", dtype=torch.float64), noise[0]
    with torch.no_grad():  # a vocabulary in which these tokens are what they are with the noise
        table = module.get_input_embeddings().weight
        noisy.resize_token_embeddings(len(table) + len(words))
        noisy.load_state_dict(module.state_dict() | {
            "bert.embeddings.word_embeddings.weight": torch.cat([table, table[batch["input_ids"][0]] + words])
        })  # fmt: skip

    class Other(SequenceClassification):
        def units(self, batch):
            return task.units(dict(batch) | {"input_ids": given["input_ids"]})

        def content(self, *args, **kwargs):
            return task.content(given, *args[1:], **kwargs)

    given, moved = batch, dict(batch) | {"input_ids": (len(table) + torch.arange(len(words)))[None]}
    label = str(int(module(input_ids=given["input_ids"]).logits.argmax()))
    if name == "gradient_times_input":
        wanted = GradientTimesInput()(noisy, moved, Other(TOKENIZER), which=label).scores
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
    else:  # complete at the point, from the baseline of x
        full = noisy(input_ids=moved["input_ids"]).logits[0, int(label)]
        logit = Perturbed(module, batch, task, output="logit")
        empty = logit.kept(~logit.counts, torch.tensor([0]))[0]
        torch.testing.assert_close(found.sum(), (full - empty).detach(), rtol=0.02, atol=0)
    assert not torch.allclose(found, at_x, atol=1e-4)


def test_sensitivity_of_a_method():
    module, batch, task = made()
    model = Perturbed(module, batch, task)
    found = []
    for radius in (0.001, 0.3):
        metric = MaxSensitivity(radius=radius, samples=3)
        metric.update(model.explainer("gradient_times_input"), model.inputs)
        found.append(float(metric.compute()))
    assert 0 < found[0] < found[1]


def test_sensitivity_of_a_text_is_the_same_whatever_padding_it_has():
    module, task = MeanPooled("bert", torch.float64), MeanPooledTask(TOKENIZER)
    with torch.no_grad():
        module.encoder.get_input_embeddings().weight[TOKENIZER.pad_token_id] = 9.0  # far from a token's size
    found = []
    for texts in ([SHORT], [SHORT, LONG], [SHORT, ""]):
        model, metric = Perturbed(module, encode(TOKENIZER, texts), task, baseline="zero"), MaxSensitivity(samples=3)
        metric.add = lambda values: found.append(values)
        metric.update(model.explainer("gradient_times_input"), model.inputs, model.counts)
    assert float(found[0]) == pytest.approx(float(found[1][0]), rel=1e-6)
    assert found[2].isnan().tolist() == [False, True]  # of no token there is nothing to move
    with pytest.raises(ValueError, match=r"`counts` \(2, 1\) is not of `inputs`"):
        metric.update(model.explainer("gradient"), model.inputs, model.counts[:, :1])


def test_of_pictures_each_pixel_is_a_unit():
    module, batch, task = model_of("vit"), images_of(), ImageClassification()
    model = Perturbed(module, batch, task)
    scores, every = model.scores("gradient_times_input"), torch.arange(2)
    assert model.counts.shape == scores.shape == (2, 32 * 32)
    torch.testing.assert_close(model.kept(model.counts, every), model.target)
    torch.testing.assert_close(model.softly(torch.ones(2, 1024), every, every), model.target)
    nothing = task.baseline(module, batch, model.inputs, task.default_baseline)
    of_class = module(pixel_values=model.inputs).logits.argmax(dim=1)[:, None]
    with torch.no_grad():
        wanted = module(pixel_values=nothing).logits.softmax(dim=1).gather(1, of_class).squeeze(1)
    torch.testing.assert_close(model.kept(~model.counts, every), wanted)
    explain = model.explainer("gradient_times_input")
    torch.testing.assert_close(explain(model.inputs, every), scores)
    noisy = model.inputs + 0.1
    wanted = Perturbed(module, batch | {"pixel_values": noisy}, task).scores("gradient_times_input")
    torch.testing.assert_close(explain(noisy, every), wanted)


def test_where_noise_cannot_be_put_it_says_so():
    model = Perturbed(*made())
    model.inputs = model.inputs + 1  # as of a layer that never returns the same
    with pytest.raises(ValueError, match="does not return x where the module runs on it"):
        model.explainer("gradient")(model.inputs, torch.arange(2))


def test_many_baselines_are_refused():
    with pytest.raises(ValueError, match="is many: a unit that is absent is replaced by one thing"):
        Perturbed(*made(), baseline="distribution")


def test_the_example_of_the_docstring_logs_both_numbers():
    code = textwrap.dedent(Perturbed.__doc__.split("::\n", 1)[1].split("The module is left")[0])
    code = code.replace("        ...\n", "        self.model = classifier('bert')\n")
    task = SequenceClassification(TOKENIZER)
    names = {"LightningModule": LightningModule, "classifier": classifier, "task": task, "BINS": BINS}
    names |= {"Comprehensiveness": Comprehensiveness, "Perturbed": Perturbed}
    exec(code, names)
    module = names["Model"]()
    texts = [LONG, SHORT, "a great film", "bad and dull", "he is great"]
    batches = DataLoader(texts, batch_size=2, collate_fn=lambda rows: encode(TOKENIZER, rows))
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", **quiet)
    trainer.validate(module, batches, verbose=False)
    metric = Comprehensiveness(bins=BINS)
    for batch in batches:
        model = Perturbed(module, batch, task)
        metric.update(model.scores("gradient_times_input"), model.counts, model.kept)
    logged = trainer.callback_metrics
    assert metric.count == 5
    assert float(logged["comprehensiveness"]) == pytest.approx(float(metric.compute()), abs=1e-6)
    assert float(logged["comprehensiveness_random"]) == pytest.approx(float(metric.control.compute()), abs=1e-6)
    assert module.comprehensiveness.control.count == 0  # reset with it
