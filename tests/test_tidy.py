"""The house rules that a machine can keep: sizes, docstrings, words, and no trace of the machine it was written on.

An exception is named here with its reason; one that is not needed any more fails too.
"""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 650
FUNCTION_LINES_MAX = 70
# Path -> why it may be longer.
LONG_FILES: dict[str, str] = {}
# "path::function" -> why it may be longer.
LONG_FUNCTIONS: dict[str, str] = {
    "lmdbredis/executor.py::_execute": "the hot loop: a call for each request would cost more than it tidies",
}

LEFTOVERS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
# What a path of somebody's machine looks like. Paths that every machine has (/dev, /etc, /proc, /sys, /tmp, /usr, /var) are none.
MACHINE_PATHS = re.compile(r"(?<![\w.:/])/(?:home|root|Users|work|opt|mnt|srv|data|workspace)/[\w.]")
# One word per thing: what a word of another house is called here. Only in prose: docstrings and comments of the server.
ONE_WORD = {
    r"journal(?:s|led)?": "log",
    r"WAL (?:entry|entries|item|frame)s?": "record",
    r"log (?:entry|entries)": "record",
    r"log sequence numbers?": "lsn",
    r"sub-?tables?": "sub-database",
    r"tombstones?": "a row deleted, None",
    r"event[- ]loop ticks?": "tick",
    r"(?:mini-?batch|micro-?batch)(?:es)?": "batch",
    r"save ?points?": "checkpoint",
    r"user key": "key",
}
ABBREVIATIONS = {
    "cfg",
    "conf",
    "ctx",
    "msg",
    "idx",
    "tmp",
    "num",
    "cnt",
    "ptr",
    "cb",
    "conn",
    "cmd",
    "args",
    "kwargs",
    "val",
    "elem",
}


@cache
def committed() -> list[Path]:
    """Return every text file that is or will be committed."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(words, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git here to tell which files are ours")
    paths = [ROOT / name for name in names if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


@cache
def modules() -> dict[str, ast.Module]:
    """Return path -> syntax tree of every Python file."""
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
        for path in committed()
        if path.suffix == ".py"
    }


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return every function and method, inner ones too."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_files_are_short():
    """No file of Python is longer than a sitting, but for those with a reason."""
    lengths = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in modules()}

    assert {name for name, lines in lengths.items() if lines > FILE_LINES_MAX} == set(LONG_FILES)


def test_functions_are_short():
    """No function is longer than a screen, but for those with a reason."""
    lengths = {
        f"{name}::{function.name}": (function.end_lineno or 0) - function.lineno + 1
        for name, tree in modules().items()
        for function in functions(tree)
    }

    assert {name for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX} == set(LONG_FUNCTIONS)


def test_modules_say_what_they_are():
    """Every module opens with a docstring that ends its first sentence."""
    openings = {name: ast.get_docstring(tree) or "" for name, tree in modules().items()}

    assert [name for name, text in openings.items() if not re.match(r"[^\n]+(?:\n[^\n]+)?[.:?]", text)] == []


def test_tests_state_a_property():
    """Every test has a docstring."""
    silent = [
        f"{name}:{function.lineno} {function.name}"
        for name, tree in modules().items()
        if Path(name).name.startswith("test_")
        for function in functions(tree)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]

    assert silent == []


def _lines_with(pattern: re.Pattern[str]) -> list[str]:
    """Return where the pattern stands in our files, this one left out."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in committed()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_nothing_is_left_for_later():
    """No file says that something is still to be done: what is missing stands in the README."""
    assert _lines_with(LEFTOVERS) == []


def test_no_machine_is_named():
    """No file names a path of the machine it was written on."""
    assert _lines_with(MACHINE_PATHS) == []


def test_one_word_per_thing():
    """The server's rooms call a thing by one word, the one of the design."""
    pattern = re.compile(rf"\b(?:{'|'.join(ONE_WORD)})\b", re.IGNORECASE)
    found = [line for line in _lines_with(pattern) if line.startswith(("lmdbredis/", "tools/", "README.md"))]

    assert found == []


def test_names_are_words():
    """No function, parameter or variable has a customary abbreviation for a name."""
    found = []
    for name, tree in modules().items():
        for node in ast.walk(tree):
            word = getattr(node, "arg", None) or getattr(node, "id", None) or getattr(node, "name", None)
            if isinstance(node, ast.arg | ast.Name | ast.FunctionDef) and word in ABBREVIATIONS:
                found.append(f"{name}:{node.lineno} {word}")

    assert sorted(set(found)) == []


def test_points_of_the_disk_are_listed():
    """The disk's docstring lists every point that the server's code reaches, and no other."""
    pattern = re.compile(r'\breached\("([\w.]+)"\)')
    reached = {
        point
        for name in modules()
        if name.startswith("lmdbredis/")
        for point in pattern.findall((ROOT / name).read_text(encoding="utf-8"))
    }
    text = (ast.get_docstring(modules()["lmdbredis/disk.py"]) or "").partition("The points that `reached` names")[2]
    listed = {point for part in re.findall(r"``([^`]+)``", text) for point in part.split()}

    assert reached == listed


def test_top_level_is_fixed():
    """The top level holds what the README's map shows and nothing else."""
    wanted = {
        "pyproject.toml",
        "README.md",
        "Makefile",
        "LICENSE",
        ".gitignore",
        ".ci",
        "lmdbredis",
        "tests",
        "tools",
        "benchmarks",
    }

    assert {path.relative_to(ROOT).parts[0] for path in committed()} == wanted
