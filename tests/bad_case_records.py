"""Records of bad cases that tests show and write: two cases, their group, and the overview."""

from dataclasses import replace

from lightning_interpret.bad_cases import (
    Action,
    BadCaseGroupRow,
    BadCaseRow,
    BadCasesRow,
    Erasure,
    GroupSummary,
    Member,
    RowEdit,
    Verdict,
)
from lightning_interpret.evidence import Approximation, InfluenceRow, NeighborsRow, TrainingExample
from lightning_interpret.explanations import AttributionRow

TEXT = "the food was cold on tuesday ."
WORDS = tuple(TEXT.split())

TRAINING = tuple(
    TrainingExample(40 + i, distance=0.5 + i / 10, text=f"lovely soup on tuesday , number {i}", gold="positive")
    for i in range(3)
)

SHORTCUT = Verdict(
    "shortcut",
    "tuesday",
    0.9,
    measured={"training share": 0.97, "rows with it": 120, "turned by it": 1.0, "fixed": 12, "broken": 1},
    thresholds={"training share": "≥ 0.8", "rows with it": "≥ 5"},
    evidence=("Of 120 training examples with 'tuesday' 97 % are labelled positive.",),
    against=("One example that is right turns wrong without 'tuesday'.",),
)

CASE = BadCaseRow(
    example_id=7,
    text=TEXT,
    prediction="positive",
    gold="negative",
    loss=2.9,
    confidence=0.95,
    why="loss 2.9: number 1 of 200, index 3",
    index=3,
    badness="confident",
    cause="shortcut",
    cue="tuesday",
    verdicts=(
        SHORTCUT,
        Verdict("coverage", "", 0.2, holds=False, evidence=("One word of 6 is in no training example.",)),
    ),
    probabilities={"negative": 0.05, "positive": 0.95},
    attribution=AttributionRow(
        tokens=WORDS,
        scores=(0.1, 0.2, 0.0, -1.5, 0.1, 3.0, 0.0),
        target=2.0,
        target_name="positive",
        output="logit",
        method="deep_lift",
        layer="embedding",
        units="token",
        prediction="positive",
        gold="negative",
        example_id=7,
        baseline="pad",
        baseline_target=0.1,
        error=0.0,
        relative_error=0.0,
        word_ids=tuple(range(7)),
        words=WORDS,
        special=(False,) * 7,
    ),
    neighbors=NeighborsRow(
        example_id=7,
        text=TEXT,
        prediction="positive",
        gold="negative",
        neighbors=TRAINING,
        k=3,
        examples=400,
        shares={"positive": 1.0},
        conformity=1.0,
    ),
    influence=InfluenceRow(
        example_id=7,
        text=TEXT,
        prediction="positive",
        gold="negative",
        harmful=tuple(replace(each, score=-0.1) for each in TRAINING[:2]),
        approximation=Approximation("exact", "change of the query's loss if the example is removed"),
        examples=400,
    ),
    erasures=(Erasure((5,), "tuesday", 0.95, 0.08, "negative"),),
    distance_rank=0.4,
    unseen=0.0,
)

OTHER = replace(
    CASE,
    example_id=9,
    index=5,
    badness="wrong",
    confidence=0.7,
    cause="unexplained",
    cue="",
    verdicts=(),
    attribution=None,
    influence=None,
    erasures=(),
    reasons={"attribution": "`max_seconds` was spent"},
)

GROUP = BadCaseGroupRow(
    text="tuesday",
    cause="shortcut",
    cue="tuesday",
    size=12,
    explained=30,
    members=(Member(3, 7, TEXT, "negative", "positive", 0.95, "confident", 0.9, probe=2),),
    sure=0.9,
    measured=SHORTCUT.measured,
    thresholds=SHORTCUT.thresholds,
    evidence=SHORTCUT.evidence,
    against=SHORTCUT.against,
    action=Action(
        "balance",
        "Add rows in which 'tuesday' stands with another label than positive: 2 are written out.",
        edits=(
            RowEdit(
                "train", 41, "positive", "positive", "lovely soup on , number 1", None, "without 'tuesday'", new=True
            ),
            RowEdit("train", 50, "negative", "negative", "tuesday cold soup", None, "with 'tuesday'", new=True),
        ),
        templates=TRAINING[:1],
        slice="slice/shortcut_tuesday",
    ),
    status="growing",
    sizes=((100, 4), (200, 12)),
    accuracy=0.4,
    slice_size=20,
)

RELABEL = BadCaseGroupRow(
    cause="training_label_error",
    size=3,
    explained=30,
    sure=0.7,
    evidence=("Of 5 training examples that speak for the predictions 4 are probably labelled wrongly.",),
    action=Action(
        "relabel",
        "Read 2 training rows again: their labels are probably wrong.",
        edits=(
            RowEdit("train", 11, "positive", "negative", "cold soup", 0.8, "9 of 10 neighbours are negative"),
            RowEdit("train", 12, "positive", "negative", "stale bread", 0.6, "7 of 10 neighbours are negative"),
        ),
    ),
)

OVERVIEW = BadCasesRow(
    text="200 validation examples",
    validated=200,
    accuracy=0.85,
    wrong_cases=30,
    confident=12,
    unsure=8,
    explained=30,
    groups=(
        GroupSummary("shortcut", "tuesday", 12, 0.9, "growing", "Add rows with 'tuesday'.", 0.4, 20, probe=1),
        GroupSummary("coverage", "", 0, 0.0, "solved", None, None, 0, probe=4),
    ),
    training=400,
    seconds=3.2,
)

RECORDS = (CASE, OTHER, GROUP, RELABEL, OVERVIEW)
