"""The configuration beside the real servers: defaults, CONFIG GET, SET and REWRITE, refused files, the command line.

What differs from a server on purpose is a table here (`OUR_DEFAULTS`, `VALKEY_DEFAULTS`, `OTHER`), so that nothing differs by
accident. Each server is skipped where it is not installed.
"""

from __future__ import annotations

import fnmatch
import re
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from lmdbredis import directive_kinds as kinds
from lmdbredis.config import SIGNATURE, VERSION, Config, ConfigError
from lmdbredis.directive_kinds import quoted, to_text
from lmdbredis.directives import BY_NAME, Change
from lmdbredis.errors import ReplyError
from tests.servers import Redis, Valkey
from tests.test_config import config_of, error_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PORTS = range(21060, 21100)

# Directives whose default is another than Redis's, and why it is right so.
OUR_DEFAULTS = {
    "appendonly": "the log is always on",
    "save": "no snapshots",
    "dir": "the servers answer with their absolute path",
    "port": "the tests choose it",
}
VALKEY_DEFAULTS = {  # where Valkey left Redis 7.2, we did not
    *("lazyfree-lazy-eviction", "lazyfree-lazy-expire", "lazyfree-lazy-server-del", "lazyfree-lazy-user-del"),
    *("lazyfree-lazy-user-flush", "replica-lazy-flush", "slave-lazy-flush", "repl-backlog-size", "syslog-ident"),
}
# Directives whose CONFIG SET is judged differently: Valkey added words or bounds that Redis 7.2 lacks, or looks at the system.
OTHER = {
    "redis": set(),
    "valkey": {
        *(
            "loglevel",
            "shutdown-on-sigint",
            "shutdown-on-sigterm",
            "repl-diskless-load",
            "maxmemory-samples",
            "io-threads",
        ),
        *("locale-collate", "rdma-bind", "cluster-blacklist-ttl", "slot-migration-max-failover-repl-bytes"),
    },
}


class PlainValkey(Valkey):
    """Valkey as it comes."""

    def own_options(self):
        return ("--save", "")


class PlainRedis(Redis):
    """Redis 7 as it comes."""

    def own_options(self):
        return ("--save", "")


def port_in_range():
    for port in PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


@pytest.fixture(params=[PlainRedis, PlainValkey], ids=["redis", "valkey"])
def idle_server(request):
    """A real server that is not started, on a port of its own."""
    if not request.param.available():
        pytest.skip(f"{request.param.name} is not installed here")
    made = request.param()
    made.port = port_in_range()
    yield made
    made.stop()


@pytest.fixture
def server(idle_server):
    """A real server for one test: these tests change everything."""
    return idle_server.start()


@pytest.fixture
def redis_words():
    """The program words of redis-server 7."""
    words = Redis.program()
    if words is None:
        pytest.skip("redis-server 7 is not installed here")
    return words


def set_reply(config: Config, *words: str | bytes) -> bytes:
    """CONFIG SET as the server would answer it."""
    data = [word if isinstance(word, bytes) else word.encode() for word in words]
    try:
        config.set_many(list(zip(data[::2], data[1::2], strict=True)))
    except ReplyError as error:
        return b"-" + error.text.encode("latin-1") + b"\r\n"
    return b"+OK\r\n"


def server_config(server) -> dict[str, str]:
    words = [to_text(item.value) for item in server.client().call("CONFIG", "GET", "*").items()]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_every_default_is_the_servers(server):
    """What CONFIG GET * answers, we answer: every name, and every default but those declared."""
    theirs, ours = server_config(server), Config()
    skipped = set(OUR_DEFAULTS) | (VALKEY_DEFAULTS if server.name == "valkey" else set()) | {"bind"}

    assert set(theirs) <= set(BY_NAME)
    assert {n: v for n, v in theirs.items() if n not in skipped} == {n: ours.get(n) for n in theirs if n not in skipped}


def test_a_stock_file_is_accepted_whole(server):
    """A redis.conf made of everything CONFIG GET * answers is read without a complaint and answers the same."""
    theirs = server_config(server)
    for name in ("replicaof", "slaveof"):
        del theirs[name]  # a master has no such line: the servers too refuse it empty
    config = config_of("".join(f"{name} {quoted(value)}\n" for name, value in theirs.items()))

    assert {name: config.get(name) for name in theirs} == theirs


# Refused files and words.

BAD_FILES = [
    "foo bar", "# x\n\nport", "port 1 2", "port x", "  PORT   x  ", "save 900", 'save "900 1 300"', 'port "1',
    "foo 'a", "port '1'\nfoo bar", "logfile 'a\\'b\\x'\nzz 1", "include", "include none*.conf\nfoo bar",
    "rename-command get", "user", "loadmodule", "sentinel foo", "list-max-ziplist-value 3\nfoo bar",
    "list-max-ziplist-value", "port \\x31", '"\\x70ort" x', "client-output-buffer-limit normal 0 0",
    "client-output-buffer-limit 'normal 0 0 0'\nfoo bar", 'notify-keyspace-events "K E"', "notify-keyspace-events",
    "replicaof x", "replicaof no one\nfoo bar", "replicaof h 99999", "slaveof h 12x",
    "shutdown-on-sigint now force\nfoo bar", "shutdown-on-sigint", "maxmemory 1gb 2", "oom-score-adj-values 1 2",
    "oom-score-adj-values 1 2 3000", "latency-tracking-info-percentiles x", "unixsocketperm 0800",
    "unixsocketperm 1777", "unixsocketperm -1", "appendfilename ''", "appendfilename a/b", "appenddirname ''",
    "appenddirname a/b", "dbfilename a/b", "port 1 # comment", "hz 99999\nfoo bar", "aclfile", "supervised foo",
    "port 1\\n2", "databases 0", "timeout\t5\r\nfoo\tbar\r\n", "bind\nfoo bar", 'bind "1 2"\nfoo bar',
    "user a on\nuser b on\nuser a off", "sdf\0 foo", "bind 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "save x y\n",
    "proc-title-template {foo}", "cluster-announce-hostname a_b", "tls-auth-clients maybe",
]  # fmt: skip


def told_by_redis(words: list[str], directory: Path) -> str:
    """Run a redis-server that refuses to start; return what it says, under our name."""
    ended = subprocess.run(words, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20)

    assert ended.returncode == 1
    return re.sub(r"\(Redis [^)]*\)", f"(lmdbredis {VERSION})", ended.stderr.decode(errors="surrogateescape")).strip(
        "\n"
    )


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_bad_file_is_told_as_redis_tells_it(text, redis_words, tmp_path):
    """Each refusal is redis-server's, byte for byte."""
    (tmp_path / "f").write_bytes(text.encode())

    assert told_by_redis([*redis_words, "f"], tmp_path) == error_of(text)


BAD_ARGV = [
    ["--foo", "bar"], ["--port", "x"], ["--port"], ["--port", "--timeout", "5"], ["--save", "--foo", "1"],
    ["--save", "900", "1", "--foo", "1"], ["--save", "900", "1", "300"], ["--port x"], ["--port 1", "--foo"],
    ["--foo", "a b", 'c"d\n\x7f'], ["-x"], ["--timeout", "5", "-5"], ["--timeout", "--5"], ["--", "foo"],
    ["--bind", "a", "b", "--foo"], ["--save", "", "--foo"], ["--save", " ", "--foo", "1"], ["--tIMEOUT", "x"],
    ["--port", "1", "-", "--foo", "1"], ["--requirepass", "--abc", "--foo", "1"], ["--foo", "é"],
]  # fmt: skip


@pytest.mark.parametrize("argv", BAD_ARGV)
def test_the_command_line_is_redis_s(argv, redis_words, tmp_path):
    """Options become the lines that redis-server makes of them, counted behind the file's."""
    (tmp_path / "f").write_bytes(b"# a\ntimeout 0\n")
    for words in (argv, ["f", *argv]):
        with pytest.raises(ConfigError) as caught:
            Config.from_argv(words, lambda _: b"# a\ntimeout 0\n")

        assert told_by_redis([*redis_words, *words], tmp_path) == caught.value.text


# CONFIG SET and GET.

SETS = [
    "maxmemory ", "maxmemory kb", "maxmemory -1", "maxmemory 1tb", "maxmemory 1GB", "maxmemory 1b", "maxmemory +5",
    "maxmemory 1.5gb", "maxmemory 1 gb", "maxmemory 100%", "maxmemory-clients 5%", "maxmemory-clients 101%",
    "maxmemory-clients -5", "maxmemory-clients %", "maxmemory-clients 05%", "maxmemory-clients 0%", "maxclients 0",
    "maxclients 010", "maxclients -1", "maxclients x", "maxclients ", "maxclients 4294967296", "MAXCLIENTS 100",
    "MaxClients x", "maxclients 99999999999999999999999", "hz 0", "hz 1000", "hz -1", "timeout 5", "appendfsync x",
    "appendfsync ALWAYS", "appendfsync always no", "loglevel debug", "maxmemory-policy foo", "oom-score-adj foo",
    "shutdown-on-sigint now force", "shutdown-on-sigint force now", "shutdown-on-sigint save nosave",
    "shutdown-on-sigint default now", "shutdown-on-sigterm now now", "acl-pubsub-default foo",
    "notify-keyspace-events KEA", "notify-keyspace-events Q", "notify-keyspace-events Kg", "notify-keyspace-events ",
    "notify-keyspace-events nmdtexzhsl$gEK", "notify-keyspace-events AnE", "notify-keyspace-events KEAa",
    "notify-keyspace-events m", "notify-keyspace-events nmEKdtezhl$", "save ", "save 900", "save 900 1 300 10",
    "save 900 1  300 10", "save 0 1", "save 5 -1", "save 900 1 ", "save +5 1", "save 900 1 900 1", 'save ""',
    "client-output-buffer-limit normal 1 2", "client-output-buffer-limit normal 1 2 x",
    "client-output-buffer-limit normal 1mb 2kb 3", "client-output-buffer-limit replica 1mb 2kb 3 pubsub 1 1 1",
    "client-output-buffer-limit SLAVE 1 1 1", "client-output-buffer-limit master 1 1 1", "client-output-buffer-limit ",
    "client-output-buffer-limit normal -1 0 0", "client-output-buffer-limit normal 0 0 -1",
    "client-output-buffer-limit normal 0 0 ", "oom-score-adj-values 1 2", "oom-score-adj-values 1 2 3",
    "oom-score-adj-values 1 2 3000", "oom-score-adj-values a b c", "latency-tracking-info-percentiles 50 99.99",
    "latency-tracking-info-percentiles 101", "latency-tracking-info-percentiles x",
    "latency-tracking-info-percentiles 50.123456789 0.0 100 1e1", "latency-tracking-info-percentiles 50  99",
    "latency-tracking-info-percentiles inf", "latency-tracking-info-percentiles nan", "bind-source-addr x",
    "dbfilename x.rdb", "appendfilename x", "dir /tmp", "port 70000", "port x", "databases 5", "daemonize yes",
    "requirepass a\\x", "requirepass ", "rdbcompression maybe", "rdbcompression YES", "proc-title-template {foo}",
    "proc-title-template {title} {", "proc-title-template {title}x", "cluster-announce-hostname a_b",
    "cluster-announce-hostname a.b", "proto-max-bulk-len 1", "proto-max-bulk-len 9223372036854775808",
    "proto-max-bulk-len 2mb", "client-query-buffer-limit 100", "slowlog-log-slower-than -2",
    "slowlog-log-slower-than 9223372036854775808", "list-max-listpack-size -2147483649", "list-max-ziplist-size -3",
    "hash-max-listpack-value 1kb", "hash-max-ziplist-entries 5kb", "replicaof 127.0.0.1 6379", "slaveof no one",
    "user foo", "include foo", "rename-command foo", "loadmodule x", "foo bar", "unixsocketperm 777",
    "use-exit-on-panic no", "watchdog-period 0", "lua-time-limit 70", "list-max-ziplist-value 3",
    "enable-debug-command local", "enable-protected-configs yes", "stream-node-max-bytes 1k", "supervised x",
    "min-slaves-to-write 1", "min-slaves-to-write 0", "syslog-facility user", "masterauth é", "oom-score-adj no",
]  # fmt: skip
SETS_OF_MANY = [
    ("maxclients", "100", "maxclients", "200"),
    ("maxclients", "100", "MAXCLIENTS", "200"),
    ("replica-priority", "1", "slave-priority", "2"),
    ("maxclients", "1", "foo", "2"),
    ("port", "x", "foo", "2", "databases", "1"),
    ("databases", "1", "foo", "2"),
    ("databases", "1", "maxclients", "x"),
    ("maxclients", "x", "databases", "2"),
    ("maxclients", "77", "timeout", "x"),
    ("SLAVEOF", "x"),
    ("Slave-Priority", "x"),
    ("fo\r\no", "x"),
    ("x" * 300, "y"),
    ("fo\0o", "x"),
    (b"fo\xffo", "x"),
    ("maxclients", "1\0"),
    ("DBFILENAME", "x"),
    ("dir", "x", "dir", "y"),
    ("timeout", "x", "timeout", "y"),
    ("", "x"),
    ("timeout", "7", "maxclients", "70", "save", "1 1"),
]


def test_config_set_answers_as_the_servers(server):
    """A long script of CONFIG SET and CONFIG GET: each reply, and all values after it, byte for byte."""
    client, config = server.client(), Config()
    for name, value in server_config(server).items():
        if name in {"replicaof", "slaveof"}:
            continue
        config.put(name, *(value.split(" ") if BY_NAME[name].kind.many and value else [value]))
    scripts = [tuple(step.split(" ", 1)) for step in SETS] + SETS_OF_MANY
    for words in scripts:
        [(_, theirs)] = client.exchange([("CONFIG", "SET", *words)])

        assert set_reply(config, *words) == theirs, words
        for name in words[::2]:
            got = client.call("CONFIG", "GET", name).items()
            asked = name if isinstance(name, bytes) else name.encode()

            assert config.select([asked], no_pattern) == dict([(got[0].value, got[1].value)] if got else []), words
    theirs = server_config(server)

    assert {name: config.get(name) for name in theirs} == theirs


def test_every_directive_refuses_as_the_servers(server):
    """For each directive a word, a number far below, and nothing: the kinds, bounds and moments of change are the server's."""
    client = server.client()
    for name in server_config(server):
        row = BY_NAME[name]
        if (
            name in OTHER[server.name]
            or name == "bind"
            or (name.startswith("tls-") and isinstance(row.kind, kinds.Text))
        ):
            continue
        if row.only and row.change is Change.RUNTIME:
            continue
        for value in ("zzz", "-9000000000000000000", "") if name != "requirepass" else ():
            [(_, theirs)] = client.exchange([("CONFIG", "SET", name, value)])

            assert set_reply(Config(), name, value) == theirs, (name, value)


def no_pattern(pattern: bytes) -> Callable[[bytes], bool]:
    raise AssertionError("a name is no pattern")


def test_select_as_the_servers(server):
    """CONFIG GET with names, patterns, aliases, capitals and hidden names finds what the server finds."""
    client, config = server.client(), Config()

    def compile_(pattern: bytes) -> Callable[[bytes], bool]:
        return lambda name: fnmatch.fnmatchcase(name.decode(), pattern.decode().lower())

    for patterns in (
        ["maxclients"], ["MAXCLIENTS"], ["MaxClients", "maxclients"], ["slave-priority", "replica-priority", "r*-priority"],
        ["foo"], ["maxclients", "maxcl*s"], ["use-exit*"], ["use-exit-on-panic"], ["MaxCl*S"], ["slaveof"], ["s[au]ve"],
    ):  # fmt: skip
        words = [item.value for item in client.call("CONFIG", "GET", *patterns).items()]
        ours = config.select([pattern.encode() for pattern in patterns], compile_)

        assert set(ours) == set(words[::2])
        assert ours == dict(zip(words[::2], words[1::2], strict=True))


# CONFIG REWRITE.


def test_rewrite_as_redis_does(idle_server, tmp_path):
    """For a file in Redis's own spelling the old part is the server's, byte for byte, and the new part has the same lines."""
    server = idle_server
    old = f"""# head
port {server.port}
dir "{tmp_path}"
save 900 1

timeout 5
maxclients 7
notify-keyspace-events "KEA"
# then
maxmemory-clients 5%
unixsocketperm 700
loglevel notice
hz 20
timeout 6
latency-tracking-info-percentiles 1 2
replica-announce-ip "1.2.3.4"
client-output-buffer-limit pubsub 1mb 1mb 1
lfu-log-factor 5
""".encode()
    sets = [
        ("timeout", "0"), ("save", ""), ("notify-keyspace-events", ""), ("maxmemory-clients", "7%"),
        ("maxmemory", "3gb"), ("latency-tracking-info-percentiles", "50 99.5"), ("proto-max-bulk-len", "1048577"),
        ("masterauth", 'x"\\ \0é'), ("repl-backlog-size", "3mb"), ("list-max-ziplist-size", "-3"),
        ("bind-source-addr", "a b"), ("replica-announce-ip", ""),
        ("client-output-buffer-limit", "normal 1kb 2gb 1 replica 5 6 7 pubsub 1mb 1mb 2"),
        ("hash-max-ziplist-value", "1kb"),
    ]  # fmt: skip
    path = tmp_path / "f"
    path.write_bytes(old)
    server.process = subprocess.Popen([*server.program(), "f"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    server.wait_ready()
    replies = server.client().pipeline([("CONFIG", "SET", *pair) for pair in sets] + [("CONFIG", "REWRITE")])

    assert [reply.value for reply in replies] == [b"OK"] * len(replies)
    config = config_of(old)
    config.set_many([(name.encode(), value.encode()) for name, value in sets])
    ours, theirs = config.rewrite(old), path.read_bytes().replace(b"primaryauth", b"masterauth")
    (our_head, our_tail), (their_head, their_tail) = ours.split(SIGNATURE), theirs.split(SIGNATURE)
    always = (b"user default", b"dir ")

    assert our_head.split(b"\n") == their_head.split(b"\n")
    assert set(our_tail.split(b"\n")) == {line for line in their_tail.split(b"\n") if not line.startswith(always)}
