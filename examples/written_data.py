"""What `translation.yaml` and `language_model.yaml` train on: made sentences in two languages, and a tokenizer of them.

python examples/written_data.py written
"""

import random
import sys
from itertools import product
from pathlib import Path

from lightning_interpret.modules.from_scratch import byte_level

WHO = {"a man": "ein Mann", "a woman": "eine Frau", "the boy": "der Junge", "the girl": "das Mädchen"}
DOES = {"sees": "sieht", "likes": "mag", "follows": "verfolgt", "finds": "findet"}
KIND = {"old": "alten", "young": "jungen", "black": "schwarzen", "small": "kleinen"}
WHAT = {"dog": "Hund", "bird": "Vogel", "fish": "Fisch", "tree": "Baum"}
WHERE = {"in the park": "im Park", "in the garden": "im Garten", "at home": "zu Hause"}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        (f"{a} {b} the {c} {d} {e} .", f"{WHO[a]} {DOES[b]} {WHERE[e]} den {KIND[c]} {WHAT[d]} .")
        for a, b, c, d, e in product(WHO, DOES, KIND, WHAT, WHERE)
    ]
    random.Random(0).shuffle(rows)
    for name, part in (("train", rows[64:]), ("val", rows[:64])):
        lines = "".join(f"{source}\t{target}\n" for source, target in part)
        (folder / f"{name}.tsv").write_text("en\tde\n" + lines, encoding="utf8")
    texts = [text for row in rows for text in row]
    byte_level(texts, vocabulary=512, max_length=64, begin=True, end=True).save_pretrained(folder / "tokenizer")
