"""redis-benchmark as the load generator: run it, follow it, read its whole report.

The full output, not --csv: only there stand the percentiles past 99, and only there does it say four
times a second how fast it is right now, from which comes the throughput curve. Any error reply ends the run.
"""

import math
import os
import re
import resource
import shlex
import subprocess
import time
from dataclasses import dataclass, field

KEYSPACE = 1_000_000
_PROGRESS = re.compile(rb"rps=([0-9.]+) \(overall: [^)]*\) avg_msec=([0-9.]+|-?nan)")
_SUMMARY = re.compile(r"throughput summary: ([0-9.]+) requests per second")
_LATENCIES = re.compile(
    r"avg\s+min\s+p50\s+p95\s+p99\s+max\s+([0-9.]+)\s+([0-9.]+)\s+([0-9.]+)\s+([0-9.]+)\s+([0-9.]+)\s+([0-9.]+)"
)
_PERCENTILE = re.compile(r"^([0-9.]+)% <= ([0-9.]+) milliseconds \(cumulative count \d+\)$", re.MULTILINE)


@dataclass
class Load:
    """What one run of a load generator measured."""

    words: list[str]
    requests: int
    rps: float
    latency_ms: dict[str, float]  # avg, min, p50, p95, p99, p99.9, max
    curve: list[tuple[float, float]] = field(default_factory=list)  # (second, requests in that second)
    client_cpu: float = 0.0  # part of a core that the load generator used
    server_cpu: float = 0.0  # part of a core that the server used meanwhile, where that was measured

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.requests / self.rps

    @property
    def able_rps(self) -> float:
        """What the load generator could do if the server took no time."""
        return self.rps / self.client_cpu if self.client_cpu else math.inf


def words_for(
    *, port: int | str, requests: int, clients: int, pipeline: int, size_bytes: int, keyspace: int, load: str
) -> list[str]:
    """The command line: `load` is one of redis-benchmark's own tests ("-t set") or a command with its words."""
    tail = shlex.split(load)
    options = {"-p": port, "-r": keyspace, "-d": size_bytes, "-c": clients, "-P": pipeline, "-n": requests}
    flat = [str(word) for pair in options.items() for word in pair]
    return ["redis-benchmark", "-h", "127.0.0.1", *flat, "--precision", "3", *tail]


def parse(text: str) -> tuple[float, dict[str, float]]:
    """(requests per second, latencies in ms) from redis-benchmark's whole report.

    >>> parse(_EXAMPLE)[1]["p99.9"]
    0.807
    """
    summary, latencies = _SUMMARY.search(text), _LATENCIES.search(text)
    if summary is None or latencies is None:
        reason = f"redis-benchmark made no report: {text[-500:]!r}"
        raise RuntimeError(reason)
    names = ("avg", "min", "p50", "p95", "p99", "max")
    latency_ms = dict(zip(names, map(float, latencies.groups()), strict=True))
    # the cumulative table follows with rounder steps: the first table alone is exact
    exact = text.split("Cumulative distribution", maxsplit=1)[0]
    steps = [(float(percent), float(value_ms)) for percent, value_ms in _PERCENTILE.findall(exact)]
    latency_ms["p99.9"] = next(value_ms for percent, value_ms in steps if percent >= 99.9)
    return float(summary.group(1)), latency_ms


def _per_second(samples: list[tuple[float, float, float]]) -> list[tuple[float, float]]:
    """Samples (begin, end, rps between them) -> (second, mean rps in it), weighted by time."""
    if not samples:
        return []
    done, spent = {}, {}
    for begin, end, rps in samples:
        second = int(begin)
        done[second] = done.get(second, 0.0) + rps * (end - begin)
        spent[second] = spent.get(second, 0.0) + (end - begin)
    return [(second, done[second] / spent[second]) for second in sorted(done) if spent[second] > 0]


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(
    port: int,
    load: str,
    *,
    requests: int,
    clients: int = 50,
    pipeline: int = 1,
    size_bytes: int = 64,
    keyspace: int = KEYSPACE,
    limit_s: float = 600.0,
) -> Load:
    """Run it to its end; past `limit_s` it is ended and TimeoutError raised."""
    shape = {"clients": clients, "pipeline": pipeline, "size_bytes": size_bytes, "keyspace": keyspace, "load": load}
    words = words_for(port=port, requests=requests, **shape)
    begin = last = time.monotonic()
    cpu_s = _children_cpu_s()
    samples: list[tuple[float, float, float]] = []
    output = bytearray()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        # it prints progress four times a second, so that no read waits long
        while data := os.read(process.stdout.fileno(), 1 << 16):
            now = time.monotonic()
            output += data
            if now - begin > limit_s:
                process.kill()
                reason = f"{shlex.join(words)} did not end in {limit_s} s"
                raise TimeoutError(reason)
            # two reports in one read are one sample: the later one stands
            if found := _PROGRESS.findall(data):
                samples.append((last - begin, now - begin, float(found[-1][0])))
                last = now
    client_cpu = (_children_cpu_s() - cpu_s) / (time.monotonic() - begin)  # of those that have ended: servers have not
    text = output.decode(errors="replace")
    if process.returncode != 0 or "Error from server" in text:
        reason = f"{shlex.join(words)} failed: {text[-300:]!r}"
        raise RuntimeError(reason)
    rps, latency_ms = parse(text)
    shown = words_for(port="PORT", requests=requests, **shape)
    return Load(shown, requests, rps, latency_ms, _per_second(samples[1:]), client_cpu)


_EXAMPLE = """
Latency by percentile distribution:
0.000% <= 0.095 milliseconds (cumulative count 2)
99.805% <= 0.703 milliseconds (cumulative count 59889)
99.902% <= 0.807 milliseconds (cumulative count 59947)
100.000% <= 1.367 milliseconds (cumulative count 60000)

Cumulative distribution of latencies:
99.912% <= 0.907 milliseconds (cumulative count 59947)

Summary:
  throughput summary: 143884.89 requests per second
  latency summary (msec):
          avg       min       p50       p95       p99       max
        0.215     0.088     0.191     0.383     0.543     1.367
"""
