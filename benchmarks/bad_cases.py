"""What bad-case reports are worth on real data: NoisyAG-News, CAD-IMDB and HateCheck.

- `--part ag`: a model of the noisy labels is asked for its bad cases on clean validation texts; the training rows that
  the report suspects are relabelled (as it proposes; by an oracle, the clean labels) or dropped, beside as many rows at
  random and as many of the highest loss. Test accuracy, retrained on several seeds.
- `--part cad`: a model of original reviews is asked for its bad cases on originals and on people's minimal edits of
  them. Cues of the shortcut and composition groups, and words without which the prediction turns, against the words
  that were edited, beside as many random words of the same texts. What people edit decides the label: a composition's
  cue should be among it, a shortcut's should not.
- `--part hatecheck`: a model of HateXplain (hateful or not) is asked for its bad cases on HateCheck. How far the groups
  are HateCheck's functionalities: adjusted mutual information beside shuffled groups, and what each functionality is
  over-represented in. No text is printed, nor a cue.

To be affordable on a laptop's processor, `ag` and `hatecheck` train a small head over a frozen encoder whose features
are computed once (`--cache` keeps them), and `cad`, of longer texts, a small encoder from scratch: the figures are of
the report, not of the best model one can train.

    python benchmarks/bad_cases.py --part ag --data-folder DATA --encoder-folder MINILM --cache FOLDER --json ag.json
"""

from __future__ import annotations

import json
import random
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from bad_case_data import Pair, ag_news, counterfactuals, edited, hatecheck, hatexplain, words
from frozen import FrozenClassifier, FrozenTask, fit_head, fit_small
from groups import adjusted_mutual_information, over_represented
from sst2 import where_run
from torch import Tensor

from lightning_interpret.bad_cases import BadCaseRow
from lightning_interpret.causes import CauseFinder, EncodedTexts, Found, Setting
from lightning_interpret.methods.examples import Loaded
from lightning_interpret.tasks import Task
from lightning_interpret.tasks.encode import encode

Rows = tuple[Sequence[str], Sequence[int]]  # texts, and the class of each


def explained(module: Any, task: Task, validation: Rows, training: Rows, cases: int, max_length: int) -> Found:
    """Return the bad cases of a model, its training rows numbered from 0."""
    tokenizer, (texts, labels) = module.tokenizer, training
    batches = [
        encode(
            tokenizer,
            texts[i : i + 64],
            max_length=max_length,
            labels=labels[i : i + 64],
            example_ids=range(i, min(i + 64, len(texts))),
        )
        for i in range(0, len(texts), 64)
    ]
    asked = EncodedTexts(tokenizer, *validation, range(len(validation[0])), max_length=max_length)
    finder = CauseFinder(Setting(cases=cases), max_seconds=None)
    return finder.find(module, task, asked, Loaded(batches, task))


def overview(found: Found) -> dict[str, Any]:
    """Print how many bad cases have which cause, and return it."""
    seen, causes = found.overview, Counter(case.cause for case in found.cases)
    print(
        f"{seen.validated:,} validation texts, {seen.accuracy:.1%} right, {seen.wrong_cases} wrong; "
        f"{seen.explained} bad cases explained in {seen.seconds:.0f} s:"
    )
    print("  " + ", ".join(f"{cause} {count}" for cause, count in causes.most_common()))
    return {
        "validated": seen.validated,
        "accuracy": seen.accuracy,
        "wrong": seen.wrong_cases,
        "explained": seen.explained,
        "seconds": seen.seconds,
        "causes": dict(causes),
    }


def part_ag(args: Any) -> dict[str, Any]:
    """Mend what the report names, and as much at random, and train again."""
    folder, labels = Path(args.data_folder), ["World", "Sports", "Business", "Sci/Tech"]
    texts, given, true, test_texts, test_labels = ag_news(folder)
    chosen = sorted(random.Random(args.seed).sample(range(len(texts)), min(args.train, len(texts))))
    module = frozen(args, labels, max_length=96)
    train = module.keep([texts[i] for i in chosen], kept(args, f"ag_train_{len(chosen)}_{args.seed}"))
    test = module.keep(test_texts, kept(args, f"ag_test_{len(test_texts)}"))
    given, true = given[chosen], true[chosen]
    half = len(test_texts) // 2
    module.head = fit_head(train, given, len(labels), args.seed)
    found = explained(
        module,
        FrozenTask(module),
        (test_texts[:half], test_labels[:half].tolist()),
        ([texts[i] for i in chosen], given.tolist()),
        args.cases,
        module.max_length,
    )
    figures = overview(found)
    proposed = {each.example_id: labels.index(each.proposed) for each in found.suspects if each.proposed}
    named, size = torch.tensor(sorted(proposed)), len(proposed)
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(module.head(train), given, reduction="none")
    at_random = torch.randperm(len(given), generator=torch.Generator().manual_seed(args.seed))[:size]
    picks = {"the report": named, "highest loss": losses.argsort(descending=True)[:size], "random": at_random}
    wrong = given != true
    print(
        f"\n{size} of {len(given):,} training rows are suspected; {float(wrong.float().mean()):.1%} of all are wrong."
    )
    relabel = torch.tensor([proposed[i] for i in named.tolist()], dtype=torch.long)
    print(f"The label proposed is right in {share(true[named] == relabel)} % of them.")
    edits = {
        each.example_id: labels.index(each.proposed)
        for group in found.groups
        for each in (() if group.action is None else group.action.edits)
        if each.file == "train" and each.proposed and not each.new
    }
    listed = torch.tensor(sorted(edits), dtype=torch.long)
    right = torch.tensor([edits[i] == int(true[i]) for i in listed.tolist()])
    print(f"{len(edits)} training rows are listed to relabel: {share(wrong[listed])} % are wrong, ", end="")
    print(f"the label proposed is right in {share(right)} %.")

    def accuracy(rows: Tensor, labels_now: Tensor) -> list[float]:
        heads = [fit_head(train[rows], labels_now[rows], len(labels), seed) for seed in range(args.seeds)]
        with torch.no_grad():
            return [float((head(test[half:]).argmax(dim=1) == test_labels[half:]).float().mean()) for head in heads]

    everything = torch.arange(len(given))
    as_proposed = given.clone()
    as_proposed[named] = relabel
    results = {
        "labels as they are": accuracy(everything, given),
        "the report: relabelled as it proposes": accuracy(everything, as_proposed),
    }
    for name, rows in picks.items():
        relabelled = given.clone()
        relabelled[rows] = true[rows]
        left = everything[~torch.isin(everything, rows)]
        results[f"{name}: relabelled by an oracle"] = accuracy(everything, relabelled)
        results[f"{name}: dropped"] = accuracy(left, given)
    results["every label right"] = accuracy(everything, true)
    print("\n| training rows | rows wrong among them % | test accuracy % | sd |\n| --- | ---: | ---: | ---: |")
    for name, found_here in results.items():
        pick = next((rows for key, rows in picks.items() if name.startswith(key)), None)
        among = "" if pick is None else share(wrong[pick])
        values = 100 * torch.tensor(found_here)
        print(f"| {name} | {among} | {values.mean():.2f} | {values.std():.2f} |")
    figures |= {"suspects": size, "wrong": {name: float(wrong[rows].float().mean()) for name, rows in picks.items()}}
    figures["listed"] = {"rows": len(edits), "wrong": share(wrong[listed]), "proposed right": share(right)}
    return figures | {"accuracy of": results}


def part_cad(args: Any) -> dict[str, Any]:
    """Compare cues with the words that people edited."""
    train, pairs = counterfactuals(Path(args.data_folder), args.pairs)
    labels = ["Negative", "Positive"]
    texts, golds = [row[0] for row in train], [labels.index(row[1]) for row in train]
    module = fit_small(texts, golds, labels, max_length=args.max_length, epochs=args.epochs, seed=args.seed)
    sides = [(pair, side) for pair in pairs for side in ("original", "revised")]
    validation = [getattr(pair, side) for pair, side in sides]
    golds_here = [labels.index(getattr(pair, f"{side}_label")) for pair, side in sides]
    found = explained(
        module, module.interpret_task(), (validation, golds_here), (texts, golds), args.cases, args.max_length
    )
    figures = overview(found)
    right = torch.tensor([each["gold"] == each["prediction"] for each in found.predictions]).float()
    print(f"Right: {share(right[::2])} % of the originals, {share(right[1::2])} % of the revised.")
    kinds: dict[str, Callable[[BadCaseRow], set[str]]] = {
        "shortcut cues": lambda case: set(words(case.cue)) if case.cause == "shortcut" else set(),
        "composition cues": lambda case: set(words(case.cue)) if case.cause == "composition" else set(),
        "words that turn it": lambda case: turning(case),
    }
    print("\n| named | cases | words | edited % (random) | of the edited words % (random) |")
    print("| --- | ---: | ---: | ---: | ---: |")
    draw = random.Random(args.seed)
    for name, read in kinds.items():
        cases = [(case, read(case)) for case in found.cases]
        told = [(sides[case.index], cues) for case, cues in cases if cues]
        row = against_edits(told, draw)
        print(
            f"| {name} | {row['cases']} | {row['words']} | {row['precision']:.1%} ({row['precision, random']:.1%}) | "
            f"{row['recall']:.1%} ({row['recall, random']:.1%}) |"
        )
        figures[name] = row
    return figures | {"right, originals": float(right[::2].mean()), "right, revised": float(right[1::2].mean())}


def turning(case: BadCaseRow) -> set[str]:
    """Return the words without which, one at a time, something else is predicted."""
    return {word for each in case.erasures if each.prediction != case.prediction for word in words(each.text)}


def against_edits(told: Sequence[tuple[tuple[Pair, str], set[str]]], draw: random.Random) -> dict[str, Any]:
    """Return precision and recall of words among those edited, and of as many random words of the same texts."""
    hits = named = all_edited = 0
    chance = 0.0
    for (pair, side), cues in told:
        text, changed = set(words(getattr(pair, side))), edited(pair, side)
        mine = sorted(cues & text)
        hits, named, all_edited = hits + len(changed & {*mine}), named + len(mine), all_edited + len(changed)
        drawn = [len(changed & {*draw.sample(sorted(text), len(mine))}) for _ in range(50)]
        chance += sum(drawn) / len(drawn)
    return {
        "cases": len(told),
        "words": named,
        "precision": hits / max(1, named),
        "precision, random": chance / max(1, named),
        "recall": hits / max(1, all_edited),
        "recall, random": chance / max(1, all_edited),
    }


def part_hatecheck(args: Any) -> dict[str, Any]:
    """Compare groups with functionalities."""
    folder, labels = Path(args.data_folder), ["not hateful", "hateful"]
    posts, post_labels = hatexplain(folder, args.train, args.seed)
    texts, golds, functionalities = hatecheck(folder, args.pairs, args.seed)
    module = frozen(args, labels, max_length=64)
    train = module.keep(posts, kept(args, f"hatexplain_{len(posts)}_{args.seed}"))
    module.keep(texts, kept(args, f"hatecheck_{len(texts)}_{args.seed}"))
    module.head = fit_head(train, torch.tensor(post_labels), len(labels), args.seed)
    found = explained(module, FrozenTask(module), (texts, golds), (posts, post_labels), args.cases, module.max_length)
    figures = overview(found)
    functions = [functionalities[case.index] for case in found.cases]
    groups = [(case.cause, case.cue) for case in found.cases]
    numbers = {key: number for number, (key, _) in enumerate(Counter(groups).most_common())}
    measured, shuffled = adjusted_mutual_information(functions, [numbers[key] for key in groups], args.seed)
    print(f"\n{len(numbers)} groups, {len({*functions})} functionalities.")
    print(f"Adjusted mutual information {measured:.3f}; of shuffled groups {shuffled:.3f} at most.")
    print("\n| functionality | bad cases | most in | % of it there | % of the others | p |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    rows = over_represented(functions, [numbers[key] for key in groups])
    causes = {number: key[0] for key, number in numbers.items()}
    for row in rows:
        print(
            f"| {row['name']} | {row['cases']} | {causes[row['group']]} (group {row['group']}) | {row['purity']:.0%} | "
            f"{row['base']:.0%} | {row['p']:.2g} |"
        )
    figures |= {"groups": len(numbers), "adjusted mutual information": measured, "shuffled": shuffled}
    return figures | {"functionalities": [row | {"cause": causes[row["group"]]} for row in rows]}


def frozen(args: Any, labels: Sequence[str], max_length: int) -> FrozenClassifier:
    """Return a classifier over the encoder that was given."""
    if args.encoder_folder is None:
        raise SystemExit(f"`--part {args.part}` reads a frozen encoder: give --encoder-folder.")
    return FrozenClassifier(args.encoder_folder, labels, max_length).eval()


def kept(args: Any, name: str) -> Path | None:
    """Return where features are kept."""
    return Path(args.cache, f"{name}.pt") if args.cache else None


def share(truths: Tensor) -> str:
    """Return a share in percent."""
    return f"{100 * float(truths.float().mean()):.1f}" if len(truths) else "-"


PARTS = {"ag": part_ag, "cad": part_cad, "hatecheck": part_hatecheck}


def main() -> None:
    """Run one part."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", required=True, choices=PARTS)
    parser.add_argument("--data-folder", required=True, help="holds ag_news/, cad_imdb/, hatexplain/, hatecheck/")
    parser.add_argument("--encoder-folder", help="a pretrained encoder as a transformers directory")
    parser.add_argument("--cache", help="folder that keeps the encoder's features for the next run")
    parser.add_argument(
        "--train", type=int, default=10_000, help="training rows of ag, hatecheck (default: %(default)s)"
    )
    parser.add_argument(
        "--pairs", type=int, default=1000, help="pairs of cad, cases of hatecheck (default: %(default)s)"
    )
    parser.add_argument("--cases", type=int, default=400, help="bad cases to explain (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="retrainings of ag (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of choices and of the model (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="of the small encoder of cad (default: %(default)s)")
    parser.add_argument("--max-length", type=int, default=256, help="tokens it reads (default: %(default)s)")
    parser.add_argument("--json", help="file to write the figures to")
    args = parser.parse_args()
    print(f"On {where_run(torch.device('cpu'))}.", flush=True)
    began = time.perf_counter()
    figures = PARTS[args.part](args)
    figures["seconds of all"] = time.perf_counter() - began
    print(f"\nIt took {figures['seconds of all']:.0f} s.")
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
