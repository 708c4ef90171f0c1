"""What a concept bottleneck refuses, when, and in which words; and what of bad labels it bears."""

import pytest
import torch
from concept_toys import NAMES, ConceptTexts, Net, batch_of, fit, loader, seeded
from tiny import VOCABULARY, wordpiece
from torch.utils.data import DataLoader

from lightning_interpret import ConceptBottleneckMixin, TextClassifier
from lightning_interpret.tasks.encode import encode


class Given(ConceptTexts):
    """Texts whose concepts are changed by a function."""

    def __init__(self, change, **options):
        super().__init__(64, **options)
        self.change = change

    def __getitem__(self, i):
        row = super().__getitem__(i)
        concepts = self.change(row.pop("concepts"))
        return row if concepts is None else row | {"concepts": concepts}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda concepts: None, r"The batch has no `concepts`, a tensor \(B, 5\).*food, service.*NaN or -1"),
        (lambda concepts: concepts[:3], r"has shape \(16, 3\), and must be a tensor \(B, 5\)"),
        (lambda concepts: concepts.sum(), r"has shape \(16,\)"),
        (lambda concepts: concepts + 1, "has [12] for '.*more than two values are not supported"),
    ],
)
def test_labels_that_cannot_be_used_end_the_first_step(change, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        fit(seeded(), tmp_path, DataLoader(Given(change), batch_size=16), loader(32, seed=1))


def test_labels_that_are_missing_everywhere_are_told_and_cost_no_run(tmp_path):
    missing = torch.tensor([0, 1, 0, 0, 1]).bool()
    data = DataLoader(Given(lambda concepts: concepts.masked_fill(missing, torch.nan)), batch_size=16)
    with pytest.warns(UserWarning, match="had a label for the concepts service, music: nothing teaches them") as said:
        trainer = fit(seeded(), tmp_path, data, loader(32, seed=1), max_epochs=2)
    assert len([each for each in said if "nothing teaches them" in str(each.message)]) == 1
    assert trainer.callback_metrics["train_concepts"].isfinite()


def test_batches_without_a_single_label_add_nothing(tmp_path):
    module = seeded()
    module.configure_model()
    batch = batch_of(6)
    plain = module.training_step(batch | {"concepts": torch.full((6, 5), -1)}, 0)
    assert plain.item() == pytest.approx(torch.nn.functional.cross_entropy(module(batch), batch["labels"]).item())
    plain.backward()
    assert torch.equal(module.concepts.weight.grad, torch.zeros(5, 24))  # there, as several processes need it


def test_labels_of_another_number_of_examples():
    module, batch = seeded(), batch_of(6)
    module.configure_model()
    with pytest.raises(ValueError, match="labels of 4 examples, and the head reads 6"):
        module.training_step(batch | {"concepts": batch["concepts"][:4]}, 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concept_names": None}, "There are no concepts: give `concept_names"),
        ({"concept_names": []}, "There are no concepts"),
        ({"concept_names": ["food", "food"]}, r"`concept_names=\['food', 'food'\]` has 'food' more than once"),
        ({"concept_count": -1}, "concept_count=-1"),
        ({"concept_count": 2.0}, "concept_count=2.0"),
        ({"concept_mode": "sofft"}, "`concept_mode='sofft'` does not exist. Did you mean 'soft'"),
        ({"concept_weight": 0.0}, "`concept_weight=0.0` must be positive"),
        ({"concept_sparsity": -1.0}, "`concept_sparsity=-1.0` must be 0 or more"),
        ({"concept_decorrelation": float("nan")}, "`concept_decorrelation=nan` must be 0 or more"),
    ],
)
def test_options_are_refused_at_once(options, said):
    with pytest.raises(ValueError, match=said):
        Net(**options)


def test_an_option_that_does_not_exist():
    with pytest.raises(TypeError, match="concept_modes"):
        Net(concept_modes="soft")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("lsat", "Did you mean 'last'"),
        ("embedding", "has a Embedding as 'embedding': name a linear layer that is its head, `concept_head=`"),
    ],
)
def test_a_head_that_cannot_be_used(head, said):
    with pytest.raises(ValueError, match=said):
        seeded(concept_head=head).configure_model()


def test_a_module_without_a_head(tmp_path):
    class NoHead(Net):
        def __init__(self, **options):
            super().__init__(**options)
            self.first, self.last = torch.nn.Identity(), torch.nn.Identity()

        def training_step(self, batch, batch_idx):
            return self.embedding.weight.sum()

    with pytest.raises(ValueError, match=r"no concept bottleneck.*name its head, `concept_head="):
        fit(seeded(NoHead), tmp_path)


def test_a_step_that_reads_no_concepts(tmp_path):
    class Aside(Net):
        def training_step(self, batch, batch_idx):
            return self.encode(batch).square().mean()

    with pytest.raises(ValueError, match="Nothing has come through the concept bottleneck in this training step"):
        fit(seeded(Aside), tmp_path)


def test_unknown_concepts_and_values_are_refused_by_name():
    module = seeded()
    module.configure_model()
    with pytest.raises(ValueError, match=r"`intervene='fod'` does not exist. Did you mean 'food'"):
        module.intervene({"fod": 1.0}).__enter__()
    with pytest.raises(ValueError, match="'food' is set to 2, and must be a probability from 0 to 1"):
        module.intervene({"food": 2}).__enter__()
    with module.intervene({"food": torch.ones(3)}), pytest.raises(ValueError, match=r"set for 3 examples.*has 4"):
        module(batch_of(4))


def test_a_decoder_that_scores_every_token_is_refused():
    config = {"model_type": "gpt2", "vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 1, "n_head": 2}

    class Texts(ConceptBottleneckMixin, TextClassifier):
        pass

    module = Texts(config=config, labels=["bad", "good"], tokenizer=wordpiece(), concept_names=["food"])
    module.configure_model()
    batch = encode(wordpiece(), ["a good film", "bad"], labels=[1, 0])
    batch["concepts"] = torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"\(B, 16\), but is given \(2, 5, 16\).*decoders"):
        module.training_step(batch, 0)


def test_the_checkpoint_of_other_concepts_is_refused():
    one, other = seeded(), seeded(concept_names=list(NAMES[::-1]))
    one.configure_model()
    with pytest.raises(ValueError, match=r"The checkpoint is of a concept bottleneck with names=\['food'"):
        other.load_state_dict(one.state_dict())


def test_validation_without_labels_of_concepts_measures_the_rest(tmp_path):
    data = DataLoader(Given(lambda concepts: None), batch_size=16)
    found = fit(seeded(), tmp_path, loader(), data).callback_metrics
    logged = {name for name in found if name.startswith("concepts/")}
    assert logged == {"concepts/leakage", "concepts/task_accuracy", "concepts/ablated_accuracy"}


def test_a_curve_needs_labels():
    module = seeded()
    module.configure_model()
    with pytest.raises(ValueError, match="no `concepts`"):
        module.concept_curve(DataLoader(Given(lambda concepts: None), batch_size=16))
    batch = batch_of(4)
    del batch["labels"]
    with pytest.raises(ValueError, match="has no labels"):
        module.concept_curve([batch])
