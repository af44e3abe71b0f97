"""How many entries a second does a stream take and give to a group's members, beside valkey?

    redis-benchmark -c 50 -P 1|16 -n N XADD stream * field <64 bytes>
    python -m benchmarks.crowd trip PORT 50            (XREADGROUP COUNT 1, then XACK of what came; P of each at a time)

appendfsync everysec on both sides. The members take entries from a stream that holds more than they take, each
acknowledges what it got before it takes more, and the figure counts both commands. Their client is one process of
Python, since redis-benchmark cannot send back an id that it was given: beside its figures stands what it could do at
most, and who was busy.
"""

import functools
from collections.abc import Iterator

from benchmarks import crowd
from benchmarks.client import COMMANDS_PER_CHUNK, Chunk, pack
from benchmarks.duel import CPU_NOTE, Case, duel
from benchmarks.results import Options, Result, Table, question
from benchmarks.servers import OURS, RIVAL, shown

CLIENTS = 50
BARS = {1: 0.6, 16: 0.4}
VALUE = "x" * 64
ADDED = {1: 250_000, 16: 900_000}
COMMANDS = {1: 150_000, 16: 300_000}


def entries(count: int) -> Iterator[Chunk]:
    """A group at the beginning of an empty stream, and so many entries for it."""
    yield Chunk(pack("XGROUP", "CREATE", "stream", "group", "0", "MKSTREAM"), 1)
    one = pack("XADD", "stream", "*", "field", VALUE)
    for first in range(0, count, COMMANDS_PER_CHUNK):
        size = min(COMMANDS_PER_CHUNK, count - first)
        yield Chunk(one * size, size)


def _work(port: int, requests: int, *, pipeline: int) -> crowd.Load:
    return crowd.work(port, "XREADGROUP, XACK", entries=requests // 2, clients=CLIENTS, pipeline=pipeline)


def _cases() -> list[Case]:
    cases = []
    for pipeline, bar in BARS.items():
        add = f"XADD stream * field {VALUE}"
        cases.append(Case("XADD", add, ADDED[pipeline], bar, CLIENTS, pipeline))
        runner = functools.partial(_work, pipeline=pipeline)
        title = "XREADGROUP COUNT 1, XACK"
        cases.append(Case(title, "", COMMANDS[pipeline], bar, CLIENTS, pipeline, fill=entries, runner=runner))
    return cases


def run(options: Options) -> Result:
    """Measure all cases."""
    done = duel(_cases(), options)
    notes = [
        f"Medians of {options.repeats} runs, a fresh pair of servers for each.",
        CPU_NOTE,
        *done.failures,
    ]
    lines = [*(shown(kind) for kind in (OURS, RIVAL)), *done.command_lines]
    return Result("streams", question(__doc__), lines, done.versions, [Table("commands a second", done.rows)], notes)
