"""How quick is this Python, and does it serve at all? The Makefile asks each one of the PATH, before anything is installed.

    python -I benchmarks/interpreter.py        microseconds; fails where it is too old, or can make no virtual environment

The same Python built without optimisations takes half as long again. It stands alone, and older Pythons can read it.
"""

import sys
import timeit


def join_us() -> float:
    """Microseconds for a join of fifty keys, each put behind the beginning of its row: about the work that the server does."""
    work = 'b"".join([row + key for key in keys])'
    return min(timeit.repeat(work, 'row = b"row"; keys = [b"key"] * 50', number=1000, repeat=20)) * 1000


def main() -> int:
    """Print it, if this Python will do; returns the exit status."""
    import ensurepip  # noqa: PLC0415 -- Debian has it in a package of its own
    import venv  # noqa: F401, PLC0415 -- so this

    ensurepip.version()
    if sys.version_info < (3, 11):  # noqa: UP036 -- it may be
        return 1
    sys.stdout.write(f"{join_us():.3f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
