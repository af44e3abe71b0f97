"""The server group: INFO, CONFIG, MEMORY, DEBUG, OBJECT ENCODING, saving and ending. What COMMAND tells is test_table's.

Where a Redis answers the same, the oracle is asked; what only this server does is tested on it alone.
"""

from __future__ import annotations

import re
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from lmdbredis.info import SECTIONS
from tests.client import Disconnected, RawClient, pack
from tests.differential import compare, spaced, table
from tests.servers import BY_NAME, Lmdbredis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.differential import Pair
    from tests.servers import Server

WAIT_SECONDS_MAX = 10
# What redis_exporter, Sentinel and redis-cli --stat read.
WATCHED = spaced("""
    uptime_in_seconds process_id redis_version redis_mode os run_id tcp_port role master_replid maxmemory maxmemory_policy
    connected_clients blocked_clients maxclients used_memory used_memory_rss used_memory_peak used_memory_lua
    used_memory_dataset mem_fragmentation_ratio loading rdb_changes_since_last_save rdb_last_save_time
    rdb_bgsave_in_progress rdb_last_bgsave_status aof_enabled aof_last_write_status aof_last_bgrewrite_status
    aof_current_size total_commands_processed total_connections_received rejected_connections total_net_input_bytes
    total_net_output_bytes instantaneous_ops_per_sec expired_keys evicted_keys keyspace_hits keyspace_misses
    pubsub_channels pubsub_patterns latest_fork_usec connected_slaves master_repl_offset repl_backlog_size
    repl_backlog_active repl_backlog_histlen sync_full sync_partial_ok sync_partial_err used_cpu_sys used_cpu_user
    used_cpu_sys_children used_cpu_user_children used_memory_human cluster_enabled
""")
OWN = spaced("""
    lmdbredis_version data_file_bytes data_used_bytes wal_bytes wal_lsn wal_synced_lsn checkpoint_lsn commits dirty_rows
    open_ms hot_layer_entries writes_refused
""")


@pytest.fixture
def client(ours: Server, protocol: int) -> Iterator[RawClient]:
    """A new connection to our server."""
    if ours.name != "lmdbredis":
        pytest.skip("of our server only")
    with ours.connect(protocol) as found:
        yield found


@pytest.fixture
def fresh(pair: Pair) -> Iterator[tuple[RawClient, RawClient]]:
    """New connections to both."""
    ours, oracle = pair.fresh()
    with closing(ours), closing(oracle):
        yield ours, oracle


def text_of(client: RawClient, *words: str) -> str:
    """Return the text of a reply that RESP3 sends verbatim."""
    return client.call(*words).value.removeprefix(b"txt:").decode()


def info(client: RawClient, *sections: str) -> dict[str, str]:
    """Return the fields of INFO."""
    lines = text_of(client, "INFO", *sections).splitlines()
    return dict(line.split(":", 1) for line in lines if line and not line.startswith("#"))


def titles(client: RawClient, *sections: str) -> list[str]:
    return re.findall(r"^# (.*)$", text_of(client, "INFO", *sections).replace("\r", ""), re.MULTILINE)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# INFO.


def test_info_sections(client: RawClient):
    """INFO shows the default sections, those named in any case, all of them; each once, in one order; unknown ones none."""
    every = list(SECTIONS)
    default = [title for title in every if title not in {"Commandstats", "Latencystats"}]

    assert titles(client) == titles(client, "default") == default
    assert titles(client, "all") == titles(client, "EVERYTHING") == every
    assert titles(client, "keyspace", "Server", "SERVER") == ["Server", "Keyspace"]
    assert titles(client, "default", "commandstats") == [title for title in every if title != "Latencystats"]
    assert text_of(client, "INFO", "bogus") == ""
    for title in every:
        text = text_of(client, "INFO", title)

        assert text.startswith(f"# {title}\r\n")
        assert text.endswith("\r\n")
        assert all(":" in line for line in text.split("\r\n")[1:-1])


def test_info_fields(client: RawClient):
    """Every field that monitors read is there, and is a number where it must be."""
    fields = info(client, "everything")

    assert [name for name in (*WATCHED, *OWN) if name not in fields] == []
    assert fields["redis_version"] == "7.2.0"
    assert fields["role"] == "master"
    assert fields["loading"] == "0"
    assert re.fullmatch("[0-9a-f]{40}", fields["run_id"])
    assert re.fullmatch("[0-9a-f]{40}", fields["master_replid"])
    assert int(fields["connected_clients"]) >= 1
    for name in (
        "used_memory",
        "used_memory_rss",
        "used_memory_peak",
        "wal_lsn",
        "dirty_rows",
        "total_net_input_bytes",
    ):
        assert fields[name].isdigit(), name


def test_info_has_the_fields_of_redis(pair: Pair):
    """Of the fields that the oracle shows, only those are missing that are newer than Redis 7.2, Valkey's own, or not counted here."""
    uncounted = "total_reads_|total_writes_|eventloop_|instantaneous_eventloop_"
    newer = (
        "valkey|server_name|availability|clients_hz|tls_|engine|watching_clients|pubsub_clients|total_watched|paused_|slot_|io_threaded"
        "|mem_cluster_slot|mem_overhead|expired_fields|expired_keys_with|evicted_scripts|replicas_waiting|allocator_muzzy|cluster_slot"
        "|total_net_cluster|acl_access_denied_(db|tls)|used_active_time|rdb_saves|mem_replicas_repl|module|errorstat|cmdstat|latency|db"
    )
    ours, oracle = (info(one, "everything") for one in pair.clients())

    assert [name for name in oracle if name not in ours and not re.match(f"{newer}|{uncounted}", name)] == []


def test_info_counts(client: RawClient):
    """Commands, connections, bytes, hits and misses, keys and their expiries are counted; RESETSTAT starts again."""
    client.call("CONFIG", "RESETSTAT")
    before = info(client)
    client.pipeline(
        [("SET", "a", 1), ("SET", "b", 1, "EX", 1000), ("GET", "a"), ("GET", "missing"), ("EXISTS", "a", "missing")]
    )
    after = info(client)

    assert int(after["total_commands_processed"]) - int(before["total_commands_processed"]) == 6
    assert (after["keyspace_hits"], after["keyspace_misses"]) == ("2", "2")
    assert int(after["total_net_input_bytes"]) > int(before["total_net_input_bytes"])
    assert int(after["total_net_output_bytes"]) > int(before["total_net_output_bytes"])
    fields = dict(field.split("=") for field in after["db0"].split(","))
    assert (fields["keys"], fields["expires"]) == ("2", "1")
    assert 990_000 < int(fields["avg_ttl"]) <= 1_000_000
    assert "db1" not in after
    client.call("CONFIG", "RESETSTAT")
    assert info(client)["keyspace_hits"] == "0"


# CONFIG.


def test_config(pair: Pair, fresh: tuple[RawClient, RawClient]):
    """CONFIG GET and SET answer and refuse as the oracle's: names, globs, many at once, all or nothing."""
    script = """
        CONFIG GET maxmemory
        CONFIG GET MAXMEMORY
        CONFIG GET bogus
        CONFIG GET maxmemory-policy maxmemory-policy
        CONFIG GET hash-max-ziplist-entries
        CONFIG SET maxmemory-policy allkeys-lru
        CONFIG GET maxmemory-policy
        CONFIG SET maxmemory-policy bogus
        CONFIG SET maxmemory-policy noeviction hash-max-listpack-entries 7
        CONFIG GET hash-max-listpack-entries
        CONFIG SET hash-max-listpack-entries 9 bogus 1
        CONFIG GET hash-max-listpack-entries
        CONFIG SET hash-max-listpack-entries 9 set-max-intset-entries x
        CONFIG GET hash-max-listpack-entries
        CONFIG SET timeout 5 timeout 6
        CONFIG SET timeout
        CONFIG SET timeout 5 maxmemory
        CONFIG SET databases 5
        CONFIG SET daemonize yes
        CONFIG SET requirepass "a b"
        CONFIG GET requirepass
        CONFIG SET requirepass ""
        CONFIG GET
        CONFIG SET
        CONFIG REWRITE
        CONFIG RESETSTAT
        CONFIG RESETSTAT x
    """
    compare(pair, script, clients=fresh)


def test_config_globs(client: RawClient):
    """CONFIG GET takes globs, and finds every directive by ``*``."""

    def names(*patterns: str) -> set[bytes]:
        return {item.value for item in client.call("CONFIG", "GET", *patterns).items()[::2]}

    assert names("*max-listpack-e*", "APPENDFSYNC") >= {
        b"hash-max-listpack-entries",
        b"zset-max-listpack-entries",
        b"APPENDFSYNC",
    }
    assert names("m?xmemory") == {b"maxmemory"}
    assert len(names("*")) > 200


def test_config_set_reaches_what_it_names(client: RawClient, ours: Server):
    """A changed password asks new clients and leaves the old ones alone; where the server listens cannot be changed."""
    assert client.call("CONFIG", "SET", "port", 1).value.startswith(
        b"ERR CONFIG SET failed (possibly related to argument 'port')"
    )
    assert client.call("CONFIG", "SET", "requirepass", "secret").value == b"OK"
    try:
        assert client.call("SET", "a", 1).value == b"OK"
        with ours.connect() as stranger:
            assert stranger.call("GET", "a").value == b"NOAUTH Authentication required."
            assert stranger.call("AUTH", "secret").value == b"OK"
            assert stranger.call("GET", "a").value == b"1"
    finally:
        client.call("CONFIG", "SET", "requirepass", "")


def test_config_rewrite(tmp_path: Path):
    """CONFIG REWRITE writes what has changed into the file, keeps its comments and mode, and the next start reads it."""
    path = tmp_path / "some.conf"
    path.write_text("# mine\nmaxclients 100\ntimeout 7\n", encoding="ascii")
    path.chmod(0o640)

    class Configured(Lmdbredis):
        @classmethod
        def program(cls) -> list[str] | None:
            return [*(Lmdbredis.program() or []), str(path)]

    with Configured() as server:
        client = server.client()
        client.call("CONFIG", "SET", "timeout", "9", "maxmemory-policy", "volatile-ttl")

        assert client.call("CONFIG", "REWRITE").value == b"OK"
        text = path.read_text(encoding="ascii")
        assert text.startswith("# mine\nmaxclients 100\ntimeout 9\n")
        assert "maxmemory-policy volatile-ttl" in text
        assert path.stat().st_mode & 0o777 == 0o640
        assert [one.name for one in tmp_path.iterdir()] == ["some.conf"]
        server.restart()
        assert server.client().call("CONFIG", "GET", "timeout", "maxmemory-policy").plain() == [
            b"timeout", b"9", b"maxmemory-policy", b"volatile-ttl",
        ]  # fmt: skip
        path.unlink()
        tmp_path.chmod(0o500)
        try:
            reply = server.client().call("CONFIG", "REWRITE")
        finally:
            tmp_path.chmod(0o700)
        assert reply.value == b"OK" or reply.value.startswith(b"ERR Rewriting config file: ")  # root may write anywhere


# Saving and ending.


def test_saving(client: RawClient):
    """SAVE answers when the state is on disk, BGSAVE at once; LASTSAVE moves on, changed or not."""
    client.call("SET", "a", 1)

    assert client.pipeline([("SET", "b", 1), ("SAVE",), ("SET", "c", 1)])[1].value == b"OK"
    fields = info(client)
    assert int(fields["checkpoint_lsn"]) > 0
    assert abs(client.call("LASTSAVE").value - int(client.call("TIME").items()[0].value)) <= 1
    for _ in range(2):  # with something to save, and with nothing
        before = client.call("LASTSAVE").value
        wait_until(lambda: int(client.call("TIME").items()[0].value) > before)  # noqa: B023
        assert client.call("BGSAVE").value == b"Background saving started"
        wait_until(lambda: client.call("LASTSAVE").value > before)  # noqa: B023
    assert client.call("BGSAVE", "SCHEDULE").value == b"Background saving started"


def test_saving_is_refused_alike(pair: Pair):
    """SAVE, BGSAVE, LASTSAVE, SHUTDOWN and TIME refuse the words that the oracle refuses."""
    pair.run([
        "SAVE x", "BGSAVE BOGUS", "BGSAVE SCHEDULE x", "LASTSAVE x", "TIME x", "TIME", "LASTSAVE", "SHUTDOWN BOGUS", "SHUTDOWN ABORT",
        "SHUTDOWN SAVE NOSAVE", "SHUTDOWN NOSAVE ABORT", "SHUTDOWN ABORT NOW",
    ])  # fmt: skip


def test_failover_of_one_who_is_alone(pair: Pair):
    """Without replicas, that is what FAILOVER says first."""
    pair.run(
        [
            "FAILOVER",
            "FAILOVER FORCE",
            "FAILOVER TO 127.0.0.1 1 FORCE",
            "FAILOVER TIMEOUT 5 FORCE",
            "FAILOVER x",
            "FAILOVER ABORT",
        ]
    )


@pytest.mark.parametrize("how", ["", "SAVE", "NOSAVE", "NOW FORCE"])
def test_shutdown(how: str):
    """SHUTDOWN ends the server without an answer and with status 0; every key is there afterwards."""
    with BY_NAME["lmdbredis"]() as server:
        with server.connect() as client:
            client.send(pack(["SET", "a", 1]) + pack(["SHUTDOWN", *how.split()]) + pack(["SET", "a", 2]))

            assert client.read_until_closed() == b"+OK\r\n"
        assert server.process is not None
        assert server.process.wait(10) == 0
        server.start()
        assert server.client().call("GET", "a").value == b"1"
        replayed = int(info(server.client())["replayed_rows"])
        assert replayed > 0 if how == "NOSAVE" else replayed == 0


# MEMORY.


def test_memory(pair: Pair):
    """MEMORY's words are read and refused as the oracle's."""
    pair.run([
        "SET k v", "MEMORY USAGE missing", "MEMORY USAGE k", "MEMORY USAGE k SAMPLES 0", "MEMORY USAGE k SAMPLES -1",
        "MEMORY USAGE k SAMPLES x", "MEMORY USAGE k SAMPLES", "MEMORY USAGE k BOGUS 1", "MEMORY USAGE k SAMPLES 1 SAMPLES 2", "MEMORY PURGE",
        "MEMORY MALLOC-STATS",
    ])  # fmt: skip


def test_memory_usage(client: RawClient):
    """MEMORY USAGE grows with the value, and its samples tell about as much as all elements."""
    sizes = {}
    for count in (1, 10, 100, 2000):
        client.call("DEL", "S", "L", "E", "H", "Z", "C")
        numbers = [f"{number:05}" for number in range(count)]
        client.call("SET", "S", "x" * count * 10)
        client.call("RPUSH", "L", *numbers)
        client.call("SADD", "E", *numbers)
        client.call("HSET", "H", *(word for number in numbers for word in (number, "v")))
        client.call("ZADD", "Z", *(word for number in numbers for word in (number, number)))
        for key in "SLEHZ":
            every, some = (client.call("MEMORY", "USAGE", key, "SAMPLES", samples).value for samples in (0, 5))

            assert every * 0.9 <= some <= every * 1.1
            assert every > sizes.get(key, 0)
            assert every >= count * 5
            sizes[key] = every


def test_memory_stats(pair: Pair):
    """MEMORY STATS and DOCTOR answer in the oracle's shape."""
    ours, theirs = (client.call("MEMORY", "STATS") for client in pair.clients())
    kinds = dict(
        zip((item.value for item in theirs.items()[::2]), (item.kind for item in theirs.items()[1::2]), strict=True)
    )

    assert ours.kind == theirs.kind
    for name, value in zip(ours.items()[::2], ours.items()[1::2], strict=True):
        assert kinds[name.value] == value.kind, name
    doctor = [client.call("MEMORY", "DOCTOR") for client in pair.clients()]
    assert doctor[0].kind == doctor[1].kind


# OBJECT.


def test_encodings_at_their_limits(pair: Pair):
    """OBJECT ENCODING changes where Redis's changes: counts, lengths, integers, and limits that CONFIG SET moves."""
    makers = {
        "HSET k": ("f{n} v", (511, 512, 513)),
        "SADD k": ("{n}", (511, 512, 513)),
        "SADD k a": ("{n}", (126, 127, 128)),
        "ZADD k": ("{n} m{n}", (127, 128, 129)),
        "RPUSH k": ("{n}", (3, 500)),
    }
    script: list[object] = []
    for start, (element, counts) in makers.items():
        for count in counts:
            words = [word for n in range(count) for word in element.format(n=n).split()]
            script += ["DEL k", (*start.split(), *words), "OBJECT ENCODING k"]
    for length in (63, 64, 65, 600):
        script += [
            "DEL k",
            f"HSET k <{length}> v",
            "OBJECT ENCODING k",
            "DEL k",
            f"HSET k f <{length}>",
            "OBJECT ENCODING k",
        ]
        script += [
            "DEL k",
            f"SADD k <{length}>",
            "OBJECT ENCODING k",
            "DEL k",
            f"ZADD k 1 <{length}>",
            "OBJECT ENCODING k",
        ]
    script += ["DEL k", "RPUSH k <8000>", "OBJECT ENCODING k", "DEL k", "RPUSH k <9000>", "OBJECT ENCODING k"]
    script += ["DEL k", ("RPUSH", "k", *["x" * 20] * 500), "OBJECT ENCODING k", "SET s <10000>", "OBJECT ENCODING s"]
    pair.run(script)
    limits = [
        "hash-max-listpack-entries 2", "hash-max-listpack-value 3", "set-max-intset-entries 2", "set-max-listpack-entries 2",
        "set-max-listpack-value 3", "zset-max-listpack-entries 2", "zset-max-listpack-value 3", "list-max-listpack-size 2",
        "list-max-listpack-size -1",
    ]  # fmt: skip
    values = [
        "HSET k a 1 b 2",
        "HSET k a 1 b 2 c 3",
        "HSET k abcd 1",
        "SADD k 1 2",
        "SADD k 1 2 3",
        "SADD k a b c",
        "SADD k abcd",
    ]
    values += [
        "ZADD k 1 a 2 b",
        "ZADD k 1 a 2 b 3 c",
        "ZADD k 1 abcd",
        "RPUSH k a b",
        "RPUSH k a b c",
        "RPUSH k <4090>",
        "RPUSH k <5000>",
    ]
    for limit in limits:
        pair.run([f"CONFIG SET {limit}", *(line for value in values for line in ("DEL k", value, "OBJECT ENCODING k"))])


def test_object_under_another_policy(pair: Pair):
    """FREQ asks for an LFU policy and IDLETIME for any other."""
    for policy in ("allkeys-lfu", "volatile-lfu", "allkeys-lru", "noeviction"):
        pair.run(
            [
                f"CONFIG SET maxmemory-policy {policy}",
                "SET k v",
                *table("OBJECT", ["FREQ", "IDLETIME", "REFCOUNT"], ["k", "missing"]),
            ]
        )


# DEBUG.


def test_debug_texts(pair: Pair):
    """DEBUG's subcommands are refused with the oracle's one text, whatever is wrong with them."""
    pair.run([
        "DEBUG", "DEBUG BOGUS", "DEBUG SLEEP", "DEBUG SLEEP 0", "DEBUG SLEEP x", "DEBUG sleep 0.001", "DEBUG SLEEP 0 1", "DEBUG JMAP",
        "DEBUG SET-ACTIVE-EXPIRE", "DEBUG SET-ACTIVE-EXPIRE 1", "DEBUG OBJECT", "DEBUG OBJECT missing", "DEBUG CHANGE-REPL-ID x",
        "DEBUG CHANGE-REPL-ID", "DEBUG RELOAD BOGUS", "DEBUG ERROR", 'DEBUG ERROR "LOADING a\r\nb"', "DEBUG ERROR x", "DEBUG ERROR a b", "DEBUG HELP x",
    ])  # fmt: skip


def test_debug_is_refused_unless_allowed(protocol: int):
    """Without enable-debug-command DEBUG is refused; `local` allows it to clients of this machine."""

    class Strict(Lmdbredis):
        def own_options(self) -> tuple[str, ...]:
            return ()

    with Strict() as server, server.connect(protocol) as client:
        assert client.call("DEBUG", "SLEEP", "0").value.startswith(b"ERR DEBUG command not allowed.")
        assert client.call("DEBUG", "CHECK").value.startswith(b"ERR DEBUG command not allowed.")
        assert client.call("CONFIG", "SET", "enable-debug-command", "yes").value.endswith(b"can't set immutable config")
    with Strict("--enable-debug-command", "local") as server, server.connect(protocol) as client:
        assert client.call("DEBUG", "SLEEP", "0").value == b"OK"


def test_debug_reload(client: RawClient, ours: Server):
    """DEBUG RELOAD closes and opens the store: keys, databases, expiries and every session are as before."""
    client.pipeline([("SELECT", 3), ("SET", "a", 1, "EX", 1000), ("RPUSH", "l", *range(600))])
    with ours.connect() as other:
        other.call("SELECT", 3)
        replies = client.pipeline(
            [
                ("INCR", "a"),
                ("DEBUG", "RELOAD"),
                ("INCR", "a"),
                ("DEBUG", "RELOAD", "NOSAVE"),
                ("LLEN", "l"),
                ("DEBUG", "CHECK"),
            ]
        )

        assert [reply.value for reply in replies] == [2, b"OK", 3, b"OK", 600, b"OK"]
        assert other.call("GET", "a").value == b"3"
        assert 0 < other.call("TTL", "a").value <= 1000
    assert info(client)["replayed_rows"] == "0"


def test_debug_change_repl_id(client: RawClient):
    """DEBUG CHANGE-REPL-ID gives the history a new name, which a reload finds again."""
    first = info(client)["master_replid"]
    client.call("SET", "a", 1)

    assert client.call("DEBUG", "CHANGE-REPL-ID").value == b"OK"
    second = info(client)["master_replid"]
    assert first != second
    client.call("DEBUG", "RELOAD")
    assert info(client)["master_replid"] == second


def test_debug_set_active_expire(client: RawClient):
    """Without active expiry a key that nobody asks for stays until somebody does."""
    client.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    try:
        client.call("SET", "a", 1, "PX", 1)
        time.sleep(0.1)
        assert client.call("DBSIZE").value == 1
        assert client.call("GET", "a").value is None
        assert client.call("DBSIZE").value == 0
        client.call("SET", "a", 1, "PX", 1)
    finally:
        client.call("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    wait_until(lambda: client.call("DBSIZE").value == 0)


def test_debug_own(client: RawClient):
    """STRINGMATCH-LEN matches, OBJECT tells the encoding, HELP names every subcommand."""
    assert client.call("DEBUG", "STRINGMATCH-LEN", 30, "a*a*a").value == 1
    assert client.call("DEBUG", "STRINGMATCH-LEN", 100_000, "a*" * 30 + "b").value == 0
    client.call("RPUSH", "l", "a")
    assert b"encoding:listpack" in client.call("DEBUG", "OBJECT", "l").value
    lines = [item.value.decode() for item in client.call("DEBUG", "HELP").items()]
    assert [line.split()[0] for line in lines[1::2]] == [
        "CHANGE-REPL-ID",
        "CHECK",
        "DIGEST",
        "DIGEST-VALUE",
        "ERROR",
        "OBJECT",
        "RELOAD",
        "SET-ACTIVE-EXPIRE",
        "SLEEP",
        "STRINGMATCH-LEN",
        "HELP",
    ]


# The rest.


def test_lolwut(client: RawClient):
    """LOLWUT draws as large as it is told, never the same twice, and tells the version."""
    for words, columns, rows in (
        ((), 66, 12),
        (("VERSION", "5"), 66, 12),
        (("VERSION", "6", "20", "5"), 20, 5),
        (("30",), 30, 12),
        (("9999", "9999"), 160, 60),
    ):
        *drawing, empty, last = text_of(client, "LOLWUT", *words).splitlines()

        assert (len(drawing), empty) == (rows, "")
        assert max(map(len, drawing)) <= columns
        assert set("".join(drawing)) <= set(" ▁▂▃▄▅▆▇█")
        assert "Redis ver. 7.2.0" in last
    assert text_of(client, "LOLWUT") != text_of(client, "LOLWUT")
    assert client.call("LOLWUT", "VERSION", "x").is_error


def test_help_of_every_container(client: RawClient):
    """HELP of a container names each of its subcommands once, with a line about it."""
    for name in ("CLIENT", "CONFIG", "COMMAND", "MEMORY", "OBJECT"):
        entry = client.call("COMMAND", "INFO", name).items()[0].items()[9].items()
        subcommands = {one.items()[0].value.decode().partition("|")[2].upper() for one in entry}
        lines = [item.value.decode() for item in client.call(name, "HELP").items()]

        assert {line.split()[0] for line in lines[1::2]} == subcommands
        assert all(line.startswith("    ") for line in lines[2::2])
        assert len(lines) == 1 + 2 * len(subcommands)


def test_a_password_and_much_behind_it(ours: Server):
    """What waits behind AUTH in the same bytes, beyond a stranger's limits, runs once AUTH has run."""
    old = ours.client()
    assert old.call("CONFIG", "SET", "requirepass", "secret").value == b"OK"
    try:
        many = [f"k{number}" for number in range(100)]
        for login in (["AUTH", "secret"], ["HELLO", "2", "AUTH", "default", "secret"]):
            with ours.connect() as client:
                client.send(
                    pack(login) + pack(["SET", "big", "x" * 100_000]) + pack(["EXISTS", "big", *many]) + pack(["PING"])
                )
                replies = [client.read()[0].value for _ in range(4)]

                assert replies[1:] == [b"OK", 1, b"PONG"]
        for before, answer in ((["AUTH", "wrong"], b"WRONGPASS"), (["PING"], b"NOAUTH")):
            with ours.connect() as client:
                client.send(pack(before) + pack(["SET", "big", "x" * 100_000]))

                assert client.read()[0].value.startswith(answer)
                assert b"unauthenticated bulk length" in client.read()[0].value
                with pytest.raises(Disconnected):
                    client.read()
    finally:
        old.call("CONFIG", "SET", "requirepass", "")


def test_selecting_in_a_batch_that_fails(tmp_path: Path):
    """When a batch must run again without a request that failed, the session begins it in the database it was in."""
    spoilt = tmp_path / "spoilt.py"
    spoilt.write_text(
        "import sys\n"
        "from lmdbredis import __main__, registry, commands\n"
        "commands.load()\n"
        "@registry.command('SPOIL')\n"
        "def spoil(cx, key):\n"
        '    """SPOIL key -- Writes, then fails. O(1). Since 1.0.0."""\n'
        "    cx.db.put_string(key, b'spoilt')\n"
        "    raise ZeroDivisionError\n"
        "sys.exit(__main__.main())\n",
        encoding="ascii",
    )

    class Spoilt(Lmdbredis):
        @classmethod
        def program(cls) -> list[str] | None:
            words = Lmdbredis.program()
            return [words[0], str(spoilt)] if words else None

    with Spoilt(env={"PYTHONPATH": "."}) as server, server.connect() as client:
        replies = client.pipeline(
            [
                ("SET", "a", 1),
                ("CLIENT", "SETNAME", "me"),
                ("SELECT", 1),
                ("SET", "b", 1),
                ("SPOIL", "c"),
                ("SET", "d", 1),
            ]
        )

        assert [reply.value for reply in replies[:4]] == [b"OK"] * 4
        assert replies[4].value.startswith(b"ERR internal error: ZeroDivisionError")
        assert client.call("KEYS", "*").plain() == [b"b", b"d"]
        assert client.call("CLIENT", "GETNAME").value == b"me"
        client.call("SELECT", 0)
        assert client.call("KEYS", "*").plain() == [b"a"]
        assert client.call("DEBUG", "CHECK").value == b"OK"
