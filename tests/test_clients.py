"""redis-py against the real process: sync and asyncio, RESP2 and RESP3.

One program of all its methods runs against our server and the oracle, and must return the same Python values from both; the
rest is what applications lean on: pipelines, iterators, pools, timeouts, retries, passwords, limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from tests.servers import Lmdbredis, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Program = Callable[[Any], Iterator[Any]]

WAIT_SECONDS_MAX = 20


@pytest.fixture
def server(ours: Server) -> Server:
    """Our server, empty."""
    return ours


class InAnyOrder(NamedTuple):
    """A list whose order is each server's own."""

    answer: Any


# What is said: each function yields the results of one group's methods. With the asyncio client they are awaitables.


def strings(r: Any) -> Iterator[Any]:
    yield from (
        r.set("s", "v", ex=100, get=True),
        r.get("s"),
        r.set("s", "w", xx=True, keepttl=True),
        r.set("s", "x", nx=True),
    )
    yield from (
        r.append("s", "abc"),
        r.strlen("s"),
        r.getrange("s", 1, 2),
        r.setrange("s", 10, "z"),
        r.substr("s", 0, 3),
    )
    yield from (r.getex("s", persist=True), r.ttl("s"), r.getset("s", "new"), r.getdel("s"), r.get("s"))
    yield from (
        r.mset({"a": 1, "b": 2.5}),
        r.msetnx({"a": 1, "c": 2}),
        r.mget("a", "b", "none"),
        r.incr("a", 5),
        r.decr("a"),
    )
    yield from (r.incrbyfloat("b", 1.25), r.setex("c", 100, "v"), r.psetex("c", 100_000, "v"), r.setnx("c", "v"))
    yield from (r.lcs("a", "b", len=True), r.lcs("a", "b", idx=True, withmatchlen=True))


def hashes(r: Any) -> Iterator[Any]:
    yield from (
        r.hset("h", "f", "v"),
        r.hset("h", mapping={"g": 1, "i": 2}),
        r.hget("h", "f"),
        r.hgetall("h"),
        r.hmget("h", "f", "none"),
    )
    yield from (
        r.hincrby("h", "g", 4),
        r.hincrbyfloat("h", "i", 0.5),
        r.hexists("h", "f"),
        r.hlen("h"),
        r.hstrlen("h", "f"),
    )
    yield from (InAnyOrder(r.hkeys("h")), InAnyOrder(r.hvals("h")), r.hsetnx("h", "f", "w"), r.hdel("h", "f", "none"))
    yield r.hrandfield("none", 3)


def lists(r: Any) -> Iterator[Any]:
    yield from (
        r.rpush("l", *"abcdefg"),
        r.lpush("l", "z"),
        r.lrange("l", 0, -1),
        r.llen("l"),
        r.lindex("l", 2),
        r.lset("l", 2, "B"),
    )
    yield from (
        r.linsert("l", "BEFORE", "c", "x"),
        r.lpos("l", "x"),
        r.lpos("l", "z", count=0),
        r.lrem("l", 1, "x"),
        r.ltrim("l", 0, 5),
    )
    yield from (
        r.lpop("l"),
        r.rpop("l", 2),
        r.lpop("none", 2),
        r.lmove("l", "m", "LEFT", "RIGHT"),
        r.rpoplpush("l", "m"),
    )
    yield from (r.lmpop(2, "none", "m", direction="LEFT", count=5), r.lpushx("none", 1), r.rpushx("l", 1))


def sets(r: Any) -> Iterator[Any]:
    yield from (
        r.sadd("t", *"abcd"),
        r.sadd("u", *"cdef"),
        r.smembers("t"),
        r.sismember("t", "a"),
        r.smismember("t", ["a", "z"]),
    )
    yield from (
        r.sinter("t", "u"),
        r.sunion("t", "u"),
        r.sdiff("t", "u"),
        r.sinterstore("w", "t", "u"),
        r.sintercard(2, ["t", "u"], 1),
    )
    yield from (
        r.scard("t"),
        r.smove("t", "u", "a"),
        r.srem("t", "b", "none"),
        r.spop("none"),
        r.srandmember("none", 4),
    )


def zsets(r: Any) -> Iterator[Any]:
    yield from (r.sadd("t", "a", "b"), r.sadd("u", "b", "c"))
    yield from (
        r.zadd("z", {"a": 1, "b": 2.5, "c": 3}),
        r.zadd("z", {"a": 5}, gt=True, ch=True),
        r.zadd("z", {"b": 1}, incr=True),
    )
    yield from (
        r.zscore("z", "a"),
        r.zmscore("z", ["a", "none"]),
        r.zrank("z", "c"),
        r.zrank("z", "c", withscore=True),
        r.zrevrank("z", "c"),
    )
    yield from (
        r.zrange("z", 0, -1, withscores=True),
        r.zrange("z", "(1", "+inf", byscore=True, offset=0, num=2),
        r.zrevrange("z", 0, 0),
    )
    yield from (
        r.zrangebyscore("z", 1, 4, withscores=True),
        r.zcount("z", "-inf", 4),
        r.zincrby("z", 0.5, "a"),
        r.zcard("z"),
    )
    yield from (
        r.zunion({"z": 2, "t": 1}, aggregate="MAX", withscores=True),
        r.zinterstore("y", ["z", "u"]),
        r.zdiff(["z", "u"]),
    )
    yield from (
        r.zpopmin("z"),
        r.zpopmax("z", 5),
        r.zpopmin("none"),
        r.zmpop(1, ["none"], min=True),
        r.zrandmember("none", 2),
    )
    yield from (
        r.zadd("x", {"a": 0, "b": 0, "c": 0}),
        r.zrangebylex("x", "[a", "(c"),
        r.zlexcount("x", "-", "+"),
        r.zremrangebylex("x", "-", "[a"),
    )
    yield from (r.zremrangebyrank("x", 0, 0), r.zremrangebyscore("x", 0, 0))


def keys(r: Any) -> Iterator[Any]:
    yield from (r.hset("h", "f", "v"), r.sadd("t", 1, 2, "a"), r.zadd("x", {"a": 1}))
    yield from (r.exists("x", "h", "h"), r.type("h"), r.type("none"), r.object("encoding", "t"), r.ping(), r.echo("x"))
    yield from (
        r.expire("h", 100),
        r.expire("h", 50, gt=True),
        r.ttl("h"),
        r.persist("h"),
        r.pttl("h"),
        r.expireat("h", 4_102_444_800),
    )
    yield from (
        r.expiretime("h"),
        r.rename("h", "h2"),
        r.renamenx("h2", "t"),
        r.copy("h2", "h"),
        r.move("h2", 3),
        r.touch("h", "none"),
    )
    yield from (r.unlink("h"), r.delete("h"), InAnyOrder(r.keys("*")), r.dbsize(), r.scan(match="none*", count=1000))
    yield from (
        r.config_get("databases"),
        r.config_set("maxmemory-policy", "noeviction"),
        r.client_setname("me"),
        r.client_getname(),
    )
    yield from (r.swapdb(3, 4), r.flushdb(), r.flushall(asynchronous=True), r.dbsize())


PROGRAMS = [strings, hashes, lists, sets, zsets, keys]


@pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")
@pytest.mark.parametrize("talk", PROGRAMS)
def test_redis_py_returns_what_it_returns_from_the_oracle(ours: Server, oracle: Server, protocol: int, talk: Program):
    """Every method of every data type, sync: the same Python values."""

    def said(server: Server) -> list[Any]:
        with redis.Redis(port=server.port, protocol=protocol, decode_responses=True) as r:
            return [sorted(one.answer) if isinstance(one, InAnyOrder) else one for one in talk(r)]

    assert said(ours) == said(oracle)


@pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")
@pytest.mark.parametrize("talk", PROGRAMS)
def test_redis_py_asyncio_returns_what_it_returns_from_the_oracle(
    ours: Server, oracle: Server, protocol: int, talk: Program
):
    """Every method of every data type, asyncio: the same Python values."""

    async def said(server: Server) -> list[Any]:
        async with redis.asyncio.Redis(port=server.port, protocol=protocol) as r:
            return [sorted(await one.answer) if isinstance(one, InAnyOrder) else await one for one in talk(r)]

    assert asyncio.run(said(ours)) == asyncio.run(said(oracle))


# --- redis-py: the rest -------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(server: Server, protocol: int) -> Iterator[redis.Redis]:
    """A redis-py client in both protocols, text in and out."""
    with redis.Redis(port=server.port, protocol=protocol, decode_responses=True) as made:
        yield made


def test_handshake(server: Server, client: redis.Redis, protocol: int):
    """The client says who it is, in the protocol asked for, and we say who we are: what clients decide by."""
    mine = client.client_info()

    assert (mine["lib-name"], str(mine["resp"]), str(mine["db"])) == ("redis-py", str(protocol), "0")
    assert mine["lib-ver"] == redis.__version__
    with redis.Redis(port=server.port, db=3, client_name="me", protocol=protocol) as other:
        other.set("k", "v")
        assert other.client_getname() in {"me", b"me"}
        assert [str(one["db"]) for one in client.client_list() if one["name"] == "me"] == ["3"]
    hello = client.execute_command("HELLO", protocol)
    hello = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=True))
    assert {name: hello[name] for name in ("server", "version", "proto", "mode", "role", "modules")} == {
        "server": "redis", "version": "7.2.0", "proto": protocol, "mode": "standalone", "role": "master", "modules": [],
    }  # fmt: skip
    facts = client.info()
    assert (facts["redis_version"], facts["loading"], facts["role"], facts["cluster_enabled"]) == (
        "7.2.0",
        0,
        "master",
        0,
    )
    assert client.info("keyspace") == {"db3": {"keys": 1, "expires": 0, "avg_ttl": 0}}


def test_pipelines(client: redis.Redis):
    """A pipeline without a transaction returns every result in order, errors in their place."""
    with client.pipeline(transaction=False) as pipeline:
        for n in range(5000):
            pipeline.set(f"k{n}", n).incr(f"k{n}")
        pipeline.lpush("k0", "x").get("k4999")
        results = pipeline.execute(raise_on_error=False)

    assert results[:4] == [True, 1, True, 2]
    assert isinstance(results[-2], redis.ResponseError)
    assert str(results[-2]).startswith("WRONGTYPE")
    assert results[-1] == "5000"


def test_iterators(client: redis.Redis):
    """The scan_iter family yields every element, once where nothing changes, and those that match."""
    count = 5000
    client.mset({f"key:{n}": n for n in range(count)})
    client.hset("h", mapping={f"f{n}": n for n in range(count)})
    client.sadd("s", *range(count))
    client.zadd("z", {f"m{n}": n for n in range(count)})

    assert sorted(client.scan_iter("key:*", count=77)) == sorted(f"key:{n}" for n in range(count))
    assert sorted(client.scan_iter(_type="zset")) == ["z"]
    assert dict(client.hscan_iter("h", count=100)) == {f"f{n}": str(n) for n in range(count)}
    assert dict(client.hscan_iter("h", match="f12*")) == {
        f"f{n}": str(n) for n in range(count) if str(n).startswith("12")
    }
    assert {int(one) for one in client.sscan_iter("s")} == set(range(count))
    assert {name: float(score) for name, score in client.zscan_iter("z")} == {f"m{n}": float(n) for n in range(count)}


@pytest.mark.parametrize("size_bytes", [20 << 20, 4096, 1])
def test_binary_values(server: Server, protocol: int, size_bytes: int):
    """Every byte of a value, field, member or key comes back, be it twenty megabytes of them."""
    value = (bytes(range(256)) * (size_bytes // 256 + 1))[:size_bytes]
    key = bytes(range(256))
    with redis.Redis(port=server.port, protocol=protocol) as r:
        assert r.set(key, value)
        assert r.get(key) == value
        assert r.keys() == [key]
        assert r.getrange(key, size_bytes // 2, size_bytes // 2 + 300) == value[size_bytes // 2 : size_bytes // 2 + 301]
        assert (r.hset("h", key, value), r.hgetall("h")) == (1, {key: value})
        assert (r.rpush("l", value, key), r.lrange("l", 0, -1)) == (2, [value, key])
        assert (r.sadd("s", key), r.smembers("s")) == (1, {key})
        assert (r.zadd("z", {key: 1}), r.zrange("z", 0, -1)) == (1, [key])


def test_a_pool_of_threads(server: Server, protocol: int):
    """Fifty threads on one client with a pool: every increment counts once, and no reply goes to another thread."""
    wrong: list[Any] = []
    with redis.Redis(
        connection_pool=redis.BlockingConnectionPool(port=server.port, protocol=protocol, max_connections=20)
    ) as r:

        def work(number: int) -> None:
            for n in range(40):
                r.incr("n")
                if r.set(f"{number}:{n}", f"{number},{n}", get=True) is not None or r.get(
                    f"{number}:{n}"
                ) != b"%d,%d" % (number, n):
                    wrong.append((number, n))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_SECONDS_MAX)

        assert wrong == []
        assert r.get("n") == b"2000"
        assert r.dbsize() == 2001
        r.connection_pool.disconnect()


def test_asyncio_tasks(server: Server, protocol: int):
    """Fifty tasks on one client: counts are right, iterators and pipelines work, and a task that is cancelled harms nobody."""

    async def work(r: redis.asyncio.Redis, number: int) -> list[Any]:
        return [await r.incr(f"n{number}") for _ in range(40)]

    async def everything() -> None:
        async with redis.asyncio.Redis(port=server.port, protocol=protocol, decode_responses=True) as r:
            results = await asyncio.gather(*(work(r, number) for number in range(50)))
            assert results == [list(range(1, 41))] * 50
            found = [key async for key in r.scan_iter("n*", count=7)]
            assert sorted(found) == sorted(f"n{number}" for number in range(50))
            async with r.pipeline(transaction=False) as pipeline:
                done, value, refused = await pipeline.set("k", "v").get("k").lpush("k", 1).execute(raise_on_error=False)
                assert (done, value, type(refused)) == (True, "v", redis.ResponseError)
            task = asyncio.create_task(r.execute_command("DEBUG", "SLEEP", "0.3"))
            await asyncio.sleep(0.05)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert await r.get("k") == "v"
            assert await r.echo("mine") == "mine"

    asyncio.run(everything())


def test_timeouts(server: Server):
    """A client that gives up waiting opens a new connection, and the late reply reaches nobody."""
    with redis.Redis(port=server.port, socket_timeout=0.2, retry=Retry(ExponentialBackoff(), 0)) as r:
        r.set("k", "v")
        with pytest.raises(redis.TimeoutError):
            r.execute_command("DEBUG", "SLEEP", "0.5")
        with redis.Redis(port=server.port) as patient:
            assert patient.get("k") == b"v"

        assert r.get("k") == b"v"
        assert r.echo("x") == b"x"


@pytest.mark.parametrize("how", ["kill -9", "in order"])
def test_a_restart_is_survived(how: str):
    """A client that retries goes on after the server was ended, killed or not, and finds everything as it was."""
    with Lmdbredis() as server:
        retry = Retry(ExponentialBackoff(cap=0.2, base=0.01), 50)
        with redis.Redis(
            port=server.port, retry=retry, retry_on_error=[redis.ConnectionError, redis.TimeoutError]
        ) as r:
            r.set("k", "v")
            r.rpush("l", *range(1000))
            answers: list[object] = []
            asking = threading.Thread(target=lambda: answers.extend((r.get("k"), r.llen("l"))))
            server.end(signal.SIGKILL if how == "kill -9" else signal.SIGTERM)
            asking.start()
            server.start()
            asking.join(WAIT_SECONDS_MAX)

            assert answers == [b"v", 1000]


def test_a_unix_socket(tmp_path: Path, protocol: int):
    """redis-py speaks through a unix socket."""
    path = str(tmp_path / "s")
    with Lmdbredis("--unixsocket", path), redis.Redis(unix_socket_path=path, protocol=protocol) as r:
        assert r.set("k", "v")
        assert r.client_info()["addr"] == f"{path}:0"
        assert r.client_info()["flags"] == "U"


def test_passwords(protocol: int):
    """A password alone, a user name and a password, in the URL or as options: welcome; wrong or missing: the right exception."""
    with Lmdbredis("--requirepass", "s3cret:/@") as server:
        for options in ({"password": "s3cret:/@"}, {"username": "default", "password": "s3cret:/@"}):
            with redis.Redis(port=server.port, protocol=protocol, **options) as r:
                assert r.ping()
                assert r.set("k", "v")
        for user in ("", "default"):
            with redis.Redis.from_url(
                f"redis://{user}:s3cret%3A%2F%40@127.0.0.1:{server.port}/2?protocol={protocol}"
            ) as r:
                assert str(r.client_info()["db"]) == "2"
        for options in ({}, {"password": "wrong"}, {"username": "ann", "password": "s3cret:/@"}):
            never = Retry(ExponentialBackoff(), 0)
            with (
                redis.Redis(port=server.port, protocol=protocol, retry=never, **options) as r,
                pytest.raises((redis.AuthenticationError, redis.ResponseError)),
            ):
                r.get("k")
        with redis.Redis(
            port=server.port, password="s3cret:/@", protocol=protocol
        ) as r:  # a password set to another while one is in
            assert r.config_set("requirepass", "new")
            assert r.get("k") == b"v"
            with redis.Redis(port=server.port, password="new", protocol=protocol) as other:
                assert other.get("k") == b"v"


def test_the_greatest_number_of_clients(protocol: int):
    """One client too many is told so and leaves the others alone; when one goes, the next is welcome."""
    with Lmdbredis("--maxclients", "5") as server:
        wait_until(lambda: connected(server) == 1)
        clients = [server.connect(protocol) for _ in range(4)]
        with (
            pytest.raises(redis.ConnectionError, match="max number of clients reached"),
            redis.Redis(port=server.port, protocol=protocol, retry=Retry(ExponentialBackoff(), 0)) as r,
        ):
            r.ping()

        assert all(client.call("PING").value == b"PONG" for client in clients)
        assert int(re.search(rb"rejected_connections:(\d+)", server.client().call("INFO", "stats").value)[1]) >= 1
        clients.pop().close()
        wait_until(lambda: connected(server) == 4)
        with redis.Redis(port=server.port, protocol=protocol) as r:
            assert r.ping()
        for client in clients:
            client.close()


def connected(server: Server) -> int:
    """Return how many clients the server has, the one that asks among them."""
    return int(re.search(rb"connected_clients:(\d+)", server.client().call("INFO", "clients").value)[1])


def wait_until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def test_protected_mode_leaves_this_machine_alone(server: Server, client: redis.Redis):
    """With protected mode on and no password, clients of the loopback interface are served."""
    for mode in ("no", "yes"):
        assert client.config_set("protected-mode", mode)
        with redis.Redis(port=server.port) as other:
            assert other.ping()
