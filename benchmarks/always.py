"""How many durable writes a second, beside valkey, when every reply waits for a sync (appendfsync always)?

redis-benchmark -r 1000000 -d 64 -c 1|50|200 -P 1|16 -n N -t set|hset
"""

from benchmarks.duel import Case, duel
from benchmarks.results import Options, Result, Table, question
from benchmarks.servers import OURS, RIVAL, shown

BAR = 1.0
# requests at P=1 and P=16 for so many clients: what a disk with syncs of 0.3 ms makes of three seconds
CLIENTS = {1: (8_000, 80_000), 50: (120_000, 600_000), 200: (250_000, 800_000)}


def run(options: Options) -> Result:
    """Measure SET and HSET with every number of clients."""
    cases = [
        Case(
            f"{name}, {clients} client{'s' if clients > 1 else ''}",
            f"-t {name.lower()}",
            requests,
            BAR,
            clients,
            pipeline,
            "always",
        )
        for name in ("SET", "HSET")
        for clients, sizes in CLIENTS.items()
        for pipeline, requests in zip((1, 16), sizes, strict=True)
    ]
    done = duel(cases, options)
    servers = [shown(kind, "always") for kind in (OURS, RIVAL)]
    notes = [f"Medians of {options.repeats} runs, a fresh pair of servers for each.", *done.failures]
    tables = [Table("durable requests a second", done.rows)]
    return Result("always", question(__doc__), [*servers, *done.command_lines], done.versions, tables, notes)
