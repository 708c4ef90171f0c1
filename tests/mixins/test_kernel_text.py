"""A kernel layer in TextClassifier and in classifiers of `transformers`, and kernels on the texts themselves."""

import pytest
import torch
from kernel_toys import Plain, fit, seeded
from tiny import CLASSIFIERS, VOCABULARY, batch_of, classifier, quiet_trainer, tokenizer_for, wordpiece
from torch import nn
from transformers import BertConfig

from lightning_interpret import (
    KernelMixin,
    SequenceClassification,
    TextClassifier,
    TextDataModule,
    TurnOverDropoutMixin,
)
from lightning_interpret.functional.layers import last_linear
from lightning_interpret.functional.scope import explaining
from lightning_interpret.layers.before_head import put_before
from lightning_interpret.layers.raw_kernel import RawKernel
from lightning_interpret.mixins.kernel.features import features_of
from lightning_interpret.modules.portable import config_values


class Kernel(KernelMixin, TextClassifier):
    """A TextClassifier with a kernel layer."""


class Both(TurnOverDropoutMixin, KernelMixin, TextClassifier):
    """With turn-over dropout, too."""


class BothAgain(KernelMixin, TurnOverDropoutMixin, TextClassifier):
    """In the other order."""


def _model(kind=Kernel, **options):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = config_values(
        BertConfig(vocab_size=VOCABULARY, max_position_embeddings=40, initializer_range=0.3, **sizes)
    )
    given = {"learning_rate": 1e-2, "tokenizer": wordpiece(), "kernel_landmarks": 6}
    return seeded(kind, config=config, labels=["bad", "dull", "good"], **given | options)


def _data(folder):
    rows = [("the film was good", "good"), ("he is very dull", "dull"), ("a bad movie", "bad")]
    rows += [(f"{text} and {text}", label) for text, label in rows] + [(f"the {text}", label) for text, label in rows]
    path = folder / "rows.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    return TextDataModule(train_file=str(path), val_file=str(path), tokenizer=wordpiece(), batch_size=3)


@pytest.mark.parametrize("kind", [Kernel, Both, BothAgain])
def test_a_text_classifier_learns_and_comes_back_from_its_checkpoint(kind, tmp_path):
    model, data = _model(kind), _data(tmp_path)
    trainer = quiet_trainer(tmp_path, max_epochs=16)
    with torch.random.fork_rng():
        torch.manual_seed(2)  # nine rows and 16 units: it does not learn from every order of them
        trainer.fit(model, data)
    if kind is Kernel:  # without half of its units it learns nothing in so many steps
        assert trainer.callback_metrics["val_accuracy"] > 0.5
    assert model.kernel.landmarks[0].text in {row.text for row in data.rows["train"]}
    assert {each.label for each in model.kernel.landmarks} <= {"bad", "dull", "good"}
    trainer.save_checkpoint(tmp_path / "kernel.ckpt")
    loaded = kind.load_from_checkpoint(tmp_path / "kernel.ckpt").eval()
    batch = batch_of(wordpiece(), ["the film was dull", "he is good"])
    with torch.no_grad():
        assert torch.equal(loaded(batch), model.eval()(batch))
    assert loaded.hparams["kernel_landmarks"] == 6
    if kind is not Kernel:
        assert "input of model.classifier" in model.turn_over_dropout.sites
        with model.turn_over_dropout.seen(torch.tensor([0, 1])), torch.no_grad():
            assert not torch.equal(loaded(batch), model(batch))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_features_are_what_the_head_reads_where_its_scores_count(name):
    model, tokenizer = classifier(name, dtype=torch.float64), tokenizer_for(name)
    task, batch, head = SequenceClassification(tokenizer), batch_of(tokenizer), last_linear(model)
    with torch.no_grad():
        before = task.logits(model, batch)
    layer = nn.Linear(model.get_submodule(head).in_features, 5).double()
    place = put_before(model, head, layer, 5)
    with explaining(model):
        features = features_of(model, layer, 5, task, batch)
    with torch.no_grad():
        assert task.logits(model, batch).shape == before.shape
    place.take_out()
    with torch.no_grad():
        assert torch.allclose(model.get_submodule(head)(features), before, atol=1e-10)
        assert torch.equal(task.logits(model, batch), before)


CALLS = []


def common_letters(first, second):
    """A kernel of two strings: the product of how often each letter is in them."""
    CALLS.append((list(first), list(second)))
    letters = "abcdefghijklmnopqrstuvwxyz"
    counts = [[[text.count(letter) for letter in letters] for text in texts] for texts in (first, second)]
    return [[float(sum(a * b for a, b in zip(x, y, strict=True))) for y in counts[1]] for x in counts[0]]


def indefinite(first, second):
    return [[1.0 if x != y else 0.3 for y in second] for x in first]


class Strings(KernelMixin, Plain):
    """No encoder: rows of a kernel between strings, and a head."""

    def __init__(self, **options):
        given = {"kernel": f"{__name__}:common_letters", "kernel_inputs": "texts", "kernel_landmarks": 5}
        super().__init__(**given | options)
        del self.first
        self.last = nn.Linear(5, 3)

    def raw_inputs(self, batch):
        return batch["text"]

    def forward(self, batch):
        return self.last(self.kernel_features(batch))


class Unused(Strings):
    """Never asks for its rows."""

    def forward(self, batch):
        return self.last(batch["x"].repeat(1, 2)[:, :5])


def _strings():
    words = ["where is paris", "who wrote it", "how many are there"]
    return [{"text": f"{words[i % 3]} {i}", "labels": i % 3, "example_id": i, "x": torch.zeros(3)} for i in range(18)]


def test_a_kernel_on_strings_is_computed_once_for_each(tmp_path):
    model = seeded(Strings, kernel_choice="greedy")
    model.on_train_start = CALLS.clear
    fit(model, tmp_path, _strings(), max_epochs=4, limit_val_batches=0)
    assert model.losses[-1] < 0.7 * model.losses[0]
    texts = [each.text for each in model.kernel.landmarks]
    asked = [text for first, second in CALLS for text in first]
    assert len(asked) == len(set(asked)) == 17  # of the other one the row was asked for when fit started
    assert all(second == texts for _, second in CALLS)
    batch = {"text": ["where is it", "who"]}
    rows = torch.tensor(common_letters(batch["text"], texts))
    expected = model.last(model.kernel.gain * rows @ model.kernel.factor @ model.kernel.projection.T)
    assert torch.allclose(model(batch), expected, atol=1e-4)
    model.save_hyperparameters()
    model.trainer.save_checkpoint(tmp_path / "strings.ckpt")
    loaded = Strings.load_from_checkpoint(tmp_path / "strings.ckpt")
    assert torch.equal(loaded(batch), model(batch))


def test_rows_are_kept_up_to_a_bound_and_by_the_input_itself():
    kernel = RawKernel(common_letters, rows=2)
    CALLS.clear()
    found = kernel.rows(["a", "b", "a"], ["ab", "c"])
    assert found.tolist() == [[1, 0], [1, 0], [1, 0]]
    kernel.rows(["b", "c"], ["ab", "c"])
    assert [first for first, _ in CALLS] == [["a", "b"], ["c"]]
    kernel.rows(["a"], ["ab", "c"])  # which had to go
    assert [first for first, _ in CALLS][-1] == ["a"]
    kernel.rows(["a"], ["a"])  # of other landmarks
    assert len(CALLS) == 4


def test_an_indefinite_kernel_is_said_and_finite(tmp_path):
    model = seeded(Strings, kernel=indefinite)
    with pytest.warns(UserWarning, match="indefinite"):
        fit(model, tmp_path, _strings(), max_epochs=1, limit_val_batches=0)
    assert bool(model({"text": ["who"]}).isfinite().all())


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (lambda first, second: [[float("nan")] * len(second)] * len(first), "not finite"),
        (lambda first, second: [[1.0]], "must have shape"),
        ("nowhere.kernel", "cannot be imported"),
    ],
)
def test_a_kernel_that_is_none_is_refused(kernel, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        fit(seeded(Strings, kernel=kernel), tmp_path, _strings(), max_epochs=1)


def test_a_module_that_never_asks_for_its_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"runs 0 times .*self.kernel_features"):
        fit(seeded(Unused), tmp_path, _strings(), max_epochs=1)
