"""The process: its command line and files, its start, its log. How it ends is for `test_process_end`.

Each test has processes of its own, on ports and directories of their own; nothing here touches the servers that the other
tests share. A start that is refused must say why on the last line a person sees, end with status 1, and leave the data alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from lmdbredis.config import Config
from lmdbredis.errors import PROTECTED_MODE
from lmdbredis.server import RedisServer
from tests.client import RawClient, pack
from tests.servers import ROOT, Lmdbredis, Server, _die_with_parent, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = ("--port", "{port}", "--bind", "127.0.0.1", "--dir", "{dir}")  # for AsTold
PROGRAM = [sys.executable, "-m", "lmdbredis"]
WAIT_SECONDS_MAX = 15.0
LOG_LINE = re.compile(r"\d+:M \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d\.\d{3} [.\-*#] \S.*")
SERVING = re.compile(r"Serving (\S+) from (\S+): (\d+) keys, (\d+) rows from the log, opened in (\d+\.\d) ms")


class AsTold(Lmdbredis):
    """A server that is started with exactly these words; ``{port}`` and ``{dir}`` in them are its own."""

    def __init__(self, *words: str, stdin: str = "", before: Callable[[], object] | None = None) -> None:
        super().__init__(*["--requirepass"] * ("requirepass" in stdin))  # an option for `wait_ready` only
        self.words = words
        self.stdin = stdin
        self.before = before  # called in the new process before the program

    def told(self, text: str) -> str:
        return text.replace("{port}", str(self.port)).replace("{dir}", str(self.dir))

    def start(self) -> AsTold:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*PROGRAM, *map(self.told, self.words)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.dir,
                env=environment() | self.env,
                preexec_fn=self.begin,  # noqa: PLW1509 -- a prctl and what the test wants: no threads are there yet
            )
        with self.process.stdin:
            self.process.stdin.write(self.told(self.stdin).encode())
        Server.alive.add(self)
        self.wait_ready()
        return self

    def begin(self) -> None:
        _die_with_parent()
        if self.before is not None:
            self.before()

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")


def environment() -> dict[str, str]:
    """Return our environment, so that the program is found from any directory."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def refusal(*words: str, cwd: Path, stdin: str = "") -> str:
    """Run a server that does not start; return what it says. It ends by itself, with status 1."""
    ended = subprocess.run(
        [*PROGRAM, *words],
        input=stdin.encode(),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        check=False,
        timeout=30,
    )

    assert ended.returncode == 1, ended
    return (ended.stdout + ended.stderr).decode()


def wait_until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def settings(client: RawClient, *names: str) -> dict[str, str]:
    """Return CONFIG GET's answer."""
    words = [item.value.decode() for item in client.call("CONFIG", "GET", *names).items()]
    return dict(zip(words[::2], words[1::2], strict=True))


def info(client: RawClient, field: str) -> str:
    """Return one field of INFO."""
    text = client.call("INFO", "everything").value.decode()
    return re.search(rf"^{field}:(.*?)\r?$", text, re.MULTILINE)[1]


# --- words and files ----------------------------------------------------------------------------------------------------------


def test_a_file_and_options():
    """The file is read, what it includes too, and options behind it win; CONFIG GET and INFO tell where things are."""
    server = AsTold("some.conf", "--timeout", "77", "--maxmemory-policy", "allkeys-lru", "--save", "")
    (server.dir / "some.conf").write_text(
        server.told("# mine\nport {port}\nbind 127.0.0.1\ntimeout 5\ndatabases 3\ninclude parts/*.conf\ndir data\n")
    )
    (server.dir / "parts").mkdir()
    (server.dir / "parts" / "a.conf").write_text("slowlog-max-len 11\n")
    (server.dir / "parts" / "b.conf").write_text('slowlog-max-len 12\nlogfile ""\n')
    with server:
        client = server.client()

        assert settings(client, "timeout", "databases", "maxmemory-policy", "slowlog-max-len", "dir") == {
            "timeout": "77",
            "databases": "3",
            "maxmemory-policy": "allkeys-lru",
            "slowlog-max-len": "12",
            "dir": str(server.dir / "data"),
        }
        assert info(client, "config_file") == str(server.dir / "some.conf")
        assert (server.dir / "data" / "data.mdb").exists()


@pytest.mark.parametrize("words", [("-",), ("-", "--timeout", "9"), ("--timeout", "9", "-")])
def test_standard_input(words: tuple[str, ...]):
    """A configuration comes from standard input where a dash says so."""
    with AsTold(*words, stdin="port {port}\nbind 127.0.0.1\ndir {dir}\ntimeout 5\n") as server:
        assert settings(server.client(), "timeout") == {"timeout": "9" if "9" in words else "5"}


def test_version_and_help():
    """The two options that start nothing answer and end with status 0."""
    for words, text in (
        (["-v"], "lmdbredis server v="),
        (["--version"], "lmdbredis server v="),
        (["-h"], "Usage: "),
        (["--help"], "Usage: "),
    ):
        ended = subprocess.run([*PROGRAM, *words], env=environment(), capture_output=True, check=True, timeout=30)

        assert ended.stdout.decode().startswith(text)


BAD_LINES = {
    "foo bar": "Bad directive or wrong number of arguments",
    "port 1 2": "wrong number of arguments",
    "port x": "argument couldn't be parsed into an integer",
    "appendfsync sometimes": "argument(s) must be one of the following: everysec, always, no",
    'dir "a': "Unbalanced quotes in configuration line",
    "tls-port 6380": "lmdbredis has no TLS of its own",
    "cluster-enabled yes": "lmdbredis is no cluster node",
    "loadmodule some.so": "lmdbredis cannot load modules",
    "aclfile users.acl": "access control lists come in a later release and would not be enforced in this one",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_ends_the_start(tmp_path: Path, line: str):
    """A line that cannot be obeyed is named with its number and its reason, by file or standard input; nothing is made."""
    (tmp_path / "f").write_text(f"# one\ntimeout 0\n{line}\n")
    head = f"at line 3\n>>> '{line}'\n{BAD_LINES[line]}"

    assert head in refusal("f", "--port", str(free_port()), cwd=tmp_path)
    assert head in refusal("-", "--port", str(free_port()), cwd=tmp_path, stdin=(tmp_path / "f").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_file_that_is_not_there(tmp_path: Path):
    """A configuration file that cannot be read ends the start."""
    assert "can't open config file 'none.conf': No such file or directory" in refusal("none.conf", cwd=tmp_path)


_USER = "access control lists"
NOT_ENFORCED = {  # lines -> what is said of the last one, and why
    "user ann on >secret ~* +@all": ("user ann ...", f"user ann: {_USER}"),
    "user default on nopass ~app:* &* +@all": ("user default ...", f"user default: {_USER}"),
    "user default on nopass ~* &* +@all -flushall": ("user default ...", f"user default: {_USER}"),
    "user default on >secret ~* &* +@all": ("user default ...", f"user default: {_USER}"),
    "user default off nopass ~* &* +@all": ("user default ...", f"user default: {_USER}"),
    "user default on nopass": ("user default ...", f"user default: {_USER}"),
    "requirepass secret\nuser default on nopass ~* &* +@all": ("user default ...", f"user default: {_USER}"),
    "requirepass secret\nuser default on >other ~* &* +@all": ("user default ...", f"user default: {_USER}"),
    "rename-command BOGUS other": ("rename-command BOGUS other", "No such command in rename-command"),
    "rename-command CONFIG|SET other": ("rename-command CONFIG|SET other", "No such command in rename-command"),
    "rename-command GET set": ("rename-command GET set", "Target command name already exists"),
    "replica-read-only no": ("replica-read-only no", "a replica here has its primary's log"),
}


@pytest.mark.parametrize("lines", NOT_ENFORCED)
def test_what_would_not_be_enforced_ends_the_start(tmp_path: Path, lines: str):
    """Whoever asks for a protection that this server does not give is told so, and gets no open server instead."""
    (tmp_path / "f").write_text(lines + "\n")

    said = refusal("f", "--port", str(free_port()), cwd=tmp_path)
    shown, reason = NOT_ENFORCED[lines]
    assert f"at line {len(lines.splitlines())}\n>>> '{shown}'\n{reason}" in said
    assert "secret" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


HASHED = hashlib.sha256(b"secret").hexdigest()


@pytest.mark.parametrize(
    "lines",
    [
        "user default on nopass ~* &* +@all",
        "user default on nopass sanitize-payload allkeys allchannels allcommands",
        "requirepass secret\nuser default on >secret ~* &* +@all",
        f"requirepass secret\nuser default on sanitize-payload #{HASHED} ~* &* +@all",
    ],
)
def test_a_default_user_who_may_do_everything(lines: str):
    """The user line that redis-server's CONFIG REWRITE leaves in a file is accepted where it says what is the case."""
    with AsTold("-", stdin="port {port}\nbind 127.0.0.1\ndir {dir}\n" + lines) as server:
        client = server.client()
        if "requirepass" in lines:
            assert client.call("GET", "k").value == b"NOAUTH Authentication required."
            assert client.call("AUTH", "secret").value == b"OK"
        assert client.call("SET", "k", "v").value == b"OK"


def test_rename_command():
    """A renamed command answers to its new name only, in any case; a disabled one to none; the rest is untouched."""
    lines = 'rename-command FLUSHALL ""\nrename-command config "Geheim-5"\nrename-command incr decr2\nrename-command GET get\n'
    with AsTold("-", stdin="port {port}\nbind 127.0.0.1\ndir {dir}\n" + lines) as server:
        client = server.client()
        client.call("SET", "n", 1)

        for name in ("FLUSHALL", "flushall", "FlushAll", "CONFIG", "config", "INCR"):
            assert client.call(name, "GET", "x").value.startswith(b"ERR unknown command '" + name.encode())
        for name in ("geheim-5", "GEHEIM-5", "Geheim-5"):
            assert client.call(name, "GET", "databases").plain() == [b"databases", b"16"]
        assert client.pipeline([("decr2", "n"), ("DECR2", "n"), ("get", "n")])[2].value == b"3"
        assert client.call("COMMAND", "INFO", "flushall").plain() == [None]
        assert client.call("COMMAND", "GETKEYS", "DECR2", "n").plain() == [b"n"]


def test_renamed_commands_are_what_they_were():
    """Whatever looks at what a command is goes by the command, not by the word: transactions in one piece, events, secrets."""
    names = (
        "multi xmulti",
        "exec xexec",
        "watch xwatch",
        "blmpop xblmpop",
        "bzmpop zpop",
        "auth login",
        "config setting",
    )
    lines = "".join(f"rename-command {names_}\n" for names_ in names)
    with AsTold("-", stdin="port {port}\nbind 127.0.0.1\ndir {dir}\nslowlog-log-slower-than 0\n" + lines) as server:
        client = server.client()
        sets = [("SET", f"k{n}", n) for n in range(6)]

        for begins, ends in (("MULTI", "EXEC"), ("xmulti", "EXEC"), ("MULTI", "xexec")):
            replies = client.pipeline([(begins,), *sets, (ends,)])
            assert sum(reply.value.startswith(b"ERR unknown command") for reply in replies if reply.is_error) == (
                (begins == "MULTI") + (ends == "EXEC")
            )
            client.pipeline([("RESET",)])
        for count in (1, 6):
            assert client.pipeline([("XMULTI",), *sets[:count], ("xexec",)])[-1].plain() == [b"OK"] * count
        client.call("setting", "SET", "notify-keyspace-events", "KEA")
        client.pipeline([("RPUSH", "l", 1, 2), ("ZADD", "z", 1, "a", 2, "b")])
        assert client.call("xblmpop", 1, 1, "l", "LEFT").plain() == [b"l", [b"1"]]
        assert client.call("ZPOP", 1, 1, "z", "MAX").plain() == [b"z", [[b"b", b"2"]]]
        client.pipeline([("login", "secret"), ("setting", "SET", "primaryauth", "secret")])
        assert b"secret" not in client.exchange([("SLOWLOG", "GET", -1)])[0][1]


# --- starts that cannot be ----------------------------------------------------------------------------------------------------


def test_a_port_in_use_harms_nothing():
    """A start on a taken port says so and ends with status 1; the store it had opened has everything afterwards."""
    with Lmdbredis() as other:
        server = Lmdbredis()
        with server:
            with server.connect() as client:
                client.pipeline([("SET", f"k{n}", n) for n in range(1000)])
            server.kill9()
            said = refusal("--port", str(other.port), "--bind", "127.0.0.1", "--dir", str(server.dir), cwd=ROOT)

            assert f"Could not create server TCP listening socket 127.0.0.1:{other.port}: " in said
            assert "address already in use" in said.lower()
            assert "Traceback" not in said
            server.start()
            assert server.client().call("DBSIZE").value == 1000
            assert server.client().call("DEBUG", "CHECK").value == b"OK"
        assert other.client().call("PING").value == b"PONG"


def test_a_directory_in_use_harms_nothing(tmp_path: Path):
    """A second server on a directory is told whose it is and ends with status 1; the first keeps its files and goes on."""
    path, pidfile = tmp_path / "s", tmp_path / "pid"
    with Lmdbredis("--unixsocket", str(path), "--pidfile", str(pidfile)) as server:
        said = refusal(
            "--port", str(free_port()), "--bind", "127.0.0.1", "--dir", str(server.dir), "--unixsocket", str(path),
            "--pidfile", str(pidfile), cwd=ROOT,
        )  # fmt: skip

        assert f"another server (pid {server.pid}) or a tool is using the directory {server.dir}" in said
        assert "Traceback" not in said
        assert pidfile.read_text() == f"{server.pid}\n"
        with RawClient(0, path=str(path)) as client:
            assert client.call("SET", "k", "v").value == b"OK"


def test_nowhere_to_listen(tmp_path: Path):
    """A server that nobody could reach does not start."""
    assert "Configured to not listen anywhere, exiting." in refusal("--port", "0", "--dir", "d", cwd=tmp_path)


def test_addresses_of_bind(monkeypatch: pytest.MonkeyPatch):
    """A star is all of IPv4, ::* all of IPv6; an address behind a dash may be missing, but not taken by another server."""
    asked: list[object] = []
    failures: dict[str, int] = {}

    class Loop:
        async def create_server(self, _factory: object, host: str, port: int, **_options: object) -> str:
            asked.append((host, port))
            if host in failures:
                raise OSError(failures[host], os.strerror(failures[host]))
            return host

    def listen(*words: str) -> list[str]:
        config = Config.from_argv(["--port", "1", "--bind", *words], lambda _: b"")
        server = SimpleNamespace(config=config, loop=Loop(), listening=[])
        with contextlib.closing(RedisServer.listen(server)) as coroutine, contextlib.suppress(StopIteration):
            coroutine.send(None)
        return server.listening

    assert listen("*", "-::*") == ["0.0.0.0", "::"]
    assert asked == [("0.0.0.0", 1), ("::", 1)]
    failures["::"] = 97
    assert listen("*", "-::*") == ["0.0.0.0"]
    failures["::"] = 98
    with pytest.raises(OSError, match="Could not create server TCP listening socket ::"):
        listen("*", "-::*")
    with pytest.raises(OSError, match="listening socket ::"):
        listen("::*")


def test_protected_mode():
    """Without a password only this machine is served, unless protected-mode is off."""

    class Peer:
        def __init__(self, address: str, family: int = socket.AF_INET) -> None:
            self.address, self.family = address, family

        def getpeername(self) -> tuple[str, int]:
            return self.address, 1234

    def answer(peer: Peer, *words: str) -> str | None:
        return RedisServer.refusal_of(
            SimpleNamespace(sessions=[], config=Config.from_argv([*words], lambda _: b"")), peer
        )

    for address in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"):
        assert answer(Peer(address)) is None
    for address in ("10.0.0.1", "192.168.1.127", "2001:db8::1", "::ffff:10.0.0.1"):
        assert answer(Peer(address)) == PROTECTED_MODE
        assert answer(Peer(address), "--requirepass", "x") is None
        assert answer(Peer(address), "--protected-mode", "no") is None
    assert answer(Peer("", socket.AF_UNIX)) is None


def test_a_low_limit_of_open_files():
    """There is always room for the server's own files: the limit is raised, or maxclients lowered to what it allows."""

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))

    with AsTold(*PLACE, before=lower) as server:
        client = server.client()
        limit = int(re.search(r"Max open files\s+(\d+)", Path(f"/proc/{server.pid}/limits").read_text())[1])
        allowed = int(settings(client, "maxclients")["maxclients"])

        assert allowed + 32 <= limit
        assert allowed == 10_000 or ("maxclients is" in server.log() and limit == 300)
        reply = client.call("CONFIG", "SET", "maxclients", 4_000_000_000)
        assert reply.value.startswith(
            b"ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to handle"
        )
        assert int(settings(client, "maxclients")["maxclients"]) == allowed


# --- the log ------------------------------------------------------------------------------------------------------------------


def test_the_log_is_in_redis_servers_manner():
    """Every line begins with PID:M, the date and a mark; the start-up line says address, directory, keys and time to open."""
    with Lmdbredis() as server:
        client = server.client()
        client.pipeline([("SET", f"k{n}", n) for n in range(500)])
        first = server.pid
        server.kill9()
        server.start()
        text = server.log_path.read_text()
        second = server.pid

        assert [line for line in text.splitlines() if not LOG_LINE.fullmatch(line)] == []
        assert {int(line.split(":")[0]) for line in text.splitlines()} == {first, second}
        assert text.count("* Ready to accept connections\n") == 2
        address, directory, keys, rows, _ms = SERVING.findall(text)[1]
        assert (address, directory, keys) == (f"127.0.0.1:{server.port}", str(server.dir), "500")
        assert int(rows) >= 500


def test_loglevel_and_logfile(tmp_path: Path):
    """The log goes to the file, behind what stands there, and only what the level lets through; nothing goes to stdout."""
    path = tmp_path / "some.log"
    with AsTold(*PLACE, "--logfile", str(path)) as server:
        server.restart()

        assert path.read_text().count("Ready to accept connections") == 2
        assert server.log() == ""
        server.words = (*server.words, "--loglevel", "warning")
        before = path.read_text()
        server.restart()
        server.end(signal.SIGTERM)
        added = path.read_text().removeprefix(before)
        assert "Received SIGTERM" in added
        assert {line.split()[5] for line in added.splitlines()[4:]} == {"#"}


def test_a_logfile_that_cannot_be_written(tmp_path: Path):
    """A log that would be lost ends the start, also of a daemon."""
    words = ("--port", str(free_port()), "--dir", "d", "--logfile", "none/some.log")
    for more in ((), ("--daemonize", "yes")):
        said = refusal(*words, *more, cwd=tmp_path)
        assert said == "Can't open the log file: none/some.log: No such file or directory\n"
    assert not (tmp_path / "d" / "data.mdb").exists()


def test_a_directory_that_cannot_be_used(tmp_path: Path):
    """A data directory that is none, or that one may not use, ends the start with the directive, the path and the reason."""
    (tmp_path / "file").write_bytes(b"")
    for name, reason in (
        ("file", "Not a directory"),
        ("file/deep", "Not a directory"),
        ("/proc/none", "No such file or directory"),
    ):
        said = refusal("--port", str(free_port()), "--dir", name, cwd=tmp_path)
        assert said == f"Can't use the data directory 'dir {tmp_path / name}': {reason}\n"


def test_a_new_store_is_told():
    """The log says once that there was no store."""
    with Lmdbredis() as server:
        server.restart()
        assert server.log_path.read_text().count(f"* New store in {server.dir}\n") == 1


def test_pidfile(tmp_path: Path):
    """The pid stands in the file while the server runs; a file that cannot be written is only a warning, as in Redis."""
    path = tmp_path / "pid"
    with Lmdbredis("--pidfile", str(path)) as server:
        assert path.read_text() == f"{server.pid}\n"
        server.end(signal.SIGTERM)
        assert not path.exists()
    with Lmdbredis("--pidfile", str(tmp_path / "none" / "pid")) as server:
        assert "# Failed to write PID file: " in server.log_path.read_text()


def test_relative_paths():
    """As with Redis, what is no absolute path is in the data directory; CONFIG GET says it as it was said."""
    paths = {"logfile": "log.txt", "pidfile": "x.pid", "unixsocket": "./u.sock"}
    with Lmdbredis(*(word for name, path in paths.items() for word in (f"--{name}", path))) as server:
        assert {"log.txt", "x.pid", "u.sock"} <= {path.name for path in server.dir.iterdir()}
        said = [server.client().call("CONFIG", "GET", name).plain() for name in paths]
        assert said == [[name.encode(), path.encode()] for name, path in paths.items()]
        server.end(signal.SIGTERM)
        assert {"x.pid", "u.sock"}.isdisjoint(path.name for path in server.dir.iterdir())


def test_a_daemon(tmp_path: Path):
    """With daemonize yes the command returns at once, and a process of its own session serves until it is told to end."""
    port, pidfile, path = free_port(), tmp_path / "pid", tmp_path / "s"
    words = [
        "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path / "d"), "--daemonize", "yes", "--pidfile", str(pidfile),
        "--logfile", str(tmp_path / "log"), "--unixsocket", str(path),
    ]  # fmt: skip
    ended = subprocess.run([*PROGRAM, *words], cwd=ROOT, capture_output=True, check=True, timeout=30)
    wait_until(lambda: pidfile.exists() and pidfile.read_text())
    pid = int(pidfile.read_text())
    try:
        with RawClient(port) as client:
            assert (ended.stdout, ended.stderr) == (b"", b"")
            assert info(client, "process_id") == str(pid)
            assert os.getsid(pid) == pid != os.getsid(0)
            assert {Path(f"/proc/{pid}/fd/{fd}").readlink() for fd in range(3)} == {Path("/dev/null")}
            client.call("SET", "k", "v")
            client.send(pack(["SHUTDOWN"]))
            client.read_until_closed()
        wait_until(lambda: not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text())
        assert not pidfile.exists()
        assert not path.exists()
        assert "bye bye" in (tmp_path / "log").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_unix_sockets(tmp_path: Path):
    """A unix socket has the mode asked for, replaces the one a crash left behind, and goes with the server."""
    path = tmp_path / "s"
    with AsTold(*PLACE, "--unixsocket", str(path), "--unixsocketperm", "700") as server:
        for _ in range(2):
            assert path.stat().st_mode & 0o777 == 0o700
            with RawClient(0, path=str(path), protocol=3) as client:
                assert client.call("INCR", "n").kind == ":"
                assert f"addr={path}:0" in client.call("CLIENT", "INFO").value.decode()
            server.kill9()
            assert path.exists()
            server.start()
        server.end(signal.SIGTERM)
        assert not path.exists()


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, abstract: bool):
    """Under a supervisor that wants to know, the server says when it is ready and when it ends, and is no daemon."""
    address = f"\0lmdbredis-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(WAIT_SECONDS_MAX)
        server = Lmdbredis("--supervised", "systemd", "--daemonize", "yes")
        server.env = {"NOTIFY_SOCKET": address.replace("\0", "@")}
        with server:
            assert b"READY=1\n" in sock.recv(1000)
            assert info(server.client(), "process_id") == str(server.pid)
            server.end(signal.SIGTERM)
            assert sock.recv(1000) == b"STOPPING=1\n"


def test_the_terminal_may_go():
    """SIGHUP ends nothing."""
    with Lmdbredis() as server:
        os.kill(server.pid, signal.SIGHUP)

        assert server.client().call("PING").value == b"PONG"
        assert server.pid is not None
