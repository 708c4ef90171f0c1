"""Records of evidence in the training data: which training examples made the model say this.

An :class:`Influence` or a :class:`Neighbors` holds the rows of one call; a row is one query with the training examples
found for it, in plain Python, JSON both ways. Scores are signed and un-normalised, and have one sign everywhere:
positive is helpful, removing the example would raise what is measured at the query (its loss).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from lightning_interpret.records import Row, Rows


@dataclass(frozen=True)
class TrainingExample:
    """One training example as evidence about a query.

    Attributes:
        example_id: Its stable id in the training data.
        score: Its influence on the query, positive if helpful; ``None`` for a mere neighbour.
        distance: Its distance from the query in feature space; ``None`` where no features were compared.
        text: Its text, shortened by no one.
        gold: Its label.
        prediction: What the model says of it.
        loss: The model's loss on it, in nats.
        disagreement: Share of its own nearest training neighbours that have another label.
        self_influence: Influence of the example on its own loss.
        similarity: k(query, example), where a kernel compared them.
        tokens: The tokens of its own output (or its words, where these are tagged), where influence was taken apart.
        by_token: What of the score each of them carries: the parts sum to it.
        on_tokens: Its influence on the loss of each of the query's tokens (:attr:`InfluenceRow.by_token`): the score is
            their mean.
    """

    example_id: int
    score: float | None = None
    distance: float | None = None
    text: str | None = None
    gold: str | None = None
    prediction: str | None = None
    loss: float | None = None
    disagreement: float | None = None
    self_influence: float | None = None
    similarity: float | None = None
    tokens: tuple[str, ...] | None = None
    by_token: tuple[float, ...] | None = None
    on_tokens: tuple[float, ...] | None = None


@dataclass(frozen=True)
class TokenInfluence:
    """The training examples that made the model say what it says of one token of a query's output, or tag of a word.

    Attributes:
        token: What it says.
        loss: The model's loss on it, in nats.
        helpful: Examples of positive score, the largest first: without them this token's loss would be higher.
        harmful: Examples of negative score, the most negative first.
    """

    parts: ClassVar[Mapping[str, type]] = {"helpful": TrainingExample, "harmful": TrainingExample}

    token: str
    loss: float | None = None
    helpful: tuple[TrainingExample, ...] = ()
    harmful: tuple[TrainingExample, ...] = ()

    def merged(self, others: Iterable[TokenInfluence], k: int) -> TokenInfluence:
        """Return this of several shards of the training data."""
        every = [self, *others]
        return replace(
            self,
            helpful=_top([each for one in every for each in one.helpful], k, sign=-1),
            harmful=_top([each for one in every for each in one.harmful], k, sign=1),
        )


@dataclass(frozen=True)
class Suspect:
    """A training example whose label may be wrong, with what speaks for that: of each number the larger, the more.

    Attributes:
        example_id: Its stable id in the training data.
        gold: Its label.
        prediction: What the model says of it.
        self_influence: Influence of the example on its own loss.
        loss: The model's loss on it, in nats.
        disagreement: Share of its own nearest training neighbours that have another label.
        text: Its text.
        word: Of an example with a label a word, the word whose own label influences its own loss most.
        word_gold: The label of that word.
        word_prediction: What the model says of it.
    """

    example_id: int
    gold: str | None = None
    prediction: str | None = None
    self_influence: float | None = None
    loss: float | None = None
    disagreement: float | None = None
    text: str | None = None
    word: str | None = None
    word_gold: str | None = None
    word_prediction: str | None = None


@dataclass(frozen=True)
class Approximation:
    """How influence was approximated, as each score's record has to say.

    Attributes:
        method: Name of the method.
        unit: What a score is, in words: "change of the query's loss if the example is removed", "cosine", ...
        measure: What is measured at the query; ``None`` where nothing is, and a score says nothing of a removal.
        layers: Names of the layers whose parameters are covered.
        coverage: Share of the trainable parameters that are covered.
        damping: What was added to the curvature's diagonal, beside the weight decay; ``None`` without curvature.
        weight_decay: The weight decay of the training objective that the curvature contains.
        curvature: Which curvature: ``ggn``, ``hessian``, ``fisher``, ``second moments``, ...; ``None`` without.
        samples: Labels drawn for each example; ``None`` where all classes were summed.
        seed: Seed of what was drawn.
        examples: Training examples that the curvature was measured on.
        converged: Whether an iterative solver met its tolerance.
        residual: Its largest relative residual.
        notes: What else the reader should know.
    """

    method: str
    unit: str
    layers: tuple[str, ...] = ()
    coverage: float | None = None
    damping: float | None = None
    weight_decay: float | None = None
    curvature: str | None = None
    samples: int | None = None
    seed: int | None = None
    examples: int | None = None
    converged: bool | None = None
    residual: float | None = None
    notes: tuple[str, ...] = ()
    measure: str | None = "loss"

    @property
    def read(self) -> str:
        """What each training example is asked for: its ``features``, ``gradients`` or ``outputs``."""
        if self.measure is None:
            return "features"
        return "outputs" if self.coverage is None and self.curvature is None else "gradients"

    def of(self, measure: str | None) -> Approximation:
        """Return this of another measure, which is named in the unit, too."""
        said = "query's loss" if self.measure == "loss" else self.measure
        if measure is None or said is None or measure == self.measure:
            return replace(self, measure=measure)
        return replace(self, measure=measure, unit=self.unit.replace(said, measure))


@dataclass(frozen=True, kw_only=True)
class NeighborsRow(Row):
    """The training examples nearest to one query in feature space.

    Attributes:
        neighbors: The nearest first.
        layer: Whose features were compared.
        metric: ``euclidean`` or ``cosine``.
        k: Neighbours asked for.
        examples: Training examples in the datastore.
        shares: Share of each label among the neighbours; of several labels a text, the share that has each.
        means: Mean of the neighbours' numbers, by name, of a task whose labels are numbers.
        probabilities: p_kNN of each label, weighted by distance.
        temperature: Of those weights.
        model_probabilities: The model's own.
        mixture: Label that the back-off predicts.
        backed_off: Whether the model was unsure enough for the neighbours to be asked.
        conformity: Share of neighbours with the predicted label.
        credibility: Share of calibration examples that conform no more than this one.
        tokens: Tokens of the query, where neighbour saliency was asked for.
        scores: Drop of conformity when each token is left out.
    """

    kind: ClassVar[str] = "neighbors"
    parts: ClassVar[Mapping[str, type]] = {"neighbors": TrainingExample}

    neighbors: tuple[TrainingExample, ...] = ()
    layer: str | None = None
    metric: str = "euclidean"
    k: int | None = None
    examples: int | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    means: Mapping[str, float] | None = None
    probabilities: Mapping[str, float] | None = None
    temperature: float | None = None
    model_probabilities: Mapping[str, float] | None = None
    mixture: str | None = None
    backed_off: bool | None = None
    conformity: float | None = None
    credibility: float | None = None
    tokens: tuple[str, ...] | None = None
    scores: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class InfluenceRow(Row):
    """The training examples that made the model say what it says of one query, or of a set of them.

    Attributes:
        helpful: Examples of positive score, the largest first: without them the loss would be higher.
        harmful: Examples of negative score, the most negative first.
        approximation: What the scores are and how they were approximated.
        examples: Training examples scored.
        skipped: Examples left out, as their gradients were not finite.
        queries: Queries summed (aggregate mode), 1 for one.
        neighbors: What stands nearest in feature space, as the baseline to influence.
        by_token: The same of each token of the query's output, where that was asked for: the query's loss is the mean
            of theirs, and an example's score the mean of its scores on them.
    """

    kind: ClassVar[str] = "influence"
    parts: ClassVar[Mapping[str, type]] = {
        "helpful": TrainingExample,
        "harmful": TrainingExample,
        "approximation": Approximation,
        "neighbors": NeighborsRow,
        "by_token": TokenInfluence,
    }

    helpful: tuple[TrainingExample, ...] = ()
    harmful: tuple[TrainingExample, ...] = ()
    approximation: Approximation
    examples: int = 0
    skipped: int = 0
    queries: int = 1
    neighbors: NeighborsRow | None = None
    by_token: tuple[TokenInfluence, ...] = ()

    def merged(self, others: Iterable[InfluenceRow], k: int) -> InfluenceRow:
        """Return the row of this query over several shards of the training data; ids that come twice count once."""
        rows = [self, *others]
        return replace(
            self,
            helpful=_top([each for row in rows for each in row.helpful], k, sign=-1),
            harmful=_top([each for row in rows for each in row.harmful], k, sign=1),
            notes=tuple(dict.fromkeys(note for row in rows for note in row.notes)),
            examples=sum(row.examples for row in rows),
            skipped=sum(row.skipped for row in rows),
            by_token=tuple(
                first.merged(others, k)
                for first, *others in zip(*(row.by_token for row in rows if row.by_token), strict=True)
            ),
        )


@dataclass(frozen=True, kw_only=True)
class LandmarksRow(Row):
    """The landmarks, real training examples, that a kernel layer made its prediction of.

    The scores are the relevance of the landmarks (Croce et al., 2019): with ``absorbed`` they sum to ``target``.

    Attributes:
        like: Landmarks that speak for the target, the largest score first.
        unlike: Landmarks that speak against it, the most negative first.
        target_name: What is explained: a class, or a contrast.
        target: Its score F(x), which is handed back.
        absorbed: What did not reach the landmarks, by what took it: ``bias``, ...
        error: Σ scores + Σ absorbed − target, over all landmarks.
        kernel: Name of the kernel.
        landmarks: How many landmarks there are.
        positive: How many of them speak for the target.
        magnitude: Σ |score| over all of them: scores that cancel are larger than what they sum to.
        approximation_error: Relative error of the kernel matrix that the landmarks stand for (Frobenius), as it was
            measured on training examples when they were chosen.
        tokens: Tokens of the query, where the relevance was asked for on down to them.
        scores: Relevance of each token.
    """

    kind: ClassVar[str] = "landmarks"
    parts: ClassVar[Mapping[str, type]] = {"like": TrainingExample, "unlike": TrainingExample}

    like: tuple[TrainingExample, ...] = ()
    unlike: tuple[TrainingExample, ...] = ()
    target_name: str | None = None
    target: float | None = None
    absorbed: Mapping[str, float] = field(default_factory=dict)
    error: float | None = None
    kernel: str | None = None
    landmarks: int = 0
    positive: int | None = None
    magnitude: float | None = None
    approximation_error: float | None = None
    tokens: tuple[str, ...] | None = None
    scores: tuple[float, ...] | None = None

    @property
    def total(self) -> float | None:
        """The sum of the scores of all landmarks, listed or not; ``None`` where the record does not say it."""
        known = (self.target, self.error, *self.absorbed.values())
        return None if None in known else self.target + self.error - sum(self.absorbed.values())  # type: ignore[operator]

    @property
    def converged(self) -> bool | None:
        """Whether the parts sum to the target, up to a hundredth of the largest of them; ``None`` where unknown."""
        if self.total is None or self.target is None or self.error is None:
            return None
        parts = (self.target, self.total, self.magnitude or 0.0, *self.absorbed.values())
        return abs(self.error) <= 0.01 * max(map(abs, parts))

    @property
    def bias_share(self) -> float | None:
        """Size of what did not reach the landmarks as a share of it and of the magnitude; ``None`` where unknown."""
        if self.magnitude is None or None in self.absorbed.values():
            return None
        absorbed = abs(sum(self.absorbed.values()))
        return absorbed / (absorbed + self.magnitude) if absorbed + self.magnitude else None


EvidenceRow = InfluenceRow | NeighborsRow | LandmarksRow


class Influence(Rows[InfluenceRow]):
    """The influence of training examples on N queries, one row each.

    Attributes:
        rows: A row a query, in their order.
    """


class Landmarks(Rows[LandmarksRow]):
    """The landmarks of N predictions, one row each.

    Attributes:
        rows: A row a prediction, in their order.
    """


class Neighbors(Rows[NeighborsRow]):
    """The nearest training examples of N queries, one row each.

    Attributes:
        rows: A row a query, in their order.
    """


def _top(examples: Iterable[TrainingExample], k: int, sign: int) -> tuple[TrainingExample, ...]:
    distinct = {each.example_id: each for each in examples}
    return tuple(sorted(distinct.values(), key=lambda each: (sign * (each.score or 0.0), each.example_id))[:k])
