"""Methods of attention: against what transformers returns itself, their laws, and what they refuse."""

import pytest
import torch
from purity import assert_same, state_of
from tiny import LONG, SHORT, Bag, BagTask, MeanPooled, MeanPooledTask, batch_of, classifier, lively, tokenizer_for
from tiny_images import images_of, model_of
from torch import nn
from torch.testing import assert_close
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BigBirdConfig,
    BigBirdForSequenceClassification,
)

from lightning_interpret import (
    AttentionFlow,
    AttentionRollout,
    AttentionWeights,
    GradientAttention,
    ImageClassification,
    SequenceClassification,
    ValueZeroing,
)
from lightning_interpret.functional.attention import AttentionError, attention
from lightning_interpret.functional.attention.flow import MOST_TOKENS
from lightning_interpret.functional.attention.rollout import relevance_map, rollout
from lightning_interpret.functional.features import LayerError
from lightning_interpret.tasks.transformer import call

EVERY = [
    AttentionWeights(),
    AttentionWeights(attention_layer=None, aggregate="max"),
    AttentionRollout(),
    AttentionFlow(),
    GradientAttention(),
    GradientAttention(rule="product"),
    ValueZeroing(),
]
MODELS = ("bert", "gpt2", pytest.param("llama", marks=pytest.mark.slow))


def case(name, texts=(LONG, SHORT), **options):
    tokenizer = tokenizer_for(name, **options)
    return classifier(name, dtype=torch.float64), batch_of(tokenizer, texts), SequenceClassification(tokenizer)


def own(model, batch, index):
    """What transformers itself returns under eager attention, and the gradient of a logit in it."""
    model.set_attn_implementation("eager")
    out = model(batch["input_ids"], attention_mask=batch["attention_mask"], output_attentions=True)
    score = out.logits.gather(1, index[:, None]).sum()
    return out.attentions, torch.autograd.grad(score, out.attentions)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_the_peer_is_transformers_under_eager_attention(name):
    model, batch, task = case(name)
    there = batch["attention_mask"].bool()
    with torch.no_grad():
        predicted = task.logits(model, batch).argmax(dim=1)
    found = {method: method(model, batch, task).scores for method in EVERY}
    assert model.config._attn_implementation == "sdpa"
    weights, gradients = own(model, batch, predicted)
    place = torch.zeros(2, dtype=torch.long) if name == "bert" else there.sum(dim=1) - 1
    rows = torch.arange(2)
    means = [each.mean(dim=1) for each in weights]
    want = [
        means[-1][rows, place],
        torch.stack([each.amax(dim=1)[rows, place] for each in weights]).amax(dim=0),
        rollout(means, there)[rows, place],
        None,
        relevance_map(weights, gradients, there)[rows, place] - nn.functional.one_hot(place, there.shape[1]),
        sum((a * g).sum(dim=(1, 2)) for a, g in zip(weights, gradients, strict=True)),
        None,
    ]
    for method, expected in zip(EVERY, want, strict=True):
        if expected is not None:
            assert_close(found[method], expected.detach() * there, atol=1e-10, rtol=0, msg=str(method))


@pytest.mark.parametrize("method", EVERY, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_padding_is_nothing_and_a_batch_is_a_loop(name, method):
    model, batch, task = case(name)
    before = state_of(model)
    record = method(model, batch, task)
    assert_same(before, state_of(model))
    size = int(batch["attention_mask"][1].sum())
    alone = method(model, batch_of(task.tokenizer, [SHORT]), task)
    tolerance = 1e-6 if name == "llama" else 1e-10  # Llama norms and weighs in single precision
    assert_close(record.scores[1, :size], alone.scores[0], atol=tolerance, rtol=0)
    assert bool((record.scores[1, size:] == 0).all())
    assert bool(record.scores.isfinite().all())
    small = type(method)(**{**vars(method), "internal_batch_size": 1})(model, batch, task)
    assert_close(small.scores, record.scores, atol=tolerance, rtol=0)
    if isinstance(method, (AttentionRollout, ValueZeroing)):
        assert_close(record.scores.sum(dim=1), torch.ones(2).double())
    assert bool((record.scores < 0).any()) == (method == GradientAttention(rule="product"))


@pytest.mark.parametrize("method", EVERY, ids=str)
def test_padding_on_the_left_is_nothing(method):
    model, batch, task = case("llama", padding_side="left")
    size = int(batch["attention_mask"][1].sum())
    alone = method(model, batch_of(task.tokenizer, [SHORT]), task)
    assert_close(method(model, batch, task).scores[1, -size:], alone.scores[0], atol=1e-6, rtol=0)


def test_the_position_is_the_one_that_the_head_reads():
    for name, read in (("bert", "first"), ("gpt2", "last")):
        model, batch, task = case(name)
        for method in (AttentionWeights, AttentionRollout):
            found, told = method()(model, batch, task).scores, method(read=read)(model, batch, task).scores
            assert_close(found, told)
            assert not torch.allclose(found, method(read="mean")(model, batch, task).scores)
    tokenizer = tokenizer_for("bert")
    model, task, batch = MeanPooled("bert", torch.float64), MeanPooledTask(tokenizer), batch_of(tokenizer)
    found, told = (AttentionRollout(read=read)(model, batch, task).scores for read in ("auto", "mean"))
    assert_close(found, told)


def test_a_layer_is_attributed_to_by_the_attention_after_it():
    model, batch, task = case("bert")
    last = AttentionRollout()(model, batch, task, layer="bert.encoder.layer.0")
    everything = AttentionRollout()(model, batch, task, layer="bert.embeddings.word_embeddings")
    assert_close(everything.scores, AttentionRollout()(model, batch, task).scores)
    weights = AttentionWeights(attention_layer=1)(model, batch, task).scores
    own_half = nn.functional.one_hot(torch.zeros(2, dtype=torch.long), weights.shape[1])
    assert_close(last.scores, 0.5 * weights + 0.5 * own_half)
    assert last.layer == "bert.encoder.layer.0"
    for method in EVERY:  # nothing is mixed after the last block: CLS is read of its output
        scores = method(model, batch, task, layer="bert.encoder.layer.1").scores
        assert_close(scores, nn.functional.one_hot(torch.zeros(2, dtype=torch.long), scores.shape[1]).double())
    sweep = ValueZeroing()(model, batch, task, layer="all")
    assert list(sweep) == ["bert.embeddings.word_embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1"]


@pytest.mark.parametrize("name", ["t5", pytest.param("bart", marks=pytest.mark.slow)])
def test_of_an_encoder_and_a_decoder_a_part_is_named(name):
    model, batch, task = case(name)
    for method in EVERY:
        with pytest.raises(AttentionError, match=r"attends to another text.*`inside='\w+\.encoder'`"):
            method(model, batch, task)
        inside = {"t5": "transformer.encoder", "bart": "model.encoder"}[name]
        record = type(method)(**{**vars(method), "inside": inside})(model, batch, task)
        assert bool((record.scores[~record.units.padding] != 0).any())


@pytest.mark.parametrize("method", [AttentionRollout(), ValueZeroing()], ids=str)
def test_attention_in_windows_has_no_map_and_another_method_is_named(method):
    model, batch, task = case("longformer")
    with pytest.raises(AttentionError, match=r"No attention of Longformer.*is over the 15 tokens.*integrated_grad"):
        method(model, batch, task)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    sparse = {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1, "sep_token_id": None}
    bird = BigBirdForSequenceClassification(BigBirdConfig(vocab_size=30, num_labels=3, **sizes, **sparse))
    batch = batch_of(task.tokenizer, [" ".join([LONG] * 5)])
    with pytest.raises(AttentionError, match=r"attends to another text, or this one in windows.*integrated_gradients"):
        method(lively(bird), batch, task)


@pytest.mark.parametrize(
    ("name", "why"), [("xlnet", r"returns shape \(15, 2, 16\)"), ("albert", "no layer of its own")]
)
def test_value_zeroing_needs_layers_that_return_the_tokens_of_each_text(name, why):
    model, batch, task = case("bert" if name == "albert" else name)
    if name == "albert":
        sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 2}
        model = lively(AlbertForSequenceClassification(AlbertConfig(vocab_size=30, num_labels=3, **sizes)))
    with pytest.raises(AttentionError, match=f"{why}.*use attention rollout"):
        ValueZeroing()(model, batch, task)
    assert_close(AttentionRollout()(model, batch, task).scores.sum(dim=1).double(), torch.ones(2).double())


class Additive(Bag):
    """A bag whose mean is additive attention."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(6, 1, bias=False)
        lively(self).double()

    def forward(self, ids, mask):
        embedded = self.embedding(ids)
        scores = self.query(torch.tanh(self.hidden(embedded))).squeeze(-1).masked_fill(mask == 0, -torch.inf)
        return self.head((scores.softmax(-1)[..., None] * embedded).sum(dim=1))


def test_additive_attention_before_a_head_is_what_it_weighs():
    tokenizer = tokenizer_for("bert")
    model, task, batch = Additive(), BagTask(tokenizer, ["a", "b", "c"]), batch_of(tokenizer)
    there = batch["attention_mask"].bool()
    with torch.no_grad():
        scores = model.query(torch.tanh(model.hidden(model.embedding(batch["input_ids"])))).squeeze(-1)
    weights = scores.masked_fill(~there, -torch.inf).softmax(-1)
    for method in (AttentionWeights(), AttentionRollout(), AttentionFlow()):
        assert_close(method(model, batch, task).scores, weights)
    assert bool((GradientAttention()(model, batch, task).scores >= 0).all())
    with pytest.raises(AttentionError, match=r"Additive after `head` computes no attention"):
        AttentionWeights()(model, batch, task, layer="head")
    with pytest.raises(AttentionError, match=r"attention of one position alone: use 'attention_weights'"):
        ValueZeroing()(model, batch, task)


@pytest.mark.parametrize("method", EVERY, ids=str)
def test_one_token_has_a_defined_value(method):
    tokenizer = tokenizer_for("bert")
    model, task = classifier("bert"), SequenceClassification(tokenizer)
    batch = {"input_ids": torch.tensor([[7]]), "attention_mask": torch.tensor([[1]])}
    scores = method(model, batch, task).scores
    assert scores.shape == (1, 1)
    assert bool(scores.isfinite().all())
    if not isinstance(method, GradientAttention):
        assert_close(scores, torch.ones(1, 1))


def test_what_cannot_be_read_is_refused_by_name():
    model, batch, task = case("bert")
    for option, message in (
        ({"attention_layer": 2}, "`attention_layer=2`, but 2 layers have attention"),
        ({"head": -3}, "`head=-3`, but `bert.encoder.layer.1.attention.self` has 2"),
    ):
        with pytest.raises(AttentionError, match=message):
            AttentionWeights(**option)(model, batch, task)
    for method, option in (
        (AttentionWeights, "read"),
        (AttentionWeights, "aggregate"),
        (AttentionRollout, "heads"),
        (GradientAttention, "rule"),
    ):
        with pytest.raises(ValueError, match=f"`{option}='meen'` does not exist"):
            method(**{option: "meen"})
    for option in ({"attention_layer": "last"}, {"head": 1.5}):
        with pytest.raises(ValueError, match=r"`\w+=.*` must be a whole number: 0 is the first, -1 the last"):
            AttentionWeights(**option)
    with pytest.raises(LayerError, match=r"`inside='bert.encodr'` does not exist.*Did you mean 'bert.encoder"):
        AttentionRollout(inside="bert.encodr").check(model, task, [], "logit")
    tokenizer = tokenizer_for("bert")
    bag = BagTask(tokenizer, ["a", "b", "c"])
    with pytest.raises(AttentionError, match="Bag computes no attention"):
        AttentionWeights()(Bag(), batch_of(tokenizer), bag)


def test_flow_is_for_short_texts():
    class Encoder(BagTask):
        def logits(self, module, batch):
            return module(batch["input_ids"]).mean(dim=1)

        def layer(self, module):
            return "0"

    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    ids = torch.ones(1, MOST_TOKENS + 1, dtype=torch.long)
    batch, task = (
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        Encoder(tokenizer_for("bert"), list("abcdefgh")),
    )
    model = nn.Sequential(nn.Embedding(30, 8), layer).eval()
    with pytest.raises(ValueError, match=f"has {MOST_TOKENS + 1} tokens.*at most {MOST_TOKENS}"):
        AttentionFlow()(model, batch, task)
    batch["attention_mask"][:, 3:] = 0  # what is padding is in no graph
    assert bool((AttentionFlow()(model, batch, task).scores[:, :3] > 0).all())


def test_an_image_has_no_tokens():
    model, batch = model_of("vit"), images_of()
    with pytest.raises(ValueError, match=r"scores the tokens of a text.*'location'"):
        AttentionRollout()(model, batch, ImageClassification())


class Frozen(nn.Module):
    """An encoder that a head learns on top of, run without gradients."""

    def __init__(self):
        super().__init__()
        self.whole = MeanPooled("bert", torch.float64)

    def forward(self, parts):
        with torch.no_grad():
            hidden = call(self.whole.encoder, parts).last_hidden_state
        return self.whole.head(hidden[:, 0])


def test_attention_that_no_gradient_reaches_is_read_where_it_is_told_and_else_refused():
    model, task = Frozen(), MeanPooledTask(tokenizer_for("bert"))
    batch = batch_of(task.tokenizer)
    for method in EVERY:
        with pytest.raises(AttentionError, match=r"No gradient of the score reaches.*`no_grad`.*`read='first'`"):
            method(model, batch, task)
    found = AttentionWeights(read="first")(model, batch, task).scores
    with torch.no_grad(), attention(model) as met:
        task.logits(model, batch)
    assert_close(found, met.weights[-1].weights.mean(dim=1)[:, 0])


class Causal(Bag):
    """One layer that is read at the last position; padding on the left may see no key, and gets NaN."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        lively(self).double()

    def forward(self, ids, mask):
        h, later = self.embedding(ids), torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)
        return self.head(self.attention(h, h, h, attn_mask=later, key_padding_mask=mask == 0)[0][:, -1])


@pytest.mark.parametrize("method", EVERY, ids=str)
def test_padding_that_sees_no_key_leaves_the_text_its_numbers(method):
    model, task = Causal(), BagTask(tokenizer_for("bert", padding_side="left"), ["a", "b", "c"])
    batch = batch_of(task.tokenizer)
    assert bool(task.logits(model, batch).isfinite().all())
    size = int(batch["attention_mask"][1].sum())
    alone = method(model, batch_of(task.tokenizer, [SHORT]), task).scores[0]
    found = method(model, batch, task).scores[1]
    assert_close(found[-size:], alone, atol=1e-10, rtol=0)
    assert bool((found[:-size] == 0).all())


def test_attention_that_is_no_number_is_refused_by_name():
    model, batch, task = case("bert")
    model.bert.encoder.layer[1].attention.self.query.weight.data.fill_(torch.nan)
    for method in EVERY:
        with pytest.raises(AttentionError, match=r"`bert.encoder.layer.1.attention.self` .*no number.*diverged"):
            method(model, batch, task)
