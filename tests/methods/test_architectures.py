"""Golden case T9, padding-exact batching, and completeness, on the architectures that people fine-tune."""

import pytest
import torch
from tiny import (
    CLASSIFIERS,
    ENCODERS,
    LONG,
    SHORT,
    TEXTS,
    MeanPooled,
    MeanPooledTask,
    batch_of,
    classifier,
    tokenizer_for,
)

from lightning_interpret import GradientTimesInput, IntegratedGradients
from lightning_interpret.functional.features import LayerError
from lightning_interpret.tasks import find_task

DTYPES = [torch.float32, torch.float64]
FIXED = IntegratedGradients(tolerance=None, steps=10)
#: Longformer takes its softmax in single precision whatever its weights are.
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-12, "longformer": 1e-6}
RIGHT = ["bert", "roberta", "distilbert", "gpt2", "llama", "t5", "bart", "longformer"]  # XLNet reads the last position
LEFT = ["gpt2", "llama", "xlnet"]  # the others read the first one, padding or not


def case_of(name, side, dtype=torch.float32, pooled=False):
    """A model, its task and its tokenizer."""
    tokenizer = tokenizer_for(name, padding_side=side)
    if pooled:
        return MeanPooled(name, dtype), MeanPooledTask(tokenizer), tokenizer
    model = classifier(name, dtype=dtype)
    return model, find_task(model, tokenizer=tokenizer), tokenizer


def furthest(first, second):
    """The largest difference of scores, as a share of the largest score."""
    a, b = torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    assert float(b.abs().max()) > 1e-3
    return float((a - b).abs().max() / b.abs().max())


def assert_t9(model, task, tokenizer, within, method=FIXED):
    together = method(model, batch_of(tokenizer), task)
    padding = together.units.padding
    assert int(padding.sum()) >= 4
    assert together.scores[padding].tolist() == [0] * int(padding.sum())
    for row, text in zip(together, TEXTS, strict=True):
        alone = method(model, batch_of(tokenizer, [text]), task)[0]
        assert row.tokens == alone.tokens
        assert furthest(row.scores, alone.scores) <= within
        assert row.target == pytest.approx(alone.target, rel=10 * within, abs=10 * within)
        assert row.baseline_target == pytest.approx(alone.baseline_target, rel=10 * within, abs=10 * within)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RIGHT)
def test_t9_padding_exact_batching(name, dtype):
    within = ROUNDING[dtype] if name != "longformer" else ROUNDING["longformer"]
    assert_t9(*case_of(name, "right", dtype), within)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", LEFT)
def test_t9_padding_exact_batching_with_left_padding(name, dtype):
    assert_t9(*case_of(name, "left", dtype), ROUNDING[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ENCODERS)
def test_t9_padding_exact_batching_of_an_encoder_that_is_mean_pooled(name, side, dtype):
    assert_t9(*case_of(name, side, dtype, pooled=True), ROUNDING[dtype])


@pytest.mark.parametrize("name", ENCODERS)
def test_t9_the_side_of_the_padding_does_not_matter(name):
    model, task, tokenizer = case_of(name, "right", torch.float64, pooled=True)
    right = FIXED(model, batch_of(tokenizer), task)
    tokenizer.padding_side = "left"
    left = FIXED(model, batch_of(tokenizer), task)
    assert left.units.padding[1].tolist() == right.units.padding[1].flip(0).tolist()
    for row, other in zip(left, right, strict=True):
        assert row.tokens == other.tokens
        assert furthest(row.scores, other.scores) <= 1e-12


@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_t9_gradient_times_input(name):
    assert_t9(*case_of(name, "right", torch.float64), 1e-12, GradientTimesInput())


@pytest.mark.parametrize("name", RIGHT)
def test_t9_internal_batch_size(name):
    model, task, tokenizer = case_of(name, "right", torch.float64)
    batch = batch_of(tokenizer)
    whole = FIXED(model, batch, task)
    for size in (1, 3):
        parts = IntegratedGradients(tolerance=None, steps=10, internal_batch_size=size)(model, batch, task)
        assert furthest(parts.scores.tolist(), whole.scores.tolist()) <= (1e-6 if name == "longformer" else 1e-12)
        assert parts.gradients.tolist() == whole.gradients.tolist() == [10, 10]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "longformer"])
def test_completeness(name, side):
    model, task, tokenizer = case_of(name, side)
    record = IntegratedGradients(tolerance=0.01, max_steps=4096)(model.train(), batch_of(tokenizer), task)
    assert record.converged == (True, True)
    assert float(record.relative_error.max()) <= 0.01
    missed = record.scores.double().sum(dim=1) - (record.target - record.baseline_target)
    torch.testing.assert_close(missed, record.error, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        record.relative_error, missed.abs() / (record.target - record.baseline_target).abs().clamp(min=0.01)
    )
    assert record.cut is True
    assert float(record.scores.abs().max()) > 1e-3
    assert record.scores[record.units.padding].abs().sum() == 0
    assert record.scores[record.units.special].abs().sum() == 0  # special tokens are as they were in the baseline


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "longformer"])
def test_targets_are_what_the_model_returns(name):
    model, task, tokenizer = case_of(name, "right", torch.float64)
    batch = batch_of(tokenizer)
    accepted = {part: batch[part] for part in ("input_ids", "attention_mask")}
    with torch.no_grad():
        logits = model(**accepted).logits
        absent = (
            ~torch.isin(batch["input_ids"], torch.tensor(tokenizer.all_special_ids)) & batch["attention_mask"].bool()
        )
        # what is replaced are embeddings, with ids, mask and positions as they are in the text
        embedding = model.get_input_embeddings()
        kept = embedding.weight.clone()
        replaced = batch["input_ids"][absent].unique()
        embedding.weight[replaced] = kept[tokenizer.pad_token_id]
        at_baseline = model(**accepted).logits
        embedding.weight.copy_(kept)
    record = FIXED(model, batch, task)
    index = logits.argmax(dim=1)
    torch.testing.assert_close(record.target, logits.gather(1, index[:, None])[:, 0])
    torch.testing.assert_close(record.baseline_target, at_baseline.gather(1, index[:, None])[:, 0])


def test_longformer_with_left_padding_is_refused():
    model, task, tokenizer = case_of("longformer", "left")
    with pytest.raises(LayerError, match=r"(?s)cannot be attributed to: .*other logits with `inputs_embeds`"):
        FIXED(model, batch_of(tokenizer), task)


def test_longformer_with_left_padding_alone_is_served():
    model, task, tokenizer = case_of("longformer", "left")
    for text in TEXTS:
        assert (
            float(IntegratedGradients(tolerance=1e-4)(model, batch_of(tokenizer, [text]), task).relative_error) <= 1e-4
        )


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_deeper_layer(name):
    """The output of the first block: complete against F(x; h := h(x')), zero where nothing can change."""
    model, task, tokenizer = case_of(name, "left" if name in LEFT else "right", torch.float64)
    blocks = [
        part for part, module in model.named_modules() if part.endswith(("layer.0", "layers.0", "h.0", "block.0"))
    ]
    layer = next(part for part in blocks if "decoder" not in part)
    if name == "xlnet":  # its blocks have the tokens first
        with pytest.raises(ValueError, match=r"its first dimension is no example"):
            FIXED(model, batch_of(tokenizer), task, layer=layer)
        return
    text = [SHORT] if name == "longformer" else TEXTS  # of a length that it does not pad
    record = IntegratedGradients(tolerance=1e-3, max_steps=2048)(model, batch_of(tokenizer, text), task, layer=layer)
    assert record.layer == layer
    assert all(record.converged)
    assert float(record.scores.abs().max()) > 1e-3


def test_the_longest_text_of_a_model_is_explained():
    model, task, tokenizer = case_of("bert", "right")
    long = batch_of(tokenizer, [" ".join([LONG] * 5), SHORT], max_length=40)
    record = FIXED(model, long, task)
    assert len(record[0].tokens) == 40
    assert record.notes[0] == ("cut to 40 of 67 tokens: the model takes no more",)
    assert record.notes[1] == ()


def test_the_pair_of_two_texts_is_explained():
    model, task, tokenizer = case_of("bert", "right", torch.float64)
    texts = ["the film", "a"], ["was not bad", "dull"]
    batch = tokenizer(*texts, padding=True, return_token_type_ids=True, return_tensors="pt")
    record = IntegratedGradients(tolerance=1e-4)(model, batch, task)
    assert all(record.converged)
    assert record[0].segment == (0, 0, 0, 0, 1, 1, 1, 1)
    assert record[1].segment == (0, 0, 0, 1, 1)
