"""MiniLM on SST-2 with a Monitor on, as `examples/sst2.yaml` says; the data and the encoder are given by folder.

pytest -m slow tests/test_real_data.py --data-folder DATA --encoder-folder MINILM
"""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_interpret.cli import main
from lightning_interpret.report import jsonl

EXAMPLE = Path(__file__).parents[1] / "examples" / "sst2.yaml"

pytestmark = pytest.mark.slow


@pytest.fixture
def folders(request):
    found = [request.config.getoption(f"--{name}-folder") for name in ("data", "encoder")]
    if None in found:
        pytest.skip("--data-folder (with sst2/) and --encoder-folder (a transformers directory) are not given")
    return [Path(folder).resolve() for folder in found]


def test_minilm_on_sst2_is_explained_within_tolerance_while_it_learns(tmp_path, monkeypatch, folders):
    data, encoder = folders
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--config", str(EXAMPLE), "--model.model", str(encoder), "--data.dataset", "null"]
    words += ["--data.train_file", str(data / "sst2" / "train_sentences.tsv.gz")]
    words += ["--data.val_file", str(data / "sst2" / "dev.tsv"), "--trainer.limit_train_batches", "80"]
    assert main(words) == 0
    (run,) = (tmp_path / "sst2" / "runs").iterdir()
    events = EventAccumulator(str(run)).Reload()
    last = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}
    assert last["val_accuracy"] > 0.7
    assert last["interpret/saliency/failures"] == 0
    assert last["interpret/saliency/relative_error"] < 0.01
    assert last["interpret/gradient_times_input/relative_error"] > 0.1  # what a first-order expansion leaves
    rows = list(jsonl.read(run / "interpret" / "saliency.jsonl"))
    assert len(rows) == 16
    assert all(row["converged"] for row in rows)
    assert all(
        score == 0 for row in rows for score, special in zip(row["scores"], row["special"], strict=True) if special
    )
