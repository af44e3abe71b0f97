"""RESULTS.md from the JSON files: tables with bars and verdicts, nothing typed by hand.

python -m benchmarks.report [directory of the JSON files]
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS

ORDER = (
    "throughput", "always", "floor", "order", "restart", "failover", "latency", "larger_than_memory", "expiry", "backup", "inspection",
    "scripts", "streams", "fanout", "waiting", "replication",
)  # fmt: skip
COMMANDS_SHOWN = 6  # more are folded
MARKS = {"pass": "pass", "miss": "**miss**", "": ""}
HEAD = """# Measured

Generated from `{folder}*.json` by `python -m benchmarks`; do not edit. The rival is valkey-server with
`appendonly yes` and the same fsync policy, in the same run on the same machine. How it is measured: the docstrings in `benchmarks/`.
"""


def number(value: float | None) -> str:
    """Four digits are enough to compare by."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _table(table: dict[str, Any]) -> list[str]:
    columns = list(dict.fromkeys(name for row in table["rows"] for name in row["figures"]))
    judged = any(row["verdict"] for row in table["rows"])
    tail = ["bar", ""] if judged else []
    lines = [f"**{table['title']}**", ""]
    lines.append("| " + " | ".join(["", *columns, *tail]) + " |")
    lines.append("|" + "|".join(["---", *["---:"] * len(columns), *["---"] * len(tail)]) + "|")
    for row in table["rows"]:
        cells = [row["case"], *(number(row["figures"][name]) if name in row["figures"] else "" for name in columns)]
        if judged:
            cells += [row["bar_text"], MARKS[row["verdict"]]]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _section(result: dict[str, Any], folder: str) -> list[str]:
    lines = [f"## {result['name']}", "", result["question"], ""]
    if result["skipped"]:
        return [*lines, f"Not measured: {result['skipped']}", ""]
    commands = ["```", *result["command_lines"], "```", ""]
    if len(result["command_lines"]) > COMMANDS_SHOWN:
        summary = f"<details><summary>{len(result['command_lines'])} command lines</summary>"
        commands = [summary, "", *commands, "</details>", ""]
    lines += commands
    for table in result["tables"]:
        lines += _table(table)
    lines += [f"- {note}" for note in result["notes"]]
    if result["notes"]:
        lines.append("")
    for plot in result["plots"]:
        lines += [f"![{plot}]({folder}{plot})", ""]
    machine = "; ".join(f"{name}: {value}" for name, value in result["machine"].items())
    versions = ", ".join(result["versions"].values())
    return [*lines, f"<sub>{versions}. {machine}. Took {result['seconds']:.0f} s.</sub>", ""]


def markdown(directory: Path, folder: str) -> str:
    """The whole text; `folder` is the way from it to the pictures."""
    results = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
    results.sort(key=lambda result: ORDER.index(result["name"]) if result["name"] in ORDER else len(ORDER))
    verdicts = [row["verdict"] for result in results for table in result["tables"] for row in table["rows"]]
    lines = [HEAD.format(folder=folder)]
    lines.append(f"{verdicts.count('pass')} bars passed, {verdicts.count('miss')} missed.\n")
    if any(result["options"]["quick"] for result in results):
        lines.append("**A quick run: it proves the machinery, its figures mean nothing.**\n")
    for result in results:
        lines += _section(result, folder)
    return "\n".join(lines).rstrip() + "\n"


def write(directory: Path) -> Path:
    """RESULTS.md: beside benchmarks/results, but inside any other directory, whose parent is not ours."""
    own = directory.resolve() == RESULTS
    path = (directory.parent if own else directory) / "RESULTS.md"
    path.write_text(markdown(directory, f"{RESULTS.name}/" if own else ""))
    return path


if __name__ == "__main__":
    print(write(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS))
