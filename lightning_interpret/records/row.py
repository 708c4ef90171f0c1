"""What records of one query have in common: its facts, JSON both ways, text in a terminal and in a notebook."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Self, TypeVar

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a record says of its query; ``why`` is why it was picked. ``parts`` names the fields that hold records."""

    kind: ClassVar[str]
    parts: ClassVar[Mapping[str, type]] = {}

    example_id: int | None = None
    text: str | None = None
    prediction: str | None = None
    gold: str | None = None
    loss: float | None = None
    confidence: float | None = None
    why: str | None = None
    notes: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def wrong(self) -> bool:
        """Whether the prediction is known to be wrong."""
        return self.gold is not None and self.prediction not in (None, self.gold)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON values, with ``schema`` and ``kind``; numbers that are not finite become ``None``."""
        return {"schema": SCHEMA, "kind": self.kind} | _json(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the row that :meth:`to_dict` wrote.

        Raises:
            ValueError: If ``data`` is of another kind or of a later schema.
        """
        if data.get("kind") != cls.kind or data.get("schema", SCHEMA + 1) > SCHEMA:
            raise ValueError(
                f"Expected a record of kind {cls.kind!r} and schema at most {SCHEMA}, but got "
                f"kind={data.get('kind')!r}, schema={data.get('schema')!r}: read it with the version that wrote it."
            )
        return cls(**_with_parts(cls, _known(cls, data)))

    def __str__(self) -> str:
        from lightning_interpret.cards import card_of  # which reads the rows: the import runs the other way

        return str(card_of(self))

    def _repr_html_(self) -> str:
        from lightning_interpret.notebook import card

        return card(self)


R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Rows(Sequence[R]):
    """Rows of one kind, one a query, in their order.

    Attributes:
        rows: The rows.
        example: Of which example of the batch each is; None of one row an example.
    """

    rows: tuple[R, ...]
    example: tuple[int, ...] | None = None

    def by_example(self, size: int) -> list[tuple[R, ...]]:
        """Return the rows of each of ``size`` examples, as many as each has."""
        of = range(len(self.rows)) if self.example is None else self.example
        return [tuple(row for row, i in zip(self.rows, of, strict=True) if i == number) for number in range(size)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __iter__(self) -> Iterator[R]:
        return iter(self.rows)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.rows))

    def _repr_html_(self) -> str:
        return "<hr>".join(row._repr_html_() for row in self.rows)


def _with_parts(record: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with records in the place of the mappings that hold them."""
    for name, part in getattr(record, "parts", {}).items():
        if isinstance(values.get(name), tuple):
            values[name] = tuple(_part(part, each) for each in values[name])
        elif isinstance(values.get(name), Mapping):
            values[name] = _part(part, values[name])
    return values


def _part(record: type[Any], values: Mapping[str, Any]) -> Any:
    if hasattr(record, "from_dict"):  # a row inside another one is written without its kind
        return record.from_dict({"schema": SCHEMA, **values, "kind": record.kind})
    known = _with_parts(record, _known(record, values))
    # a number that always is there was not finite where it is missing
    nan = {f.name: math.nan for f in fields(record) if f.type in ("float", float) and known.get(f.name, 0.0) is None}
    return record(**known | nan)


def _known(record: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record has fields for, lists as tuples: a later version may have written more."""
    names = {f.name for f in fields(record)}
    return {name: _tuples(value) for name, value in values.items() if name in names}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


def _json(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _json(getattr(value, f.name)) for f in fields(value)}
    return value
