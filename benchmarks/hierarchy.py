"""Scores of spans beside what people said of the same phrases, on the Stanford Sentiment Treebank.

    python benchmarks/hierarchy.py --data-folder DATA

A small BiLSTM is trained from scratch on the phrases of SST that are not neutral. On sentences of the test split (the
half of it that is not held back) every phrase of the parse is scored by each method, for the class positive: F is the
margin of positive over negative. The scores are correlated with people's ratings, from −2 to 2, over the phrases of all
sentences: r (Pearson) and ρ (Spearman), of words, of phrases of several words (the whole sentence left out), and of
phrases by how many words they have.

* bag of words: the summed weights of a logistic regression on the same phrases; another model, and what a hierarchical
  explanation has to do better than.
* "summed" are attributions of single tokens, added over the phrase.
* random: normal numbers, a control.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sst_trees import (
    BiLstm,
    Parsed,
    ReadWords,
    Words,
    accuracy,
    masked_model,
    rated,
    read,
    train,
    train_masked,
    words_tokenizer,
)
from torch import Tensor, nn

from lightning_interpret import (
    AgglomerativeContextualDecomposition,
    ContextualDecomposition,
    GradientTimesInput,
    Hedge,
    IntegratedGradients,
    MaskedLanguageModel,
    Occlusion,
    SamplingAndOcclusion,
)
from lightning_interpret.functional.ranks import average_ranks
from lightning_interpret.report.terminal import table
from lightning_interpret.tasks.encode import encode

BINS = ((2, 2), (3, 4), (5, 8), (9, 16), (17, 99))
POSITIVE = "positive"
Scores = Callable[[Parsed], Sequence[float]]


def spans_of(method: Any, module: nn.Module, task: ReadWords) -> Scores:
    """Return what scores the phrases of a sentence by a method that knows spans."""

    def scores(sentence: Parsed) -> Sequence[float]:
        batch = encode(task.tokenizer, [" ".join(sentence.words)])
        (found,) = method.score_spans(module, batch, task, [sentence.phrases], which=POSITIVE, output="margin")
        return found

    return scores


def summed(method: Any, module: nn.Module, task: ReadWords) -> Scores:
    """Return what adds the attributions of single tokens over the phrases of a sentence."""

    def scores(sentence: Parsed) -> Sequence[float]:
        batch = encode(task.tokenizer, [" ".join(sentence.words)])
        each = method(module, batch, task, which=POSITIVE, output="margin").scores[0].double()
        sums = torch.cat([torch.zeros(1, dtype=torch.float64), each.cumsum(dim=0)])
        return [float(sums[end] - sums[start]) for start, end in sentence.phrases]

    return scores


def weights_of(module: Words, tokenizer: Any) -> Scores:
    """Return what adds the weights of a bag of words over the phrases of a sentence."""

    def scores(sentence: Parsed) -> Sequence[float]:
        each = module.weights(torch.tensor(tokenizer(" ".join(sentence.words))["input_ids"])).detach()[:, 0]
        return [float(each[start:end].sum()) for start, end in sentence.phrases]

    return scores


def correlations(found: Tensor, people: Tensor) -> tuple[float, float]:
    """Return Pearson's r and Spearman's ρ; NaN of fewer than three phrases."""
    if len(found) < 3:
        return float("nan"), float("nan")
    ranks = torch.stack([average_ranks(found), average_ranks(people)])
    return float(torch.corrcoef(torch.stack([found, people]))[0, 1]), float(torch.corrcoef(ranks.double())[0, 1])


def judged(scores: Scores, sentences: Sequence[Parsed]) -> tuple[list[float], list[float], float]:
    """Return r and ρ of words and of phrases, ρ by length, and the seconds a sentence."""
    begin = time.perf_counter()
    found = torch.tensor([score for each in sentences for score in scores(each)], dtype=torch.float64)
    seconds = (time.perf_counter() - begin) / len(sentences)
    people = torch.tensor([rating for each in sentences for rating in each.ratings], dtype=torch.float64)
    length = torch.tensor([end - start for each in sentences for start, end in each.phrases])
    whole = torch.tensor([end - start == len(each.words) for each in sentences for start, end in each.phrases])
    several = (length > 1) & ~whole
    overall = [c for kept in (length == 1, several) for c in correlations(found[kept], people[kept])]
    by_length = []
    for least, most in BINS:
        kept = several & (length >= least) & (length <= most)
        by_length.append(correlations(found[kept], people[kept])[1])
    return overall, by_length, seconds


def methods(module: nn.Module, task: ReadWords, words: Words, sampler: Any, args: Namespace) -> dict[str, Scores]:
    """Return what is compared."""
    generator = torch.Generator().manual_seed(0)
    soc = SamplingAndOcclusion(sampler=sampler, n_samples=args.samples, radius=5)
    by_span = {
        "HEDGE": Hedge(),
        "HEDGE, rest deleted": Hedge(baseline="delete"),
        "contextual decomposition (ACD)": AgglomerativeContextualDecomposition(),
        "ACD, products shared": AgglomerativeContextualDecomposition(cross="shared"),
        "occlusion of the span": SamplingAndOcclusion(),
        "SOC": soc,
    }
    by_token = {
        "gradient x input": GradientTimesInput(),
        "integrated gradients": IntegratedGradients(),
        "occlusion": Occlusion(),
        "contextual decomposition": ContextualDecomposition(),
    }
    return {
        "bag of words": weights_of(words, task.tokenizer),
        **{name: spans_of(method, module, task) for name, method in by_span.items()},
        **{f"{name}, summed": summed(method, module, task) for name, method in by_token.items()},
        "random": lambda sentence: torch.randn(len(sentence.phrases), generator=generator).tolist(),
    }


def main(args: Namespace) -> None:
    """Print the tables."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    sentences = [each for each in read(args.data_folder, "test") if len(each.words) <= args.longest][: args.sentences]
    parsed = read(args.data_folder, "train")[: args.train]
    rows = rated(parsed)
    texts = [" ".join(each.words) for each in parsed]
    tokenizer = words_tokenizer(texts)
    begin = time.perf_counter()
    module, words = BiLstm(len(tokenizer), args.width), Words(len(tokenizer))
    language = masked_model(len(tokenizer), args.width)
    every = nn.ModuleDict({"lstm": module, "words": words, "language": language})
    if args.cache is not None and args.cache.exists():
        every.load_state_dict(torch.load(args.cache, weights_only=True))
    else:
        train(module, rows, tokenizer, epochs=args.epochs, rate=2e-3)
        train(words, rows, tokenizer, epochs=2 * args.epochs, rate=1e-2, decay=1e-3)
        train_masked(language, texts, tokenizer, epochs=args.language_epochs)
        if args.cache is not None:
            torch.save(every.state_dict(), args.cache)
    every.eval()
    sampler = MaskedLanguageModel(language, tokenizer, steps=1)
    dev = [
        (" ".join(each.words), int(each.ratings[-1] > 0)) for each in read(args.data_folder, "dev") if each.ratings[-1]
    ]
    print(f"{len(rows):,} phrases to train on, {time.perf_counter() - begin:.0f} seconds", flush=True)
    print(
        f"accuracy on dev: BiLSTM {accuracy(module, dev, tokenizer):.3f}, words {accuracy(words, dev, tokenizer):.3f}"
    )
    task = ReadWords(tokenizer, ["negative", POSITIVE])
    module.requires_grad_(False)
    found = {}
    for name, scores in methods(module, task, words, sampler, args).items():
        print(name, "...", file=sys.stderr, flush=True)
        found[name] = judged(scores, sentences)
    print(f"\n{len(sentences)} sentences, {sum(len(each.phrases) for each in sentences):,} phrases and words\n")
    heads = ["", "words r", "ρ", "phrases r", "ρ", "s a sentence"]
    print(table(heads, [[name, *(f"{v:.3f}" for v in all_), f"{s:.3f}"] for name, (all_, _, s) in found.items()]))
    print("\nρ of phrases by their number of words\n")
    heads = ["", *(f"{a}" if a == b else f"{a}-{b}" if b < 99 else f"{a}-" for a, b in BINS)]
    print(table(heads, [[name, *(f"{v:.3f}" for v in by)] for name, (_, by, _) in found.items()]))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data-folder", type=Path, required=True, help="the folder with sst_trees/")
    parser.add_argument("--cache", type=Path, default=None, help="a file for the trained models, made or read")
    parser.add_argument("--sentences", type=int, default=100, help="test sentences whose phrases are scored")
    parser.add_argument("--longest", type=int, default=40, help="words of the longest sentence")
    parser.add_argument("--train", type=int, default=None, help="parsed sentences to train on; by default all")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--language-epochs", type=int, default=5, help="epochs of the masked language model of SOC")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--samples", type=int, default=10, help="contexts of SOC")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    main(parser.parse_args())
