"""Are the rows of streams what `format`, `datatypes.streams` and `datatypes.streams_groups` say they are?

Theory. A stream leads to its entries and its groups, a group to its consumers and what is pending, a consumer to what it owns:
each by an id. So the check goes from the heads down: what a row leads to is noted on the way, and the sub-database below is
compared with it. What leads nowhere any more must be garbage, or under something that is.

Law: memory is bounded by the number of groups and consumers, not by what is pending.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from lmdbredis import format as fmt
from lmdbredis.check_rows import OWNER_BYTES, Owners, Row, name_fault, show, table_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ID_BYTES = 16


class Check(Protocol):
    """The check of the whole store, of which this one is a part."""

    def add(self, line: str) -> None:
        """Take a line."""

    def get(self, table: int, key: bytes) -> bytes | None:
        """Return the row's value, None if there is no such row."""

    def rows(self, table: int) -> Iterator[Row]:
        """Yield all rows of a sub-database."""


class _Node:
    """A group or a consumer: what its row says, and what the rows under its id add up to."""

    __slots__ = ("consumers", "group", "is_live", "owned", "pending", "seen_consumers", "seen_pending")

    def __init__(self, *, is_live: bool, pending: int, consumers: int = 0, group: int = 0) -> None:
        self.is_live = is_live  # else it waits for the reclaimer, with all that is under it
        self.pending = pending
        self.consumers = consumers
        self.group = group  # of a consumer
        self.owned = 0  # what a group's consumers say is pending
        self.seen_consumers = 0
        self.seen_pending = 0


class StreamsCheck:
    """One check of the streams of one snapshot."""

    def __init__(self, check: Check, owners: dict[int, Owners]) -> None:
        self._check = check
        self._owners = owners
        self._groups: dict[int, _Node] = {}
        self._consumers: dict[int, _Node] = {}

    def steps(self) -> list[Callable[[], None]]:
        """Return the steps of the check, in order."""
        return [
            self._entries,
            self._group_rows,
            self._consumer_rows,
            self._pending_rows,
            self._owned_rows,
            self._finish,
        ]

    def _say(self, table: int, key: bytes, fault: str) -> None:
        self._check.add(f"{table_name(table)}: {show(key)}: {fault}")

    def _by_owner(self, table: int) -> Iterator[tuple[int, Iterator[Row]]]:
        """Yield (id, rows under it) of a sub-database."""
        for owner, rows in groupby(self._check.rows(table), lambda row: row[0][:OWNER_BYTES]):
            if len(owner) < OWNER_BYTES:
                self._say(table, owner, "the row's key is too short")
            else:
                yield fmt.unpack_u64(owner), rows

    # --- entries ----------------------------------------------------------------------------------------------------------------

    def _entries(self) -> None:
        owners = self._owners[fmt.STREAM]
        found: set[int] = set()
        for ident, rows in self._by_owner(fmt.STREAMS):
            index = owners.find(ident)
            if index < 0:
                if not owners.is_garbage(ident):
                    self._check.add(f"stream: the id {ident} has rows, but neither a key nor garbage leads to it")
                continue
            found.add(index)
            first, last, _ = owners.heads[index]
            count = 0
            for key, row in rows:
                count += 1
                entry_id = fmt.unpack_entry_id(key)
                if len(key) != OWNER_BYTES + _ID_BYTES or entry_id > last or (count == 1 and entry_id != first):
                    self._say(fmt.STREAMS, key, f"an id that does not go with the head, from {first:#x} to {last:#x}")
                elif not _is_entry(row):
                    self._say(fmt.STREAMS, key, "no fields and values")
            if count != owners.counts[index]:
                self._check.add(
                    f"stream: the stream {ident}: its key says {owners.counts[index]} entries, there are {count}"
                )
        for index, count in enumerate(owners.counts):
            if count and index not in found:
                self._check.add(f"stream: the stream {owners.ids[index]} has no rows, its key says {count}")

    # --- groups and consumers ---------------------------------------------------------------------------------------------------

    def _group_rows(self) -> None:
        owners, garbage = self._owners[fmt.STREAM], self._owners[fmt.GROUP]
        counts = [0] * len(owners.ids)
        for ident, rows in self._by_owner(fmt.GROUPS):
            index = owners.find(ident)
            for key, row in rows:
                try:
                    group, _, read, pending, consumers, whole = fmt.unpack_group(row)
                except fmt.UnpackError:
                    self._say(fmt.GROUPS, key, "the row is too short")
                    continue
                fault = name_fault(key[OWNER_BYTES:], whole)
                if read < fmt.UNKNOWN:
                    fault = fault or f"has read {read} entries"
                if index < 0 and not owners.is_garbage(ident):
                    fault = fault or f"neither a key nor garbage leads to the stream {ident}"
                if garbage.is_garbage(group) or group in self._groups:
                    fault = fault or f"the id {group} belongs to two groups, or to a group and to garbage"
                if fault:
                    self._say(fmt.GROUPS, key, fault)
                if index >= 0:
                    counts[index] += 1
                self._groups[group] = _Node(is_live=index >= 0, pending=pending, consumers=consumers)
        for ident, (_, _, groups), count in zip(owners.ids, owners.heads, counts, strict=True):
            if groups != count:
                self._check.add(f"stream.groups: the stream {ident}: its key says {groups} groups, there are {count}")
        for ident in garbage.garbage:
            self._groups.setdefault(ident, _Node(is_live=False, pending=0))

    def _consumer_rows(self) -> None:
        garbage = self._owners[fmt.CONSUMER]
        for ident, rows in self._by_owner(fmt.CONSUMERS):
            group = self._groups.get(ident)
            for key, row in rows:
                try:
                    consumer, _, active_ms, pending, whole = fmt.unpack_consumer(row)
                except fmt.UnpackError:
                    self._say(fmt.CONSUMERS, key, "the row is too short")
                    continue
                stored = key[OWNER_BYTES:]
                fault = name_fault(stored, whole)
                if active_ms < fmt.UNKNOWN:
                    fault = fault or f"was active at {active_ms}"
                if group is None:
                    fault = fault or f"neither a stream nor garbage leads to the group {ident}"
                if garbage.is_garbage(consumer) or consumer in self._consumers:
                    fault = fault or f"the id {consumer} belongs to two consumers, or to a consumer and to garbage"
                if group is not None and self._check.get(fmt.OWNED, fmt.pack_u64(consumer)) != (whole or stored):
                    fault = fault or f"the first row under its id {consumer} does not carry its name"
                if fault:
                    self._say(fmt.CONSUMERS, key, fault)
                self._consumers[consumer] = _Node(
                    is_live=group is not None and group.is_live, pending=pending, group=ident
                )
                if group is not None:
                    group.seen_consumers += 1
                    group.owned += pending
        for ident in garbage.garbage:
            self._consumers.setdefault(ident, _Node(is_live=False, pending=0))

    # --- what is pending --------------------------------------------------------------------------------------------------------

    def _pending_rows(self) -> None:
        for ident, rows in self._by_owner(fmt.PENDING):
            group = self._groups.get(ident)
            if group is None:
                self._check.add(f"stream.pending: neither a stream nor garbage leads to the group {ident}")
                continue
            if not group.is_live:
                continue
            for key, row in rows:
                group.seen_pending += 1
                fault = self._pending_fault(ident, key, row)
                if fault:
                    self._say(fmt.PENDING, key, fault)

    def _pending_fault(self, ident: int, key: bytes, row: bytes) -> str:
        """Return what is wrong with a pending entry, empty if nothing is."""
        if len(key) != OWNER_BYTES + _ID_BYTES:
            return "no id of an entry"
        try:
            consumer = fmt.unpack_pending(row)[0]
        except fmt.UnpackError:
            return f"the row has {len(row)} bytes"
        found = self._consumers.get(consumer)
        if found is None or found.group != ident:
            return f"the group has no consumer {consumer}"
        if self._check.get(fmt.OWNED, fmt.pack_u64(consumer) + key[OWNER_BYTES:]) is None:
            return f"the consumer {consumer} does not own it"
        return ""

    def _owned_rows(self) -> None:
        for ident, rows in self._by_owner(fmt.OWNED):
            consumer = self._consumers.get(ident)
            if consumer is None:
                self._check.add(f"stream.owned: neither a group nor garbage leads to the consumer {ident}")
                continue
            if not consumer.is_live:
                continue
            for key, row in rows:
                if len(key) == OWNER_BYTES:
                    continue  # its name, compared before
                consumer.seen_pending += 1
                there = self._check.get(fmt.PENDING, fmt.pack_u64(consumer.group) + key[OWNER_BYTES:])
                if row or len(key) != OWNER_BYTES + _ID_BYTES:
                    self._say(fmt.OWNED, key, "more than the id of an entry")
                elif there is None or there[:OWNER_BYTES] != key[:OWNER_BYTES]:
                    self._say(fmt.OWNED, key, "the entry is not pending for this consumer")

    def _finish(self) -> None:
        """Compare what groups and consumers say with what was found under their ids."""
        for ident, group in self._groups.items():
            if group.is_live and (group.pending, group.pending) != (group.seen_pending, group.owned):
                self._check.add(
                    f"stream.groups: the group {ident} says {group.pending} pending, there are {group.seen_pending}; "
                    f"its consumers say {group.owned}"
                )
            if group.is_live and group.consumers != group.seen_consumers:
                self._check.add(
                    f"stream.groups: the group {ident} says {group.consumers} consumers, there are {group.seen_consumers}"
                )
        for ident, consumer in self._consumers.items():
            if consumer.is_live and consumer.pending != consumer.seen_pending:
                self._check.add(
                    f"stream.consumers: the consumer {ident} says {consumer.pending} pending, owns {consumer.seen_pending}"
                )


def _is_entry(row: bytes) -> bool:
    """Tell whether a row holds fields and values."""
    try:
        words = fmt.unpack_entry(row)
    except (ValueError, TypeError):
        return False
    return (
        isinstance(words, list)
        and bool(words)
        and not len(words) % 2
        and all(isinstance(word, bytes) for word in words)
    )
