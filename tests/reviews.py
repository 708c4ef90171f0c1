"""Reports of bad cases that a review is written of: a usual one in two languages of texts, and one of any text."""

from dataclasses import replace

from bad_case_records import CASE, GROUP, OTHER, OVERVIEW, RELABEL, TRAINING

from lightning_interpret.bad_cases import (
    CAUSES,
    Action,
    BadCaseGroupRow,
    Erasure,
    Member,
    RowEdit,
    Verdict,
)

NOT_BAD = "The soup was not bad at all , and the waiter remembered us ."
_LONG = "We came late and had to wait for a table near the door . " * 12
_SCORES = {"not": 2.0, "bad": 1.6, "remembered": -0.9}


def attribution(tokens, scores, target="negative", **changes):
    """Return the attribution of a text of these words."""
    size = len(tokens)
    values = {
        "tokens": tuple(tokens),
        "words": tuple(tokens),
        "scores": tuple(scores),
        "word_ids": tuple(range(size)),
        "special": (False,) * size,
        "target_name": target,
        "prediction": target,
    }
    return replace(CASE.attribution, **values | changes)


def case(
    text=NOT_BAD, index=20, cause="composition", cue="not bad", *, prediction="negative", gold="positive", **changes
):
    """Return a case whose words 'not' and 'bad' speak for its wrong answer."""
    words = (text or "").split()
    neighbors = tuple(
        replace(
            TRAINING[0], example_id=100 + i, text=f"The bread was bad , number {i}", gold="negative" if i < 4 else gold
        )
        for i in range(5)
    )
    values = {
        "text": text,
        "index": index,
        "example_id": 500 + index,
        "cause": cause,
        "cue": cue,
        "prediction": prediction,
        "gold": gold,
        "verdicts": (Verdict(cause, cue, 0.6),),
        "confidence": 0.91,
        "attribution": attribution(words, [_SCORES.get(word, 0.05) for word in words], prediction),
        "neighbors": replace(CASE.neighbors, neighbors=neighbors),
        "erasures": (Erasure((3, 4), "not bad", 0.91, 0.7, prediction),),
        "influence": None,
        "distance_rank": 0.2,
        "unseen": 0.0,
    }
    return replace(CASE, **values | changes)


def group(cause, cue="", cases=(), *, sure=0.6, action=None, **changes):
    """Return the group of some cases."""
    members = tuple(
        Member(each.index, each.example_id, each.text, each.gold, each.prediction, each.confidence, verdict=sure)
        for each in cases
    )
    return BadCaseGroupRow(
        cause=cause, cue=cue, size=len(cases), explained=30, members=members, sure=sure, action=action, **changes
    )


def predictions(cases, right=170, close=8):
    """Return every validation row: the cases, and others that are right."""
    rows = [
        {
            "example_id": each.example_id,
            "line": each.index + 2,
            "gold": each.gold,
            "prediction": each.prediction,
            "confidence": each.confidence,
            "cause": each.cause,
            "cue": each.cue,
        }
        for each in cases
    ]
    for i in range(right):
        name = ("positive", "negative")[i % 3 == 0]
        share = 0.55 if i < close else 0.8 + 0.001 * i
        rows.append(
            {
                "example_id": 10_000 + i,
                "line": 300 + i,
                "gold": name,
                "prediction": name,
                "confidence": share,
                "cause": None,
                "cue": None,
            }
        )
    return rows


def report(cases=(), groups=(), rows=None, **overview):
    """Return a report as ``report.json`` holds it."""
    rows = predictions(cases) if rows is None else rows
    wrong = [row for row in rows if row["gold"] is not None and row["gold"] != row["prediction"]]
    labelled = [row for row in rows if row["gold"] is not None]
    counts = {
        "validated": len(rows),
        "accuracy": 1 - len(wrong) / len(labelled) if labelled else None,
        "wrong_cases": len(wrong),
        "confident": sum(row["confidence"] >= 0.9 for row in wrong),
        "unsure": sum(row["confidence"] < 0.6 for row in labelled if row not in wrong),
        "explained": len(cases),
    }
    return {
        "schema": 1,
        "kind": "bad_case_report",
        "model": "/home/someone/models/reviews",
        "train": "/home/someone/train.tsv",
        "val": "C:\\data\\val.tsv",
        "columns": {"text": "text", "label": "label", "id": None},
        "labels": ["negative", "positive"],
        "overview": replace(OVERVIEW, **counts | overview).to_dict(),
        "groups": [each.to_dict() for each in groups],
        "cases": [each.to_dict() for each in cases],
        "predictions": rows,
    }


def usual():
    """Return a report with most causes, in English, Chinese and Arabic."""
    passed = [case(), case(NOT_BAD.replace("soup", "bread"), 21), case(_LONG + NOT_BAD + " " + _LONG, 22)]
    text = "这家店的味道不差，服务员也很热情。"
    alike = tuple(replace(TRAINING[0], text="味道很差。", gold="差评") for _ in range(4))
    chinese = case(
        text,
        30,
        "confusion",
        "好评 / 差评",
        prediction="差评",
        gold="好评",
        erasures=(),
        attribution=attribution(list(text), [0.1] * 6 + [2.0, 1.9] + [-0.2] * 9, "差评"),
        neighbors=replace(CASE.neighbors, neighbors=alike),
    )
    arabic = case(
        "لم يكن الطعام سيئا على الإطلاق",
        31,
        "coverage",
        "",
        erasures=(),
        distance_rank=0.97,
        unseen=0.83,
        attribution=attribution(["لم", "يكن", "الطعام", "سيئا", "على", "الإطلاق"], [0.1, 0.2, 0.1, 2.0, 0.1, -1.0]),
        neighbors=replace(CASE.neighbors, neighbors=()),
    )
    close = replace(OTHER, gold="positive", badness="unsure", confidence=0.55, reasons={}, index=6, example_id=60)
    cases = [CASE, *passed, chinese, arabic, close]
    add = Action("add", "Collect texts.", templates=TRAINING)
    relabel = replace(
        RELABEL.action, edits=(*RELABEL.action.edits, RowEdit("val", CASE.example_id, "negative", None, CASE.text))
    )
    groups = [
        replace(GROUP, size=12),
        replace(RELABEL, action=relabel, sizes=((1, 5), (2, 3)), status="shrinking"),
        group("composition", "not bad", passed, action=Action("add", "Add.")),
        group("confusion", "好评 / 差评", [chinese], sure=0.3, action=Action("look", "Look.")),
        group("coverage", "", [arabic], sure=0.85, action=add),
        group("unexplained", "", [close], sure=0.0),
        group("truncation", "", (), sure=0.9),
    ]
    return report(cases, groups)


def of_text(text):
    """Return a report in which every text is the given one."""
    one = case(
        text,
        cue=text,
        prediction=text,
        gold=text + "!",
        erasures=(Erasure((0,), text, 0.9, 0.1, text + "?"),),
        influence=replace(CASE.influence, harmful=tuple(replace(each, text=text, gold=text) for each in TRAINING)),
        neighbors=replace(CASE.neighbors, neighbors=tuple(replace(each, text=text, gold=text) for each in TRAINING)),
        attribution=attribution([text, text], [1.0, -1.0], text),
    )
    edits = (RowEdit(text, 1, text, text, text, 0.5, text), RowEdit("train", 2, text, text, text, None, text, new=True))
    action = Action("balance", text, edits, TRAINING)
    groups = [
        group(
            cause,
            text,
            [replace(one, cause=cause)],
            action=action,
            measured={text: 1.0},
            thresholds={text: text},
            evidence=(text,),
            against=(text,),
            status=text,
            sizes=((1, 1), (2, 2)),
        )
        for cause in (*CAUSES, text)
    ]
    made = report([replace(one, cause=cause) for cause in (*CAUSES, text)], groups)
    return made | {"model": text, "train": text, "val": text, "labels": [text]}


def empty(**overview):
    """Return a report of no text at all."""
    return report([], [], [], **overview)
