"""What is left of the throughput when the data set is four times the memory that the process may use?

    python -m benchmarks larger_than_memory [--keys 8000000] [--limit-mb M]
    redis-benchmark -r KEYS -d 200 -c 50 -n N GET key:__rand_int__     (and SET key:__rand_int__ VALUE)

Values of 200 bytes, loaded in order by the server inside its limit; the limit is a quarter of the bytes in
keys and values alone, so that what the store adds makes it harder. Random GETs first, then random SETs,
50 clients, one request in flight. No rival runs here: valkey must hold its data in memory and the
kernel would end it. The aims are Kvrocks's figures for the same values under 512 MB (issue 2).
At the end one command of every type is tried, still under the limit.
"""

import hiredis

from benchmarks import load, plots
from benchmarks.client import Client, Word, strings
from benchmarks.limits import Limit, NoLimitError, memory_limit
from benchmarks.results import Bar, Options, Result, Row, Table, progress, question
from benchmarks.servers import OURS, Server, shown, started

KEYS, QUICK_KEYS = 8_000_000, 100_000
SIZE_BYTES = 200
PAIR_BYTES = 16 + SIZE_BYTES  # a key and its value, nothing else
LIMIT_BYTES_MIN = 96 * 1024**2  # the interpreter and the server need some themselves
SECONDS, QUICK_SECONDS = 60.0, 0.5
CALIBRATION, QUICK_CALIBRATION = 20_000, 1_000
WARM_UP_SHARE = 0.2  # of the seconds: the rate of the first moments says little of a minute's
CLIENTS = 50
VALUE = "x" * SIZE_BYTES
LOADS = {"GET": "GET key:__rand_int__", "SET": f"SET key:__rand_int__ {VALUE}"}
AIM_RPS = {"GET": 14_500, "SET": 30_000}
AIM_P99_MS = {"GET": 10.0, "SET": 8.0}

# one write and one read of every type, with the reply that proves it
SMOKE: tuple[tuple[tuple[Word, ...], object], ...] = (
    (("SET", "smoke:string", "a"), b"OK"),
    (("APPEND", "smoke:string", "b"), 2),
    (("GET", "smoke:string"), b"ab"),
    (("INCR", "smoke:number"), 1),
    (("HSET", "smoke:hash", "f", "1"), 1),
    (("HGET", "smoke:hash", "f"), b"1"),
    (("RPUSH", "smoke:list", "a", "b"), 2),
    (("LRANGE", "smoke:list", 0, -1), [b"a", b"b"]),
    (("SADD", "smoke:set", "a"), 1),
    (("SPOP", "smoke:set"), b"a"),
    (("ZADD", "smoke:zset", 1, "a", 2, "b"), 2),
    (("ZRANK", "smoke:zset", "b"), 1),
    (("SETBIT", "smoke:bits", 7, 1), 0),
    (("BITCOUNT", "smoke:bits"), 1),
    (("PFADD", "smoke:hll", "a"), 1),
    (("GEOADD", "smoke:geo", "13.4", "52.5", "berlin"), 1),
    (("XADD", "smoke:stream", "1-1", "f", "v"), b"1-1"),
    (("EXPIRE", "smoke:string", 100), 1),
    (("DEL", "smoke:hash", "smoke:list", "smoke:zset"), 3),
)


def _smoke(client: Client) -> list[Row]:
    """1 = answered as it must be, 0 = not; a command that the server does not know yet has no figure and no bar."""
    rows = []
    for words, expected in SMOKE:
        case = " ".join(map(str, words))
        try:
            reply = client.call(*words)
        except hiredis.ReplyError as error:
            if "unknown command" in str(error):
                rows.append(Row(f"{case} (unknown command)", {"right": None}))
                continue
            reply = error
        if isinstance(reply, str):
            reply = reply.encode()
        rows.append(Row(case, {"right": float(reply == expected)}, Bar("right", 1)))
    return rows


def _loads(server: Server, keys: int, options: Options) -> dict[str, load.Load]:
    done = {}
    shape = {"clients": CLIENTS, "size_bytes": SIZE_BYTES, "keyspace": keys}
    for name, words in LOADS.items():
        seconds = QUICK_SECONDS if options.quick else SECONDS
        requests = QUICK_CALIBRATION if options.quick else CALIBRATION
        for share in (WARM_UP_SHARE, 1.0):
            rate = load.run(server.port, words, requests=requests, **shape).rps
            requests = max(requests, int(rate * seconds * share))
        done[name] = load.run(server.port, words, requests=requests, limit_s=20 * SECONDS, **shape)
        progress(f"{name}: {done[name].rps:,.0f} a second, p99 {done[name].latency_ms['p99']} ms")
    return done


def _rows(done: dict[str, load.Load]) -> list[Row]:
    rows = []
    for name, each in done.items():
        figures = {
            "rps": each.rps,
            "p50 ms": each.latency_ms["p50"],
            "p99 ms": each.latency_ms["p99"],
            "max ms": each.latency_ms["max"],
        }
        slow = {"p99 ms": figures["p99 ms"]}
        runs = {OURS: [{"rps": each.rps, **each.latency_ms}]}
        rows.append(Row(f"random {name}", figures, Bar("rps", AIM_RPS[name]), runs))
        rows.append(Row(f"random {name}, p99", slow, Bar("p99 ms", AIM_P99_MS[name], at_least=False)))
    return rows


def _measure(limit: Limit, keys: int, options: Options) -> Result:
    with options.directory() as scratch, started(OURS, scratch / OURS, limit=limit) as server:
        with server.client() as client:
            client.fill(strings(keys, SIZE_BYTES))
        server.settle()
        progress(
            f"{keys:,} keys loaded under {limit.limit_bytes / 1024**2:.0f} MiB ({limit.way}), {server.disk_mb():.0f} MiB on disk"
        )
        data_mb = _data_file_mb(server)
        done = _loads(server, keys, options)
        with server.client() as client:
            smoke = _smoke(client)
        facts = {
            "limit, MiB": limit.limit_bytes / 1024**2,
            "data file loaded, MiB": data_mb,
            "file / limit": data_mb * 1024**2 / limit.limit_bytes,
            "RssAnon, MiB": server.memory_mb()["anon"],
        }
        counters, version = limit.counters(), server.version()
    curves = {name: each.curve for name, each in done.items()}
    title = f"{keys:,} values of {SIZE_BYTES} bytes under {facts['limit, MiB']:.0f} MiB, {CLIENTS} clients"
    plots.write_csv(curves, options.out / "larger_than_memory.csv")
    plots.curves(curves, AIM_RPS, title, options.out / "larger_than_memory.png")
    lines = [
        shown(OURS),
        *(" ".join(each.words).replace(VALUE, "VALUE") for each in done.values()),
    ]
    tables = [
        Table(title, _rows(done)),
        Table("the limit", [Row(limit.way, facts)]),
        Table("every type, under the limit", smoke),
    ]
    notes = [
        "One run of a minute each; the curves are in results/larger_than_memory.csv.",
        "The aims are Kvrocks, tuned, on this kind of machine.",
    ]
    extra = {"curves": curves, "kernel counters": counters}
    return Result(
        "larger_than_memory",
        question(__doc__),
        lines,
        {OURS: version},
        tables,
        notes,
        ["larger_than_memory.png"],
        extra=extra,
    )


def _data_file_mb(server: Server) -> float:
    """Size of the data file itself, without the log; of the whole directory where there is none."""
    path = server.directory / "data.mdb"
    return path.stat().st_blocks * 512 / 1024**2 if path.exists() else server.disk_mb()


def run(options: Options) -> Result:
    """Find a limit, or say why there is none."""
    keys = options.keys or (QUICK_KEYS if options.quick else KEYS)
    wished = options.limit_mb * 1024**2 if options.limit_mb else keys * PAIR_BYTES // 4
    try:
        with memory_limit(max(wished, LIMIT_BYTES_MIN)) as limit:
            return _measure(limit, keys, options)
    except NoLimitError as refused:
        why = f"this machine permits no memory limit ({refused})"
    progress(f"skipped: {why}")
    return Result("larger_than_memory", question(__doc__), [], {}, [], skipped=why)
