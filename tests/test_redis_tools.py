"""The tools that come with Redis, against the real process: redis-cli in all its modes, redis-benchmark's default run.

What they send and how they read the answers is theirs to know; that it works is the test. Skipped where they are not
installed (Debian and Ubuntu: `apt-get install redis-tools`).
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import termios
import time
from typing import TYPE_CHECKING

import pytest

from tests.client import pack
from tests.servers import Lmdbredis, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT_SECONDS_MAX = 20
REDIS_CLI = shutil.which("redis-cli")
REDIS_BENCHMARK = shutil.which("redis-benchmark")
needs_cli = pytest.mark.skipif(REDIS_CLI is None, reason="redis-cli is not installed: apt-get install redis-tools")
needs_benchmark = pytest.mark.skipif(
    REDIS_BENCHMARK is None, reason="redis-benchmark is not installed: apt-get install redis-tools"
)


@pytest.fixture
def server(ours: Server) -> Server:
    """Our server, empty."""
    return ours


# --- redis-cli ----------------------------------------------------------------------------------------------------------------


def cli(server: Server, *words: str, stdin: bytes = b"") -> str:
    """Run redis-cli to its end; return what it prints."""
    ended = subprocess.run(
        [REDIS_CLI, "-p", str(server.port), *words],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=WAIT_SECONDS_MAX,
    )

    assert (ended.returncode, ended.stderr) == (0, b""), ended
    return ended.stdout.decode("utf-8", "replace")


@contextlib.contextmanager
def at_terminal(server: Server, *words: str) -> Iterator[Callable[[str, bytes], str]]:
    """Run redis-cli at a terminal of its own; yield a function that types bytes and waits for a text, which it returns."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (50, 200))
    process = subprocess.Popen(
        [REDIS_CLI, "-p", str(server.port), *words],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(slave)
    seen = ""

    def wait_for(pattern: str, typed: bytes = b"") -> str:
        nonlocal seen
        os.write(master, typed)
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not (found := re.search(pattern, seen)):
            assert time.monotonic() < deadline, f"waited for {pattern!r} in vain: {seen!r}"
            if select.select([master], [], [], 0.1)[0]:
                seen += os.read(master, 65536).decode("utf-8", "replace")
        seen = seen[found.end() :]
        return found[0]

    try:
        yield wait_for
    finally:
        process.kill()
        process.wait()
        os.close(master)


def fill(server: Server) -> None:
    """Put some keys of every type."""
    server.client().pipeline(
        [
            *(("SET", f"string:{n}", "x" * n) for n in range(300)),
            ("RPUSH", "some list", *range(500)),
            ("SADD", "some set", *range(400)),
            ("ZADD", "some zset", *[word for n in range(300) for word in (n, f"m{n}")]),
            ("HSET", "some hash", *[word for n in range(200) for word in (f"f{n}", n)]),
        ]
    )


@needs_cli
def test_cli_commands(server: Server):
    """Commands as words and on standard input, arrays or inline, RESP2 and RESP3, other databases, arguments from a file."""
    assert cli(server, "SET", "k", "a b\n") == "OK\n"
    assert cli(server, "GET", "k") == "a b\n\n"
    assert cli(server, "-3", "--no-raw", "HSET", "h", "f", "v") == "(integer) 1\n"
    assert cli(server, "-3", "--no-raw", "HGETALL", "h") == '1# "f" => "v"\n'
    assert cli(server, "-3", "--no-raw", "ZADD", "z", "1.5", "m") == "(integer) 1\n"
    assert cli(server, "-3", "--no-raw", "ZSCORE", "z", "m") == "(double) 1.5\n"
    assert cli(server, "--no-raw", "GET", "none") == "(nil)\n"
    assert cli(server, "--no-raw", "LPUSH", "k", "v").startswith("(error) WRONGTYPE ")
    assert cli(server, "-n", "5", "SET", "only here", "v") == "OK\n"
    assert cli(server, "-n", "5", "DBSIZE") == "1\n"
    assert cli(server, "-x", "SET", "binary", stdin=bytes(range(256))) == "OK\n"
    assert cli(server, "STRLEN", "binary") == "256\n"
    assert cli(server, stdin=b"PING\nset k 'it\\'s'\nSET k \"q\\x41\"\nGET k\nSELECT 5\nDBSIZE\n").split() == [
        "PONG", "OK", "OK", "qA", "OK", "1",
    ]  # fmt: skip
    assert cli(server, "-r", "20", "INCR", "n").split() == [str(n) for n in range(1, 21)]
    assert cli(server, "--csv", "LRANGE", "none", "0", "-1") == "\n"


@needs_cli
def test_cli_scan(server: Server):
    """--scan finds every key once, with a pattern those that match it, with a type those of it."""
    fill(server)
    every = cli(server, "--scan").splitlines()

    assert sorted(every) == sorted(
        [f"string:{n}" for n in range(300)] + [f"some {kind}" for kind in ("list", "set", "zset", "hash")]
    )
    assert sorted(cli(server, "--scan", "--pattern", "string:1*").splitlines()) == sorted(
        k for k in every if k.startswith("string:1")
    )
    assert sorted(cli(server, "--scan", "--pattern", "*set").splitlines()) == ["some set", "some zset"]
    assert cli(server, "--scan", "--pattern", "none*") == ""


@needs_cli
def test_cli_big_keys(server: Server):
    """--bigkeys, --memkeys and --hotkeys go through every key and name the right ones."""
    fill(server)
    big, memory = cli(server, "--bigkeys"), cli(server, "--memkeys")

    assert "Sampled 304 keys in the keyspace!" in big
    assert 'Biggest string found "string:299" has 299 bytes' in " ".join(big.replace("'", "").split())
    for line in (
        'list found "some list" has 500 items',
        'set found "some set" has 400 members',
        'hash found "some hash" has 200 fields',
        'zset found "some zset" has 300 members',
    ):
        assert line in " ".join(big.replace("'", "").split())
    assert "Sampled 304 keys in the keyspace!" in memory
    assert re.search(r"Biggest +list found '\"some list\"' has \d{4,} bytes", memory)
    server.client().call("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    assert "Sampled 304 keys in the keyspace!" in cli(server, "--hotkeys")


@needs_cli
def test_cli_stat_and_latency(server: Server):
    """--stat prints a line of numbers again and again; --latency its minimum, maximum, average and number of samples."""
    fill(server)
    with at_terminal(server, "--stat", "-i", "0.05") as wait_for:
        wait_for(r"keys +mem +clients +blocked +requests +connections")
        for _ in range(3):
            wait_for(r"304 +\d+\.\d\d[KM] +\d+ +0 +\d+ \(\+\d+\) +\d+ *\r\n")
    least, most, average, samples = map(float, cli(server, "--latency", "-i", "1").split())

    assert 0 <= least <= average <= most < 1000
    assert samples > 10


@needs_cli
def test_cli_pipe(server: Server):
    """--pipe sends a hundred thousand commands, counts a hundred thousand replies, and every one was run."""
    data = b"".join(pack(["SET", f"k{n}", n]) for n in range(99_999)) + pack(["BOGUS"])
    ended = subprocess.run(
        [REDIS_CLI, "-p", str(server.port), "--pipe"],
        input=data,
        capture_output=True,
        check=False,
        timeout=WAIT_SECONDS_MAX,
    )

    assert "errors: 1, replies: 100000" in ended.stdout.decode()
    assert server.client().call("DBSIZE").value == 99_999
    assert server.client().call("GET", "k54321").value == b"54321"


@needs_cli
@pytest.mark.parametrize("words", [(), ("-3",)])
def test_cli_at_a_terminal(server: Server, words: tuple[str, ...]):
    """At a terminal it asks COMMAND DOCS, gives hints from it, and shows help, types and errors."""
    prompt = re.escape(f"127.0.0.1:{server.port}") + r"(\[5\])?> "
    with at_terminal(server, *words) as wait_for:
        wait_for(prompt)
        wait_for(r"key value \[NX\|XX\]", b"SET ")  # the hint
        for typed, answer in (
            (b"k v\r", "OK"),
            (b"GET k\r", '"v"'),
            (b"HELP ZADD\r", r"summary:.*sorted set"),
            (b"GET\r", r"\(error\) ERR wrong number of arguments for 'get' command"),
            (b"SELECT 5\r", "OK"),
            (b"DBSIZE\r", r"\(integer\) 0"),
        ):
            wait_for(answer, typed)
            wait_for(prompt)  # what is typed before it is lost


@needs_cli
def test_cli_finds_its_way_in(tmp_path: Path):
    """A unix socket, a password, a user and a URL lead to the same server; a wrong password does not."""
    path = str(tmp_path / "s")
    with Lmdbredis("--unixsocket", path, "--requirepass", "secret") as server:
        for words in (
            ("-s", path, "-a", "secret"),
            ("-a", "secret", "-3"),
            ("--user", "default", "--pass", "secret"),
            ("-u", f"redis://default:secret@127.0.0.1:{server.port}/0"),
        ):
            assert cli(server, "--no-auth-warning", *words, "INCR", "n").strip().isdecimal()
        assert cli(server, "--no-auth-warning", "-a", "secret", "GET", "n") == "4\n"
        assert cli(server, "GET", "n").startswith("NOAUTH ")


# --- redis-benchmark ----------------------------------------------------------------------------------------------------------

DEFAULT_RUN = [
    "PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET", "SPOP", "ZADD", "ZPOPMIN",
    "LPUSH (needed to benchmark LRANGE)", "LRANGE_100 (first 100 elements)", "LRANGE_300 (first 300 elements)",
    "LRANGE_500 (first 500 elements)", "LRANGE_600 (first 600 elements)", "MSET (10 keys)",
]  # fmt: skip


@needs_benchmark
@pytest.mark.parametrize(
    "words",
    [
        ("-n", "500"),
        ("-n", "2000", "-P", "16"),
        ("-n", "500", "-3"),
        ("-n", "1000", "-r", "100000", "-d", "100", "-c", "200"),
    ],
)
def test_benchmark(server: Server, words: tuple[str, ...]):
    """Every test of the default run ends with a figure and without an error, pipelined and in RESP3 as well."""
    ended = subprocess.run(
        [REDIS_BENCHMARK, "-p", str(server.port), "-q", *words],
        capture_output=True,
        check=True,
        timeout=WAIT_SECONDS_MAX,
    )
    text = ended.stdout.decode().replace("\r", "\n")

    assert "rror" not in text + ended.stderr.decode()
    assert [
        name
        for name in re.findall(r"^(.*?): \d+\.\d+ requests per second", text, re.MULTILINE)
        if not name.startswith("XADD")
    ] == DEFAULT_RUN
