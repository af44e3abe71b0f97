"""How many commands a second, beside valkey, for the common commands, with one and with sixteen requests in flight?

    redis-benchmark -r 1000000 -d 64 -c 50 -P 1|16 -n N -t set|get|incr|lpush|rpush|lpop|sadd|hset|zadd|spop|mset
    redis-benchmark -r 1000000 -d 64 -c 50 -P 1|16 -n N LRANGE mylist 0 99

appendfsync everysec on both sides. GET finds all 1,000,000 keys there; LPOP and SPOP find more elements
than they take. LRANGE is given as a command, because redis-benchmark's own test would push a list first.
"""

from benchmarks import plots
from benchmarks.client import collection, strings
from benchmarks.duel import Case, duel
from benchmarks.load import KEYSPACE
from benchmarks.results import Options, Result, Table, question
from benchmarks.servers import OURS, RIVAL, shown

# requests: P=1, P=16; bars: P=1, P=16 (issue 2, "How fast, how small")
CASES = {
    "SET": ("-t set", 350_000, 1_800_000, 0.85, 0.50),
    "GET": ("-t get", 350_000, 2_000_000, 0.90, 0.40),
    "INCR": ("-t incr", 350_000, 1_800_000, 0.85, 0.50),
    "LPUSH": ("-t lpush", 350_000, 1_800_000, 0.85, 0.50),
    "RPUSH": ("-t rpush", 350_000, 1_800_000, 0.85, 0.50),
    "LPOP": ("-t lpop", 350_000, 1_800_000, 0.85, 0.50),
    "SADD": ("-t sadd", 350_000, 1_800_000, 0.85, 0.50),
    "HSET": ("-t hset", 350_000, 1_800_000, 0.85, 0.50),
    "ZADD": ("-t zadd", 350_000, 1_000_000, 0.85, 0.50),
    "SPOP": ("-t spop", 350_000, 1_800_000, 0.85, 0.50),
    "MSET (10 keys)": ("-t mset", 200_000, 400_000, 0.60, 0.45),
    "LRANGE_100": ("LRANGE mylist 0 99", 250_000, 400_000, 0.60, 0.45),
}
QUICK_KEYSPACE = 10_000
LRANGE_ELEMENTS = 100_000


def _cases(options: Options) -> list[Case]:
    keys = QUICK_KEYSPACE if options.quick else KEYSPACE
    fills = {
        "GET": lambda _: strings(keys, 64),
        "LPOP": lambda count: collection("RPUSH", "mylist", count, prefix="x" * 52),
        "SPOP": lambda count: collection("SADD", "myset", count),
        "LRANGE_100": lambda _: collection("RPUSH", "mylist", min(keys, LRANGE_ELEMENTS), prefix="x" * 52),
    }
    left = {"LPOP": ("LLEN", "mylist"), "SPOP": ("SCARD", "myset")}
    cases = []
    for name, (words, single, pipelined, bar_single, bar_pipelined) in CASES.items():
        for pipeline, requests, bar in ((1, single, bar_single), (16, pipelined, bar_pipelined)):
            extra = {"fill": fills.get(name), "count_left": left.get(name, ())}
            cases.append(Case(name, words, requests, bar, pipeline=pipeline, **extra))
    return cases


def run(options: Options) -> Result:
    """Measure all cases, draw the ratios."""
    done = duel(_cases(options), options)
    plots.ratios(done.rows, options.out / "throughput.png", done.versions[RIVAL])
    tables = [
        Table(f"requests a second, P={pipeline}", [row for row in done.rows if row.case.endswith(f"P={pipeline}")])
        for pipeline in (1, 16)
    ]
    servers = [shown(kind) for kind in (OURS, RIVAL)]
    notes = [
        f"Medians of {options.repeats} runs, a fresh pair of servers for each; -n is what at least a second takes.",
        "The rival runs without RDB snapshots and without rewriting its append-only file: its best case.",
        "LRANGE_100: all clients ask for the same range, and this server reads it once for all requests of a batch.",
        *done.failures,
    ]
    lines = [*servers, *done.command_lines]
    return Result("throughput", question(__doc__), lines, done.versions, tables, notes, ["throughput.png"])
