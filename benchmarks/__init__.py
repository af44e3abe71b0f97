"""Benchmarks: how fast and how small, beside valkey-server, on the machine at hand.

    python -m benchmarks [names ...] [--quick] [--repeats 3]

Laws:
  - A figure stands beside its rival's from the same run. Where no rival can run (a memory limit below
    its data), the row says so.
  - Both servers get the same policy, the same load generator and a fresh directory; both stay alive
    while one is measured, and the other is idle by then: nothing left to sync, rewrite or reclaim.
  - The rival gets its best: no snapshots, and no rewrite of its append-only file inside a measurement
    (`restart` says what it does instead).
  - No figure is typed. A benchmark writes `results/<name>.json`; RESULTS.md and the plots are made
    from these files, the bars and verdicts too.
  - Small (`--quick`) and stand-in runs prove the machinery, not the server: they go to a directory of
    their own and never touch `results/`.
  - Every load ends by itself: by count, by time, or both; every server dies with this process.

Rooms, top to bottom:

    __main__                                                the command line
    throughput always order restart latency                 one question each: `run(options) -> Result`
    larger_than_memory expiry scripts streams fanout waiting backup
    inspection replication failover
    duel                                                    the same load at both servers, in turn
    load probe crowd                                        redis-benchmark; clients that wait; many clients in one process
    servers limits client                                   processes, memory limits, a raw client
    report plots                                            RESULTS.md and pictures, from the JSON files
    results machine                                         rows, bars, verdicts; where it was measured
"""
