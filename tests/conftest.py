"""What every test shares: hypothesis profiles, the two servers, and the check that follows every test.

Laws:
- Servers live as long as the session; each test gets them empty, with their configuration as it was at the start.
- After every test that touched ours, DEBUG CHECK must say OK. Otherwise its directory is kept in ./corpses/<test>,
  the server is replaced, and the test fails naming the corpse: a broken file is evidence, and never the next test's.
- LMDBREDIS_TEST_OURS=valkey (or redis) puts another server in our place: the tests of the tests.
  LMDBREDIS_TEST_ORACLE=redis asks an installed redis-server instead of valkey: a second opinion, to be read by a person,
  since 7.0 is older than what we answer as (no ZRANK WITHSCORE, no listpack lists, other words in some errors).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # the tests import each other as tests.<room>, however pytest was started
    sys.path.insert(0, str(ROOT))
pytest.register_assert_rewrite("tests.differential")

from tests.client import Disconnected  # noqa: E402 -- needs the path above
from tests.differential import Pair  # noqa: E402
from tests.servers import BY_NAME, Server, ServerFailed  # noqa: E402
from tools import copying  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

CORPSES = ROOT / "corpses"
OURS = os.environ.get("LMDBREDIS_TEST_OURS", "lmdbredis")
ORACLE = os.environ.get("LMDBREDIS_TEST_ORACLE", "valkey")
# What a test may set with CONFIG SET: read at the start, put back before each test.
CONFIG_KEPT = (
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "list-max-listpack-size",
    "set-max-intset-entries",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
    "proto-max-bulk-len",
    "maxmemory-policy",
    "notify-keyspace-events",
    "latency-monitor-threshold",
    "requirepass",
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "timeout",
)

_CALM = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile(
    "default", max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=_CALM
)
settings.register_profile("fuzz", max_examples=2000, stateful_step_count=50, deadline=None, suppress_health_check=_CALM)
settings.load_profile("default")


@pytest.fixture(scope="session", autouse=True)
def _never_step_back() -> Iterator[None]:
    """Let a tool that is called here, not as a process, not lower the priority of all tests after it, and of their servers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "step_back", lambda: None)
        yield


class Shared:
    """A server for the session and the configuration it began with."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.config: list[tuple[object, object]] = []
        self.begin()

    def begin(self) -> None:
        """Start the server if it does not run, and remember its configuration."""
        if self.server.pid is None:
            self.server.start()
        self.config = self.read_config()

    def read_config(self) -> list[tuple[object, object]]:
        answer = self.server.client().call("CONFIG", "GET", *CONFIG_KEPT)
        words = [] if answer.is_error else [item.value for item in answer.items()]
        return sorted(zip(words[::2], words[1::2], strict=True))

    def reset(self) -> None:
        """Bring it back to an empty server with its first configuration; start it again if a test ended it."""
        if self.server.pid is None:
            self.server.start()
        client = self.server.client()
        for connection in [one for one in self.server.clients.values() if not one.closed]:
            for command in (("SELECT", 0), ("FLUSHALL",)):
                reply = connection.call(*command)
                if reply.value != b"OK":
                    self.server.drop_clients()
                    raise ServerFailed(f"{self.server.name}: {command} said {reply}{self.server.log_tail()}")
        changed = [pair for pair in self.read_config() if pair not in self.config]
        for name, _value in changed:
            client.call("CONFIG", "SET", name, dict(self.config)[name])

    def check(self, test: str) -> None:
        """Fail unless DEBUG CHECK says OK; keep the corpse and begin anew on an empty directory."""
        if self.server.name != "lmdbredis":
            return
        try:
            if self.server.pid is None:
                self.server.start()
            with self.server.connect() as client:
                reply = client.call("DEBUG", "CHECK")
            verdict = None if reply.value == b"OK" else f"DEBUG CHECK: {reply.value!r}"
        except (Disconnected, ServerFailed, OSError) as error:
            verdict = f"DEBUG CHECK was not answered: {error}{self.server.log_tail()}"
        if verdict is None:
            return
        self.server.kill9()
        corpse = CORPSES / re.sub(r"[^A-Za-z0-9_.-]+", "_", test).strip("_")
        shutil.rmtree(corpse, ignore_errors=True)
        shutil.copytree(self.server.dir, corpse)
        if self.server.log_path.exists():
            shutil.copy(self.server.log_path, corpse / "server.log")
        self.server.stop()
        self.server.dir.mkdir(exist_ok=True)
        pytest.fail(f"{verdict}\nthe corpse is kept in {corpse}", pytrace=False)


@pytest.fixture(scope="session")
def our_session() -> Iterator[Shared]:
    kind = BY_NAME[OURS]
    if not kind.available():
        pytest.skip(f"{OURS} cannot be started here")
    with kind() as server:
        yield Shared(server)


@pytest.fixture(scope="session")
def oracle_session() -> Iterator[Shared]:
    kind = BY_NAME[ORACLE]
    if not kind.available():
        pytest.skip(f"{ORACLE}, the oracle, is not installed")
    with kind() as server:
        yield Shared(server)


@pytest.fixture
def ours(our_session: Shared, request: pytest.FixtureRequest) -> Iterator[Server]:
    """Our server, empty, its first configuration in force; checked after the test."""
    our_session.reset()
    yield our_session.server
    our_session.check(request.node.nodeid.removeprefix("tests/"))


@pytest.fixture
def oracle(oracle_session: Shared) -> Server:
    """The oracle, empty, its first configuration in force."""
    oracle_session.reset()
    return oracle_session.server


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def protocol(request: pytest.FixtureRequest) -> int:
    """The protocol version: every differential test runs in both."""
    return request.param


@pytest.fixture
def pair(ours: Server, oracle: Server, protocol: int) -> Pair:
    """Both servers and a protocol: `pair.run(script)`."""
    return Pair(ours, oracle, protocol)
