"""What a trained kernel layer says of its predictions: landmarks with facts, on the module as a user has it."""

import pytest
import torch
from kernel_toys import Net, batch_of, fit, rows, seeded
from purity import assert_same, state_of
from tiny import batch_of as texts
from tiny import classifier, quiet_trainer, tokenizer_for
from torch.utils.data import DataLoader

from lightning_interpret import KernelMixin, LandmarkMonitor, LandmarkRelevance, TextClassifier, TurnOverDropoutMixin


def test_a_trained_module_is_explained_by_examples_of_its_label_and_is_as_it_was(tmp_path):
    model = seeded(Net, kernel_rtol=1e-2)
    fit(model, tmp_path, max_epochs=8)
    model.train()
    before = state_of(model)
    found = model.explain(batch_of(rows()))
    assert_same(before, state_of(model), objects=True)
    assert len(found) == 36
    known = {each.example_id: each.label for each in model.kernel.landmarks}
    for row in found:
        assert sum((row.total, *row.absorbed.values())) == pytest.approx(row.target, abs=1e-5)
        assert abs(row.error) < 1e-5
        assert all(known[each.example_id] == each.gold for each in (*row.like, *row.unlike))
        assert row.approximation_error == model.kernel.gram_error
        assert row.approximation_error > 0
    assert sum(row.like[0].gold == row.prediction for row in found) >= 30
    gold = model.explain(batch_of(rows()), which="gold", method=LandmarkRelevance(k=1))
    assert [row.target_name for row in gold] == [row.gold for row in found]
    assert max(len(row.like) for row in gold) == 1


def test_half_precision_is_explained_in_single(tmp_path):
    model = seeded(Net)
    fit(model, tmp_path, max_epochs=2, precision="bf16-true")
    batch = batch_of(rows())
    for row in model.explain(batch | {"x": batch["x"].bfloat16()}):
        assert abs(row.error) < 1e-5


def test_fewer_directions_are_kept_where_that_is_asked_for(tmp_path):
    model = seeded(Net, kernel_rtol=0.1)
    fit(model, tmp_path)
    assert 1 <= model.kernel.rank < 8
    with pytest.raises(ValueError, match="`rtol=0`"):
        Net(kernel_rtol=0)


NAMES = ("bad", "dull", "good")
SENTENCES = [
    f"{subject} {verb} {what}"
    for subject in ("the play", "a film", "he", "the movie")
    for verb in ("is", "was")
    for what in NAMES
]


class Text(KernelMixin, TextClassifier):
    """A text classifier with a kernel layer."""


class Both(TurnOverDropoutMixin, KernelMixin, TextClassifier):
    """The same with turn-over dropout."""


def trained(kind, name, folder, **options):
    tokenizer = tokenizer_for(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = classifier(name).config.to_dict()
        model = kind(
            config=config,
            labels=list(NAMES),
            tokenizer=tokenizer,
            learning_rate=1e-5,
            kernel="rbf",
            kernel_landmarks=6,
            **options,
        )
        rows = [
            {"input_ids": torch.tensor(tokenizer(text)["input_ids"]), "labels": i % 3, "example_id": i}
            for i, text in enumerate(SENTENCES)
        ]
        data = DataLoader(rows, batch_size=8, collate_fn=lambda some: padded(tokenizer, some))
        monitor = LandmarkMonitor(LandmarkRelevance(tokens=True), on_error="raise")
        trainer = quiet_trainer(folder, max_epochs=1, callbacks=[monitor])
        trainer.fit(model, data, data)
    return model, trainer, tokenizer


def padded(tokenizer, some):
    batch = tokenizer.pad({"input_ids": [row["input_ids"].tolist() for row in some]}, return_tensors="pt")
    return dict(batch) | {key: torch.tensor([row[key] for row in some]) for key in ("labels", "example_id")}


@pytest.mark.parametrize(("kind", "name"), [(Text, "bert"), (Both, "distilbert"), (Text, "gpt2")])
def test_a_text_classifier_says_which_texts_its_predictions_are_like_on_down_to_the_tokens(kind, name, tmp_path):
    model, trainer, tokenizer = trained(kind, name, tmp_path)
    assert trainer.callback_metrics["interpret/landmark/failures"] == 0
    assert trainer.callback_metrics["interpret/landmark/relative_error"] < 1e-3
    for row in model.explain(texts(tokenizer, SENTENCES[:5]), method=LandmarkRelevance(tokens=True)):
        assert abs(row.error) < 1e-5
        assert row.kernel == "rbf"
        each = (row.like or row.unlike)[0]
        assert each.text == SENTENCES[each.example_id]
        assert each.gold == NAMES[each.example_id % 3]
        assert len(row.tokens) == len(row.scores) > 3
