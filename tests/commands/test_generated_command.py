"""`lightning-interpret fit` with a model that explains itself in words, from a file to its predictions."""

import json

import yaml
from generated_toys import LABELS, MODELS, made, word_tokenizer


def test_a_configuration_file_trains_and_predicts(command, tmp_path):
    rows = zip(*made(24, length=(2, 4)), strict=True)
    lines = [{"text": text, "label": LABELS[label], "why": why} for text, label, why in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    MODELS["t5"]().save_pretrained(tmp_path / "model")
    word_tokenizer().save_pretrained(tmp_path / "model")
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    options = {"model": str(tmp_path / "model"), "labels": LABELS, "generated_order": "explain_then_predict"}
    file = str(tmp_path / "rows.jsonl")
    data = {"train_file": file, "val_file": file, "predict_file": file, "batch_size": 8, "explanation_column": "why"}
    written = {
        "trainer": {"max_epochs": 1, "default_root_dir": str(tmp_path), **quiet},
        "model": {"class_path": "lightning_interpret.GeneratedTextClassifier", "init_args": options},
        "data": data,
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(written))
    done = command("fit", "--config", path)
    assert done.status == 0, done.err
    (checkpoint,) = tmp_path.glob("**/*.ckpt")
    done = command("predict", "--config", path, "--ckpt_path", checkpoint)
    assert done.status == 0, done.err
    (predictions,) = tmp_path.glob("**/predictions.jsonl")
    found = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert len(found) == 24
    assert {"label", "probability", "explanation", "example_id"} <= set(found[0])
