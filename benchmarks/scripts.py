"""How many scripts and transactions a second, beside valkey, and what does a script's call cost over the command it calls?

    redis-benchmark -r 1000000 -c 50 -P 1 -n N EVAL "..." 2 key:__rand_int__ other:__rand_int__ <64 bytes>
    python -m benchmarks.crowd trip PORT 50           (MULTI, ten SETs and EXEC in one write; one request)

appendfsync everysec on both sides. The script SETs one key and reads another. The client that sends the transactions
is a process of Python: beside its figures stands what it could do at most, and who was busy.

A call: one script makes a thousand calls with names it puts together, another puts the names together and makes none;
a thousandth of the difference is what a call costs with its command. PING does nothing, so that its call is
all cost; of a GET the same GET's time in a pipeline of a thousand is taken off.
"""

import itertools
import random

from benchmarks import crowd
from benchmarks.client import Chunk, pack
from benchmarks.duel import CPU_NOTE, Case, duel
from benchmarks.results import Bar, Options, Result, Row, Table, median, progress, question
from benchmarks.servers import BOTH, OURS, RIVAL, Server, pair, shown

KEYS, QUICK_KEYS = 1_000_000, 10_000
CLIENTS = 50
BAR_RATIO = 0.6
BAR_CALL_US = 3.0
VALUE = "x" * 64
EVAL = f"EVAL \"redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[2])\" 2 key:__rand_int__ other:__rand_int__ {VALUE}"
SETS = 10
TRANSACTIONS = 20_000  # ready packed; the clients go round them
TRANSACTION_REPLY = b"+OK\r\n" + b"+QUEUED\r\n" * SETS + b"*%d\r\n" % SETS + b"+OK\r\n" * SETS
CALLS = 1_000
ROUNDS, QUICK_ROUNDS = 200, 10
NAME = "'key:' .. (100000000000 + i)"  # twelve digits, as everywhere
# command -> the words of a call, and what the loop does without one
COMMANDS = {"PING": ("'PING'", ""), "GET": (f"'GET', {NAME}", f"local name = {NAME}")}


def transactions(count: int, keys: int) -> list[bytes]:
    """Transactions of equal length with random keys."""
    chance = random.Random(1)
    sets = (pack("SET", f"key:{chance.randrange(keys):012d}", VALUE) for _ in itertools.count())
    return [pack("MULTI") + b"".join(itertools.islice(sets, SETS)) + pack("EXEC") for _ in range(count)]


def _cases(options: Options) -> list[Case]:
    ready = transactions(TRANSACTIONS // 100 if options.quick else TRANSACTIONS, QUICK_KEYS if options.quick else KEYS)
    title = f"MULTI, {SETS} SETs, EXEC in one write"

    def transact(port: int, requests: int) -> crowd.Load:
        return crowd.fixed(port, title, ready, TRANSACTION_REPLY, trips=requests, clients=CLIENTS)

    return [
        Case("EVAL with two calls", EVAL, 120_000, BAR_RATIO, CLIENTS),
        Case(title, "", 30_000, BAR_RATIO, CLIENTS, runner=transact),
    ]


# --- what a call costs ---------------------------------------------------------------------------------------------


def _loop(body: str) -> bytes:
    return pack("EVAL", f"for i = 0, {CALLS - 1} do {body} end", 0)


def _call_us(server: Server, command: str, rounds: int) -> dict[str, float]:
    """Microseconds of one command called by a script, sent in a pipeline, and the difference."""
    call, nothing = COMMANDS[command]
    words = [("PING",) if command == "PING" else ("GET", f"key:{100000000000 + number}") for number in range(CALLS)]
    pipeline = b"".join(pack(*one) for one in words)
    with_calls, without = _loop(f"redis.call({call})"), _loop(nothing)
    times: dict[str, list[int]] = {"with": [], "without": [], "pipeline": []}
    with server.client() as client:
        client.fill(
            [Chunk(b"".join(pack("SET", f"key:{100000000000 + number}", VALUE) for number in range(CALLS)), CALLS)]
        )
        for _ in range(rounds):  # in turn, so that drift meets all
            times["with"].append(client.timed(with_calls)[0])
            times["without"].append(client.timed(without)[0])
            times["pipeline"].append(client.timed_pipeline(pipeline, CALLS))
    us = {name: median(taken) / 1000 / CALLS for name, taken in times.items()}
    called = us["with"] - us["without"]
    return {"called": called, "alone": us["pipeline"], "over": called - us["pipeline"]}


def _calls(options: Options) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Command -> kind -> a run per repeat."""
    runs: dict[str, dict[str, list[dict[str, float]]]] = {name: {kind: [] for kind in BOTH} for name in COMMANDS}
    with options.directory() as scratch, pair(scratch) as servers:
        for repeat in range(options.repeats):
            for command, kind in itertools.product(COMMANDS, BOTH if repeat % 2 == 0 else BOTH[::-1]):
                done = _call_us(servers[kind], command, QUICK_ROUNDS if options.quick else ROUNDS)
                runs[command][kind].append(done)
                progress(f"{repeat + 1}/{options.repeats} {command} in a script, {kind}: {done['called']:.2f} us")
    return runs


def _call_rows(runs: dict[str, dict[str, list[dict[str, float]]]]) -> list[Row]:
    rows = []
    for command, by_kind in runs.items():
        figures = {
            f"{kind}, {name} us": median([run[name] for run in by_kind[kind]])
            for kind in BOTH
            for name in ("called", "alone", "over")
        }
        judged = "ours, called us" if command == "PING" else "ours, over us"
        rows.append(Row(f"redis.call of {command}", figures, Bar(judged, BAR_CALL_US, at_least=False), dict(by_kind)))
    return rows


def run(options: Options) -> Result:
    """The duel, then the calls."""
    calls = _calls(options)
    done = duel(_cases(options), options)
    notes = [
        f"Medians of {options.repeats} runs, a fresh pair of servers for each of the first table.",
        CPU_NOTE,
        "alone: in a pipeline of a thousand, with what it costs to read the words and to send the reply.",
        *done.failures,
    ]
    tables = [
        Table("requests a second, P=1", done.rows),
        Table(f"one of {CALLS:,} calls of a script", _call_rows(calls)),
    ]
    lines = [*(shown(kind) for kind in (OURS, RIVAL)), *done.command_lines]
    return Result("scripts", question(__doc__), lines, done.versions, tables, notes)
