"""Concepts in a configuration: told in each way, at every layer of a transformer, of the text that a file holds."""

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def test_concepts_of_a_configuration_are_tested_at_every_layer(command, saved, tmp_path):
    told = {
        "food": {"words": ["steak", "fish", "chicken", "lamb", "pork", "duck"]},
        "praise": {
            "words": ["good", "great", "lovely"],
            "templates": ["the food was {}", "{} service", "what a {} room"],
        },
        "positive": {"column": "label", "value": "positive", "against": "food"},
        "file": {"file": saved.val},
    }
    method = {"examples": 8, "least": 6, "vectors": 2, "random_concepts": 6}
    monitor = {
        "class_path": "lightning_interpret.ConceptMonitor",
        "init_args": {
            "concepts": told,
            "method": {"class_path": "lightning_interpret.ConceptActivationVectors", "init_args": method},
            "layer": "all",
            "on_error": "raise",
        },
    }
    logger = {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": str(tmp_path), "name": "run", "version": 0},
    }
    brief = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1, "accelerator": "cpu"}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    path = tmp_path / "run.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "trainer": {**brief, **quiet, "logger": logger, "callbacks": [monitor]},
                "model": {"model": saved.model},
                "data": {"train_file": saved.train, "val_file": saved.val, "batch_size": 4},
            }
        )
    )
    done = command("fit", "--config", path)
    assert done.status == 0, done.err
    board = EventAccumulator(str(tmp_path / "run" / "version_0")).Reload()
    tags = [tag.removeprefix("interpret/concepts/") for tag in board.Tags()["scalars"]]
    layers = {tag.partition("/")[0] for tag in tags if tag.endswith("food/accuracy")}
    assert len(layers) > 2
    assert {tag.split("/")[1] for tag in tags if tag.endswith("/negative/p")} == set(told)
    assert board.Scalars("interpret/concepts/failures")[-1].value == 0
