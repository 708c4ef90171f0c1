"""The command line: `lightning-interpret demo|fit|validate|test|predict|explain|fresh|compare|badcases|apply|...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

_TRAINER_COMMANDS = {
    "fit": "train a TextClassifier, or another class, from a YAML file, with Monitors named in it",
    "validate": "evaluate on the validation rows",
    "test": "evaluate on the test rows",
    "predict": "predict rows and write predictions.jsonl",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 where the command failed, 2 where its words are off."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in _TRAINER_COMMANDS:
        from lightning_interpret.commands import train  # loads torch and lightning: only where they are used

        return _run(lambda: train.run(words))
    parser = _parser()
    options = parser.parse_args(words)
    if options.command is None:
        parser.print_help()
        return 2
    return _run(lambda: _command(options))


def _run(command: Callable[[], int]) -> int:
    """Run a command; what the user can mend is told in a line, without a traceback."""
    try:
        return command()
    except (ValueError, OSError, ImportError) as error:
        print(f"lightning-interpret: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lightning-interpret: interrupted", file=sys.stderr)
        return 130


def _command(options: argparse.Namespace) -> int:
    if options.command == "demo":
        from lightning_interpret.commands import demo

        return demo.run(options)
    if options.command == "explain":
        from lightning_interpret.commands import explain

        return explain.run(options)
    if options.command == "fresh":
        from lightning_interpret.commands import fresh

        return fresh.run(options)
    if options.command == "compare":
        from lightning_interpret.commands import compare

        return compare.run(options)
    if options.command == "badcases":
        from lightning_interpret.commands import badcases

        return badcases.run(options)
    if options.command == "apply":
        from lightning_interpret.commands import apply

        return apply.run(options)
    from lightning_interpret.commands import methods

    return methods.run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-interpret", description="See where a model's prediction comes from, while it trains."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_demo(commands.add_parser("demo", help="train with Monitors and say what to open"))
    for name, what in _TRAINER_COMMANDS.items():
        commands.add_parser(name, help=what, add_help=False)
    _add_explain(commands.add_parser("explain", help="explain the rows of a file with a saved model"))
    _add_fresh(commands.add_parser("fresh", help="train a classifier on rationales alone, which a method has chosen"))
    _add_compare(commands.add_parser("compare", help="put methods side by side on one model, or two runs"))
    _add_bad_cases(commands.add_parser("badcases", help="find what a saved model gets wrong, why, and what to do"))
    _add_apply(commands.add_parser("apply", help="make a new training file of what was accepted of a report"))
    commands.add_parser("methods", help="list the methods there are")
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train a text classifier with a SaliencyMonitor and an InfluenceMonitor, print what they found and what to "
        "open. Without files, on a "
        "generated corpus of restaurant reviews; without a model, a small encoder from scratch."
    )
    parser.add_argument("--output-dir", required=True, help="where logs, records and the model go")
    parser.add_argument("--train-file", help="training rows (.tsv, .csv, .jsonl, also .gz)")
    parser.add_argument("--val-file", help="validation rows; by default a tenth of the training rows")
    parser.add_argument("--model", help="a transformers directory, a hub name, or a Lightning checkpoint of ours")
    _add_columns(parser, "label")
    parser.add_argument("--method", default="integrated_gradients", help="saliency method (default: %(default)s)")
    parser.add_argument(
        "--epochs",
        type=_positive,
        help="epochs (default: as many as make 48,000 texts from scratch, at most 20; 1 for a given model)",
    )
    parser.add_argument("--batch-size", type=_positive, default=32, help="texts in a batch (default: %(default)s)")
    parser.add_argument("--size", type=_positive, default=24000, help="reviews to generate (default: %(default)s)")
    parser.add_argument("--probes", type=_positive, default=8, help="validation texts to follow (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything (default: %(default)s)")


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write one JSON object a row, in the order of the file. An interrupted run goes on where it stopped."
    )
    parser.add_argument("--model", required=True, help="a transformers directory, a hub name, or a checkpoint of ours")
    parser.add_argument("--input", required=True, help="texts (.tsv, .csv, .jsonl, .txt, also .gz)")
    parser.add_argument("--output", required=True, help="file to write, one JSON object a row")
    parser.add_argument("--method", default="integrated_gradients", help="saliency method (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of the method, e.g. baseline=mask"
    )
    parser.add_argument(
        "--references",
        metavar="FILE",
        help="rows (of the training data) for a baseline that is drawn from data, with the columns of the input",
    )
    parser.add_argument("--layer", help="layer to attribute to (default: the word embeddings)")
    parser.add_argument("--which", default="predicted", help="predicted, gold, a label, or A-B (default: %(default)s)")
    parser.add_argument("--score", default="logit", help="logit, log_prob, prob or margin of it (default: %(default)s)")
    _add_columns(parser, "label with --which gold, else none is read")
    parser.add_argument("--batch-size", type=_positive, default=16, help="texts in a batch (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="write the output anew instead of going on with it")


def _add_fresh(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Explain every row of two files with a saved model, keep the words that score most, and train a new classifier "
        "on them alone (FRESH: Jain et al., 2020): its predictions are made of the rationale, whatever the scores are "
        "worth. Prints its accuracy beside those from random words and from whole texts. An interrupted run goes on."
    )
    parser.add_argument("--model", required=True, help="the model to explain: a directory, hub name or checkpoint")
    parser.add_argument("--train-file", required=True, help="training rows (.tsv, .csv, .jsonl, also .gz)")
    parser.add_argument("--val-file", required=True, help="validation rows")
    parser.add_argument("--output-dir", required=True, help="where explanations, rationales and classifiers go")
    parser.add_argument("--rate", type=float, default=0.2, help="share of the words to keep (default: %(default)s)")
    parser.add_argument("--rule", default="top", help="top words, or the best span of as many (default: %(default)s)")
    parser.add_argument("--absolute", action="store_true", help="go by |score|: words that speak against it too")
    parser.add_argument("--method", default="layerwise_relevance", help="saliency method (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of the method")
    parser.add_argument(
        "--classifier", help="a transformers directory or hub name to train (default: small, from scratch)"
    )
    parser.add_argument(
        "--controls", nargs="*", default=["random"], metavar="NAME", help="random, whole (default: random)"
    )
    _add_columns(parser, "label")
    parser.add_argument("--epochs", type=_positive, help="epochs (default: 3 of a given classifier, else as the demo)")
    parser.add_argument("--batch-size", type=_positive, default=32, help="texts in a batch (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="explain anew instead of going on")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Put methods side by side on one model; print a table and write a page. Methods: how far each saliency method "
        "can be trusted on a saved model, its error, faithfulness beside a random order, what it says of random "
        "weights, agreement, plausibility and seconds, with one recommendation. Baselines: target, sum and error of "
        "methods with different baselines, and what each of them dropped; without a model, on a small ResNet and a "
        "small DETR, trained on generated shapes first. Influence: how well each method foresees what becomes of a "
        "small text classifier that is trained anew on random halves of its data, and which wrong labels it finds; "
        "without files, on generated reviews. An interrupted comparison of influence goes on where it stopped. Runs: "
        "what two reports of `badcases` on one validation file differ in, what was fixed and what broke."
    )
    parser.add_argument(
        "--what", default="methods", help="methods, baselines, influence or runs (default: %(default)s)"
    )
    parser.add_argument("--output-dir", required=True, help="where the page and its numbers go")
    parser.add_argument("--text-column", help="column of the text (default: text)")
    parser.add_argument(
        "--examples", type=_positive, help="how many to explain (64; of baselines 8), to train on (1500)"
    )
    parser.add_argument("--seed", type=int, help="seed of everything (default: 0)")
    runs = parser.add_argument_group("--what runs")
    runs.add_argument("--before", metavar="REPORT", help="report.json of the run before, or the folder it is in")
    runs.add_argument("--after", metavar="REPORT", help="the same of the run after")
    saliency = parser.add_argument_group("--what methods, --what baselines")
    saliency.add_argument("--model", help="a directory, a hub name or, for methods, a checkpoint; the model to explain")
    saliency.add_argument("--input", help="a file of texts; for baselines also a folder of pictures, or a picture")
    saliency.add_argument("--which", help="predicted, of methods also gold, a label, or A-B (default: predicted)")
    saliency.add_argument("--score", help="logit, log_prob, prob or margin of it (default: logit)")
    saliency.add_argument(
        "--baseline", help="what stands where tokens are erased; the input-determined one (default: the task's)"
    )
    methods = parser.add_argument_group("--what methods")
    methods.add_argument("--rationale-column", help="column of what people selected: spans, or a flag for each word")
    methods.add_argument(
        "--sensitivity", type=_positive, metavar="N", help="explain N more times with noise, for the max-sensitivity"
    )
    methods.add_argument(
        "--drill",
        nargs="*",
        metavar="OPTION=VALUE",
        help="teach a copy of the model a planted cue, and see which methods show it (needs --train-file); e.g. "
        "steps=400, cue=tuesday, label=positive",
    )
    baselines = parser.add_argument_group("--what baselines")
    baselines.add_argument("--layer", help="layer of the feature maps (default: the last that reaches the score)")
    both = parser.add_argument_group("--what methods, --what influence")
    influence = parser.add_argument_group("--what influence")
    both.add_argument(
        "--train-file",
        help="training rows (.tsv, .csv, .jsonl, also .gz); of methods for --drill, and for baselines drawn from data",
    )
    influence.add_argument("--val-file", help="rows to ask about; by default the training rows after the first ones")
    both.add_argument("--label-column", help="column of the label (default: label; of the input of methods none)")
    influence.add_argument("--queries", type=_positive, help="how many validation rows to ask about (default: 100)")
    influence.add_argument("--flipped", type=float, help="share of labels made wrong (default: 0.1; of files 0)")
    both.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME[:OPTION=VALUE]",
        help="methods, with options, e.g. integrated_gradients:baseline=mask (default: five), ekfac:damping=0.01 "
        "(influence; default: all there are)",
    )
    influence.add_argument("--subsets", type=_positive, help="halves of the data to train on (default: 100)")
    influence.add_argument("--seeds", type=_positive, help="trainings of each half, averaged (default: 1)")
    influence.add_argument("--workers", type=_positive, help="processes that train (default: 1)")
    both.add_argument(
        "--max-seconds",
        type=_positive,
        help="of methods, after this no more texts are begun (default: no bound); of influence, what the "
        "self-influence of all examples may take a method (default: 60)",
    )


def _add_bad_cases(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Look at what a saved model gets wrong in the validation rows, find out why as far as it can be measured, and "
        "say what to do about it. Writes review.html, a page for whoever knows the texts, relabel.tsv, in which they "
        "answer, and report.json, which `apply` and `compare --what runs` read."
    )
    parser.add_argument("--model", required=True, help="a transformers directory, a hub name, or a checkpoint of ours")
    parser.add_argument("--train", required=True, metavar="FILE", help="training rows (.tsv, .csv, .jsonl, also .gz)")
    parser.add_argument("--val", required=True, metavar="FILE", help="validation rows, with the same columns")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the three files go")
    _add_columns(parser, "label")
    parser.add_argument(
        "--language", default="en", metavar="en|zh|FILE", help="language of review.html (default: %(default)s)"
    )
    parser.add_argument("--cases", type=_positive, metavar="N", help="bad cases to explain (default: 100)")
    parser.add_argument("--max-seconds", type=float, help="after this nothing more is begun (default: no bound)")
    parser.add_argument("--batch-size", type=_positive, default=32, help="texts in a batch (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="OPTION=VALUE", help="a threshold of a rule, e.g. cue_share=0.9"
    )


def _add_apply(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a new training file in which rows are labelled anew, left out and added as was accepted; every other "
        "row stays as it is, byte by byte, and every other column keeps its value. Accepted is what relabel.tsv, "
        "beside the report, has `yes` (or `drop`) for, and what --accept and --accept-all-above name, unless "
        "relabel.tsv has `no` for it. If something accepted cannot be done, nothing is written."
    )
    parser.add_argument("--report", required=True, help="report.json of `badcases`, or the folder it is in")
    parser.add_argument("--output", required=True, metavar="FILE", help="the new training file, in the same format")
    parser.add_argument("--relabel", metavar="FILE", help="the answers (default: relabel.tsv beside the report)")
    parser.add_argument(
        "--accept", metavar="KIND,...", help="accept all of some actions: relabel, add, balance, deduplicate"
    )
    parser.add_argument(
        "--accept-all-above", type=float, metavar="CONFIDENCE", help="accept all that are as sure as this, e.g. 0.8"
    )
    parser.add_argument("--val-output", metavar="FILE", help="a new validation file (default: it is left as it is)")
    parser.add_argument("--train", metavar="FILE", help="where the training file of the report is now")
    parser.add_argument("--val", metavar="FILE", help="where its validation file is now")


def _add_columns(parser: argparse.ArgumentParser, label: str) -> None:
    parser.add_argument("--text-column", default="text", help="column of the text (default: %(default)s)")
    parser.add_argument("--label-column", help=f"column of the label (default: {label})")
    parser.add_argument("--id-column", help="column of an integer id (default: rows are numbered)")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} must be at least 1")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
