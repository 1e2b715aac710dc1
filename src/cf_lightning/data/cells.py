"""Cells of a table as text, and as lists of words."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

NO_WORDS = pa.scalar([], pa.list_(pa.string()))


def as_text(table: pa.Table, lists: Sequence[str]) -> pa.Table:
    """A table whose columns become text, whatever they were; those of ``lists`` may be lists of it.

    Raises:
        pa.ArrowInvalid: a column cannot be text.
        pa.ArrowNotImplementedError: likewise.
    """

    def kind(field: pa.Field) -> pa.DataType:
        return NO_WORDS.type if field.name in lists and _is_list(field.type) else pa.string()

    return table.cast(pa.schema((field.name, kind(field)) for field in table.schema))


def text(column: pa.ChunkedArray) -> pa.Array:
    """Empty for null."""
    return column.combine_chunks().fill_null("")


def words(column: pa.ChunkedArray) -> pa.Array:
    """Lists of words: lists as they are, text split at white space, empty for null."""
    if _is_list(column.type):
        listed = column.combine_chunks()
        return pc.if_else(pc.is_null(listed), NO_WORDS, listed)
    trimmed = pc.utf8_trim_whitespace(text(column))
    return pc.if_else(pc.equal(trimmed, ""), NO_WORDS, pc.utf8_split_whitespace(trimmed))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
