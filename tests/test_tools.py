"""The operator's tool, `check`: right verdicts on live, cold and damaged stores, an exit status for each, and never a traceback.

What all commands have in common is here, too: usage, help, noise.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import shlex
import shutil
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import lmdb
import pytest

from lmdbredis import control_file
from lmdbredis.config import VERSION
from lmdbredis.snapshots import ReadOnly
from tests.crash import Engine, Load
from tests.readme import tool_commands
from tests.servers import ROOT, Lmdbredis
from tests.stores import commit
from tests.tool_stores import (
    BROKEN,
    PAGE,
    contents,
    edit,
    last_segment,
    make,
    one_row,
    several,
    several_as_nobody,
    tool,
)
from tools.main import main, parser

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = (
    ["stats"], ["keys", "*"], ["bigkeys"], ["get", "hash"], ["check"], ["wal", "ls"], ["wal", "cat"],
)  # fmt: skip


def line(command: list[str], directory: Path, *more: str) -> list[object]:
    """Return a command's line: the directory comes behind its name."""
    names = 2 if command[0] == "wal" else 1
    return [*command[:names], directory, *command[names:], *more]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with some of everything."""
    return make(tmp_path_factory.mktemp("tools") / "store")


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it, to be broken."""
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"


# --- check ------------------------------------------------------------------------------------------------------------------------


def test_good(store: Path):
    """A good store: status 0, the moment it shows, and nothing in the directory is changed."""
    before = contents(store)
    status, said = tool("check", store)

    assert (0, True) == (status, said.endswith("ok\n")), said
    assert "as of lsn 0000" in said
    assert "no server has it open" in said
    assert before == contents(store)


def test_live(tmp_path: Path):
    """Beside a server under load: clean each time, later each time, and the server goes on."""
    (tmp_path / "data").mkdir()
    load = Load(random.Random(1))
    small = ("--wal-segment-size", "65536", "--checkpoint-interval", "20", "--repl-backlog-size", "20000")
    with Lmdbredis(*small, dir=tmp_path / "data") as one:
        load.start(one.port)
        moments = []
        for _ in range(4):
            status, said = tool("check", tmp_path / "data")
            assert (status, f"beside the server with pid {one.pid}" in said) == (0, True), said
            moments.append(said.split()[3])
            assert tool("wal", "cat", tmp_path / "data", "--limit", 3)[0] == 0
        load.stop()
        assert moments == sorted(set(moments))
        with one.connect() as client:
            assert load.verify(client) == []


def test_killed_store(store: Path, tmp_path: Path):
    """A store that was not closed: the newest commit is checked, and the log that a start would take."""
    engine = Engine(store)
    engine.run([b"SET", b"later", b"v"])
    shutil.copytree(store, tmp_path / "copy", ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    engine.close()
    status, said = tool("check", tmp_path / "copy")

    assert status == 0, said
    assert " 0 records" not in said


@pytest.mark.parametrize("name", BROKEN)
def test_damage(store: Path, name: str):
    """Each kind of damage: status 1 and a line that names it. No traceback."""
    damage, text = BROKEN[name]
    damage(store)
    status, said = tool("check", store)

    assert (1, True) == (status, text in said), said
    if status == 1:
        assert "broken: " in said
        assert said.splitlines()[-1] != "ok"
    else:
        assert said.startswith("lmdbredis: data.mdb cannot be")


def test_json(store: Path):
    """JSON says the same: the moment, what is broken, the verdict."""
    status, said = tool("check", store, "--json")
    found = json.loads(said)
    assert (0, [], "ok") == (status, found["broken"], found["verdict"])
    assert set(found["as_of"]) == {"from_lsn", "lsn", "snapshot", "age_ms"}
    BROKEN["hash rows lost"][0](store)
    status, said = tool("check", store, "--json")
    assert (1, True) == (status, bool(json.loads(said)["broken"]))


def test_newest_commit_was_never_promised(store: Path, tmp_path: Path):
    """If only a commit is broken that CONTROL does not name yet, the tool says what a start does; and it does."""
    engine = Engine(store)
    for number in range(300):
        engine.run([b"HSET", b"hash", b"x%d" % number, b"new" * 20])
    engine.store.begin_commit()
    while engine.store.is_committing:
        engine.store.poll()
    expected = engine.dump()
    copy = tmp_path / "copy"
    shutil.copytree(store, copy, ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    engine.close(checkpoint=False)
    content = (copy / "data.mdb").read_bytes()
    torn = [at for at in range(0, len(content), PAGE) if b"new" * 20 in content[at : at + PAGE]]
    for at in torn:
        edit(copy / "data.mdb", at, bytes(PAGE))
    assert torn
    status, said = tool("check", copy)
    assert (status, "a start goes back to it" in said) == (1, True), said

    engine = Engine(copy)
    assert expected == engine.dump()
    engine.close()
    assert tool("check", copy)[0] == 0


@pytest.mark.parametrize("number", [0, 1])
def test_a_meta_page_lost(store: Path, number: int):
    """If a meta page is lost and CONTROL is whole, the tool says that a start mends that; and it does."""
    edit(store / "data.mdb", number * PAGE + 16, random.Random(1).randbytes(130))
    status, said = tool("check", store)
    assert (1, True) == (status, "A start mends that" in said), said

    Engine(store).close()
    assert tool("check", store)[0] == 0


@pytest.mark.parametrize("size_bytes", [0, 5000])
def test_nothing_to_go_back_to(store: Path, size_bytes: int):
    """If the pages are gone that CONTROL names, no start mends that: the store is broken."""
    os.truncate(store / "data.mdb", size_bytes)
    status, said = tool("check", store)

    assert (1, True) == (status, said.splitlines()[-1].startswith("The store is broken")), said
    assert size_bytes or "data.mdb is empty" in said


def test_control_damaged(store: Path):
    """What is said of CONTROL does not lead back to `check`; other commands lead to it."""
    BROKEN["CONTROL damaged"][0](store)

    assert "lmdbredis check" not in tool("check", store)[1]


def test_newer_format(store: Path):
    """What a newer version wrote is not broken, it cannot be read: status 2 and a line that says so, whichever file it is."""
    kept = contents(store)
    newer = {
        "CONTROL": (lambda: edit(store / "CONTROL", 8, b"\0\0\0\7"), [["check"], ["wal", "ls"], ["wal", "cat"]]),
        "data.mdb": (lambda: one_row(store, b"meta", b"version", b"\0\0\0\7"), [["check"], ["stats"]]),
        "the log": (lambda: _newer_segment(last_segment(store)), [["check"], ["wal", "ls"], ["wal", "cat"]]),
    }
    for name, (change, commands) in newer.items():
        change()
        for status, said in several(*(line(command, store) for command in commands)):
            assert (2, True) == (status, "has format version 7" in said), (name, said)
            assert "broken" not in said
        for path, content in kept.items():
            (store / path).write_bytes(content)


def _newer_segment(path: Path) -> None:
    """Make a segment's header say that it is of a newer version."""
    content = bytearray(path.read_bytes())
    head = content[:8] + (7).to_bytes(4, "big") + content[12:20]
    path.write_bytes(head + zlib.crc32(head).to_bytes(4, "big") + content[24:])


def test_reads_an_older_moment(store: Path):
    """A reader keeps its moment: what the tool shows is one commit."""
    reader = ReadOnly(store)
    try:
        assert reader.lsn == int(tool("check", store)[1].split()[3], 16)
    finally:
        reader.close()


# --- every command ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_noise(store: Path, seed: int):
    """Whatever noise stands in the files, every command ends with a verdict."""
    chance = random.Random(seed)
    for path in [store / "data.mdb", store / "CONTROL", *(store / "wal").iterdir()]:
        if chance.random() < 0.7:
            size = path.stat().st_size
            for _ in range(chance.randint(1, 10)):
                edit(path, chance.randrange(size), chance.randbytes(chance.choice((1, 40, 3000))))

    assert {status for status, _ in several(*(line(command, store) for command in COMMANDS))} <= {0, 1, 2, 3}


@pytest.mark.parametrize("name", BROKEN)
def test_damage_met_by_others(store: Path, name: str):
    """On each kind of damage, every command ends with an answer or a line that says what is wrong; JSON stays JSON."""
    BROKEN[name][0](store)
    for status, said in several(*(line(command, store) for command in COMMANDS)):
        assert status in {0, 1, 2, 3}
        assert ("broken: " in said, "lmdbredis: " in said) == (status == 1, status > 1), said
    for _, said in several(*(line(command, store, "--json") for command in COMMANDS)):
        for one in said.splitlines():
            assert not one or one.startswith("lmdbredis: ") or json.loads(one) is not None


def test_lost_pages_are_met(store: Path):
    """A command that needs pages which are gone does not answer as if all were well."""
    BROKEN["all pages lost"][0](store)
    for command in COMMANDS[:4]:
        assert tool(*line(command, store))[0] in {1, 2}


def test_nothing_is_changed(store: Path):
    """No command changes a byte of a store, but the table of readers."""
    before = contents(store)
    assert {0} == {status for status, _ in several(*(line(command, store) for command in COMMANDS))}
    assert before == contents(store)


@pytest.mark.parametrize(
    "words",
    [
        ["check"], ["wal"], ["wal", "ls"], ["check", "--what"], [], ["mend", "x"], ["wal", "cat", "x", "--from", "xyz"],
        ["keys", "x"], ["get", "x"], ["stats", "x", "--top", "-1"], ["get", "x", "k", "-n", "one"],
    ],
)  # fmt: skip
def test_usage(words: list[str]):
    """Wrong words: status 2 and how it is used."""
    status, said = tool(*words)

    assert status == 2
    assert said.startswith("usage: lmdbredis")


COUNTS = (
    ["keys", "x", "*", "--limit"], ["keys", "x", "*", "-n"], ["stats", "x", "--top"], ["stats", "x", "-n"], ["bigkeys", "x", "--top"],
    ["bigkeys", "x", "-n"], ["get", "x", "k", "--limit"], ["get", "x", "k", "-n"], ["wal", "cat", "x", "--limit"],
    ["wal", "tail", "x", "--limit"], ["wal", "tail", "x", "--last"],
)  # fmt: skip
LSNS = (["wal", "cat", "x", "--from"], ["wal", "tail", "x", "--from"])
NO_NUMBERS = ("", "-1", "+1", " 5", "5 ", "5\n", "1_0", "\u0665", "\uff15", "1.0", "0x1f")


@pytest.mark.parametrize("words", [*COUNTS, *LSNS], ids=" ".join)
def test_numbers(words: list[str], capsys: pytest.CaptureFixture[str]):
    """A count is digits, an lsn 1 to 16 hexadecimal ones; whatever else Python takes for a number is wrong usage."""
    is_lsn = words in LSNS
    right = ("0", "5", "007", *(("aF", "f" * 16) if is_lsn else ("9" * 18,)))
    for word in right:
        assert int(word, 16 if is_lsn else 10) in vars(parser().parse_args([*words, word])).values()
    for word in (*NO_NUMBERS, *(("g", "1" * 17, "f" * 24) if is_lsn else ("a", "9" * 19, "9" * 5000))):
        with pytest.raises(SystemExit) as end:
            main([*words, word])
        said = capsys.readouterr().err
        assert (2, True) == (end.value.code, said.startswith("usage: lmdbredis")), word
        assert f"invalid {'lsn' if is_lsn else 'count'} value: {word!r}" in said


def test_interrupted_early(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Who interrupts the tool before it has read its command line gets status 130 and no word."""

    def interrupted() -> argparse.ArgumentParser:
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.main.parser", interrupted)
    assert main(["stats", "x"]) == 130
    assert capsys.readouterr() == ("", "")


_INTERRUPTED_IMPORT = """
import sys

class Finder:
    def find_spec(name, *_):
        if name == sys.argv[1]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder)
from tools.main import main
sys.exit(main(["stats", "x"]))
"""


@pytest.mark.parametrize("name", ["argparse", "lmdb", "lmdbredis.config", "tools.compact", "tools.options"])
def test_interrupted_import(name: str):
    """So does who interrupts it while its modules are loaded."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_IMPORT, name], cwd=ROOT, capture_output=True, check=False, timeout=60
    )
    assert (130, b"", b"") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_store(tmp_path: Path, command: list[str]):
    """What is no store is said to be none: an empty directory, a missing one, a file, a data.mdb that is something else."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.mdb").write_bytes(b"this is no database" * 5000)
    (tmp_path / "foreign").mkdir()
    with lmdb.open(str(tmp_path / "foreign"), map_size=1 << 20) as env, env.begin(write=True) as transaction:
        transaction.put(b"a", b"row")
    places = [tmp_path, tmp_path / "nothing", tmp_path / "file", tmp_path / "other"]
    if command != ["check"]:
        places.append(tmp_path / "foreign")
    for status, said in several(*(line(command, directory) for directory in places)):
        assert (status, said.startswith("lmdbredis: ")) == (2, True), said


FORBIDDEN = {"lock.mdb": 0o444, "data.mdb": 0, ".": 0}  # what may not be written, or not be read


@pytest.mark.parametrize("name", FORBIDDEN)
def test_forbidden(store: Path, name: str):
    """A store that one may not read is not called broken: status 2, and what is missing."""
    for path in [store, *store.rglob("*")]:
        path.chmod(0o777)
    (store / name).chmod(FORBIDDEN[name])
    answers = several_as_nobody(store.parent, *(line(command, "store") for command in COMMANDS[:5]))
    (store / name).chmod(0o777)

    for status, said in answers:
        assert (2, True) == (status, "ermission denied" in said), said
        assert "broken" not in said
        assert name != "lock.mdb" or "write access to lock.mdb" in said


@pytest.mark.parametrize("command", [*COMMANDS[:5], ["backup", "copy"]])
def test_full_disk_without_a_table_of_readers(
    store: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Where there is no room for lock.mdb, which the engine would not survive, the store is not called broken: status 2, and why."""

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(store.parent)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    (store / "lock.mdb").unlink()
    assert main([str(word) for word in line(command, store)]) == 2
    said = capfd.readouterr()

    assert "lock.mdb: there is no room for LMDB's table of readers" in said.err
    assert "broken" not in said.out + said.err


def test_a_log_that_is_forbidden(store: Path):
    """A log that one may not read is not called lost."""
    for path in [store, *store.rglob("*")]:
        path.chmod(0o777)
    (store / "wal").chmod(0)
    commands = (["check"], ["stats"], ["wal", "ls"], ["wal", "cat"])
    answers = several_as_nobody(store.parent, *(line(command, "store") for command in commands))
    (store / "wal").chmod(0o777)

    assert {(2, "lmdbredis: store/wal: Permission denied\n")} == set(answers)


def run_by_shell(redirection: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the tool with its output where the shell is told to lead it."""
    line = shlex.join([sys.executable, "-m", "tools.main", *map(str, words)])
    return subprocess.run(
        f"{line} {redirection}", shell=True, cwd=ROOT, env=os.environ | environment, capture_output=True, encoding="latin-1",
        check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_output_that_cannot_be_written(store: Path, command: list[str]):
    """A full disk behind standard output is not damage: status 2 and one line. With none at all, the status is the answer."""
    full = run_by_shell(">/dev/full", *line(command, store))
    assert (2, "lmdbredis: No space left on device\n") == (full.returncode, full.stderr)
    closed = run_by_shell(">&-", *line(command, store))
    assert (0, False) == (closed.returncode, "Traceback" in closed.stderr), closed.stderr


def test_closed_output_and_damage(store: Path):
    """With no standard output at all, a broken store is still told from a good one, and nothing is written into it."""
    BROKEN["CONTROL damaged"][0](store)
    before = contents(store)
    assert run_by_shell(">&- 2>&-", "check", store).returncode == 1
    assert before == contents(store)


def test_a_terminal_that_lacks_characters(tmp_path: Path):
    """Where standard output cannot show a character, it shows it escaped."""
    engine = Engine(tmp_path / "store")
    engine.run([b"SET", "caf\u00e9:\u2603".encode(), "\u2603".encode()])
    engine.close()
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    plain = run_by_shell("", "keys", tmp_path / "store", "*:*", **ascii_only)
    assert (0, "caf\\xe9:\\u2603\n") == (plain.returncode, plain.stdout)
    latin = run_by_shell("", "get", tmp_path / "store", "caf\u00e9:\u2603", PYTHONIOENCODING="latin-1")
    assert (0, "caf\u00e9:\\u2603: string, 3 bytes\n  \\u2603\n") == (latin.returncode, latin.stdout)


_ENDINGS = """
import os, signal, sys
from lmdbredis.errors import NewerFormat, StorageError
from tools.child import Damaged, apart

def raising(error):
    raise error

for work in (
    lambda report: {"a": 1}, lambda report: os.kill(os.getpid(), signal.SIGSEGV), lambda report: os._exit(3),
    lambda report: raising(StorageError("none")), lambda report: raising(Damaged("bad")), lambda report: [][1],
    lambda report: raising(BrokenPipeError()), lambda report: raising(MemoryError()), lambda report: sys.exit(2),
    lambda report: (os.write(2, b"mdb.c:1: Assertion failed"), os.abort()),
    lambda report: open("/none/file"), lambda report: raising(NewerFormat("later")),
):
    try:
        print("returned", apart(work))
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_endings_of_a_child():
    """However the process that reads pages ends, its parent learns of it: an answer, a refusal, or a line that says how."""
    done = subprocess.run(
        [sys.executable, "-c", _ENDINGS], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    died = "Damaged data.mdb: the engine did not survive its pages"
    undecoded = "Damaged data.mdb: rows that cannot be decoded"

    assert [
        "returned {'a': 1}", f"{died} (SIGSEGV)", f"{died} (it ended without a word)", "StorageError none", "Damaged bad",
        f"{undecoded} (IndexError: list index out of range)", "BrokenPipeError ", f"{undecoded} (MemoryError: )",
        f"{died} (it ended without a word)", f"{died} (SIGABRT)", "OSError /none/file: No such file or directory", "NewerFormat later",
    ] == done.stdout.splitlines()  # fmt: skip
    assert not done.stderr, "what the engine says where it gives up is for nobody"


def test_help():
    """Help shows each command with an example that the command line takes."""
    made = tool_commands(parser())
    assert len({one.prog for one in made}) == len(made) > 6
    for one in made:
        begin, _, words = one.epilog.partition(": ")
        assert (begin, words.startswith(one.prog)) == ("example", True)
        assert isinstance(parser().parse_args(shlex.split(words)[1:]), argparse.Namespace)
    assert tool("--version") == (0, f"lmdbredis {VERSION}\n")
    status, said = tool("--help")
    assert (0, True) == (status, "bigkeys" in said)
    status, said = tool("wal", "tail", "--help")
    assert (0, True) == (status, "example: lmdbredis wal tail" in said)


def test_pages_that_were_never_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A commit that no sync has followed may end with pages that were free again before they were written: that is no damage."""
    store, killed = tmp_path / "store", tmp_path / "killed"
    engine = Engine(store)
    engine.run([b"SET", b"k", b"v"])
    commit(engine.store)
    shutil.copytree(store, killed, ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    engine.close()
    control = control_file.unpack((killed / "CONTROL").read_bytes())
    with (killed / "data.mdb").open("r+b") as file:
        bodies = control_file.meta_bodies(file.read(control_file.FIRST_BYTES))
        newest = max(bodies, key=control_file.meta_txnid)
        at = control_file.meta_txnid(newest) % 2 * control_file.meta_page_bytes(newest) + control_file.META_BODY_OFFSET
        file.seek(at + control_file._META_LAST_PAGE)
        (last_page,) = struct.unpack("=Q", file.read(8))
        file.seek(at + control_file._META_LAST_PAGE)
        file.write(struct.pack("=Q", last_page + 3))
    assert control_file.meta_txnid(newest) > control.txnid
    assert main(["check", str(killed)]) == 0, capsys.readouterr().out
