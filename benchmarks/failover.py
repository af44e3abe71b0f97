"""How long until clients write again after kill -9 of the primary, under real sentinels?

    python -m benchmarks failover

Three sentinels (redis-server's where one is installed, else valkey-server's) watch over two groups at once: a primary and
two replicas of ours, and as many valkey-servers. down-after-milliseconds is 1000, all else that tells how often they ask and tell is
as it comes. A client writes to one group without a break, each SET followed by WAIT 1; when it has a connection no more it asks the first
sentinel that answers who the primary is, again and again. Its primary is killed; timed is from then until the first SET is
answered, and until the first one is that a replica has as well. Then comes the other group's turn; the order changes from run to run.

Of the time most is the sentinels': one second until they call a server down, up to one until they have agreed, and up to one until they
look whether the promoted replica is a primary. So the same is measured of both. What was acknowledged before the kill is looked for
afterwards on the new primary.
"""

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hiredis

from benchmarks.client import Client, pack
from benchmarks.results import Bar, Options, Result, Row, Table, median, progress, question
from benchmarks.servers import BOTH, OURS, RIVAL, Server, _before_exec, free_port, launch, rival_binary, shown

DOWN_AFTER_MS = 1000
FAILOVER_TIMEOUT_MS = 5000  # what a failed attempt costs: twice this
SENTINELS, REPLICAS = 3, 2
QUORUM = 2
LOAD_S, QUICK_LOAD_S = 3.0, 0.5
CLIENT_S = 0.5
AGAIN_S = 0.01
LIMIT_S = 60.0
BAR_S = 5.0
KEYS_PER_CALL = 1000


# --- sentinels -----------------------------------------------------------------------------------------------------


def _program() -> str:
    return shutil.which("redis-server") or rival_binary()


@contextlib.contextmanager
def _sentinels(directory: Path, primaries: dict[str, int]) -> Iterator[list[int]]:
    """The ports of sentinels that watch over all groups."""
    with contextlib.ExitStack() as stack:
        ports = []
        for number in range(SENTINELS):
            path, port = directory / f"sentinel{number}.conf", free_port()
            lines = [f"port {port}", "bind 127.0.0.1", f"dir {directory}", f"logfile {path.with_suffix('.log')}"]
            for name, primary in primaries.items():
                lines += [
                    f"sentinel monitor {name} 127.0.0.1 {primary} {QUORUM}",
                    f"sentinel down-after-milliseconds {name} {DOWN_AFTER_MS}",
                    f"sentinel failover-timeout {name} {FAILOVER_TIMEOUT_MS}",
                ]
            path.write_text("\n".join([*lines, ""]))
            process = subprocess.Popen(
                [_program(), str(path), "--sentinel"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                preexec_fn=_before_exec(None),  # noqa: PLW1509  -- as in `launch`
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            ports.append(port)
        for name in primaries:
            _wait_until(lambda name=name: all(_is_watched(port, name) for port in ports), f"sentinels that know {name}")
        yield ports


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError, hiredis.ReplyError):  # not there yet
            if condition():
                return
        time.sleep(0.05)
    reason = f"{LIMIT_S:.0f} s are over without {what}"
    raise TimeoutError(reason)


def _is_watched(port: int, name: str) -> bool:
    """Whether this sentinel knows the whole group, and all other sentinels."""
    with Client(port, timeout_s=CLIENT_S) as client:
        words = client.call("SENTINEL", "MASTER", name)
        master = dict(zip(words[::2], words[1::2], strict=True))
        replicas = client.call("SENTINEL", "REPLICAS", name)
    known = [dict(zip(words[::2], words[1::2], strict=True)) for words in replicas]
    return (
        (master[b"flags"], int(master[b"num-other-sentinels"])) == (b"master", SENTINELS - 1)
        and len(known) == REPLICAS
        and all(one[b"flags"] == b"slave" and one[b"master-link-status"] == b"ok" for one in known)
    )


def _primary(ports: list[int], name: str) -> int:
    """The port of the primary, as the first sentinel that answers says."""
    for port in ports:
        with contextlib.suppress(OSError), Client(port, timeout_s=CLIENT_S) as client:
            return int(client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)[1])
    reason = "no sentinel answers"
    raise ConnectionError(reason)


# --- a group -------------------------------------------------------------------------------------------------------


def _group(kind: str, directory: Path, stack: contextlib.ExitStack) -> list[Server]:
    """A primary and its replicas, which have everything."""
    servers: list[Server] = []
    for number in range(1 + REPLICAS):
        more = ("--replicaof", "127.0.0.1", str(servers[0].port)) if servers else ()
        server = launch(kind, directory / f"{kind}{number}", more=more)
        stack.callback(server.kill)
        server.wait_ready()
        servers.append(server)

    def is_whole() -> bool:
        with servers[0].client() as client:
            info = client.info("replication")
        return [info.get(f"slave{number}", "").count("state=online") for number in range(REPLICAS)] == [1] * REPLICAS

    _wait_until(is_whole, f"replicas of {kind}")
    return servers


def _one(kind: str, servers: list[Server], sentinels: list[int], load_s: float) -> dict[str, float]:
    """Write, kill the primary, write on."""
    killed_at: list[float] = []

    def kill() -> None:
        killed_at.append(time.perf_counter())
        servers[0].kill()

    timer = threading.Timer(load_s, kill)
    timer.start()
    times: dict[str, float] = {}
    acknowledged: list[str] = []
    client: Client | None = None
    number = 0
    end = time.perf_counter() + load_s + LIMIT_S
    try:
        while "copied_s" not in times:
            assert time.perf_counter() < end, f"{kind}: nobody writes {LIMIT_S} s after the kill"
            number += 1
            began = time.perf_counter()
            try:
                client = client or Client(_primary(sentinels, kind), timeout_s=CLIENT_S)
                client.socket.sendall(pack("SET", f"key:{number}", number) + pack("WAIT", 1, 300))
                client.reply()
                written = time.perf_counter()
                copies = client.reply()
            except (OSError, hiredis.ReplyError):
                client = None
                time.sleep(AGAIN_S)
                continue
            if copies:
                acknowledged.append(f"key:{number}")
            if killed_at and began > killed_at[0]:
                times.setdefault("written_s", written - killed_at[0])
                if copies:
                    times["copied_s"] = time.perf_counter() - killed_at[0]
    finally:
        timer.cancel()
        timer.join()
    times["acknowledged"] = len(acknowledged)
    times["missing"] = _missing(client, acknowledged)
    client.socket.close()
    progress(f"{kind}: written again after {times['written_s']:.2f} s, with a copy after {times['copied_s']:.2f} s")
    return times


def _missing(client: Client, keys: list[str]) -> int:
    """How many of them are not there."""
    parts = [keys[at : at + KEYS_PER_CALL] for at in range(0, len(keys), KEYS_PER_CALL)]
    return len(keys) - sum(client.call("EXISTS", *part) for part in parts)


def run(options: Options) -> Result:
    """Both groups under the same sentinels; whose primary is killed first changes from run to run."""
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in BOTH}
    versions: dict[str, str] = {}
    for repeat in range(options.repeats):
        with options.directory() as scratch, contextlib.ExitStack() as stack:
            groups = {kind: _group(kind, scratch, stack) for kind in BOTH}
            versions = {kind: servers[0].version() for kind, servers in groups.items()}
            ports = {kind: servers[0].port for kind, servers in groups.items()}
            sentinels = stack.enter_context(_sentinels(scratch, ports))
            for kind in BOTH if repeat % 2 == 0 else BOTH[::-1]:
                load_s = QUICK_LOAD_S if options.quick else LOAD_S
                runs[kind].append(_one(kind, groups[kind], sentinels, load_s))
    rows = []
    for case, figure, bar in (
        ("a write is answered", "written_s", Bar("ours, s", BAR_S, at_least=False)),
        ("a write is answered that a replica has", "copied_s", Bar("ours, s", BAR_S, at_least=False)),
    ):
        taken = {kind: [one[figure] for one in runs[kind]] for kind in BOTH}
        figures = {f"{kind}, s": median(times) for kind, times in taken.items()}
        figures |= {f"{kind}, longest, s": max(times) for kind, times in taken.items()}
        rows.append(Row(case, figures, bar, dict(runs)))
    missing = {
        f"{kind}, {what}": sum(one[what] for one in runs[kind]) for kind in BOTH for what in ("acknowledged", "missing")
    }
    version = subprocess.run([_program(), "--version"], capture_output=True, check=True, text=True).stdout
    return Result(
        "failover",
        question(__doc__),
        [
            "python -m benchmarks failover",
            *[shown(kind) for kind in (OURS, RIVAL)],
            f"{Path(_program()).name} CONF --sentinel",
        ],
        versions | {"sentinel": "sentinels: " + " ".join(version.split()[:3])},
        [
            Table("seconds from the kill until", rows),
            Table(
                "writes that WAIT 1 had counted, all runs",
                [Row("on the new primary", missing, Bar("ours, missing", 0, at_least=False))],
            ),
        ],
        [f"Times are medians of {options.repeats} runs."],
    )
