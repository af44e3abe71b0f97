"""The README is true: its generated parts are fresh, its lists complete, its examples and recipes work."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lmdbredis import commands
from lmdbredis.registry import TABLE
from tests import readme
from tests.servers import Lmdbredis

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server

ROOT = readme.README.parent
TEXT = readme.README.read_text(encoding="utf-8")
REFERENCE = (7, 2, 999)  # the version of Redis that we answer as
SECONDS_MAX = 60


def section(title: str) -> str:
    """Return the text below a heading, up to the next heading of its level."""
    mark, _, _ = title.partition(" ")
    return TEXT.partition(f"\n{title}\n")[2].partition(f"\n{mark} ")[0]


def test_generated_parts_are_fresh():
    """What the code says of itself is in the README: `make docs` would change nothing."""
    assert readme.renewed(TEXT) == TEXT


def test_missing_commands_are_listed(oracle: Server):
    """Every command of the oracle up to our version of Redis is either in the table or in the list of what is missing."""
    commands.load()
    ours = {one.name for found in TABLE.values() for one in (found, *found.subcommands.values())}
    theirs = set()
    for name, fields in pairs(oracle.client().call("COMMAND", "DOCS").plain()).items():
        inner = pairs(pairs(fields).get(b"subcommands", [])) if name.decode() in ours else {}
        theirs |= {
            one.decode() for one, its in {name: fields, **inner}.items() if version(pairs(its)[b"since"]) <= REFERENCE
        }
    named = re.findall(
        r"`([A-Z][A-Z_-]+(?: [A-Z-]+)?)`", section("## What is missing").partition("Where an answer differs")[0]
    )
    listed = [name.lower().replace(" ", "|") for name in named]

    assert sorted(listed) == sorted(theirs - ours)


def pairs(reply: dict[bytes, object] | list[object]) -> dict[bytes, object]:
    """Return a map that came as one, or as a flat list."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def version(text: bytes) -> tuple[int, ...]:
    """Return the numbers of a version."""
    return tuple(map(int, text.split(b".")))


def test_rooms_are_on_the_map():
    """The map of the rooms shows every module and package, and nothing that is gone."""
    there = {path.stem for path in (ROOT / "lmdbredis").glob("*.py")} - {"__init__"}
    there |= {f"{path.parent.name}/" for path in (ROOT / "lmdbredis").glob("*/__init__.py")}
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", section("## How it works"), re.MULTILINE)
    shown = set(re.findall(r"`([\w/]+)`", " ".join(f"{rooms} {what.partition(':')[0]}" for rooms, what in rows)))

    assert shown == there


def test_make_targets_exist():
    """Every `make` of the README is a target of the Makefile, and the other way round."""
    targets = set(
        re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split()
    )

    assert set(re.findall(r"(?:^|[`$] ?)make ([a-z]+)", TEXT, re.MULTILINE)) == targets - {"clean"}


def test_links_lead_somewhere():
    """Every link into the repository leads to a file, every link into the text to a heading."""
    headings = {
        re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    }
    measured = (ROOT / "benchmarks" / "RESULTS.md").exists()  # results and plots come with the first `make bench`
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        if link.startswith("#"):
            assert link[1:] in headings
        elif not link.startswith("http") and (measured or not link.startswith("benchmarks/")):
            assert (ROOT / link).exists(), link


def test_quick_start():
    """The quick start answers as it says, across a kill -9."""
    program = shutil.which("redis-cli")
    if program is None:
        pytest.skip("redis-cli is not installed: apt-get install redis-tools")
    lines = section("## Quick start").partition("```\n")[2].partition("```")[0]
    with Lmdbredis() as server:
        for example in re.split(r"^\$ ", lines, flags=re.MULTILINE)[1:]:
            words, _, expected = example.partition("\n")
            if words.startswith("kill -9"):
                server.kill9()
            elif words.startswith("make serve"):
                server.restart()
            else:
                _, *rest = shlex.split(words)
                whole = [program, "-p", str(server.port), "--no-raw", *rest]
                shown = subprocess.run(whole, check=True, capture_output=True, text=True, timeout=SECONDS_MAX).stdout

                assert expected == shown, words


def test_backup_of_a_running_server(tmp_path: Path):
    """SAVE and a compacting copy beside the running server give a directory that a server starts on, with all of it."""
    recipe = section("### Backup")
    target = tmp_path / "backup"

    assert "redis-cli SAVE" in recipe
    assert "python -m lmdb -S 1048576 -e ./data copy --compact" in recipe

    with Lmdbredis() as server, server.connect() as client:
        client.pipeline([("SET", f"k{number}", number) for number in range(1000)])
        client.call("RPUSH", "list", *range(1000))
        client.call("SAVE")
        words = [sys.executable, "-m", "lmdb", "-S", "1048576", "-e", str(server.dir), "copy", "--compact", str(target)]
        subprocess.run(words, check=True, capture_output=True, timeout=SECONDS_MAX)
        client.call("SET", "later", 1)
    with Lmdbredis(dir=target) as server, server.connect() as client:
        assert client.call("DEBUG", "CHECK").value == b"OK"
        assert client.call("DBSIZE").value == 1001
        assert client.call("LLEN", "list").value == 1000
