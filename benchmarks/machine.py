"""The machine a figure was taken on: enough to know whether two results may be compared."""

import datetime as dt
import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks.interpreter import join_us

ROOT = Path(__file__).resolve().parent.parent


def _output(*words: str) -> str:
    """What a command prints, stripped; empty if it is missing or fails."""
    if shutil.which(words[0]) is None:
        return ""
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> str:
    """The processor's name, with family and model number: a virtual machine may hide the name's end."""
    text = Path("/proc/cpuinfo").read_text()

    def field(name: str) -> str:
        found = re.search(rf"^{name}\s*: (.*)$", text, re.MULTILINE)
        return found.group(1) if found else "?"

    return f"{field('model name')} (family {field('cpu family')}, model {field('model')})"


def _filesystem(path: Path) -> str:
    """Device and type of the file system that holds `path`: a figure from tmpfs proves nothing about syncs."""
    best = ("", "?", "?")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, mount, kind = line.split()[:3]
        if path.is_relative_to(mount) and len(mount) > len(best[0]):
            best = (mount, device, kind)
    return f"{best[2]} on {best[1]}"


def describe(scratch: Path) -> dict[str, str]:
    """Name -> value, all text; `scratch` is where the servers' data lay."""
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    versions = []
    for name in ("lmdb", "uvloop", "hiredis", "msgpack"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{name} missing")
    commit = _output("git", "rev-parse", "--short", "HEAD")
    changed = " with changes" if _output("git", "status", "--porcelain", "--", "lmdbredis") else ""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory_kb / 1024**2:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()} (joins fifty keys in {join_us():.1f} us)",
        "packages": ", ".join(versions),
        "disk": _filesystem(scratch.resolve()),
        "load generator": _output("redis-benchmark", "--version"),
        "commit": f"{commit}{changed}",
        "load average at the end": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }
