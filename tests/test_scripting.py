"""Scripts against the oracle: EVAL and its like, what scripts see and return, the cache, durability, and real clients.

Libraries, the sandbox and long scripts have files of their own: test_scripting_libraries, _sandbox, _busy.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
import redis

from lmdbredis.blocking import Wait
from lmdbredis.errors import MISCONF_FULL, DiskFull, SyncFailed
from lmdbredis.registry import TABLE
from lmdbredis.scripting.scripts import EVALUATED_MAX
from lmdbredis.watches import Later
from tests.client import Disconnected
from tests.crash import Engine, FaultyDisk, whole_or_not_at_all
from tests.script_texts import SCRIPTS
from tests.servers import Lmdbredis

if TYPE_CHECKING:
    from pathlib import Path

    from tests.differential import Pair
    from tests.servers import Server

COMMANDS = r"""
    EVAL "return 1"
    EVAL "return 1" x
    EVAL "return 1" -1
    EVAL "return 1" 1
    EVAL "return 1" 2 a
    EVAL "return KEYS" 2 a b c
    EVAL "return ARGV" 2 a b c
    EVAL "return {#KEYS, #ARGV}" 0 a b c
    EVAL "return {#KEYS, #ARGV}" 1 a
    EVAL "return {#KEYS, #ARGV}" 3 a b c
    EVAL "return {KEYS[1], ARGV[1]}" 1 a b
    EVALSHA abc 0
    EVALSHA abc 1
    EVALSHA abc -1
    EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
    EVAL_RO "return redis.call('set','a','b')" 0
    EVAL_RO "return redis.call('get','a')" 0
    EVAL_RO "return redis.pcall('set','a','b')" 0
    EVAL "" 0
    EVAL "return" 0
    EVAL "# comment\nreturn 1" 0
    EVAL "return 1 1" 0
    EVAL "\x1bLua" 0
    EVAL "return '\x00'" 0
    EVAL "return \x00" 0
    SCRIPT
    SCRIPT NOSUCH
    SCRIPT HELP
    SCRIPT LOAD
    SCRIPT LOAD "return 1"
    SCRIPT LOAD "return 1" x
    SCRIPT LOAD "return 1 1"
    SCRIPT LOAD ""
    SCRIPT EXISTS
    SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db E0E1F9FABFC9D4800C877A703B823AC0578FF8DB abc
    EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
    EVALSHA E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 0
    EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
    EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 2 a
    SCRIPT SHOW e0e1f9fabfc9d4800c877a703b823ac0578ff8db
    SCRIPT SHOW abc
    SCRIPT KILL
    SCRIPT KILL x
    SCRIPT FLUSH x
    SCRIPT FLUSH ASYNC SYNC
    SCRIPT FLUSH ASYNC
    SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db
    EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
    EVAL "return 1" 0
    EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
    SCRIPT FLUSH SYNC
    SCRIPT FLUSH
    COMMAND GETKEYS EVAL "return 1" 2 a b c
    COMMAND GETKEYS EVAL "return 1" 0
    COMMAND GETKEYS EVAL "return 1" 3 a
    COMMAND GETKEYSANDFLAGS EVAL "return 1" 2 a b c
    COMMAND GETKEYSANDFLAGS EVALSHA_RO x 2 a b c
"""
SHEBANGS = (
    "#!lua", "#!lua\nreturn 1", "#!LUA\nreturn 1", "#!python\nreturn 1", "#!\nreturn 1", "#!lua flags=\nreturn 1", "#!lua flags\nreturn 1",
    "#!lua flags=bogus\nreturn 1", "#!lua name=x\nreturn 1", "#!lua flags=no-writes,\nreturn 1", "#!lua  flags=no-writes\nreturn 1",
    "#!lua flags=no-writes flags=allow-oom\nreturn 1", "#!lua 'flags=no-writes'\nreturn 1", "#!lua 'flags=no-writes\nreturn 1",
    "#!lua flags=no-writes,allow-oom,allow-stale,no-cluster,allow-cross-slot-keys\nreturn 1", "#!lua\nreturn error('x')",
    "#!lua\n return 1 1", "#!lua\nreturn redis.call('set', 'a', 'b')", "#!lua flags=no-writes\nreturn redis.call('set', 'a', 'b')",
    "#! lua\nreturn 1", "#!\tlua\nreturn 1", "#! flags=no-writes\nreturn 1", '#!""\nreturn 1', '#!"lua"\nreturn 1', "#!python x\nreturn 1",
    "#!python flags=x\nreturn 1", "#!lua\0\nreturn 1", "#!lua \nreturn 1", "#!'lua\nreturn 1",
    "#!lua\nreturn redis.call('publish', 'a', 'b')", "#!lua flags=no-writes\nreturn redis.call('publish', 'a', 'b')",
    "#!lua flags=no-writes\nreturn redis.call('spublish', 'a', 'b')", "return redis.call('publish', 'a', 'b')",
    "#!lua flags=no-writes\nreturn redis.pcall('set', 'a', 'b')", "#!lua flags=no-writes\nreturn redis.call('get', 'a')",
)  # fmt: skip


@pytest.mark.parametrize("group", SCRIPTS)
def test_scripts(pair: Pair, group: str):
    """Whatever a script does, it returns, raises and leaves behind what it does in the oracle."""
    lines = [("EVAL", text, 2, "k1", "k2", "a1", "a2") for text in SCRIPTS[group]]
    pair.run([("SELECT", 0), *lines], databases=(0, 5))


def test_commands(pair: Pair):
    """EVAL and its like, and SCRIPT: words, refusals, and which scripts are known."""
    pair.run([("SCRIPT", "FLUSH"), *COMMANDS.splitlines()])


@pytest.mark.parametrize("name", ["EVAL", "EVAL_RO"])
def test_shebang(pair: Pair, name: str):
    """The first line says what a script may do."""
    pair.run([(name, text, 0) for text in SHEBANGS] + [("SCRIPT", "LOAD", text) for text in SHEBANGS])


def test_transactions(pair: Pair):
    """In a transaction a script is one of its commands; a script's writes are seen by WATCH."""
    pair.run(
        """
        MULTI
        EVAL "return redis.call('incr', KEYS[1])" 1 n
        EVAL "return error('x')" 0
        EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
        INCR n
        EXEC
        WATCH n
        EVAL "return redis.call('incr', KEYS[1])" 1 n
        MULTI
        INCR n
        EXEC
        WATCH n
        EVAL "return redis.call('get', KEYS[1])" 1 n
        MULTI
        INCR n
        EXEC
        """
    )


def test_many_words(pair: Pair):
    """As many keys and words as one likes, and long ones."""
    many = [str(number) for number in range(20_000)]
    pair.run(
        [
            ("EVAL", "return {#KEYS, #ARGV, KEYS[#KEYS], ARGV[#ARGV]}", count, *many[:total])
            for count, total in ((0, 0), (0, 3000), (3000, 3000), (1, 20_000), (20_000, 20_000), (7_000, 9_000))
        ]
        + [
            ("EVAL", "return redis.call('rpush', KEYS[1], unpack(ARGV))", 1, "l", *many[:size])
            for size in (1, 63, 64, 65, 128, 1000, 7000)
        ]
        + [("EVAL", "return #ARGV[1] .. redis.call('echo', ARGV[1])", 0, "x" * size) for size in (10, 1000, 3_000_000)]
        + [
            ("EVAL", "return redis.call('lrange', KEYS[1], 0, ARGV[1])", 1, "l", size)
            for size in (0, 10, 498, 499, 500, 501, 3999, 4001, -1)
        ]
    )


def test_eval_keeps_some_and_load_all(ours: Server):
    """Scripts that EVAL brought go when too many have come since they were used; those that were loaded stay."""
    with ours.connect() as client:
        client.call("SCRIPT", "FLUSH")
        loaded = client.call("SCRIPT", "LOAD", "return 'loaded'").value
        client.pipeline([("EVAL", f"return {number}", 0) for number in range(EVALUATED_MAX)])
        client.call("EVAL", "return 0", 0)
        client.pipeline([("EVAL", f"return {number}", 0) for number in range(1000, 1100)])
        known = [hashlib.sha1(f"return {number}".encode()).hexdigest() for number in (0, 1, 100, 101, 1099)]

        assert [1, 0, 0, 1, 1, 1] == client.call("SCRIPT", "EXISTS", *known, loaded).plain()
        text = client.call("INFO", "memory").value
        assert f"number_of_cached_scripts:{EVALUATED_MAX + 1}\r\n".encode() in text
        client.call("SCRIPT", "FLUSH")
        assert b"number_of_cached_scripts:0\r\n" in client.call("INFO", "memory").value


def test_lua_is_loaded_by_the_first_script():
    """Who runs no script does not pay for Lua."""
    program = "import sys, lmdbredis.__main__; from lmdbredis import commands; commands.load(); print(any('lupa' in name for name in sys.modules))"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert said == "False\n"


def test_the_database_of_a_script_is_its_own(ours: Server):
    """SELECT in a script changes the database of the script's commands only, after an error too."""
    with ours.connect() as client:
        client.call("SELECT", 1)
        client.call("EVAL", "redis.call('select', 2) redis.call('set', 'k', 'v')", 0)
        client.call("EVAL", "redis.call('select', 2) redis.call('set', 'l', 'v') error('x')", 0)

        assert client.call("DBSIZE").value == 0
        client.call("SELECT", 2)
        assert client.call("DBSIZE").value == 2
        client.call("FLUSHALL")


def test_scripts_outlive_a_reload_not_a_restart():
    """Scripts are kept in memory: DEBUG RELOAD keeps them, a restart does not."""
    with Lmdbredis() as server:
        with server.connect() as client:
            sha = client.call("SCRIPT", "LOAD", "return redis.call('incr', 'n')").value
            assert client.call("EVALSHA", sha, 0).value == 1
            assert client.call("DEBUG", "RELOAD").value == b"OK"
            assert client.call("EVALSHA", sha, 0).value == 2
        server.restart()
        with server.connect() as client:
            assert client.call("EVALSHA", sha, 0).value == b"NOSCRIPT No matching script."


# --- the engine -----------------------------------------------------------------------------------------------------------------

BOOM = [Later(), ValueError("boom"), SyncFailed("boom"), DiskFull("boom"), KeyboardInterrupt()]


@pytest.fixture
def engine(tmp_path: Path):
    """Return an engine whose disk can fail."""
    made = Engine(tmp_path / "store", FaultyDisk())
    yield made
    made.store.disk.room_bytes = None
    assert made.check() == []
    made.close()


@pytest.mark.parametrize(
    "wrap", ["redis.call('ECHO', 'x')", "pcall(redis.call, 'ECHO', 'x')", "redis.pcall('ECHO', 'x')"]
)
def test_a_failing_handler_ends_the_script(engine: Engine, monkeypatch: pytest.MonkeyPatch, wrap: str):
    """What a handler must not raise ends the script past every pcall, and reaches the executor as it was; nothing is kept."""
    engine.run([b"EVAL", b"return 1", b"0"])
    for failure in BOOM[:2]:

        def fail(cx, message, failure=failure):
            raise failure

        monkeypatch.setattr(TABLE[b"ECHO"], "handler", fail)
        engine.executor.scripting.flush()
        text = f"redis.call('SET', 'k', 'v') while true do pcall(function() {wrap} end) end".encode()
        cx = engine.executor.cx
        cx.session, cx.db = engine.session, engine.session.database
        with pytest.raises(type(failure)):
            engine.executor.scripting.run(engine.executor.scripting.of_text(text), 0, (), read_only=False)
        engine.executor._undo()
        assert engine.run([b"EXISTS", b"k"])[0].value == 0


@pytest.mark.parametrize("failure", BOOM, ids=lambda failure: type(failure).__name__)
def test_coroutines_do_not_catch(engine: Engine, monkeypatch: pytest.MonkeyPatch, failure: BaseException):
    """Neither do coroutines, handlers of errors, or loaders."""

    def fail(cx, message):
        raise failure

    monkeypatch.setattr(TABLE[b"ECHO"], "handler", fail)
    cx = engine.executor.cx
    cx.session, cx.db = engine.session, engine.session.database
    for text in (
        b"coroutine.resume(coroutine.create(function() redis.call('ECHO', 'x') end)) return 1",
        b"xpcall(function() redis.call('ECHO', 'x') end, function() return 1 end) return 1",
        b"load(function() redis.call('ECHO', 'x') end) return 1",
        b"pcall(coroutine.wrap(function() redis.call('ECHO', 'x') end)) return 1",
        b"local t = setmetatable({}, {__index = function() redis.call('ECHO', 'x') end}) pcall(function() return t.x end) return 1",
    ):
        scripting = engine.executor.scripting
        with pytest.raises(type(failure)):
            scripting.run(scripting.of_text(text), 0, (), read_only=False)


def test_a_full_disk_refuses_a_scripts_writes(engine: Engine):
    """A script that finds no room is undone whole; from then on its writes are refused, one by one, and its reads go on."""
    engine.run([b"SET", b"k", b"old"])
    engine.store.disk.room_bytes = 0
    write = b"redis.call('SET', 'k', 'new') return redis.call('SET', 'l', 'x')"
    refused, kept = engine.run([b"EVAL", write, b"0"], [b"GET", b"k"])

    assert refused.is_error
    assert refused.value.startswith(MISCONF_FULL.encode())
    assert kept.value == b"old"
    read, caught = engine.run(
        [b"EVAL", b"return redis.call('GET', 'k')", b"0"], [b"EVAL", b"return redis.pcall('SET', 'k', 1).err", b"0"]
    )
    assert [b"old", MISCONF_FULL.encode()] == [read.value, caught.value]


def test_a_script_that_blocks_does_not(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    """A command that would wait answers what it would answer when its time is over."""

    def wait(cx, message):
        raise Wait((b"k",), None, 0, None, (b"ECHO", message))

    monkeypatch.setattr(TABLE[b"ECHO"], "handler", wait)

    assert engine.run([b"EVAL", b"return tostring(redis.call('ECHO', 'x'))", b"0"])[0].value == b"false"


def test_whole_or_not_at_all(tmp_path: Path):
    """Wherever the log is cut off, a script's effects are there all, or not at all."""
    text = b"for number = 1, 5 do redis.call('SET', 'key' .. number, ARGV[1]) end"
    whole_or_not_at_all(tmp_path / "store", ([[b"EVAL", text, b"0", b"%d" % number]] for number in range(30)))


@pytest.mark.slow
def test_kill_9_during_scripts():
    """A server killed while scripts run comes back with the effects of whole scripts, of every acknowledged one among them."""
    text = "for number = 1, 20 do redis.call('SET', KEYS[1] .. number, ARGV[1]) end return ARGV[1]"
    with Lmdbredis() as server:
        for _ in range(5):
            acknowledged: dict[str, int] = {}

            def write(name: str, port: int = server.port, acknowledged: dict[str, int] = acknowledged) -> None:
                with server.connect() as client:
                    try:
                        for number in range(1, 1_000_000):
                            acknowledged[name] = int(client.call("EVAL", text, 1, name, number).value)
                    except (Disconnected, OSError):
                        return

            threads = [threading.Thread(target=write, args=(f"client{number}:",)) for number in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(0.4)  # the length of the run, not a wait for something
            server.kill9()
            for thread in threads:
                thread.join()
            server.restart()
            with server.connect() as client:
                for name, number in acknowledged.items():
                    found = {client.call("GET", f"{name}{key}").value for key in range(1, 21)}
                    assert len(found) == 1
                    assert int(found.pop()) >= number
                client.call("FLUSHALL")


# --- clients --------------------------------------------------------------------------------------------------------------------


def test_redis_py(ours: Server):
    """redis-py's scripts and locks, which use EVALSHA and fall back on NOSCRIPT."""
    with redis.Redis(port=ours.port) as client:
        script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        client.script_flush()

        assert [5, 10] == [script(keys=["n"], args=[5]), script(keys=["n"], args=[5])]
        with client.pipeline() as pipe:
            script(keys=["n"], args=[1], client=pipe)
            assert [11] == pipe.execute()
        with pytest.raises(redis.exceptions.NoScriptError):
            client.evalsha("f" * 40, 0)
        lock = client.lock("lock", timeout=10)
        assert lock.acquire(blocking=False)
        assert not client.lock("lock", timeout=10).acquire(blocking=False)
        lock.extend(5)
        lock.release()
        assert not client.exists("lock")


def test_scripts_of_queues(pair: Pair):
    """What job queues do: packed words, JSON, keys that are not declared, scans, events into lists."""
    add = """
        local rcall = redis.call
        local job = cmsgpack.unpack(ARGV[1])
        local options = cjson.decode(ARGV[2])
        local id = rcall('INCR', KEYS[1] .. 'id')
        local key = KEYS[1] .. id
        rcall('HMSET', key, 'name', job[1], 'data', job[2], 'opts', cjson.encode({options.delay or 0}), 'priority', options.priority or 0)
        if options.delay then
            rcall('ZADD', KEYS[1] .. 'delayed', options.delay * 0x1000 + bit.band(id, 0xfff), id)
        else
            rcall('LPUSH', KEYS[1] .. 'wait', id)
        end
        return tostring(id)
    """
    move = """
        local rcall = redis.call
        local due = rcall('ZRANGEBYSCORE', KEYS[1] .. 'delayed', 0, ARGV[1], 'LIMIT', 0, 1000)
        if #due > 0 then
            rcall('ZREM', KEYS[1] .. 'delayed', unpack(due))
            for _, id in ipairs(due) do rcall('LPUSH', KEYS[1] .. 'wait', id) end
        end
        local id = rcall('RPOPLPUSH', KEYS[1] .. 'wait', KEYS[1] .. 'active')
        if id then return {rcall('HMGET', KEYS[1] .. id, 'name', 'data', 'opts'), id} end
        return {0, 0, #due}
    """
    packed = [b"\x92\xa4mail\xa7payload", b"\x92\xa5sleep\xc0"]
    pair.run(
        [
            ("EVAL", add, 1, "bull:", packed[number % 2], f'{{"delay":{number},"priority":2}}' if number % 3 else "{}")
            for number in (0, 3, 6, 2, 4)
        ]
        + [("EVAL", move, 1, "bull:", until) for until in (0, 10_000, 20_000, 20_000, 20_000, 20_000)]
    )


STREAMS = """
    EVAL "redis.call('XADD', 's', '1-1', 'f', 'v') redis.call('XADD', 's', '1-2', 'f', 'w')" 0
    EVAL "return redis.call('XREAD', 'STREAMS', 's', 't', '0', '0')" 0
    EVAL "return redis.call('XREAD', 'BLOCK', '0', 'STREAMS', 's', '$')" 0
    EVAL "redis.setresp(3) return redis.call('XREAD', 'STREAMS', 's', '0')" 0
    EVAL "redis.setresp(3) return redis.call('XREAD', 'STREAMS', 's', '0').map.s[1][1]" 0
    EVAL "redis.call('XGROUP', 'CREATE', 's', 'g', '0') return redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>')" 0
    EVAL "return redis.call('XRANGE', 's', '-', '+')" 0
    EVAL "return redis.call('XINFO', 'GROUPS', 's')" 0
    EVAL "return redis.call('XPENDING', 's', 'g')" 0
"""


def test_streams(pair: Pair):
    """What commands on streams reply becomes tables as in the oracle, in either protocol of the script; and nobody waits."""
    pair.run(STREAMS)
