"""What is logged of a selection at validation, and the warnings of what goes wrong."""

import re
import warnings
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from planted import planted
from rationale_toys import GatedReader, planted_loader, trained
from tiny import quiet_trainer
from torch.utils.data import DataLoader, IterableDataset

from lightning_interpret.functional.leak_probe import probe, shape_of


def warned(folder, **options):
    """Train a little and return what was warned of."""
    torch.manual_seed(0)
    own = {"width": 8} | options.pop("own", {})
    module = options.pop("module", GatedReader)(**own, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, trainer = trained(folder, module, planted_loader(64, batch_size=16), planted_loader(64, 1), max_epochs=8)
    return [str(each.message) for each in caught if "rationale's gate" in str(each.message)], trainer


class Shut(GatedReader):
    """Its gate lets nothing through, or all."""

    bias = -9.0

    def on_train_batch_start(self, batch, batch_idx):
        self.rationale.gate.bias.data.fill_(self.bias)
        return super().on_train_batch_start(batch, batch_idx)


class Open(Shut):
    bias = 9.0


class Half(Shut):
    """Is likelier to leave each token out, which at evaluation leaves out nearly all."""

    bias = -1.0


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Shut, {}, r"selects 0\.0% of the tokens in training, and the target is 20%: it has collapsed to nothing"),
        (Open, {}, r"still selects 99\.\d% of the tokens, and the target is 20%: give a larger `rationale_weight`"),
        (Open, {}, r"selects 2\d\.\d% of the tokens at evaluation and 99\.\d% in training: use a larger"),
        (
            Half,
            {"rationale_evaluation": "threshold"},
            r"at evaluation and \d\d\.\d% in training: use `rationale_evaluation='budget'`, a larger",
        ),
    ],
)
def test_what_goes_wrong_is_told_once(module, options, message, tmp_path):
    found, _ = warned(tmp_path, module=module, **options)
    assert sum(bool(re.search(message, each)) for each in found) == 1, found


def test_a_gate_that_does_as_it_should_is_not_warned_of(tmp_path):
    found, trainer = warned(tmp_path, rationale_gate="top_k")
    assert found == []
    assert abs(trainer.callback_metrics["rationale/gap"]) < 0.02


def test_figures_are_those_of_the_whole_validation(tmp_path):
    module = GatedReader(width=8, rationale_evaluation="threshold", rationale_warmup=0.0)
    _, trainer = trained(tmp_path, module, planted_loader(64), planted_loader(200, 1, 64), max_epochs=1)
    corpus, figures = planted(200, 1), trainer.callback_metrics
    module.eval()
    with torch.no_grad(), module.rationale.hearing() as heard:
        predicted = module(corpus.ids).argmax(dim=1)
    with torch.no_grad(), module.rationale.complement():
        rest = (module(corpus.ids).argmax(dim=1) == corpus.labels).float().mean()
    (read,) = heard
    rates = read.selected.sum(dim=1) / read.selectable.sum(dim=1)
    assert figures["rationale/rate_eval"] == pytest.approx(rates.mean().item(), abs=1e-5)
    assert figures["rationale/complement_accuracy"] == pytest.approx(rest.item(), abs=1e-5)
    majority = probe(shape_of(read.selected, read.selectable), predicted)[1]
    assert figures["rationale/leak_majority"] == pytest.approx(majority, abs=1e-5)
    assert figures["rationale/gap"] == pytest.approx((rates.mean() - figures["rationale/rate"]).item(), abs=1e-5)


def test_examples_without_a_label_do_not_count(tmp_path):
    torch.manual_seed(0)
    module = GatedReader(width=8)
    module.configure_model()
    rows, found = planted_loader(32, 1).dataset, []
    for labelled in (rows[:8], [*rows[:8], *({**row, "labels": torch.tensor(-100)} for row in rows[8:])]):
        trainer = quiet_trainer(tmp_path)
        trainer.validate(module, DataLoader(labelled, batch_size=16), verbose=False)
        found.append(trainer.callback_metrics["rationale/complement_accuracy"])
    assert found[0] == found[1]


def test_a_probe_that_fails_costs_no_run(tmp_path):
    class Fails(GatedReader):
        def interpret_task(self):
            raise ValueError("no task")

    module = Fails(width=8)
    with pytest.warns(UserWarning, match="complement and the leak probe of the rationale failed"):
        _, trainer = trained(tmp_path, module, planted_loader(32), planted_loader(32, 1), max_epochs=2)
    assert "rationale/rate_eval" in trainer.callback_metrics
    assert "rationale/complement_accuracy" not in trainer.callback_metrics


def test_everything_is_read_at_first_and_then_the_target_comes_down(tmp_path):
    class Follows(GatedReader):
        def on_train_batch_start(self, batch, batch_idx):
            result = super().on_train_batch_start(batch, batch_idx)
            self.seen = [*getattr(self, "seen", []), (self.rationale.warming, self.rationale.control.target_now)]
            return result

    module = Follows(width=8, rationale_warmup=0.2)
    _, trainer = trained(tmp_path, module, planted_loader(20, batch_size=10), max_epochs=10)
    assert [warm for warm, _ in module.seen] == [True] * 4 + [False] * 16
    expected = [1.0 - 0.8 * min(max(0, i - 4) / 8, 1) for i in range(20)]
    assert [target for _, target in module.seen] == pytest.approx(expected)
    assert trainer.callback_metrics["rationale/target"] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="has no end"):
        trained(tmp_path, GatedReader(width=8), planted_loader(20), max_epochs=-1)


def test_a_multiplier_stays_where_it_is_until_there_is_something_to_control(tmp_path):
    class Follows(GatedReader):
        def on_train_batch_start(self, batch, batch_idx):
            result = super().on_train_batch_start(batch, batch_idx)
            self.seen = [*getattr(self, "seen", []), (self.rationale.warming, self.rationale.control.multiplier)]
            return result

    module = Follows(width=8, rationale_control="lagrangian", rationale_warmup=0.5)
    trained(tmp_path, module, planted_loader(20, batch_size=10), max_epochs=10)
    assert [warm for warm, _ in module.seen] == [True] * 10 + [False] * 10
    multipliers = [multiplier for _, multiplier in module.seen]
    assert multipliers[:11] == [0.1] * 11
    assert multipliers[11:] == sorted(multipliers[11:])
    assert multipliers[11] > 0.1  # more is selected than the target, as the gate starts open


class Stream(IterableDataset):
    """Rows without a length."""

    def __iter__(self):
        return iter(planted_loader(32).dataset)


@pytest.mark.parametrize(
    ("options", "trainer", "message"),
    [
        ({}, {"max_epochs": 1}, "no end that is known.*where the training data has no length"),
        ({}, {"max_epochs": 2}, "how far 2 epochs have come is known at their beginnings alone, and 65% is never"),
        ({"rationale_control": "fixed", "rationale_warmup": 0.6}, {"max_epochs": 2}, "'fixed'.* 60% is never reached"),
    ],
)
def test_a_target_that_would_never_be_reached_is_refused_at_once(options, trainer, message, tmp_path):
    module, data = GatedReader(width=8, **options), DataLoader(Stream(), batch_size=8)
    with pytest.raises(ValueError, match=message):
        trained(tmp_path, module, data, **trainer)
    assert module.trainer.global_step == 0


@pytest.mark.parametrize(
    ("options", "trainer"),
    [
        ({}, {"max_epochs": 3}),
        ({}, {"max_epochs": -1, "max_steps": 12}),
        ({}, {"max_epochs": 1, "limit_train_batches": 3}),
        ({"rationale_control": "lagrangian"}, {"max_epochs": 1}),
    ],
)
def test_data_without_a_length_can_be_trained_on(options, trainer, tmp_path):
    module, data = GatedReader(width=8, **options), DataLoader(Stream(), batch_size=8)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The rationale's gate")
        trained(tmp_path, module, data, **trainer)
    assert not module.rationale.warming
    assert module.rationale.control.target_now == pytest.approx(0.2)


def test_a_training_that_ends_before_the_target_is_told(tmp_path):
    for stop, message in ((1, "everything was read still"), (4, "the target was 54% still")):
        module = GatedReader(width=8)
        halt = LambdaCallback(on_train_batch_start=partial(halt_at, stop))
        with pytest.warns(UserWarning, match=f"has not been trained to select 20%: when training ended, {message}"):
            trained(tmp_path, module, planted_loader(40, batch_size=4), max_epochs=1, callbacks=[halt])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The rationale's gate")
        trained(tmp_path, GatedReader(width=8), planted_loader(8), fast_dev_run=True)


def halt_at(stop, trainer, module, batch, batch_idx):
    trainer.should_stop = trainer.should_stop or batch_idx == stop
