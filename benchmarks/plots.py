"""Pictures from rows and curves; matplotlib is imported only where one is drawn."""

import csv
from pathlib import Path
from typing import Any

from benchmarks.results import Row

OURS_COLOR = "#2f6f9f"
PIPELINED_COLOR = "#8fb8d6"
BAR_COLOR = "#b03a2e"


def _pyplot() -> Any:
    import matplotlib as mpl  # noqa: PLC0415  -- a heavy import that most runs do without

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt


def ratios(rows: list[Row], path: Path, rival: str) -> None:
    """Bars: requests a second as a share of the rival's, with the bar each must reach."""
    pyplot = _pyplot()
    names = list(dict.fromkeys(row.case.rpartition(", P=")[0] for row in rows))
    figure, axes = pyplot.subplots(figsize=(10, 4.2), layout="constrained")
    width = 0.38
    for offset, pipeline, color in ((-width / 2, 1, OURS_COLOR), (width / 2, 16, PIPELINED_COLOR)):
        found = {row.case.rpartition(", P=")[0]: row for row in rows if row.case.endswith(f"P={pipeline}")}
        places = [names.index(name) + offset for name in found]
        values = [row.figures["ratio"] or 0.0 for row in found.values()]
        shown = axes.bar(places, values, width, color=color, label=f"P={pipeline}")
        axes.bar_label(shown, fmt="%.2f", fontsize=7, padding=1)
        for place, row in zip(places, found.values(), strict=True):
            axes.hlines(row.bar.value, place - width / 2, place + width / 2, color=BAR_COLOR, linewidth=1.6)
    axes.hlines([], 0, 0, color=BAR_COLOR, linewidth=1.6, label="must reach")
    axes.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_ylabel(f"lmdbredis / {rival}")
    axes.set_title("Requests a second beside the rival, appendfsync everysec, 50 clients", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", ncols=3, fontsize=8, frameon=False)
    axes.set_ylim(0, max(1.25, *((row.figures["ratio"] or 0.0) * 1.18 for row in rows)))
    _save(figure, path)


def curves(lines: dict[str, list[tuple[float, float]]], aims: dict[str, float], title: str, path: Path) -> None:
    """Requests a second over time, one line per load, each load's aim as a dashed line."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(10, 4), layout="constrained")
    for (name, points), color in zip(lines.items(), (OURS_COLOR, BAR_COLOR), strict=False):
        axes.plot([second for second, _ in points], [rps for _, rps in points], color=color, label=name)
        if name in aims:
            axes.axhline(aims[name], color=color, linewidth=0.8, linestyle="--", label=f"{name}, aim")
    axes.set_xlabel("seconds")
    axes.set_ylabel("requests a second")
    axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    _save(figure, path)


def write_csv(lines: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """The same curves as figures: load, second, requests a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("load", "second", "rps"))
        for name, points in lines.items():
            writer.writerows((name, f"{second:g}", f"{rps:.1f}") for second, rps in points)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    _pyplot().close(figure)
