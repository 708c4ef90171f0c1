"""Taggers, answerers and writers, and their data, by class path in a configuration."""

import json
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import VOCABULARY, wordpiece

EXAMPLES = Path(__file__).parents[2] / "examples"
CLASSES = {
    "pairs": (None, None),
    "tagging": ("lightning_interpret.TokenTagger", "lightning_interpret.TaggingDataModule"),
    "question_answering": ("lightning_interpret.QuestionAnswerer", "lightning_interpret.QuestionDataModule"),
    "translation": ("lightning_interpret.TextGenerator", "lightning_interpret.GenerationDataModule"),
    "language_model": ("lightning_interpret.TextGenerator", "lightning_interpret.GenerationDataModule"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_an_example_is_read(command, name):
    done = command("fit", "--config", EXAMPLES / f"{name}.yaml", "--print_config")
    assert done.status == 0, done.err
    read, given = yaml.safe_load(done.out), yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    for room, path in zip(("model", "data"), CLASSES[name], strict=True):
        kind, options = read[room].get("class_path"), read[room].get("init_args", read[room])
        assert kind is None if path is None else kind.endswith(path.rpartition(".")[2])
        assert {key: options[key] for key in given[room].get("init_args", given[room])} == given[room].get(
            "init_args", given[room]
        )
        assert room == "data" or {"learning_rate", "warmup", "tokenizer"} <= options.keys()
        assert room == "model" or {"train_file", "dataset", "id_column", "seed"} <= options.keys()
    assert [each["class_path"] for each in read["trainer"]["callbacks"]] == ["lightning_interpret.SaliencyMonitor"]


def test_an_option_of_another_class_is_refused(command):
    done = command("fit", "--config", EXAMPLES / "tagging.yaml", "--data.init_args.text_column", "text")
    assert done.status == 2
    assert "text_column" in done.err


def test_a_tagger_is_trained_and_watched_and_predicts(command, tmp_path):
    wordpiece().save_pretrained(tmp_path / "tokenizer")
    lines = ["the O", "film B-film", "", "he O", "is O", "bad O", "", "a O", "movie B-film", ""]
    (tmp_path / "rows.conll").write_text("\n".join(lines))
    config = yaml.safe_load((EXAMPLES / "tagging.yaml").read_text())
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    values = {"model_type": "bert", "vocab_size": VOCABULARY, "max_position_embeddings": 40, **sizes}
    tokenizer = str(tmp_path / "tokenizer")
    config["model"]["init_args"] = {"config": values, "tokenizer": tokenizer, "labels": ["B-film", "O"]}
    rows = str(tmp_path / "rows.conll")
    config["data"]["init_args"] = {"train_file": rows, "val_file": rows, "predict_file": rows, "batch_size": 2}
    config["trainer"] |= {"max_epochs": 1, "enable_progress_bar": False, "accelerator": "cpu"}
    config["trainer"]["logger"]["init_args"]["save_dir"] = str(tmp_path / "logs")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    done = command("fit", "--config", tmp_path / "run.yaml")
    assert done.status == 0, done.err
    (log,) = (tmp_path / "logs" / "runs").glob("version_0")
    events = EventAccumulator(str(log)).Reload()
    assert {"val_loss", "val_f1", "val_accuracy"} <= set(events.Tags()["scalars"])
    assert events.Scalars("interpret/saliency/failures")[-1].value == 0
    done = command("predict", "--config", tmp_path / "run.yaml", "--trainer.callbacks", "[]")
    assert done.status == 0, done.err
    (predictions,) = (tmp_path / "logs").rglob("predictions.jsonl")
    found = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert [len(row["words"]) for row in found] == [2, 3, 2]
