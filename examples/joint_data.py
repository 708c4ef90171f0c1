"""What `joint.yaml` trains on: generated reviews as files, and a tokenizer of their words.

python examples/joint_data.py joint
"""

import sys
from pathlib import Path

from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import word_piece

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    texts = []
    for name, size, seed in (("train", 6000, 0), ("val", 200, 1)):
        reviews = list(ReviewCorpus(size, seed=seed))
        rows = [f"{review.example_id}\t{review.text}\t{review.label}\n" for review in reviews]
        (folder / f"{name}.tsv").write_text("id\ttext\tlabel\n" + "".join(rows), encoding="utf8")
        texts += [review.text for review in reviews]
    word_piece(texts).save_pretrained(folder / "tokenizer")
