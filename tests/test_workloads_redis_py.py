"""redis-py where it waits, against the real process: locks, publish/subscribe with asyncio, blocking pops, each over a crash as well."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from tests.workloads import WAIT_SECONDS_MAX, durable_server, needs, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import Server

PATIENT = {"retry": Retry(ExponentialBackoff(cap=0.1, base=0.01), 100), "retry_on_error": [redis.ConnectionError]}


@pytest.fixture
def server() -> Iterator[Server]:
    with durable_server() as made:
        yield made


@contextlib.contextmanager
def clients(server: Server, count: int, protocol: int) -> Iterator[list[redis.Redis]]:
    """Open clients that outlive a crash."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(redis.Redis(port=server.port, protocol=protocol, decode_responses=True, **PATIENT))
            for _ in range(count)
        ]


def run_together(*works: Callable[[], None]) -> list[threading.Thread]:
    """Start a thread for each."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    """Wait for all of them."""
    for thread in threads:
        thread.join(WAIT_SECONDS_MAX)

    assert not any(thread.is_alive() for thread in threads)


# --- locks ------------------------------------------------------------------------------------------------------------------


def test_a_lock_excludes(server: Server, protocol: int):
    """Whoever holds the lock is alone, so that no step of a counter that is read and written apart is lost."""
    needs("EVALSHA")
    steps = 30
    with clients(server, 4, protocol) as everybody:

        def count(one: redis.Redis) -> None:
            for _ in range(steps):
                with one.lock("lock", timeout=20, sleep=0.001):
                    one.set("n", int(one.get("n") or 0) + 1)

        join(run_together(*(lambda one=one: count(one) for one in everybody)))

        assert everybody[0].get("n") == str(steps * len(everybody))
        assert everybody[0].exists("lock") == 0


def test_a_lock_belongs_to_its_holder(server: Server, protocol: int):
    """A lock can be extended, taken anew and released by its holder alone, and ends by itself after its time."""
    needs("EVALSHA")
    with clients(server, 2, protocol) as (ann, bob):
        held = ann.lock("lock", timeout=10)
        assert held.acquire()
        assert not bob.lock("lock").acquire(blocking=False)
        assert held.extend(10)
        assert 10_000 < ann.pttl("lock") <= 20_000
        assert held.reacquire()
        assert 9_000 < ann.pttl("lock") <= 10_000
        stranger = bob.lock("lock")
        stranger.local.token = b"not the token"
        with pytest.raises(redis.exceptions.LockNotOwnedError):
            stranger.release()
        held.release()
        short = ann.lock("lock", timeout=0.05)
        assert short.acquire()
        assert bob.lock("lock", timeout=1).acquire(blocking_timeout=WAIT_SECONDS_MAX)
        with pytest.raises(redis.exceptions.LockNotOwnedError):
            short.release()


def test_a_lock_outlives_a_crash(server: Server, protocol: int):
    """A lock that was given is still held after the server was killed, by the same holder, who may release it."""
    needs("EVALSHA")
    with clients(server, 2, protocol) as (ann, bob):
        held = ann.lock("lock", timeout=60)
        assert held.acquire()
        server.kill9()
        server.start()

        assert not bob.lock("lock").acquire(blocking=False)
        assert 0 < ann.pttl("lock") <= 60_000
        held.release()
        assert bob.lock("lock").acquire(blocking=False)


# --- publish and subscribe --------------------------------------------------------------------------------------------------


def test_asyncio_publish_subscribe(server: Server, protocol: int):
    """Every listener task gets each message of its channels and patterns once, in the order in which they were published."""
    count, listeners = 200, 5

    async def listen(r: redis.asyncio.Redis, ready: asyncio.Semaphore) -> list[Any]:
        async with r.pubsub() as pubsub:
            await pubsub.subscribe("news")
            await pubsub.psubscribe("sport.*")
            found: list[Any] = []
            async for message in pubsub.listen():
                if message["type"] == "psubscribe":
                    ready.release()
                elif message["data"] == "end":
                    return found
                elif message["type"] in {"message", "pmessage"}:
                    found.append((message["channel"], message["pattern"], message["data"]))
        raise AssertionError("the messages ended")

    async def everything() -> None:
        async with redis.asyncio.Redis(port=server.port, protocol=protocol, decode_responses=True) as r:
            ready = asyncio.Semaphore(0)
            tasks = [asyncio.create_task(listen(r, ready)) for _ in range(listeners)]
            for _ in tasks:
                await asyncio.wait_for(ready.acquire(), WAIT_SECONDS_MAX)
            for number in range(count):
                assert await r.publish("news" if number % 2 else "sport.x", number) == listeners
            await r.publish("news", "end")
            heard = await asyncio.wait_for(asyncio.gather(*tasks), WAIT_SECONDS_MAX)
            expected = [
                ("news", None, str(number)) if number % 2 else ("sport.x", "sport.*", str(number))
                for number in range(count)
            ]

            assert heard == [expected] * listeners

    asyncio.run(everything())


def test_asyncio_subscriptions_come_back(server: Server, protocol: int):
    """A listener whose server was killed subscribes again by itself, and hears what is published from then on."""
    patient = {"retry": redis.asyncio.retry.Retry(ExponentialBackoff(cap=0.1, base=0.01), 100)}

    async def everything() -> None:
        async with (
            redis.asyncio.Redis(port=server.port, protocol=protocol, decode_responses=True, **patient) as r,
            r.pubsub() as pubsub,
        ):
            await pubsub.subscribe("news")

            async def hear(text: str) -> None:
                while await r.publish("news", text) != 1:
                    await pubsub.get_message(timeout=0.01)
                message = None
                while message is None or message["data"] != text:
                    message = await pubsub.get_message(timeout=WAIT_SECONDS_MAX)

            await asyncio.wait_for(hear("before"), WAIT_SECONDS_MAX)
            await asyncio.to_thread(server.kill9)
            server.start()  # by this thread, which lives as long as the server
            await asyncio.wait_for(hear("after"), WAIT_SECONDS_MAX)

    asyncio.run(everything())


# --- blocking pops ----------------------------------------------------------------------------------------------------------


def blocked(client: redis.Redis) -> int:
    """Return how many clients wait in a blocking command."""
    return client.info("clients")["blocked_clients"]


def test_blocking_pops(server: Server, protocol: int):
    """Every blocking pop hands over what is pushed while it waits, in the order asked for, and None when its time is over."""
    needs("BLPOP", "BRPOP", "BLMOVE", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP")
    cases: list[tuple[Callable[[redis.Redis], Any], Callable[[redis.Redis], Any], Any]] = [
        (lambda r: r.blpop(["none", "l"], 0), lambda r: r.rpush("l", "a", "b"), ("l", "a")),
        (lambda r: r.brpop("l2", 0), lambda r: r.rpush("l2", "a", "b"), ("l2", "b")),
        (lambda r: r.blmove("l3", "l4", 0, "LEFT", "RIGHT"), lambda r: r.rpush("l3", "a"), "a"),
        (lambda r: r.blmpop(0, 2, "none", "l5", direction="LEFT", count=2), lambda r: r.rpush("l5", *"abc"), ["l5", ["a", "b"]]),
        (lambda r: r.bzpopmin(["none", "z"], 0), lambda r: r.zadd("z", {"a": 1, "b": 2}), ("z", "a", 1.0)),
        (lambda r: r.bzpopmax("z2", 0), lambda r: r.zadd("z2", {"a": 1, "b": 2}), ("z2", "b", 2.0)),
        (lambda r: r.bzmpop(0, 1, ["z3"], min=True), lambda r: r.zadd("z3", {"a": 1}), ["z3", [["a", 1.0]]]),
    ]  # fmt: skip
    with clients(server, 2, protocol) as (waiting, other):
        for wait, push, expected in cases:
            found: list[Any] = []
            threads = run_together(lambda wait=wait, found=found: found.append(wait(waiting)))
            wait_until(lambda: blocked(other) == 1, "the client to wait")
            push(other)
            join(threads)

            assert plain(found) == plain([expected])
        assert waiting.blpop("none", 0.01) is None
        assert waiting.bzpopmin("none", 0.01) is None


def plain(value: Any) -> Any:
    """Return lists for tuples, numbers for their text: the protocols differ there, and so do redis-py's versions."""
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    with contextlib.suppress(TypeError, ValueError):
        return float(value)
    return value


def test_a_queue_of_blocking_pops(server: Server, protocol: int):
    """Elements pushed one by one to several that wait: each comes to one of them, none is lost, none comes twice."""
    needs("BLPOP")
    count = 300
    with clients(server, 5, protocol) as (pusher, *poppers):
        found: list[str] = []

        def pop(one: redis.Redis) -> None:
            while (element := one.blpop("queue", WAIT_SECONDS_MAX)[1]) != "end":
                found.append(element)

        threads = run_together(*(lambda one=one: pop(one) for one in poppers))
        for number in range(count):
            pusher.rpush("queue", number)
        pusher.rpush("queue", *["end"] * len(poppers))
        join(threads)

        assert sorted(found, key=int) == [str(number) for number in range(count)]


def test_reliable_queues_outlive_a_crash(server: Server, protocol: int):
    """With BLMOVE to a list of what is at work, every element pushed is in one of the lists or done, whenever the server was killed."""
    needs("BLMOVE")
    count = 400
    with clients(server, 2, protocol) as (pusher, worker):
        pushed: list[str] = []
        done: list[str] = []

        def push() -> None:
            for number in range(count):
                pusher.rpush("queue", number)  # a retry may push it twice: at least once is what is promised
                pushed.append(str(number))

        def work() -> None:
            while len(set(done)) < count:
                if (element := worker.blmove("queue", "at work", 0.2, "LEFT", "RIGHT")) is None:
                    # What was moved while the server died, and never came here, is taken up again.
                    while worker.lmove("at work", "queue", "RIGHT", "LEFT") is not None:
                        pass
                    continue
                done.append(element)
                worker.lrem("at work", 1, element)

        threads = run_together(push, work)
        for share in (0.25, 0.5):
            wait_until(lambda share=share: len(pushed) > count * share, "some of the work")
            server.kill9()
            server.start()
        join(threads)

        assert set(done) == {str(number) for number in range(count)}
        left = {*worker.lrange("queue", 0, -1), *worker.lrange("at work", 0, -1)}
        assert left <= set(done), "what is left was pushed twice by a retry, and is done"
