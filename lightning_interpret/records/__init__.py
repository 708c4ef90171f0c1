"""Records of one query each: what all kinds share, and the kinds that need more than a few fields, a file each."""

from lightning_interpret.records.row import SCHEMA, Row, Rows
from lightning_interpret.records.tokens import TokensRow

__all__ = ["SCHEMA", "Row", "Rows", "TokensRow"]
