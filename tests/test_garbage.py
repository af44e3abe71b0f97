"""What is left to the reclaimer: nothing of a small collection that was emptied element by element, the rows of one that was deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmdbredis import format as fmt
from tests.crash import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = b"l" * 600
TABLES = (fmt.KEYS, fmt.HASHES, fmt.SETS, fmt.LISTS, fmt.ZSETS, fmt.SCORES, fmt.COUNTS)
MANY = 1000  # more than a collection has that is not counted
EMPTIED: dict[str, list[list[bytes]]] = {
    "LPOP": [[b"RPUSH", b"k", b"a", LONG], [b"LPOP", b"k"], [b"LPOP", b"k"]],
    "RPOP": [[b"RPUSH", b"k", b"a"], [b"RPOP", b"k"]],
    "RPOPLPUSH": [[b"RPUSH", b"k", b"a"], [b"RPOPLPUSH", b"k", b"other"], [b"LPOP", b"other"]],
    "LPOP, many": [[b"RPUSH", b"k", b"a", LONG, b"c"], [b"LPOP", b"k", b"9"]],
    "RPOP, many": [
        [b"RPUSH", b"k", b"a", b"c"],
        [b"LINSERT", b"k", b"BEFORE", b"c", b"b"],
        [b"RPOP", b"k", b"2"],
        [b"RPOP", b"k", b"1"],
    ],
    "LTRIM": [[b"RPUSH", b"k", b"a", b"b"], [b"LTRIM", b"k", b"5", b"9"]],
    "LREM": [[b"RPUSH", b"k", b"a", b"b", b"a", b"a"], [b"LREM", b"k", b"1", b"b"], [b"LREM", b"k", b"0", b"a"]],
    "LINSERT": [[b"RPUSH", b"k", b"a"], [b"LINSERT", b"k", b"BEFORE", b"a", b"b"], [b"LPOP", b"k"], [b"LPOP", b"k"]],
    "HDEL": [[b"HSET", b"k", b"f", b"1", LONG, b"2"], [b"HDEL", b"k", b"f", LONG]],
    "SREM": [[b"SADD", b"k", b"a", LONG], [b"SREM", b"k", b"a", LONG]],
    "SPOP": [[b"SADD", b"k", b"a", b"b"], [b"SPOP", b"k"], [b"SPOP", b"k"]],
    "SPOP, many": [[b"SADD", b"k", b"a", b"b", LONG], [b"SPOP", b"k", b"1"], [b"SPOP", b"k", b"9"]],
    "ZREMRANGEBYRANK": [[b"ZADD", b"k", b"1", b"a", b"2", LONG], [b"ZREMRANGEBYRANK", b"k", b"0", b"-1"]],
    "ZREMRANGEBYSCORE": [[b"ZADD", b"k", b"1", b"a", b"2", b"b"], [b"ZREMRANGEBYSCORE", b"k", b"-inf", b"inf"]],
    "ZREM": [[b"ZADD", b"k", b"1", b"a", b"2", LONG], [b"ZREM", b"k", b"a", LONG]],
    "ZPOPMIN": [[b"ZADD", b"k", b"1", b"a", b"2", b"b"], [b"ZPOPMIN", b"k"], [b"ZPOPMAX", b"k", b"5"]],
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty engine whose rows are in order at the end."""
    made = Engine(tmp_path / "store")
    yield made
    assert made.check() == []
    made.close()


def rows(engine: Engine, *tables: int) -> int:
    """Return how many rows these tables have."""
    engine.store.settle()
    return sum(len(engine.store.tables[number].take(b"", 10 * MANY)) for number in tables)


@pytest.mark.parametrize("in_one_batch", [True, False])
@pytest.mark.parametrize("how", EMPTIED)
def test_emptied(engine: Engine, how: str, in_one_batch: bool):
    """No row is left, and none that says what to reclaim."""
    if in_one_batch:
        engine.run(*EMPTIED[how])
    else:
        for words in EMPTIED[how]:
            engine.run(words)

    assert rows(engine, fmt.GARBAGE, *TABLES) == 0


@pytest.mark.parametrize("how", ["DEL", "SPOP", "LTRIM"])
def test_large(engine: Engine, how: str):
    """Of a large collection the reclaimer is left what one command cannot take."""
    elements = [b"%d" % number for number in range(MANY)]
    engine.run([b"RPUSH" if how == "LTRIM" else b"SADD", b"k", *elements])
    assert rows(engine, *TABLES) > MANY
    engine.run([how.encode(), b"k", *{"SPOP": [b"%d" % MANY], "LTRIM": [b"1", b"0"]}.get(how, [])])
    assert rows(engine, fmt.KEYS) == 0
    for _ in range(2 * MANY):
        if rows(engine, fmt.GARBAGE) == 0:
            break
        engine.tick()

    assert rows(engine, fmt.GARBAGE, *TABLES) == 0
