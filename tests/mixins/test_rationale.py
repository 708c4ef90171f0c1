"""RationaleMixin: what it adds to the loss, what it logs, its scopes, and what it refuses."""

import pytest
import torch
from planted import VOCABULARY
from rationale_toys import Gated, GatedReader, Reader, Wrapped, gated, planted_loader, trained
from tiny import LONG, SHORT, batch_of
from torch import nn
from torch.nn import functional as F

from lightning_interpret import IntegratedGradients, Occlusion, RationaleMixin


def batch_for(module, **options):
    return batch_of(module.tokenizer, [LONG, SHORT], labels=[0, 1], **options)


def test_the_loss_is_the_task_s_and_the_control_s():
    module = gated("bert").train()
    module.rationale.control.begin(0.25)
    batch = batch_for(module)
    with torch.random.fork_rng():
        loss = module.training_step(batch, 0)
    with torch.random.fork_rng(), module.rationale.hearing() as heard:
        task = F.cross_entropy(module(batch), batch["labels"])
    (read,) = heard
    rate = read.selection.rate.mean()
    assert module.rationale.control.target_now == pytest.approx(0.65)
    assert torch.allclose(loss, task + (rate - 0.65).abs())
    assert module.auxiliary_loss() == 0.0
    assert module.rationale._heard is None  # nothing is kept of the step


def test_at_evaluation_exactly_the_budget_is_selected_and_special_tokens_are_kept():
    module = gated("bert")
    with module.rationale.hearing() as heard, torch.no_grad():
        module(batch_for(module))
    (read,) = heard
    count = read.selectable.sum(dim=1)
    assert count.tolist() == [13, 6]
    assert read.selected.sum(dim=1).tolist() == [4, 2]  # .3 of them, rounded
    assert read.z[read.special].min() == 1
    padding = ~(read.selectable | read.special)
    assert read.z[padding].max() == 0
    never = gated("bert", rationale_keep_special=False)
    with never.rationale.hearing() as heard, torch.no_grad():
        never(batch_for(never))
    assert heard[0].z[heard[0].special].max() == 0
    assert heard[0].selected.sum(dim=1).tolist() == [4, 2]


def test_scopes():
    module, plain = gated("bert"), Wrapped("bert").eval()
    batch = batch_for(module)
    with torch.no_grad():
        with module.rationale.hearing() as heard:
            part = module(batch)
        with module.rationale.everything():
            assert torch.equal(module(batch), plain(batch))
        (read,) = heard
        rest = (read.selectable & ~read.selected).float() + read.special
        with module.rationale.complement():
            complement = module(batch)
        with module.rationale.selecting(rest):
            assert torch.equal(module(batch), complement)
            with module.rationale.everything():  # the inner one
                assert torch.equal(module(batch), plain(batch))
        assert torch.equal(module(batch), part)
        wrong = module.rationale.selecting(rest[:1])
        with pytest.raises(ValueError, match=r"selection has shape \(1, 15\), but the texts are \(2, 15\)"), wrong:
            module(batch)
        assert torch.equal(module(batch), part)  # whatever went wrong


def test_the_fill_stands_where_nothing_was_selected():
    module = gated("bert", rationale_fill="mask")
    batch = batch_for(module)
    mask = module.tokenizer.mask_token_id
    with torch.no_grad(), module.rationale.hearing() as heard:
        logits = module(batch)
    (read,) = heard
    masked = torch.where(read.selectable & ~read.selected, mask, batch["input_ids"])
    assert torch.equal(logits, Wrapped("bert").eval()({**batch, "input_ids": masked}))
    with pytest.raises(ValueError, match="no tokenizer with a mask token"):
        GatedReader(rationale_fill="mask").configure_model()


def test_a_model_of_one_s_own_is_explained_as_deployed():
    torch.manual_seed(0)
    module = GatedReader(width=8, rationale_target=0.3)
    module.configure_model()
    module.eval()
    ids = torch.randint(20, 40, (2, 9))
    task = OwnTask(module)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        logits, absent = module(ids), module(torch.full_like(ids, 5))
    first = logits.argmax(dim=1)
    for method in (IntegratedGradients(baseline="unk", steps=4, tolerance=None), Occlusion(baseline="unk")):
        record = method(module, batch, task)
        for told, deployed in ((record.target, logits), (record.baseline_target, absent)):
            assert torch.allclose(told, deployed[[0, 1], first].double(), atol=1e-5), method.name


class Words:
    """As much of a tokenizer as a task needs."""

    all_special_ids, pad_token_id, unk_token_id, mask_token_id = (0,), 0, 5, 6
    padding_side = "right"

    def get_vocab(self):
        return {f"w{i}": i for i in range(VOCABULARY)}

    def convert_ids_to_tokens(self, ids):
        return [f"w{i}" for i in ids]

    def convert_tokens_to_string(self, tokens):
        return " ".join(tokens)

    def batch_decode(self, rows):
        return [" ".join(map(str, row)) for row in rows]

    def __len__(self):
        return VOCABULARY


class OwnTask(type(Reader(width=2).interpret_task())):
    def __init__(self, module):
        super().__init__(Words(), ["bad", "good"])


# People's rationales


def step(module, batch):
    """The terms of a step."""
    torch.manual_seed(0)
    module.train()
    terms = {}
    add = type(module).add_term

    def add_term(name, value):
        terms[name] = value
        add(module, name, value)

    module.add_term = add_term
    module.training_step(batch, 0)
    return terms


def test_supervision_is_the_cross_entropy_of_texts_that_have_a_rationale():
    module = gated("bert", rationale_supervision=2.0)
    batch = batch_of(module.tokenizer, [LONG, SHORT, SHORT], labels=[0, 1, 2])
    gold = torch.full((3, 15), -100.0)
    gold[0, 1:14], gold[0, 3], gold[2, 1:6] = 0.0, 1.0, 0.0  # the second was not asked, the third selected nothing
    gold[0, 5] = float("nan")
    given = {**batch, "rationale": gold}
    found = step(module, given)["rationale_supervision"]
    torch.manual_seed(0)
    with module.rationale.hearing() as heard:
        module(batch)
    p = heard[0].selection.probabilities[0].double()
    places = [i for i in range(1, 14) if i != 5]
    oracle = sum(-(p[i].log() if i == 3 else (1 - p[i]).log()) for i in places) / len(places)
    assert found.item() == pytest.approx(2 * oracle.item(), rel=1e-5)
    found.backward()
    assert module.rationale.gate.weight.grad.abs().sum() > 0
    as_bool = {**batch, "rationale": torch.arange(15).expand(3, 15) == 3}
    assert step(module, as_bool)["rationale_supervision"] > 0
    nobody = {**batch, "rationale": torch.full((3, 15), -100)}
    assert step(module, nobody)["rationale_supervision"] == 0
    assert "rationale_supervision" not in step(module, batch)


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        (torch.zeros(2, 9), r"has shape \(2, 9\), but the texts are \(2, 15\) tokens"),
        (torch.zeros(2, 15, 1), r"has shape \(2, 15, 1\)"),
        (torch.zeros(1, 15), r"has shape \(1, 15\)"),
        (torch.full((2, 15), 3.0), r"numbers in \[0, 1\]"),
        ([[1], [0]], "is a list"),
    ],
)
def test_rationales_that_are_not_of_these_tokens_are_refused(gold, message):
    module = gated("bert", rationale_supervision=1.0)
    with pytest.raises(ValueError, match=message):
        step(module, {**batch_for(module), "rationale": gold})


# Other terms


def test_consistency_is_the_divergence_of_the_selection_from_the_whole_text():
    module = gated("gpt2", rationale_consistency=0.5)
    for part in module.modules():  # without dropout the two passes can be made again
        part.p = 0.0 if isinstance(part, nn.Dropout) else getattr(part, "p", None)
    batch = batch_for(module)
    found = step(module, batch)["rationale_consistency"]
    torch.manual_seed(0)
    with module.rationale.hearing() as heard:
        module(batch)
    with module.rationale.everything():
        p = module(batch).double().softmax(dim=1)
    with module.rationale.selecting(heard[0].z):
        q = module(batch).double().softmax(dim=1)
    assert found.item() == pytest.approx(0.5 * (p * (p / q).log()).sum(dim=1).mean().item(), rel=2e-3)
    found.backward()
    assert module.rationale.gate.weight.grad.abs().sum() > 0


def test_reinforce_has_the_gradient_of_the_expected_loss():
    """Against the sum over all selections of a short text, in double precision."""
    torch.manual_seed(0)
    module = GatedReader(width=4, rationale_gate="reinforce", rationale_baseline="none").double()
    module.configure_model()
    module.double()
    ids, labels = torch.tensor([[30, 31, 12, 33]]), torch.tensor([1])
    every = torch.tensor([[i >> k & 1 for k in range(4)] for i in range(16)]).double()
    features = module.embedding(ids)
    selectable = torch.ones_like(ids, dtype=torch.bool)
    module.train()
    p = module.rationale.gate(module.rationale.generator(features, selectable), selectable).probabilities[0]
    chance = torch.where(every == 1, p, 1 - p).prod(dim=1)
    with module.rationale.selecting(every), torch.no_grad():
        losses = F.cross_entropy(module(ids.expand(16, -1)), labels.expand(16), reduction="none")
    weight = module.rationale.gate.weight
    (exact,) = torch.autograd.grad((chance * losses).sum(), weight)
    spread = {}
    for baseline in ("none", "moving_average"):
        module._rationale["baseline"], module.rationale.average = baseline, None
        draws = []
        for seed in range(200):
            torch.manual_seed(seed)
            term = step_of_reinforce(module, {"input_ids": ids, "labels": labels})
            draws.append(torch.autograd.grad(term, weight)[0])
        draws = torch.stack(draws)
        spread[baseline] = draws.var(dim=0).sum()
        error = (draws.mean(dim=0) - exact).norm()
        assert error < 4 * (spread[baseline] / len(draws)).sqrt(), baseline
    assert spread["moving_average"] < 0.5 * spread["none"]


def step_of_reinforce(module, batch):
    module.begin_step(batch)
    module._steps = 1
    try:
        module(batch["input_ids"])
        module.finish_step()
        return module._terms["rationale_reinforce"]
    finally:
        module._steps, module._terms = 0, {}
        module.end_step()


# What is refused


class Two(RationaleMixin, Reader):
    """Without a task that says which of two embeddings is of words."""

    interpret_task = None

    def __init__(self, **options):
        super().__init__(**options)
        self.positions = nn.Embedding(9, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"rationale_target": value}, "between 0 and 1") for value in (0, 1, -0.1, 1.5, True, float("nan"))),
        ({"rationale_gate": "gumble"}, "Did you mean 'gumbel'"),
        ({"rationale_control": "annealed"}, "Did you mean 'anneal'"),
        ({"rationale_evaluation": "exact"}, "There is: budget, threshold"),
        ({"rationale_fill": "pad"}, "There is: zero, mask"),
        ({"rationale_baseline": "mean"}, "There is: moving_average, batch, none"),
        ({"rationale_weight": 0.0}, "must be positive"),
        *(({"rationale_warmup": value}, "at least 0 and less than 1") for value in (-0.1, 1.0, True)),
        ({"rationale_supervision": -1.0}, "0 or more"),
        ({"rationale_coherence": -1.0}, "0 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        GatedReader(**options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GatedReader(rationale_layer="embeding"), "Did you mean 'embedding'"),
        (lambda: GatedReader(rationale_layer="head"), "is a Linear: name word embeddings"),
        (lambda: GatedReader(rationale_generator="shared"), "no model of `transformers` around 'embedding'"),
        (lambda: GatedReader(rationale_generator="rnn"), "`layer='rnn'` does not exist"),
        (lambda: GatedReader(rationale_generator=nn.Flatten()), "Flatten makes"),
        (lambda: Two(), r"several embeddings \(embedding, positions\)"),
        (lambda: Two(rationale_layer="embedding", rationale_words=True), "no tokenizer that tells words"),
    ],
)
def test_what_cannot_be_attached_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make().configure_model()


def test_embeddings_that_do_not_run_are_told(tmp_path):
    class Elsewhere(RationaleMixin, Reader):
        def __init__(self, **options):
            super().__init__(**options)
            self.words = nn.Embedding(VOCABULARY, 4)

    module = Elsewhere(width=8, rationale_layer="words")
    with pytest.raises(ValueError, match=r"`rationale_layer='words'` has not run in this training step"):
        trained(tmp_path, module, planted_loader(8, batch_size=4), max_epochs=1)
    other = Gated("bert", rationale_layer="model.bert.embeddings.position_embeddings")
    other.configure_model()
    with pytest.raises(ValueError, match=r"embeds \(1, 15\), and not the ids \(2, 15\)"):
        other(batch_for(other))


def test_a_module_that_reads_tokens_past_the_gate_is_refused(tmp_path):
    class Leaks(GatedReader):
        def forward(self, ids):
            return super().forward(ids) + 0.01 * (ids == 40).sum(dim=1, keepdim=True)

    with pytest.raises(ValueError, match=r"Leaks reads the ids past `rationale_layer='embedding'`"):
        trained(tmp_path, Leaks(width=8), planted_loader(64), max_epochs=1)
    trained(tmp_path, GatedReader(width=8), planted_loader(64), max_epochs=1)


def test_embeddings_given_by_hand_need_their_ids():
    module = gated("bert")
    batch = batch_for(module)
    mask = batch["attention_mask"]
    with torch.no_grad():
        logits = module(batch)
        embedded = module.model.get_input_embeddings()(batch["input_ids"])
        assert torch.equal(module.model(inputs_embeds=embedded, attention_mask=mask).logits, logits)
        with pytest.raises(ValueError, match="of ids that nobody knows"):
            module.model(inputs_embeds=embedded, attention_mask=mask)


def test_texts_of_one_token_of_none_and_of_special_tokens_alone():
    module = gated("bert", rationale_supervision=1.0)
    for texts in ([LONG, "good"], ["good", ""], [""]):
        batch = batch_of(module.tokenizer, texts, labels=[0] * len(texts))
        with torch.no_grad():
            assert module.eval()(batch).isfinite().all()
        gold = torch.zeros_like(batch["input_ids"])
        assert all(value.isfinite() for value in step(module, {**batch, "rationale": gold}).values())
        rows = module.eval().explain(batch)
        rates = [None if not text else 1.0 if text == "good" else pytest.approx(4 / 13) for text in texts]
        assert [row.rate for row in rows] == rates
    nothing = {**batch, "attention_mask": torch.zeros_like(batch["attention_mask"])}
    with torch.no_grad():
        assert module(nothing).isfinite().all()
