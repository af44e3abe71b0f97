"""Entries: rows that change with every command on a collection, decoded and shared by the commands of a batch.

Theory. The head of a collection (id, count, ends) is kept as an `Entry`, and written back once for a batch; so is a `Part`, a row
under a collection's id that changes as often, such as a consumer group of a stream. `keyspace` says when.

It knows what the rows say, not when they are read or written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lmdbredis import format as fmt
from lmdbredis.format import STREAM

if TYPE_CHECKING:
    from lmdbredis.table import Table


class Entry:
    """A collection's row in `keys`, decoded."""

    __slots__ = (
        "added", "count", "deleted", "expire_at_ms", "first", "flags", "groups", "id", "key", "kind", "last", "owner", "row_key",
    )  # fmt: skip

    def __init__(self, row_key: bytes, key: bytes, kind: int, ident: int) -> None:
        self.row_key = row_key
        self.key = key  # as the client names it
        self.kind = kind  # fmt.LIST, ...
        self.id = ident
        self.owner = fmt.pack_u64(ident)  # before all rows of the collection
        self.count = 0  # elements
        self.flags = 0  # fmt.COUNTED, fmt.UNEVEN, fmt.SIGNED_ZERO
        self.first = 0  # lists: position of the first element; streams: id of the first entry, 0 if there is none
        self.last = 0  # lists: position of the last element; streams: the last id that was given
        self.deleted = 0  # streams: the greatest id that was deleted
        self.added = 0  # streams: entries ever added
        self.groups = 0  # streams: consumer groups
        self.expire_at_ms = 0  # 0 = never

    def be_like(self, other: Entry) -> None:
        """Take over what another entry of the same kind says of its elements."""
        self.count, self.flags, self.first, self.last = other.count, other.flags, other.first, other.last
        self.deleted, self.added, self.groups = other.deleted, other.added, other.groups

    def cell(self) -> bytes:
        """Return the entry as its row has it."""
        whole = fmt.whole_if_long(self.key)
        if self.kind == STREAM:
            return fmt.pack_stream_head(
                self.id, self.count, self.first, self.last, self.deleted, self.added, self.groups,
                expire_at_ms=self.expire_at_ms, whole=whole,
            )  # fmt: skip
        return fmt.pack_head(
            self.kind, self.id, self.count, self.flags, self.first, self.last,
            expire_at_ms=self.expire_at_ms, whole=whole,
        )  # fmt: skip


class Part(Protocol):
    """A row that belongs to a collection and changes again and again, decoded: a group of a stream, a consumer."""

    row_key: bytes
    table: Table

    def row(self) -> bytes:
        """Return the row's value."""
