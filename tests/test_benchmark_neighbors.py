"""The benchmark of neighbour search runs and finds what is exact exactly; what it measures is not tested."""

import runpy
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "neighbors.py"


def test_the_ways_to_search_are_compared_in_a_table(monkeypatch, capsys):
    words = "--examples 900 --width 16 --queries 20 --k 4 --rounds 1 --index IVF4,Flat;nprobe=1"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words.split()])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    found = {line[0]: float(line[-1]) for line in lines[2:]}
    approximate = found.pop("index='IVF4,Flat;nprobe=1'")
    assert list(found) == [
        "exact, in memory",
        "exact, file",
        "torch: matmul, topk",
        "FAISS Flat, by itself",
        "index='Flat'",
    ]
    assert set(found.values()) == {100.0}
    assert 0 < approximate <= 100
