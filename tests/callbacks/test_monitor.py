"""When a Monitor runs, on which examples, what it logs, and what it refuses."""

import dataclasses
import json
import pickle
import warnings

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from purity import Remembers, Texts, Toy, ToyTask, fit, loaders
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import classifier, quiet_trainer, wordpiece
from torch.utils.data import DataLoader, IterableDataset

from lightning_interpret import SaliencyMonitor
from lightning_interpret.methods import IntegratedGradients
from lightning_interpret.report import jsonl

SCALARS = {"attribution_error", "relative_error", "steps", "drift", "seconds", "failures"}


def monitor(**options):
    return SaliencyMonitor(
        **{"method": IntegratedGradients(steps=4), "task": ToyTask(wordpiece()), "probes": 3, "on_error": "raise"}
        | options
    )


def events(folder):
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0, "scalars": 0})
    found.Reload()
    return found


def run(tmp_path, callbacks, **options):
    return fit(callbacks, tmp_path, epochs=options.pop("epochs", 1), **options)[1]


# What is written


def test_a_fit_writes_scalars_pictures_texts_and_interpret_summaries_at_the_steps_of_val_loss(tmp_path):
    run(tmp_path, [monitor()], logger=TensorBoardLogger(tmp_path), epochs=2)
    found = events(tmp_path / "lightning_logs" / "version_0")
    tags = found.Tags()
    assert {tag.removeprefix("interpret/saliency/") for tag in tags["scalars"] if "interpret" in tag} == SCALARS
    steps = [event.step for event in found.Scalars("val_loss")]
    assert len(steps) == 6
    for k in range(3):
        assert [e.step for e in found.Images(f"interpret/saliency/probe_{k}/image")] == steps
        assert [e.step for e in found.Tensors(f"interpret/saliency/probe_{k}/text/text_summary")] == steps
        payloads = found.Tensors(f"interpret/saliency/probe_{k}")
        assert [event.step for event in payloads] == steps
        payload = json.loads(payloads[-1].tensor_proto.string_val[0])
        assert (payload["kind"], payload["monitor"], payload["step"]) == ("attribution", "saliency", steps[-1])
        assert payload["records"][0]["example_id"] == [0, 8, 16][k]
    for what in SCALARS - {"drift"}:
        assert [event.step for event in found.Scalars(f"interpret/saliency/{what}")] == steps
    drift = found.Scalars("interpret/saliency/drift")
    assert [event.step for event in drift] == steps[1:]  # the first explanation has none before it
    assert all(0 <= event.value <= 2 for event in drift)


def test_the_logged_error_is_that_of_the_records(tmp_path):
    path = tmp_path / "records.jsonl"
    trainer = run(tmp_path, [monitor(save_jsonl=str(path))], val_check_interval=6)
    rows = list(jsonl.read(path))
    assert [row["probe"] for row in rows] == [0, 1, 2]
    assert {row["step"] for row in rows} == {rows[0]["step"]}
    mean = sum(abs(row["error"]) for row in rows) / 3
    assert trainer.callback_metrics["interpret/saliency/attribution_error"] == pytest.approx(mean, rel=1e-5)
    assert all(abs(sum(row["scores"]) - row["target"] + row["baseline_target"] - row["error"]) < 1e-6 for row in rows)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_other_entry_points_write_under_their_own_name(tmp_path, stage):
    trainer = Trainer(
        accelerator="cpu", logger=TensorBoardLogger(tmp_path), callbacks=[monitor()], enable_progress_bar=False
    )
    getattr(trainer, stage)(Toy(), loaders()[1])
    tags = events(tmp_path / "lightning_logs" / "version_0").Tags()
    scalars = {t.removeprefix(f"interpret/saliency_{stage}/") for t in tags["scalars"] if "interpret" in t}
    assert scalars == SCALARS - {"drift"}
    assert f"interpret/saliency_{stage}/probe_2/image" in tags["images"]


def test_scalars_can_be_monitored_by_a_checkpoint_and_by_early_stopping_from_the_first_validation(tmp_path):
    callbacks = [
        monitor(),
        ModelCheckpoint(tmp_path / "best", monitor="interpret/saliency/drift"),
        EarlyStopping("interpret/saliency/relative_error", patience=50),
    ]
    run(tmp_path, callbacks, enable_checkpointing=True)
    assert list((tmp_path / "best").glob("*.ckpt"))


def test_a_method_without_a_target_logs_no_error_and_says_why(tmp_path):
    path, logger = tmp_path / "r.jsonl", TensorBoardLogger(tmp_path)
    trainer = run(tmp_path, [monitor(method="gradient", save_jsonl=str(path))], logger=logger)
    scalars = {tag for tag in events(logger.log_dir).Tags()["scalars"] if "interpret" in tag}
    assert scalars == {f"interpret/saliency/{what}" for what in ("drift", "steps", "seconds", "failures")}
    assert trainer.callback_metrics["interpret/saliency/attribution_error"].isnan()  # for a callback that monitors it
    assert trainer.callback_metrics["interpret/saliency/failures"] == 0
    assert "rate of change" in next(iter(jsonl.read(path)))["reasons"]["error"]


# Loggers


def test_without_a_logger_it_works_and_says_once_what_is_not_shown(tmp_path):
    with pytest.warns(UserWarning, match="no logger, so nothing is shown") as said:
        trainer = run(tmp_path, [monitor()], epochs=2)
    assert sum("nothing is shown" in str(w.message) for w in said) == 1
    assert trainer.callback_metrics["interpret/saliency/failures"] == 0


@pytest.mark.parametrize("make", [lambda path: CSVLogger(path), lambda path: Remembers()], ids=["csv", "other"])
def test_a_logger_that_shows_scalars_only_gets_them_and_it_is_said_once(tmp_path, make):
    with pytest.warns(UserWarning, match="shows the scalars, but no pictures") as said:
        run(tmp_path, [monitor()], logger=make(tmp_path), epochs=2)
    assert sum("no pictures" in str(w.message) for w in said) == 1


def test_two_loggers_are_both_served(tmp_path):
    other = Remembers()
    with pytest.warns(UserWarning, match="Remembers shows the scalars"):
        run(tmp_path, [monitor()], logger=[TensorBoardLogger(tmp_path), other])
    tags = events(tmp_path / "lightning_logs" / "version_0").Tags()
    assert "interpret/saliency/probe_0/image" in tags["images"]
    assert any("interpret/saliency/relative_error" in metrics for _, metrics in other.metrics)


def test_directories_that_cannot_be_written_stop_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/logs"):
        run(tmp_path, [monitor()], logger=TensorBoardLogger(tmp_path / "file" / "logs"))
    with pytest.raises(OSError, match=r"records' directory .* cannot be written .*save_jsonl"):
        run(tmp_path, [monitor(save_jsonl=str(tmp_path / "file" / "records.jsonl"))])


def test_a_record_file_that_cannot_be_written_costs_no_run(tmp_path, monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(jsonl, "append", full)
    with pytest.warns(UserWarning, match="could not be written .*No space left"):
        run(tmp_path, [monitor(on_error="warn", save_jsonl=str(tmp_path / "r.jsonl"))])


# When and on what


class Counts(SaliencyMonitor):
    """Counts its calls and keeps the ids it was asked to explain."""

    def __init__(self, **options):
        super().__init__(IntegratedGradients(steps=2, tolerance=None), task=ToyTask(wordpiece()), **options)
        self.calls = []

    def explain(self, module, batch, task):
        self.calls.append(batch["example_id"].tolist())
        return super().explain(module, batch, task)

    @property
    def ids(self):
        return [i for call in self.calls for i in call]


def test_the_sanity_check_is_skipped_and_every_n_th_validation_is_explained(tmp_path):
    every, third = Counts(probes=1), Counts(probes=1, every_n_validations=3, name="third")
    run(tmp_path, [every, third], epochs=2)  # 6 validations and a sanity check
    assert len(every.calls) == 6
    assert len(third.calls) == 2


def test_probes_are_indices_into_the_data_set_whatever_the_loader_does(tmp_path):
    watcher = Counts(probes=[23, 0, -2])
    val = DataLoader(Texts(seed=1), batch_size=7, shuffle=True)
    trainer = Trainer(
        accelerator="cpu", limit_val_batches=1, callbacks=[watcher], logger=False, enable_progress_bar=False
    )
    trainer.validate(Toy(), val, verbose=False)
    assert watcher.ids == [23, 0, 22]


def test_more_probes_than_examples_are_all_the_examples(tmp_path):
    watcher = Counts(probes=100)
    Trainer(accelerator="cpu", callbacks=[watcher], logger=False, enable_progress_bar=False).validate(
        Toy(), loaders()[1], verbose=False
    )
    assert watcher.ids == list(range(24))


def test_of_several_loaders_the_first_is_probed(tmp_path):
    watcher = Counts(probes=2)
    Trainer(accelerator="cpu", callbacks=[watcher], logger=False, enable_progress_bar=False).validate(
        Toy(), loaders()[::-1], verbose=False
    )
    assert watcher.ids == [0, 12]


def test_without_validation_batches_nothing_is_explained_and_nothing_breaks(tmp_path):
    watcher = Counts(probes=2)
    with pytest.warns(UserWarning, match="no validation .* nothing is explained"):
        run(tmp_path, [watcher], limit_val_batches=0)
    assert watcher.calls == []


def test_fast_dev_run_explains_and_writes_nothing(tmp_path):
    watcher = Counts(probes=2, save_jsonl=True)
    run(tmp_path, [watcher], fast_dev_run=True, logger=True, val_check_interval=None)
    assert watcher.ids == [0, 12]
    assert not list(tmp_path.rglob("*"))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Texts(seed=1)[i] for i in range(10))


def test_a_data_set_without_indices_is_probed_by_its_first_batch(tmp_path):
    watcher = Counts(probes=3)
    trainer = Trainer(accelerator="cpu", callbacks=[watcher], logger=False, enable_progress_bar=False)
    with pytest.warns(UserWarning, match="no indices"):
        trainer.validate(Toy(), DataLoader(Stream(), batch_size=4), verbose=False)
    assert watcher.ids == [0, 1, 2]


class Counted(Stream):
    def __len__(self):
        return 10


def test_an_iterable_data_set_with_a_length_has_no_indices_either(tmp_path):
    watcher = Counts(probes=3, on_error="raise")
    trainer = Trainer(accelerator="cpu", callbacks=[watcher], logger=False, enable_progress_bar=False)
    with pytest.warns(UserWarning, match="no indices"):
        trainer.validate(Toy(), DataLoader(Counted(), batch_size=4), verbose=False)
    assert watcher.ids == [0, 1, 2]


class Late(LightningDataModule):
    """Makes its batches on the way to the module, as the hooks allow."""

    def __init__(self, dataset):
        super().__init__()
        self.dataset = dataset

    def val_dataloader(self):
        return DataLoader(self.dataset, batch_size=4, collate_fn=list)

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return torch.utils.data.default_collate(batch)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {**batch, "input_ids": batch["input_ids"] + 1}


@pytest.mark.parametrize("dataset", [Texts(seed=1), Stream()], ids=["indexed", "stream"])
@pytest.mark.filterwarnings("ignore:.*no indices")
def test_the_transfer_hooks_of_a_data_module_are_met_once(dataset):
    seen = []

    class Sees(Counts):
        def explain(self, module, batch, task):
            seen.append(batch["input_ids"][0].tolist())
            return super().explain(module, batch, task)

    trainer = Trainer(
        accelerator="cpu", callbacks=[Sees(probes=1, on_error="raise")], logger=False, enable_progress_bar=False
    )
    trainer.validate(Toy(), datamodule=Late(dataset), verbose=False)
    assert seen == [(Texts(seed=1)[0]["input_ids"] + 1).tolist()]


def test_one_cause_of_failure_is_said_once(tmp_path):
    class Chokes(Counts):
        def explain(self, module, batch, task):
            raise ArithmeticError("no")

    with pytest.warns(UserWarning, match="ArithmeticError: no") as said:
        run(tmp_path, [Chokes(probes=4)], val_check_interval=6)
    assert sum("could not be explained" in str(w.message) for w in said) == 1


def test_an_index_outside_the_data_set_stops_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"`probes`: \[99\] are outside the data set, which has 24 examples"):
        run(tmp_path, [Counts(probes=[1, 99])])


def test_an_index_outside_the_data_set_found_during_training_costs_no_run(tmp_path):
    watcher = Counts(probes=[1, 99])
    with pytest.warns(UserWarning, match="99"):
        run(tmp_path, [watcher], num_sanity_val_steps=0)
    assert watcher.ids[:2] == [0, 12]


def test_max_seconds_bounds_the_time_and_says_what_is_left_out(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 10))  # each look at the clock takes ten seconds
    monkeypatch.setattr("lightning_interpret.callbacks.monitor._now", lambda module: next(clock))
    watcher = Counts(probes=10, max_seconds=25)
    with pytest.warns(UserWarning, match=r"`max_seconds=25` is spent: \d of 10 probes are left out"):
        Trainer(accelerator="cpu", callbacks=[watcher], logger=False, enable_progress_bar=False).validate(
            Toy(), loaders()[1], verbose=False
        )
    assert 1 <= len(watcher.ids) < 10


def test_that_one_example_alone_takes_longer_is_said(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr("lightning_interpret.callbacks.monitor._now", lambda module: next(clock))
    watcher = Counts(probes=1, max_seconds=5)
    with pytest.warns(UserWarning, match=r"this took 20 seconds, and `max_seconds=5`: what is begun is brought"):
        quiet_trainer(tmp_path, callbacks=[watcher]).validate(Toy(), loaders()[1], verbose=False)
    assert len(watcher.ids) == 1


def test_one_bad_probe_does_not_cost_the_others(tmp_path):
    class Chokes(Counts):
        def explain(self, module, batch, task):
            if 12 in batch["example_id"]:
                raise ArithmeticError("no")
            return super().explain(module, batch, task)

    watcher = Chokes(probes=4)
    with pytest.warns(UserWarning, match=r"probe 2 could not be explained \(ArithmeticError: no\)"):
        trainer = run(tmp_path, [watcher], val_check_interval=6)
    assert watcher.ids == [0, 6, 18]
    assert trainer.callback_metrics["interpret/chokes/failures"] == 1


def test_on_error_raise_stops(tmp_path):
    with pytest.raises(ValueError, match="which='gold'"):
        run(tmp_path, [monitor(which="gold", task=NoLabels(wordpiece()))])


class NoLabels(ToyTask):
    def labels(self, batch):
        return None


class Caches(Toy):
    """Keeps a table that it makes in its first forward, as rotary embeddings do."""

    def __init__(self, keep):
        super().__init__()
        self.keep = keep

    def forward(self, ids):
        if not hasattr(self, "made"):
            self.made = True
            self.keep(self, torch.ones(12))
        return self.head(next(iter(self.cached())) * self.embedding(ids).mean(dim=1))

    def cached(self):
        return self.table if isinstance(self.table, dict | list) else [self.table]


@pytest.mark.parametrize(
    "keep",
    [lambda m, t: m.register_buffer("table", t), lambda m, t: setattr(m, "table", t)],
    ids=["buffer", "attribute"],
)
def test_a_table_made_in_inference_mode_is_no_obstacle(tmp_path, keep):
    trainer = Trainer(accelerator="cpu", callbacks=[monitor()], logger=False, enable_progress_bar=False)
    module = Caches(keep)
    trainer.validate(module, loaders()[1], verbose=False)
    assert module.table.is_inference()  # left as it was
    assert trainer.callback_metrics["interpret/saliency_validate/failures"] == 0


def test_a_table_out_of_reach_is_an_error_with_the_remedy(tmp_path):
    trainer = Trainer(accelerator="cpu", callbacks=[monitor()], logger=False, enable_progress_bar=False)
    with pytest.raises(RuntimeError, match=r"Caches keeps a tensor.*Trainer\(inference_mode=False\)"):
        trainer.validate(Caches(lambda m, t: setattr(m, "table", [[t]][0])), loaders()[1], verbose=False)


# What it takes: modules, batches, tokenizers


class Plain(LightningModule):
    """A user's module around a `transformers` classifier, with batches of whatever kind."""

    def __init__(self, read, tokenizer=None):
        super().__init__()
        self.net, self.read = classifier("bert"), read
        if tokenizer is not None:
            self.tokenizer = tokenizer

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.net(**self.read(batch)).loss)


@dataclasses.dataclass
class Batch:
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


KINDS = {
    "dict": (dict, lambda batch: {k: batch[k] for k in ("input_ids", "attention_mask", "labels")}),
    "tuple": (
        lambda b: (b["input_ids"], b["attention_mask"], b["labels"]),
        lambda b: {"input_ids": b[0], "attention_mask": b[1], "labels": b[2]},
    ),
    "pair": (
        lambda b: ({"input_ids": b["input_ids"], "attention_mask": b["attention_mask"]}, b["labels"]),
        lambda b: {**b[0], "labels": b[1]},
    ),
    "dataclass": (lambda b: Batch(b["input_ids"], b["attention_mask"], b["labels"]), vars),
    "encoding": (
        lambda b: wordpiece().pad({k: b[k] for k in ("input_ids", "attention_mask", "labels")}, return_tensors="pt"),
        dict,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_transformers_classifier_needs_a_tokenizer_and_nothing_else(tmp_path, kind):
    make, read = KINDS[kind]
    loader = DataLoader(
        Texts(seed=1), batch_size=4, collate_fn=lambda rows: make(torch.utils.data.default_collate(rows))
    )
    path = tmp_path / "r.jsonl"
    watcher = SaliencyMonitor(tokenizer=wordpiece(), probes=2, on_error="raise", save_jsonl=str(path))
    Trainer(accelerator="cpu", callbacks=[watcher], logger=False, enable_progress_bar=False).validate(
        Plain(read), loader, verbose=False
    )
    rows = list(jsonl.read(path))
    assert [row["converged"] for row in rows] == [True, True]
    assert rows[0]["gold"] in ("LABEL_0", "LABEL_1")
    assert rows[0]["baseline"] == "pad"


def test_a_tokenizer_may_be_a_directory_or_stand_in_the_module(tmp_path):
    wordpiece().save_pretrained(tmp_path / "tok")
    _, read = KINDS["dict"]
    for watcher, module in (
        (SaliencyMonitor(tokenizer=str(tmp_path / "tok"), on_error="raise"), Plain(read)),
        (SaliencyMonitor(on_error="raise"), Plain(read, wordpiece())),
    ):
        trainer = Trainer(accelerator="cpu", callbacks=[watcher], logger=False, enable_progress_bar=False)
        trainer.validate(module, loaders()[1], verbose=False)
        assert trainer.callback_metrics["interpret/saliency_validate/failures"] == 0


def check(tmp_path, watcher, module=None):
    _, read = KINDS["dict"]
    module = module or Plain(read)
    module.training_step = lambda batch, batch_idx: pytest.fail("training has begun")
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.1)
    Trainer(accelerator="cpu", callbacks=[watcher], logger=False, enable_progress_bar=False).fit(module, *loaders())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": None}, r"tokenizer=None.*Give `tokenizer=`"),
        ({"layer": "net.bert.embedings"}, r"Did you mean.*net.bert.embeddings"),
        ({"which": "LABEL_9"}, r"`which='LABEL_9'` does not exist\. Did you mean"),
        ({"method": IntegratedGradients(baseline="mask")}, r"no mask token\. There is: pad, unk, zero, mean"),
    ],
)
def test_what_does_not_exist_stops_before_training(tmp_path, options, message):
    tokenizer = wordpiece(mask_token=None)
    with pytest.raises(ValueError, match=message):
        check(tmp_path, SaliencyMonitor(**{"tokenizer": tokenizer} | options))


def test_a_module_of_ones_own_without_a_task_is_told_what_to_write(tmp_path):
    module = Toy()
    with pytest.raises(ValueError, match=r"Toy holds no `transformers` model.*Give `task="):
        check(tmp_path, SaliencyMonitor(tokenizer=wordpiece()), module)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "integrated_gradient"}, "Did you mean 'integrated_gradients'"),
        ({"output": "logits"}, "Did you mean 'logit'"),
        ({"precision": "16"}, "precision"),
        ({"on_error": "ignore"}, "on_error"),
        ({"probes": 0}, "`probes=0` must be a whole number of at least 1"),
        ({"probes": []}, "probes"),
        ({"probes": True}, "probes"),
        ({"every_n_validations": 0}, "every_n_validations"),
        ({"max_seconds": 0}, "max_seconds"),
    ],
)
def test_options_out_of_range_are_refused_where_they_are_written(options, message):
    with pytest.raises(ValueError, match=message):
        SaliencyMonitor(**options)


def test_two_monitors_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Two Monitors have `name='saliency'`"):
        run(tmp_path, [monitor(), monitor(method="gradient")])


def test_strategies_that_shard_weights_are_refused_by_name(tmp_path):
    trainer = Trainer(accelerator="cpu", logger=False)
    trainer.strategy.__class__ = type("FSDPStrategy", (type(trainer.strategy),), {})
    with pytest.raises(ValueError, match=r"does not run under FSDPStrategy.*DDPStrategy"):
        monitor().setup(trainer, Toy(), "fit")


def test_a_monitor_can_be_pickled_and_keeps_no_state_in_checkpoints(tmp_path):
    watcher = pickle.loads(pickle.dumps(monitor()))
    assert watcher.method == IntegratedGradients(steps=4)
    assert watcher.state_dict() == {}


def test_weights_that_are_averaged_for_validation_are_the_ones_explained(tmp_path):
    from lightning.pytorch.callbacks import WeightAveraging

    found = {}

    class Keeps(SaliencyMonitor):
        def explain(self, module, batch, task):
            rows = list(super().explain(module, batch, task))
            with torch.no_grad():
                found.setdefault(self.name, []).append((module.head.weight.clone(), rows[0].target))
            return rows

    class Raw(Callback):
        def on_validation_start(self, trainer, pl_module):
            found["raw"] = pl_module.head.weight.detach().clone()

    first = Keeps(IntegratedGradients(steps=2), task=ToyTask(wordpiece()), probes=1, name="first")
    last = Keeps(IntegratedGradients(steps=2), task=ToyTask(wordpiece()), probes=1, name="last")
    fit([first, WeightAveraging(), last, Raw()], tmp_path, epochs=2)
    for (a, target_a), (b, target_b) in zip(found["first"], found["last"], strict=True):
        assert torch.equal(a, b)
        assert target_a == target_b
    assert not torch.equal(found["last"][-1][0], found["raw"])


def test_nothing_is_warned_in_a_run_where_all_is_well(tmp_path):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run(tmp_path, [monitor()], logger=TensorBoardLogger(tmp_path))
    assert not [w for w in said if "lightning_interpret" in str(w.filename) or "Monitor" in str(w.message)]
