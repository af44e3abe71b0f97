"""Every example in a docstring is run: what the modules say of themselves is true."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("lmdbredis", "tools", "benchmarks", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if "\n>>> " in path.read_text(encoding="utf-8") or "\n    >>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str):
    """A module's examples give what stands below them."""
    failed, tried = doctest.testmod(import_module(name))

    assert tried
    assert not failed
