"""Streams as rows: what is written, what is left to the reclaimer, what survives, and who may wait; every law checked.

Laws:
- After each test `check` finds nothing wrong, and once the reclaimer is done no row of what is gone is left.
- Batches end, commits are on their way, the store is repaired and the process dies between steps: nobody may notice.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from lmdbredis import format as fmt
from lmdbredis import keyspace as keyspaces
from lmdbredis.blocking import Wait
from lmdbredis.registry import find
from lmdbredis.resp import NULL_ARRAY
from lmdbredis.words import parse_entry_id
from tests.crash import Engine
from tests.differential import same_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.client import Reply
    from tests.differential import Pair

STREAM_TABLES = (fmt.STREAMS, fmt.GROUPS, fmt.CONSUMERS, fmt.PENDING, fmt.OWNED)
LONG = "l" * 600
TICKS_MAX = 2000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A store driven by hand; checked at the end."""
    one = Engine(tmp_path / "store")
    yield one
    assert one.check() == []
    one.close()


def say(engine: Engine, *lines: str) -> list[Reply]:
    """Run lines as one batch; none of them is refused."""
    replies = engine.run(*(line.encode().split() for line in lines))
    assert [reply for reply in replies if reply.is_error] == []
    return replies


def rows(engine: Engine) -> dict[int, int]:
    """Return how many rows the sub-databases of streams have, of those that have any."""
    engine.store.settle()
    reader = engine.store.reader()
    counts = {table: sum(1 for _ in reader.rows(table)) for table in STREAM_TABLES}
    return {table: count for table, count in counts.items() if count}


def reclaim(engine: Engine) -> None:
    """Let time pass until nothing is left to be reclaimed."""
    for _ in range(TICKS_MAX):
        engine.tick()
        engine.store.settle()  # waits for a commit that is on its way
        if engine.keyspace.oldest_garbage() is None:
            return
    pytest.fail("the reclaimer does not come to an end")


def fill(engine: Engine, key: str = "s", entries: int = 1200, groups: int = 3, consumers: int = 4) -> None:
    """Make a stream with groups whose consumers have all entries pending."""
    for start in range(1, entries + 1, 200):
        say(engine, *(f"XADD {key} {n}-1 n {n}" for n in range(start, min(start + 200, entries + 1))))
    for group in range(groups):
        say(engine, f"XGROUP CREATE {key} g{group}{LONG} 0")
        share = entries // consumers
        say(engine, *(f"XREADGROUP GROUP g{group}{LONG} c{n} COUNT {share} STREAMS {key} >" for n in range(consumers)))


def test_a_deleted_stream_leaves_nothing(engine: Engine):
    """DEL touches one row; then entries, groups, consumers and what is pending are reclaimed to the last row."""
    fill(engine)
    before = rows(engine)
    engine.store.append(0)
    say(engine, "DEL s")
    changed = engine.store.reader()

    assert before == {fmt.STREAMS: 1200, fmt.GROUPS: 3, fmt.CONSUMERS: 12, fmt.PENDING: 3600, fmt.OWNED: 3612}
    assert [key for key, _ in changed.rows(fmt.GARBAGE)]
    assert rows(engine) == before
    assert engine.check() == []
    reclaim(engine)
    assert rows(engine) == {}


def test_a_destroyed_group_leaves_nothing(engine: Engine):
    """XGROUP DESTROY and DELCONSUMER leave nothing of the group or the consumer, and everything of the others."""
    fill(engine)
    say(
        engine,
        f"XGROUP DESTROY s g1{LONG}",
        f"XGROUP DELCONSUMER s g0{LONG} c2",
        f"XREADGROUP GROUP g0{LONG} c2 STREAMS s 0",
    )
    assert engine.check() == []
    reclaim(engine)

    assert rows(engine) == {fmt.STREAMS: 1200, fmt.GROUPS: 2, fmt.CONSUMERS: 8, fmt.PENDING: 2100, fmt.OWNED: 2108}
    say(engine, f"XGROUP CREATE s g1{LONG} 0", f"XREADGROUP GROUP g1{LONG} new STREAMS s >", "FLUSHALL")
    reclaim(engine)
    assert rows(engine) == {}


def test_what_is_made_and_gone_in_one_batch(engine: Engine):
    """Groups and consumers that come and go within a batch, or with their stream, leave nothing."""
    say(
        engine, "XADD s 1-1 a b", "XGROUP CREATE s g 0", "XREADGROUP GROUP g c STREAMS s >", "XGROUP DESTROY s g",
        "XGROUP CREATE s g 0", "XREADGROUP GROUP g c STREAMS s >", "XGROUP DELCONSUMER s g c", "XGROUP DESTROY s g",
        "XGROUP CREATE s h 0", "XREADGROUP GROUP h c STREAMS s >", "XACK s h 1-1", "DEL s", "XADD s 1-1 a b", "XGROUP CREATE s h 0",
        "XREADGROUP GROUP h c STREAMS s >", "SET s v", "XADD t 1-1 a b", "XGROUP CREATE t h 0", "XREADGROUP GROUP h c STREAMS t >",
        "COPY t u", "RENAME u t", "FLUSHDB", "XADD t 1-1 a b", "XGROUP CREATE t h 0", "XREADGROUP GROUP h c STREAMS t >", "DEL t",
    )  # fmt: skip
    assert engine.check() == []
    reclaim(engine)
    assert rows(engine) == {}


def test_rows_are_written_once_in_a_batch(engine: Engine):
    """However many commands of a batch change a stream, a group and a consumer, each has one row in the log's record."""
    say(engine, "XADD s 1-1 a b", "XGROUP CREATE s g 0", "XGROUP CREATECONSUMER s g c")
    written: list[fmt.WriteSet] = []
    engine.store.hooks.append(written.append)
    say(
        engine,
        *(
            line
            for n in range(2, 52)
            for line in (f"XADD s {n}-1 a b", "XREADGROUP GROUP g c COUNT 1 STREAMS s >", f"XACK s g {n - 1}-1")
        ),
    )
    engine.store.hooks.clear()
    counts = {table: len(found) for table, found in written[0].items() if found}

    assert len(written) == 1
    assert counts == {fmt.KEYS: 1, fmt.STREAMS: 50, fmt.GROUPS: 1, fmt.CONSUMERS: 1, fmt.PENDING: 50, fmt.OWNED: 50}


def test_trimming_most_takes_a_new_id(engine: Engine):
    """A stream that is trimmed to a small rest leaves the many rows to the reclaimer, and takes groups and pending with it."""
    fill(engine, entries=3000, groups=2)
    entry = engine.keyspace.databases[0].find(b"s")
    old = entry.id  # type: ignore[union-attr]
    (trimmed,) = say(engine, "XTRIM s MAXLEN 20")

    assert trimmed.value == 2980
    assert entry.id != old  # type: ignore[union-attr]
    assert engine.check() == []
    say(
        engine,
        f"XACK s g0{LONG} 5-1 2990-1",
        f"XREADGROUP GROUP g1{LONG} c3 STREAMS s 0",
        f"XGROUP DELCONSUMER s g1{LONG} c3",
    )
    reclaim(engine)
    assert rows(engine) == {fmt.STREAMS: 20, fmt.GROUPS: 2, fmt.CONSUMERS: 7, fmt.PENDING: 5248, fmt.OWNED: 5255}
    fill(engine, "all", entries=1500, groups=1)
    say(engine, "XTRIM all MAXLEN 0", "XADD all 9999-1 a b", f"XREADGROUP GROUP g0{LONG} c0 STREAMS all >", "DEL s all")
    reclaim(engine)
    assert rows(engine) == {}


@pytest.mark.parametrize("options", [(), ("--hot-layer-size", "0")], ids=["held", "nothing held"])
def test_nothing_is_lost_with_what_is_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
):
    """What is decoded may be dropped between batches, and rebuilt after a repair: the answers stay the same."""
    monkeypatch.setattr(keyspaces, "_PARTS_MAX", 2)
    plain, small = Engine(tmp_path / "plain"), Engine(tmp_path / "small", None, *options)
    chance = random.Random(7)
    for _ in range(60):
        batch = []
        for _ in range(chance.randrange(1, 8)):
            group, consumer, at = chance.choice("gh"), chance.choice(("ann", "bob", LONG)), chance.randrange(1, 60)
            batch.append(
                chance.choice(
                    (
                        "XADD s {at}-* a b", "XGROUP CREATE s {group} 0 MKSTREAM", "XREADGROUP GROUP {group} {consumer} COUNT 2 STREAMS s >",
                        "XACK s {group} {at}-0 {at}-1", "XAUTOCLAIM s {group} {consumer} 0 0 COUNT 3", "XINFO STREAM s FULL", "XINFO CONSUMERS s {group}",
                        "XREADGROUP GROUP {group} {consumer} STREAMS s 0", "XPENDING s {group}", "XGROUP DELCONSUMER s {group} {consumer}", "KEYS *",
                    )
                ).format(at=at, group=group, consumer=consumer)
            )  # fmt: skip
        words = [line.encode().split() for line in batch]
        assert plain.run(*words) == small.run(*words), batch
        if not chance.randrange(4):
            small.store.repair()
        for one in (plain, small):
            one.tick()
        assert small.check() == []
    for one in (plain, small):
        one.close()


def test_streams_survive_a_kill(pair: Pair):
    """After kill -9 and a start, streams, groups, consumers and what is pending are as they were, and go on."""
    script = [f"XADD k {n}-1 n {n}" for n in range(1, 200)]
    script += [
        "XGROUP CREATE k g 0",
        f"XGROUP CREATE k {LONG} 5",
        "XREADGROUP GROUP g ann COUNT 50 STREAMS k >",
        "XDEL k 3-1 199-1",
    ]
    script += [
        f"XREADGROUP GROUP {LONG} {LONG} COUNT 9 STREAMS k >",
        "XACK k g 1-1 2-1 77-1",
        "XTRIM k MAXLEN 150",
        "XGROUP CREATE empty g $ MKSTREAM",
    ]
    pair.run(script)
    pair.ours.kill9()
    pair.ours.restart()
    same_keys(*pair.clients())
    pair.run(
        [
            "XREADGROUP GROUP g bob COUNT 3 STREAMS k >",
            "XREADGROUP GROUP g ann COUNT 3 STREAMS k 0",
            "XADD k 200-1 a b",
            "XADD k 199-1 a b",
            "XADD empty 1-1 a b",
            "XREADGROUP GROUP g c STREAMS empty >",
        ]
    )


def wait_of(engine: Engine, *words: bytes) -> Wait:
    """Run the handler of a command that must wait; return what it says."""
    with pytest.raises(Wait) as caught:
        handle(engine, *words)
    return caught.value


def handle(engine: Engine, *words: bytes) -> Any:
    """Return what the handler of a command returns."""
    cx = engine.executor.cx
    cx.db = engine.keyspace.databases[0]
    cx.now_ms = engine.keyspace.now_ms = engine.clock_ms
    found = find(words)
    assert found is not None
    return found.handler(cx, *words[found.name_words :])


def test_who_may_wait_waits(engine: Engine):
    """XREAD and XREADGROUP with BLOCK that find nothing say for what they wait, and with which words they go on."""
    say(engine, "XADD s 5-5 a b", "XGROUP CREATE s g $")
    wait = wait_of(engine, b"XREAD", b"COUNT", b"2", b"BLOCK", b"70", b"STREAMS", b"s", b"$", b"t", b"6", b"$", b"$")

    assert (wait.keys, wait.kind, wait.timeout_ms, wait.nothing) == ((b"s", b"$", b"t"), fmt.STREAM, 70, NULL_ARRAY)
    assert wait.words == [b"XREAD", b"COUNT", b"2", b"BLOCK", b"70", b"STREAMS", b"s", b"$", b"t", b"6", b"0-0", b"0-0"]
    wait = wait_of(engine, b"XREAD", b"BLOCK", b"0", b"STREAMS", b"s", b"$")
    assert (wait.timeout_ms, wait.words) == (0, [b"XREAD", b"BLOCK", b"0", b"STREAMS", b"s", b"5-5"])
    request = (b"XREADGROUP", b"GROUP", b"g", b"c", b"BLOCK", b"9", b"STREAMS", b"s", b">")
    wait = wait_of(engine, *request)
    assert (wait.keys, wait.timeout_ms, wait.words) == ((b"s",), 9, None)
    assert [b"c"] == [one[b"name"] for one in handle(engine, b"XINFO", b"CONSUMERS", b"s", b"g")]
    engine.store.append(0)
    say(engine, "XADD s 6-6 a b")
    assert [(b"s", [[b"6-6", [b"a", b"b"]]])] == handle(engine, *request)
    assert handle(engine, b"XREAD", b"STREAMS", b"s", b"$") is NULL_ARRAY
    engine.store.append(0)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (b"5-7", (5 << 64) + 7), (b"5", (5 << 64) + 9), (b"0-0", 0), (b"-", 0), (b"+", fmt.ENTRY_ID_MAX), (b"", None), (b"5-", None),
        (b"-5", None), (b"--5", None), (b"5--5", None), (b"5--05", (5 << 64) + (1 << 64) - 5), (b"5-+05", (5 << 64) + 5), (b" 5- 7", (5 << 64) + 7),
        (b"5-7\0x", (5 << 64) + 7), (b"18446744073709551616-0", None), (b"18446744073709551615-0", (1 << 128) - (1 << 64)), (b"5-*", None),
        (b"0" * 125 + b"-1", 1), (b"0" * 126 + b"-1", None), (b"5 -1", None),
    ],
)  # fmt: skip
def test_ids_are_read_as_redis_reads_them(word: bytes, expected: int | None):
    """Ids are read as C reads numbers: blanks, signs and leading zeros pass, up to a NUL and 127 bytes."""
    assert parse_entry_id(word, 9, ends=True) == expected
    assert parse_entry_id(b"-", 9, ends=False) is parse_entry_id(b"+", 9, ends=False) is None
