"""A primary, two replicas and three real sentinels on loopback, what may happen to a primary, and clients that write on.

Laws:
- Every server has a configuration file of its own, which Sentinel has it rewrite; so has every sentinel.
- Everybody reaches a server through its `Proxy`, whose port it announces: so each can be cut off without its knowing.
- Sentinel asks and tells oftener than it does by default (`PERIODS`). What decides is the same, but it then knows the replicas'
  offsets as they are: with its ten seconds between two INFO it may choose the replica that has less, and a write that WAIT has
  counted on the other is lost, with any server. And it connects to a new primary at once: with its second between two attempts
  it may call one down that it has not yet talked to, and fail over again.
- A writer counts a write as acknowledged when the server has said so, and keeps the moment.

As in `servers`: processes are ended by pid, and waiting is for a condition, with an end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any, Self

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import Lmdbredis, Redis, Server, Valkey, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "board"  # of the group, as sentinels and clients know it
HOST = "127.0.0.1"
DOWN_AFTER_MS = 1000
FAILOVER_TIMEOUT_MS = 2000  # twice that lies between two failovers
WAIT_SECONDS_MAX = 30.0
CLIENT_SECONDS = 0.5  # how long a client waits for a server that is stopped or cut off
PAUSE_SECONDS = 0.002  # between two writes of a client
PERIODS = {"ping-period": 200, "info-period": 200, "publish-period": 200, "tilt-trigger": 10_000}
READ_BYTES = 1 << 16


def wait_until(condition: Callable[[], object], what: str | Callable[[], str]) -> None:
    """Return when the condition holds; a server that cannot be asked yet is none that fulfils it. Fail when time is up."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while True:
        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError, redis.ResponseError):
            if condition():
                return
        if time.monotonic() > deadline:
            pytest.fail(f"waited {WAIT_SECONDS_MAX} s for {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


def plain_client(port: int, password: str = "") -> redis.Redis:
    """Return a client that tries everything once: whoever is stopped does not answer the second time either."""
    once = Retry(NoBackoff(), 0)
    return redis.Redis(HOST, port, password=password or None, decode_responses=True, socket_timeout=2, retry=once)


# --- servers --------------------------------------------------------------------------------------------------------------------


class Proxy:
    """A port that leads to another one of this machine, and can be cut: then nothing passes, and nobody is told.

    What was under way when it was cut goes on when it is mended, as after a network's failure.
    """

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self._to_port = port
        self._loop = asyncio.new_event_loop()
        self._passes: asyncio.Event = None
        ready = threading.Event()
        self._stopped: asyncio.Event = None
        self._thread = threading.Thread(target=self._run, args=(ready,), name="proxy", daemon=True)
        self._thread.start()
        assert ready.wait(WAIT_SECONDS_MAX)

    def _run(self, ready: threading.Event) -> None:
        async def serve() -> None:
            self._passes = asyncio.Event()
            self._passes.set()
            self._stopped = asyncio.Event()
            server = await asyncio.start_server(self._serve, HOST, self.port)
            ready.set()
            await self._stopped.wait()
            server.close()
            await asyncio.sleep(0)  # who has just come is served
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.sleep(0)  # the ends of connections are told in the next round

        self._loop.run_until_complete(serve())
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_writer = None
        try:
            await self._passes.wait()
            other, other_writer = await asyncio.open_connection(HOST, self._to_port)
            ways = [
                asyncio.ensure_future(self._copy(reader, other_writer)),
                asyncio.ensure_future(self._copy(other, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in filter(None, (writer, other_writer)):
                one.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ_BYTES):
            await self._passes.wait()
            writer.write(data)
            await writer.drain()
        await self._passes.wait()  # that somebody has gone is not told either

    def cut(self) -> None:
        """Let nothing pass from now on."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def mend(self) -> None:
        """Let everything pass again."""
        self._loop.call_soon_threadsafe(self._passes.set)

    def stop(self) -> None:
        """Close all connections and the port."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(WAIT_SECONDS_MAX)


class Node(Lmdbredis):
    """One of our servers behind its proxy, with a configuration file."""

    def __init__(self, directory: Path, name: str, password: str, *lines: str) -> None:
        (directory / name).mkdir()
        super().__init__(
            *(("--requirepass", password, "--masterauth", password) if password else ()), dir=directory / name
        )
        self.proxy = Proxy(self.port)
        self.conf_path = directory / f"{name}.conf"
        announced = [f"replica-announce-ip {HOST}", f"replica-announce-port {self.proxy.port}"]
        self.conf_path.write_text("\n".join([f"# {name}", *announced, *lines, ""]), encoding="utf-8")
        self.redis = plain_client(self.port, password)

    def program(self) -> list[str] | None:
        """Return the words that start it with its file."""
        return [*Lmdbredis.program(), str(self.conf_path)]

    def stop(self) -> None:
        """End it, and what leads to it."""
        self.redis.close()
        self.resume()
        super().stop()
        self.proxy.stop()

    def pause(self) -> None:
        """Stop the process; nobody is told."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGCONT)

    @property
    def role(self) -> tuple[Any, ...]:
        """Return "master", or "slave" and the port it copies from."""
        said = self.redis.role()
        return (said[0],) if said[0] == "master" else (said[0], said[2])

    @property
    def keeps_apart(self) -> bool:
        """Tell whether it keeps the log of writes that nobody else has."""
        return any(self.dir.glob("diverged*"))

    def info(self) -> dict[str, Any]:
        """Return what INFO says of its replication."""
        return self.redis.info("replication")


class Sentinel(Server):
    """A sentinel that watches over one group."""

    name = "sentinel"
    server: type[Server] = Redis

    def __init__(self, directory: Path, name: str, port: int, password: str) -> None:
        (directory / name).mkdir()
        super().__init__("--sentinel", dir=directory / name)
        self.conf_path = directory / f"{name}.conf"
        lines = [
            f"sentinel monitor {NAME} {HOST} {port} 2",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}",
            f"sentinel parallel-syncs {NAME} 2",
            *([f"sentinel auth-pass {NAME} {password}"] if password else []),
            "",
        ]
        self.conf_path.write_text("\n".join(lines), encoding="utf-8")
        self.redis = plain_client(self.port)

    def program(self) -> list[str] | None:
        """Return the words that start it with its file."""
        return [*self.server.program(), str(self.conf_path)]

    def stop(self) -> None:
        """End it."""
        self.redis.close()
        super().stop()

    def ask(self, *words: str | int) -> Any:
        """Return the plain reply to SENTINEL with these words."""
        return self.redis.execute_command("SENTINEL", *words)

    def master(self) -> dict[str, str]:
        """Return what it knows of the primary."""
        return _fields(self.redis.execute_command("SENTINEL MASTER", NAME))

    def replicas(self) -> dict[str, dict[str, str]]:
        """Return address -> what it knows of each replica."""
        known = [_fields(words) for words in self.redis.execute_command("SENTINEL REPLICAS", NAME)]
        return {fields["name"]: fields for fields in known}


class ValkeySentinel(Sentinel):
    """The same, of Valkey."""

    server = Valkey


SENTINELS: dict[str, type[Sentinel]] = {"redis": Sentinel, "valkey": ValkeySentinel}


def _fields(words: Any) -> dict[str, str]:
    """Return fields however redis-py hands them over: flat, or as a map with types of its own."""
    return words if isinstance(words, dict) else dict(zip(words[::2], words[1::2], strict=True))


class Group:
    """A primary, two replicas and three sentinels."""

    def __init__(self, directory: Path, kind: type[Sentinel] = Sentinel, password: str = "") -> None:
        if not kind.server.available():
            pytest.skip(f"{kind.server.name}-server is not installed here, and with it no Sentinel")
        self.password = password  # that every server wants and knows
        self._stack = contextlib.ExitStack()
        self.nodes: list[Node] = []
        self.sentinels: list[Sentinel] = []
        try:
            for number in range(3):
                lines = [f"replicaof {HOST} {self.nodes[0].proxy.port}"] if number else []
                node = Node(directory, f"server{number}", password, *lines)
                self._stack.callback(node.stop)
                self.nodes.append(node.start())
            for number in range(3):
                sentinel = kind(directory, f"sentinel{number}", self.nodes[0].proxy.port, password)
                self._stack.callback(sentinel.stop)
                self.sentinels.append(sentinel.start())
            self.set_periods()
            self.wait_whole()
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        """End all."""
        self._stack.close()

    def set_periods(self) -> None:
        """Let all sentinels ask and tell as often as they do here; they forget that when they end."""
        for sentinel in self.sentinels:
            sentinel.ask("DEBUG", *[word for pair in PERIODS.items() for word in pair])

    def by_port(self, port: int) -> Node:
        """Return the server that is known by this port."""
        return next(node for node in self.nodes if node.proxy.port == port)

    def agreed(self) -> Node | None:
        """Return the server that all sentinels call the primary, None if they do not agree."""
        ports = {int(sentinel.master()["port"]) for sentinel in self.sentinels}
        return self.by_port(ports.pop()) if len(ports) == 1 else None

    def primary(self, before: Node | None = None) -> Node | None:
        """Return the server that all sentinels call the primary and that is one, None if there is none but `before`."""
        node = self.agreed()
        return None if node in {None, before} or node.role != ("master",) else node

    def split(self) -> tuple[Node, list[Node]]:
        """Return the primary and the replicas."""
        primary = self.primary()
        assert primary is not None
        return primary, [node for node in self.nodes if node is not primary]

    def is_whole(self) -> bool:
        """Tell whether there is one primary with two replicas that have everything, and all sentinels know all of them."""
        primary = self.primary()
        if primary is None:
            return False
        lsn = primary.info()["master_repl_offset"]
        known = [primary.info().get(f"slave{number}", {}) for number in range(2)]
        others = {f"{HOST}:{node.proxy.port}" for node in self.nodes if node is not primary}
        return (
            {f"{one.get('ip')}:{one.get('port')}" for one in known} == others
            and all(one["state"] == "online" and one["offset"] >= lsn for one in known)
            and all(_knows(sentinel, others) for sentinel in self.sentinels)
        )

    def wait_whole(self) -> None:
        """Wait until everything is as it should be."""
        wait_until(self.is_whole, self.describe)

    def wait_promoted(self, before: Node) -> Node:
        """Wait until another server is the primary, for all sentinels; return it."""
        wait_until(lambda: self.primary(before), lambda: f"another primary than {before.proxy.port}\n{self.describe()}")
        found = self.primary(before)
        assert found is not None
        return found

    def describe(self) -> str:
        """Return what all know, and the logs' ends, for whoever finds out what went wrong."""
        parts = []
        for sentinel in self.sentinels:
            with contextlib.suppress(redis.RedisError):
                parts.append(f"{sentinel.port}: {sentinel.master()}\n{sentinel.replicas()}")
        for node in self.nodes:
            with contextlib.suppress(redis.RedisError):
                parts.append(f"{node.proxy.port}: {node.info()}")
        return "\n".join(["a group that is whole", *parts, *[one.log_tail() for one in (*self.nodes, *self.sentinels)]])


def _knows(sentinel: Sentinel, replicas: set[str]) -> bool:
    """Tell whether a sentinel finds the primary, these replicas and two other sentinels well."""
    master, known = sentinel.master(), sentinel.replicas()
    flags = master["flags"]
    words = set(flags) if isinstance(flags, set) else set(flags.split(","))
    return (
        words == {"master"}
        and str(master["num-other-sentinels"]) == "2"
        and {name for name, fields in known.items() if fields["flags"] == "slave"} == replicas == set(known)
        and all(fields["master-link-status"] == "ok" for fields in known.values())
        and all(str(fields["master-port"]) == str(master["port"]) for fields in known.values())
    )


# --- clients that write on --------------------------------------------------------------------------------------------------------


class Writer(threading.Thread):
    """A client of redis-py's Sentinel that writes without a break; `waits` says for how many replicas each write waits."""

    prefix = "sync"

    def __init__(self, group: Group, waits: int) -> None:
        super().__init__(name=f"{self.prefix}-writer", daemon=True)
        self.addresses = [(HOST, sentinel.port) for sentinel in group.sentinels]
        self.options = {"socket_timeout": CLIENT_SECONDS, "password": group.password or None}
        self.waits = waits
        self.acknowledged: dict[str, float] = {}  # key -> when
        self.errors: set[str] = set()  # what the client has been told meanwhile
        self.failure: BaseException | None = None
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        self.wait_more(20)
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def end(self) -> None:
        """Write no more."""
        self._ended.set()
        self.join(WAIT_SECONDS_MAX)
        assert not self.is_alive()
        assert self.failure is None, repr(self.failure)

    def wait_more(self, writes: int) -> None:
        """Wait until so many more writes have been acknowledged."""
        enough = len(self.acknowledged) + writes
        wait_until(
            lambda: len(self.acknowledged) >= enough or self.failure is not None,
            lambda: f"{writes} more writes; the {self.prefix} client said {self.errors}",
        )

    def gap_seconds(self) -> float:
        """Return for how long there was no acknowledged write, at the longest."""
        return max(after - before for before, after in pairwise(self.acknowledged.values()))

    def run(self) -> None:
        """Write."""
        try:
            self.write()
        except BaseException as failure:  # noqa: BLE001 -- told to whoever looks
            self.failure = failure

    def _keys(self) -> Iterator[str]:
        for number in count():
            if self._ended.is_set():
                return
            yield f"{self.prefix}:{number}"

    def _note(self, key: str, replies: list[Any]) -> None:
        if replies[0] and (not self.waits or replies[1] >= self.waits):
            self.acknowledged[key] = time.monotonic()

    def write(self) -> None:
        """Write until told to end."""
        finder = redis.sentinel.Sentinel(self.addresses, socket_timeout=CLIENT_SECONDS)
        client = finder.master_for(NAME, **self.options)
        for key in self._keys():
            try:
                pipeline = client.pipeline(transaction=False).set(key, key)
                if self.waits:
                    pipeline.wait(self.waits, 300)
                self._note(key, pipeline.execute())
            except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
                self.errors.add(f"{type(error).__name__}: {error}")
            time.sleep(PAUSE_SECONDS)
        client.close()
        for one in finder.sentinels:
            one.close()


class AsyncWriter(Writer):
    """The same with the asyncio client."""

    prefix = "asyncio"

    def write(self) -> None:
        """Write until told to end."""
        asyncio.run(self._write())

    async def _write(self) -> None:
        finder = redis.asyncio.sentinel.Sentinel(self.addresses, socket_timeout=CLIENT_SECONDS)
        client = finder.master_for(NAME, **self.options)
        for key in self._keys():
            try:
                pipeline = client.pipeline(transaction=False).set(key, key)
                if self.waits:
                    pipeline.wait(self.waits, 300)
                self._note(key, await pipeline.execute())
            except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
                self.errors.add(f"{type(error).__name__}: {error}")
            await asyncio.sleep(PAUSE_SECONDS)
        await client.aclose()
        for one in finder.sentinels:
            await one.aclose()
