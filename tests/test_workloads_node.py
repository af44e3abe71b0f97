"""Node.js against the real process: BullMQ with its worker, delayed, repeated and flow jobs; ioredis in all its ways; crashes in the middle.

The programs are in `tests/node`. They and what npm installs for them lie in pytest's cache, so that only the first run
installs. Skipped where Node.js or npm is not there, or npm reaches no registry.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.jobs import marks
from tests.workloads import Worker, crash_in_the_middle, durable_server, needs, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server

NODE, NPM = shutil.which("node"), shutil.which("npm")
PROGRAMS = Path(__file__).parent / "node"
INSTALL_SECONDS_MAX = 120
COMMANDS = ("EVAL", "EVALSHA", "BZPOPMIN", "BLMOVE", "XADD", "XREAD", "XREADGROUP", "XAUTOCLAIM")


@pytest.fixture(scope="session")
def folder(request: pytest.FixtureRequest) -> Path:
    """A folder with the programs and all that they import."""
    if NODE is None or NPM is None:
        pytest.skip("Node.js and npm are not installed here")
    needs(*COMMANDS)
    cache = request.config.cache
    assert cache is not None
    made = cache.mkdir("node")
    wanted = (PROGRAMS / "package.json").read_text()
    installed = made / "installed.json"
    if not installed.exists() or installed.read_text() != wanted:
        shutil.copy(PROGRAMS / "package.json", made)
        words = [
            NPM,
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--ignore-scripts",
            "--loglevel",
            "error",
        ]
        try:
            subprocess.run(words, cwd=made, capture_output=True, check=True, timeout=INSTALL_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm install took more than {INSTALL_SECONDS_MAX} s")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"npm install failed: {error.stderr.decode(errors='replace')[-300:]}")
        installed.write_text(wanted)
    for program in PROGRAMS.glob("*.mjs"):
        shutil.copy(program, made)
    return made


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with durable_server() as made:
        yield made


def program(folder: Path, server: Server, directory: Path, *words: object) -> Worker:
    """Return one of the programs as a process; a folder's marks are shared by all that run in it."""
    name, *rest = map(str, words)
    return Worker(
        [str(NODE), str(folder / f"{name}.mjs"), rest[0], str(server.port), *rest[1:]], directory, server.port
    )


def test_versions(folder: Path):
    """What was installed is what its users have today: BullMQ and ioredis of the fifth version or newer."""
    for name in ("bullmq", "ioredis"):
        version = json.loads((folder / "node_modules" / name / "package.json").read_text())["version"]

        assert int(version.split(".")[0]) >= 5


def test_ioredis(folder: Path, server: Server, tmp_path: Path):
    """Pipelines, transactions, blocking commands, streams, scripts, subscriptions, iterators, and no cluster: as its manual says."""
    with program(folder, server, tmp_path, "ioredis", "talk") as one:
        one.wait_end()

        assert one.log_tail().endswith("all is well\n")


def test_ioredis_and_a_crash(folder: Path, server: Server, tmp_path: Path):
    """What was acknowledged to a client that reconnects by itself is there, though the server was killed twice meanwhile."""
    count = 2000
    with program(folder, server, tmp_path, "ioredis", "push", count) as one:
        for part in (count // 4, count // 2):
            wait_until(lambda part=part: len(one.marks("done")) >= part, "some of the numbers")
            server.kill9()
            server.start()
        one.wait_end()
        acknowledged = one.marks("done")
    kept = [int(reply.value) for reply in server.client().call("LRANGE", "numbers", 0, -1).items()]

    assert acknowledged == [str(number) for number in range(count)]
    assert sorted(set(kept)) == list(range(count))
    assert len(kept) <= count + 2, "only what was on its way in a crash may have come twice"


def test_bullmq(folder: Path, server: Server, tmp_path: Path):
    """Results, delays, attempts with backoff, flows, repeated jobs, priorities, pauses: BullMQ's own account of them is right."""
    with (
        program(folder, server, tmp_path, "bullmq", "worker") as worker,
        program(folder, server, tmp_path, "bullmq", "flows") as flows,
    ):
        flows.wait_end()

        assert flows.log_tail().endswith("all is well\n")
        assert worker.times("begin")["later"] >= worker.times("asked")["later"] + 0.99
        assert (worker.marks("try").count("again"), worker.marks("try").count("lost")) == (3, 2)
        done = worker.marks("done")
        assert done.count("tick") == 3
        assert [name for name in done if name in {"a", "c", "b", "parent"}][-1] == "parent"
        assert done.index("c") < done.index("b")
        assert [name for name in done if name.startswith("p") and name != "parent"] == ["p1", "p2", "p3"]


class Acceptance:
    """A producer that hands in a job for each line it is written, and says when it was accepted."""

    def __init__(self, folder: Path, server: Server) -> None:
        words = [str(NODE), str(folder / "bullmq.mjs"), "accept", str(server.port)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, name: str) -> None:
        """Hand in one job that takes 20 ms; return when BullMQ says it is in."""
        streams: Any = self.process
        streams.stdin.write(f"{name} 20\n")
        streams.stdin.flush()

        assert streams.stdout.readline() == f"accepted {name}\n"

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


@pytest.mark.slow
def test_bullmq_and_a_crash(folder: Path, server: Server, tmp_path: Path):
    """Killed in the middle of the work, the server forgets no job: the worker goes on, and every job is done and completed."""
    accept = Acceptance(folder, server)
    try:
        with program(folder, server, tmp_path, "bullmq", "worker") as worker:
            names = crash_in_the_middle(server, worker, accept)
            worker.wait_done(names)
            client = server.client()
            wait_until(lambda: client.call("ZCARD", "bull:jobs:completed").value == len(names), "all to be completed")
            assert client.call("LLEN", "bull:jobs:active").value == 0
    finally:
        accept.close()
    assert len(marks(tmp_path / "marks", "done")) <= len(names) + 1
