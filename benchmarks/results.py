"""Rows, bars and verdicts: what a benchmark returns and what its JSON file holds.

A `Row` is one case: named figures (medians where there were several runs), all runs behind them, and at
most one bar. The verdict is computed from the figure the bar names, here and nowhere else.
A figure that could not be taken is None; a bar on it is a miss, never a pass.
"""

import dataclasses
import datetime as dt
import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass
class Options:
    """The command line's words, for every benchmark."""

    quick: bool = False
    repeats: int = 3
    keys: int | None = None  # larger_than_memory, expiry, restart, inspection: how many
    limit_mb: int | None = None  # larger_than_memory
    large: bool = False  # restart: thirty million keys as well
    scratch: Path = Path(tempfile.gettempdir())
    out: Path = RESULTS

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """A fresh directory below the scratch directory, gone after the block."""
        with tempfile.TemporaryDirectory(prefix="lmdbredis-bench-", dir=self.scratch) as path:
            yield Path(path)


@dataclass
class Bar:
    """What a figure must reach."""

    figure: str  # its name in the row
    value: float
    at_least: bool = True  # otherwise: at most

    def text(self) -> str:
        """As a reader wants it."""
        return f"{self.figure} {'>=' if self.at_least else '<='} {self.value:g}"

    def passed(self, figures: dict[str, float | None]) -> bool:
        """Whether the row's figure reaches it."""
        value = figures[self.figure]
        if value is None:
            return False
        return value >= self.value if self.at_least else value <= self.value


@dataclass
class Row:
    """One case."""

    case: str
    figures: dict[str, float | None]
    bar: Bar | None = None
    runs: dict[str, list[Any]] = field(default_factory=dict)

    def verdict(self) -> str:
        """pass, miss, or nothing where no bar is set."""
        if self.bar is None:
            return ""
        return "pass" if self.bar.passed(self.figures) else "miss"


@dataclass
class Table:
    """Rows with the same figures."""

    title: str
    rows: list[Row]


@dataclass
class Result:
    """One benchmark's whole answer."""

    name: str
    question: str
    command_lines: list[str]
    versions: dict[str, str]
    tables: list[Table]
    notes: list[str] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)  # file names beside the JSON
    skipped: str = ""  # why there are no figures
    extra: dict[str, Any] = field(default_factory=dict)  # curves and the like

    def as_json(self) -> dict[str, Any]:
        """The file's content: the fields, with each row's verdict and its bar's text beside the bar."""
        content = dataclasses.asdict(self)
        for table, shown in zip(self.tables, content["tables"], strict=True):
            for row, entry in zip(table.rows, shown["rows"], strict=True):
                entry["bar_text"] = row.bar.text() if row.bar else ""
                entry["verdict"] = row.verdict()
        return content


def median(values: list[float]) -> float:
    """The median; of an even number of runs the mean of the two in the middle."""
    return statistics.median(values)


def question(documentation: str | None) -> str:
    """A benchmark's question: the first paragraph of its module docstring, in one line."""
    return " ".join((documentation or "").split("\n\n")[0].split())


def progress(text: str) -> None:
    """One line for whoever watches."""
    print(f"{dt.datetime.now().astimezone():%H:%M:%S} {text}", flush=True)


def write(result: Result, machine: dict[str, str], options: Options, seconds: float) -> Path:
    """`<out>/<name>.json`, replaced whole."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{result.name}.json"
    given = {"quick": options.quick, "repeats": options.repeats, "keys": options.keys, "large": options.large}
    content = {**result.as_json(), "machine": machine, "options": given, "seconds": round(seconds, 1)}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
