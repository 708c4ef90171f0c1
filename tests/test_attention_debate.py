"""Jain and Wallace's setting: in small as it runs, and on SST as they measured it.

pytest -m slow tests/test_attention_debate.py --data-folder DATA --encoder-folder MINILM
"""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest

from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import small_encoder

ROOT = Path(__file__).parents[1]
BENCHMARK = ROOT / "benchmarks" / "attention_debate.py"


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """What runs the benchmark on given words and returns its figures, as JSON holds them."""
    monkeypatch.chdir(tmp_path)
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):  # which it sets
        monkeypatch.setenv(name, "0")
    spec = importlib.util.spec_from_file_location("attention_debate", BENCHMARK)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return lambda *words: json.loads(json.dumps(found.measure(found.parser().parse_args(words))))


def test_every_arm_of_the_benchmark_runs(tmp_path, benchmark, capsys):
    (tmp_path / "sst2").mkdir()
    reviews = [ReviewCorpus(24, seed=0)[i] for i in range(24)]
    text = "label\tsentence\n" + "".join(f"{int(each.label == 'positive')}\t{each.text}\n" for each in reviews)
    for name in ("dev", "test"):
        (tmp_path / "sst2" / f"{name}.tsv").write_text(text)
    with gzip.open(tmp_path / "sst2" / "train_sentences.tsv.gz", "wt") as file:
        file.write(text)
    small_encoder([each.text for each in reviews], ["negative", "positive"]).save_pretrained(tmp_path / "model")
    words = ("--data-folder", str(tmp_path), "--encoder-folder", str(tmp_path / "model"), "--epochs", "1")
    found = benchmark(*words, "--seeds", "2", "--examples", "4", "--steps", "2")
    assert list(found) == ["lstm", "averaging", "seed 1", "seeds", "adversary", "scores", "report"]
    assert list(found["scores"]) == ["lstm", "averaging", "seed 1", "uniform", "adversary"]
    assert all(0 <= each["auc"] <= 1 for each in found["scores"].values())
    assert found["seeds"]["texts"] == found["adversary"]["texts"] == 4
    assert found["report"]["adversarial"]["all"]["texts"] == 4
    assert "| lstm |" in capsys.readouterr().out


@pytest.mark.slow
def test_attention_on_sst_agrees_with_gradients_and_deletions_as_jain_and_wallace_found(benchmark, request):
    data, encoder = (request.config.getoption(f"--{name}-folder") for name in ("data", "encoder"))
    if data is None or encoder is None:
        pytest.skip("--data-folder (with sst2/) and --encoder-folder (a transformers directory) are not given")
    words = ("--data-folder", str(Path(data).resolve()), "--encoder-folder", str(Path(encoder).resolve()))
    # all of their 8 epochs: the fewer, the more attention agrees with both (tau .455 and .382 after 3)
    found = benchmark(*words, "--agreement-only", "--arms", "averaging")
    assert found["scores"]["lstm"]["auc"] >= 0.88
    gradient, deletion, beside = found["lstm"].values()
    assert gradient == pytest.approx(0.351, abs=0.06)
    assert deletion == pytest.approx(0.291, abs=0.06)
    assert beside > max(gradient, deletion)
    assert found["averaging"]["attention ~ gradient"] > gradient
    assert found["averaging"]["attention ~ leave-one-out"] > deletion
