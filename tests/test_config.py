"""The configuration against its laws and against the real servers: texts, defaults, CONFIG GET, SET, REWRITE, the command line.

What differs from a server on purpose is a table here (`OUR_DEFAULTS`, `OTHER`), so that nothing differs by accident.
"""

from __future__ import annotations

import fnmatch
import tomllib
import types
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbredis import directive_kinds as kinds
from lmdbredis.config import (
    BAD_DIRECTIVE,
    SET_FAILED,
    SIGNATURE,
    VERSION,
    Config,
    ConfigError,
    lines_of,
    split_words,
)
from lmdbredis.directive_kinds import OutputLimit, OutputLimits, Refused, memory, quoted, to_bytes, to_text
from lmdbredis.directives import BY_NAME, NO_CLUSTER, NO_TLS, TABLE, Effect
from lmdbredis.errors import ReplyError

ROOT = Path(__file__).resolve().parent.parent
HEAD = f"*** FATAL CONFIG FILE ERROR (lmdbredis {VERSION}) ***\nReading the configuration file, at line "


def config_of(text: bytes | str, *options: str, **files: bytes) -> Config:
    """Read a text as the file f."""
    held = {"f": text.encode() if isinstance(text, str) else text} | files

    def read(path):
        if path not in held:
            raise FileNotFoundError(2, "No such file or directory")
        return held[path]

    return Config.from_argv(["f", *options], read, lambda pattern: fnmatch.filter(held, pattern))


def error_of(text: bytes | str, *options: str, **files: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        config_of(text, *options, **files)
    assert str(caught.value) == caught.value.text

    return caught.value.text


def everything(config: Config) -> dict[str, object]:
    return {row.name: config.get(row.name) for row in TABLE} | {"users": config.users, "renames": config.renames}


# The table.


def test_a_row_is_whole():
    """Names are unique, defaults show as they are given, and what has no full meaning says why."""
    names = [name for row in TABLE for name in (row.name, *row.aliases)]

    assert len(names) == len(set(names))
    for row in TABLE:
        assert row.kind.show(row.default) == row.default_text, row.name
        assert row.why or row.effect is Effect.LIVE, row.name


def test_attributes_are_the_rows_with_a_meaning():
    """Each directive with a meaning now or later is an attribute of its declared type; nothing else is."""
    hints = typing.get_type_hints(Config)
    rows = {row.attribute: row for row in TABLE if row.effect is not Effect.NONE}

    assert set(hints) == set(rows)
    config = Config()
    for name, hint in hints.items():
        value = getattr(config, name)
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)

        assert type(value) in [typing.get_origin(option) or option for option in options], name
        assert value == rows[name].default


def test_units_stand_last():
    """An attribute's unit is part of its name, once."""
    assert BY_NAME["timeout"].attribute == "timeout_s"
    assert BY_NAME["checkpoint-interval"].attribute == "checkpoint_interval_ms"
    assert BY_NAME["hll-sparse-max-bytes"].attribute == "hll_sparse_max_bytes"
    assert BY_NAME["hash-max-ziplist-value"].attribute == "hash_max_listpack_value_bytes"


def test_version_is_the_package_s():
    """The version in error texts is the one that is released."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_the_distribution_s_file_is_accepted():
    """A redis.conf as Linux distributions ship it is read without a complaint."""
    stock = Path("/etc/redis/redis.conf")
    try:
        text = stock.read_bytes()
    except OSError:
        pytest.skip(f"{stock} is not here")
    config = config_of(text)

    assert config.bind == ("127.0.0.1", "-::1")
    assert config.get("appendonly") == "no"


# Words.


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b" \t\v\f ", []),
        (b" a\tb  c ", [b"a", b"b", b"c"]),
        (b'a "b c"', [b"a", b"b c"]),
        (b'a ""', [b"a", b""]),
        (b"a ''", [b"a", b""]),
        (rb'"\x41\xfF\n\r\t\b\a\q\"\\\x4"', [b'A\xff\n\r\t\b\aq"\\x4']),
        (rb"'it\'s \x41 \\'", None),
        (rb"'it\'s \x41 \n'", [rb"it's \x41 \n"]),
        (b'a"b c"', [b"ab c"]),
        (b'"a"b', None),
        (b"'a'b", None),
        (b'"a', None),
        (b"'a", None),
        (b'"a\\"', None),
        (rb"\x41 a\b", [rb"\x41", rb"a\b"]),
        (b"a#b # c", [b"a#b", b"#", b"c"]),
        (b'"a"\x0bb', [b"a", b"b"]),
        (b"a\x0bb", [b"a\x0bb"]),
    ],
)
def test_split_words(line, words):
    """Words split as sdssplitargs splits them."""
    assert words == split_words(line)


@given(st.lists(st.binary()))
def test_quoted_words_read_back(words):
    """Any bytes survive quoting and splitting."""
    line = " ".join(quoted(to_text(word)) for word in words)

    assert line.isascii()
    assert "\n" not in line
    assert words == split_words(line.encode())


@given(st.binary())
def test_splitting_never_fails(line):
    """Whatever stands in a line, it is words or unbalanced."""
    words = split_words(line)

    assert words is None or all(isinstance(word, bytes) for word in words)


@given(st.integers(0, 2**63 - 1))
def test_memory_reads_back(size_bytes):
    """A size written in units is the same size."""
    assert size_bytes == kinds.Memory().read([memory(size_bytes)])


# A file.


def test_a_file_is_read():
    """Comments, blank lines, quotes, case, aliases, CRLF: as Redis reads them; the last line of a kind counts."""
    config = config_of(
        "# a comment\n\n  PORT   7000  \r\ntimeout 5\ntimeout 6\nslave-priority 7\nmaxmemory 64mb\nmap-size 2tb\n"
        'requirepass "a b\\x00\\xff"\nbind 127.0.0.1 -::1\nunixsocketperm 700\nsave 900 1\nsave 300 10 60 20\n'
        "client-output-buffer-limit replica 1mb 1k 5\nclient-output-buffer-limit normal 7 0 0\n"
        "notify-keyspace-events KEA\nhz 9999\noom-score-adj relative\nlist-max-ziplist-value 64\n"
        'rename-command DEBUG ""\nuser ann on >x ~*\nreplicaof 127.0.0.1 1\nshutdown-on-sigterm force save'
    )

    assert (config.port, config.timeout_s, config.replica_priority) == (7000, 6, 7)
    assert (config.maxmemory_bytes, config.map_size_bytes) == (64 * 2**20, 2 * 2**40)
    assert to_bytes(config.requirepass) == b"a b\x00\xff"
    assert config.bind == ("127.0.0.1", "-::1")
    assert (config.unixsocketperm, config.get("unixsocketperm")) == (0o700, "700")
    assert config.get("save") == "900 1 300 10 60 20"
    assert config.client_output_buffer_limit == OutputLimits(
        OutputLimit(7, 0, 0), OutputLimit(2**20, 1000, 5), OutputLimit(32 * 2**20, 8 * 2**20, 60)
    )
    assert config.get("notify-keyspace-events") == "AKE"
    assert (config.get("hz"), config.get("oom-score-adj")) == ("500", "yes")
    assert config.renames == [(b"DEBUG", b"")]
    assert config.users == [("ann", "on", ">x", "~*")]
    assert config.replicaof == ("127.0.0.1", 1)
    assert config.get("shutdown-on-sigterm") == "save force"
    assert config.path == "f"


def test_defaults_of_our_own():
    """What redis-benchmark asks for at its start, and our own directives."""
    config = Config()

    assert (config.get("appendonly"), config.get("save")) == ("yes", "")
    assert config.map_size_bytes == 2**40
    assert config.wal_segment_size_bytes == config.hot_layer_size_bytes == 64 * 2**20
    assert config.checkpoint_interval_ms == 1000
    assert config.checkpoint_dirty >= 1000, "the number is tuned now and then"
    assert config.get("bind") == "* -::*"
    assert config.get("nothing") is None


@pytest.mark.parametrize(
    ("text", "number", "line", "reason"),
    [
        ("# a\n\nfoo bar", 3, "foo bar", BAD_DIRECTIVE),
        ("  port   x  ", 1, "port   x", "argument couldn't be parsed into an integer"),
        ("tls-port 6380", 1, "tls-port 6380", NO_TLS),
        ("tls-replication yes", 1, "tls-replication yes", NO_TLS),
        ("cluster-enabled yes", 1, "cluster-enabled yes", NO_CLUSTER),
        ("loadmodule x.so", 1, "loadmodule x.so", "lmdbredis cannot load modules: remove this line"),
        ("bf.error-rate 1", 1, "bf.error-rate 1", "lmdbredis cannot load modules: remove this line"),
        ("maxmemory 1tb", 1, "maxmemory 1tb", "argument must be a memory value"),
        (
            "maxmemory 99999999999999999999999",
            1,
            "maxmemory 99999999999999999999999",
            "argument must be a memory value",
        ),
        ("maxmemory " + "9" * 9999, 1, "maxmemory " + "9" * 9999, "argument must be a memory value"),
        ("port " + "9" * 9999, 1, "port " + "9" * 9999, "argument couldn't be parsed into an integer"),
    ],
)
def test_a_bad_line_is_told(text, number, line, reason):
    """The error names the line, its number, and what is wrong."""
    assert error_of(text) == f"{HEAD}{number}\n>>> '{line}'\n{reason}"


def test_include():
    """An included file is read where it stands, in it lines count anew; wildcards may find nothing."""
    files = {"b1": b"timeout 1\nmaxclients 5\n", "b2": b"timeout 2\nzip\n", "loop": b"include loop\n"}

    assert config_of("timeout 9\ninclude b1\n", **files).timeout_s == 1
    assert config_of("include b1\ntimeout 9\n", **files).timeout_s == 9
    assert config_of("include nothing*\n", **files).timeout_s == 0
    assert error_of("\n\ninclude b*\n", **files) == f"{HEAD}2\n>>> 'zip'\n{BAD_DIRECTIVE}"
    assert error_of("include c").endswith("Fatal error, can't open config file 'c': No such file or directory")
    assert "does one include itself?" in error_of("include loop", **files)


def test_no_file():
    """A missing file is told as Redis tells it."""

    def read(path):
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(ConfigError) as caught:
        Config.from_argv(["/no.conf"], read)

    assert caught.value.text == "Fatal error, can't open config file '/no.conf': No such file or directory"


# The command line.


def test_options_come_last():
    """File, standard input, options: whoever comes later counts; --save with nothing behind it empties."""
    held = {"f": b"timeout 1\nsave 900 1", "-": b"\ntimeout 2\nport 9\n"}

    def of(*argv: str) -> Config:
        return Config.from_argv(list(argv), held.__getitem__)

    assert of().get("timeout") == "0"
    assert of("f", "-").timeout_s == 2
    assert of("-", "--timeout", "3").timeout_s == 3
    assert of("f", "--bind", "1.1.1.1", "::1", "--port", "8").bind == ("1.1.1.1", "::1")
    for empty in (["--save", ""], ["--save"], ["--save", "--timeout", "3"]):
        assert of("f", *empty).get("save") == ""
    assert of("f", "--save", "5 5").get("save") == "900 1 5 5"
    assert to_bytes(of("--requirepass", "\udcff--'\"").requirepass) == b"\xff--'\""
    assert lines_of(["f", "--port 7", "-"]) == ("f", True, "port 7 ")
    assert of("-").path is None


# CONFIG SET and GET.


def test_set_many_is_all_or_nothing():
    """One bad pair, or an effect that fails, leaves every value and attribute as it was."""
    config = Config()
    before = everything(config)

    def port_in_use(changed: set[str]) -> None:
        assert changed == {"port", "maxclients"}
        assert (config.port, config.maxclients) == (7, 8)

        raise ReplyError(SET_FAILED % ("port", "Unable to listen on this port. Check server logs."))

    with pytest.raises(ReplyError):
        config.set_many([(b"maxclients", b"5"), (b"timeout", b"x")])
    with pytest.raises(ReplyError, match="Unable to listen"):
        config.set_many([(b"port", b"7"), (b"maxclients", b"8")], apply=port_in_use)

    assert everything(config) == before
    assert (config.maxclients, config.port) == (10000, 6379)


def test_set_many_tells_what_changed():
    """Names of changed values, never aliases; nothing is applied where nothing changed; attributes follow."""
    config = Config()
    applied = []

    assert config.set_many([(b"Timeout", b"5"), (b"slave-priority", b"3"), (b"maxclients", b"10000")]) == {
        "timeout",
        "replica-priority",
    }
    assert (config.timeout_s, config.replica_priority) == (5, 3)
    assert config.set_many([(b"timeout", b"5")], apply=applied.append) == set()
    assert applied == []
    assert config.set_many([(b"requirepass", b"\xff\x00")], apply=applied.append) == {"requirepass"}
    assert applied == [{"requirepass"}]
    assert to_bytes(config.requirepass) == b"\xff\x00"


def test_protected_directives():
    """enable-protected-configs opens them to all or to local clients; the data directory never moves."""
    pair = [(b"dbfilename", b"x")]
    for allowed, local, works in [
        ("no", True, False),
        ("local", False, False),
        ("local", True, True),
        ("yes", False, True),
    ]:
        config = config_of(f"enable-protected-configs {allowed}")
        if works:
            assert config.set_many(pair, local=local) == {"dbfilename"}
        else:
            with pytest.raises(ReplyError, match="can't set protected config"):
                config.set_many(pair, local=local)
    with pytest.raises(ReplyError, match=r"argument 'dir'\) - can't set immutable config"):
        config.set_many([(b"dir", b"/tmp")])


def test_put_is_the_server_s_own():
    """What CONFIG SET may not change, the server may: its directory, the port it got."""
    config = Config()
    config.put("dir", "/data")
    config.put("bind", "127.0.0.1", "::1")

    assert (config.dir, config.get("dir"), config.get("bind")) == ("/data", "/data", "127.0.0.1 ::1")
    with pytest.raises(Refused):
        config.put("tls-port", "1")
    with pytest.raises(KeyError):
        config.put("foo", "1")


def test_secrets():
    """Passwords are marked, under any name and case."""
    for name in (b"requirepass", b"MASTERAUTH", b"primaryauth", b"masteruser", b"tls-key-file-pass"):
        assert Config.is_secret(name)
    for name in (b"port", b"foo", b"\xff"):
        assert not Config.is_secret(name)


# CONFIG REWRITE.

OLD = b"""# my conf
port 7000

# after port


save 900 1
save 300 10
  timeout   5   # no
slave-priority 7
maxmemory 0100mb
timeout 6
zip 3
loglevel notice
logfile ""
include inc
rename-command DEBUG ""
client-output-buffer-limit slave 1mb 1mb 1
client-output-buffer-limit pubsub 32mb 8mb 61
user ann on
requirepass 'x'
# end"""


def test_rewrite():
    """Lines in order and comments stay; changed values change in place; too many lines go; new ones come under the signature."""
    old = OLD.replace(b"zip 3\n", b"").replace(b"   # no", b"  ")
    config = config_of(old, inc=b"maxclients 50\n")
    config.set_many(
        [
            (b"save", b"60 1"),
            (b"timeout", b"8"),
            (b"requirepass", b""),
            (b"hash-max-ziplist-entries", b"9"),
            (b"client-output-buffer-limit", b"pubsub 32mb 8mb 60 normal 1mb 1000 1"),
            (b"masterauth", b'\xff "'),
        ]
    )
    new = config.rewrite(old.replace(b"loglevel", b"zip 3\nloglevel"))

    assert new.decode().split("\n") == [
        "# my conf", "port 7000", "", "# after port", "", "save 60 1", "", "timeout 8", "slave-priority 7",
        "maxmemory 0100mb", "", "# ??? zip 3", "loglevel notice", 'logfile ""', "include inc", 'rename-command DEBUG ""',
        "client-output-buffer-limit normal 1mb 1000 1", "client-output-buffer-limit replica 1mb 1mb 1", "user ann on",
        "", "# end", SIGNATURE.decode(), "maxclients 50", "hash-max-listpack-entries 9", 'masterauth "\\xff \\""', "",
    ]  # fmt: skip
    assert everything(config_of(new, inc=b"maxclients 50\n")) == everything(config)
    assert config.rewrite(new) == new


def test_rewrite_of_nothing():
    """No file and no changes need no text; a tidy file without changes stays byte for byte."""
    assert Config().rewrite(b"") == b""
    assert config_of("port 1\n").rewrite(b"") == SIGNATURE + b"\nport 1\n"
    for text in (b"# a\n\ntimeout  5\nsave 1 1\n", b'bind "1.1.1.1"\nsave ""\nslaveof h 1\n'):
        assert config_of(text).rewrite(text) == text


NUMBER = st.integers(0, 10**6)


def words_of(row):
    """Return a strategy for the words of a directive."""
    kind = row.kind
    words = lambda one, low, high: st.lists(one, min_size=low, max_size=high)  # noqa: E731 -- three uses below
    limits = st.tuples(st.sampled_from(["normal", "replica", "slave", "pubsub"]), NUMBER, NUMBER, NUMBER)
    flat = lambda rows: [str(word) for one in rows for word in one]  # noqa: E731 -- two uses below
    if row.only or (isinstance(kind, kinds.Text) and kind.rules):
        return st.just([row.default_text])
    by_kind = {
        kinds.YesNo: lambda: st.sampled_from(["yes", "no", "YES"]).map(lambda word: [word]),
        kinds.Integer: lambda: st.integers(kind.low, kind.high).map(lambda number: [str(number)]),
        kinds.Octal: lambda: st.integers(0, 0o777).map(lambda number: [f"{number:o}"]),
        kinds.Memory: lambda: st.integers(kind.low, min(kind.high, 2**40)).map(lambda number: [memory(number)]),
        kinds.OneOf: lambda: st.sampled_from(kind.choices).map(lambda word: [word]),
        kinds.Text: lambda: st.binary(max_size=9).map(lambda data: [to_text(data)]),
        kinds.ShutdownFlags: lambda: st.sampled_from([["default"], ["now"], ["force", "nosave"]]),
        kinds.KeyEvents: lambda: st.text("AKEg$lshzxetdnm").map(lambda word: [word]),
        kinds.Save: lambda: st.just([""]) | words(st.tuples(st.integers(1, 99), NUMBER), 1, 3).map(flat),
        kinds.Limits: lambda: words(limits, 1, 3).map(flat),
        kinds.OomValues: lambda: words(st.integers(-2000, 2000).map(str), 3, 3),
        kinds.Addresses: lambda: st.just([""]) | words(st.text("abc:.-*'\"\\", min_size=1), 1, 16),
        kinds.ReplicaOf: lambda: st.just(["no", "one"]) | st.just(["host", "6379"]) | st.just(["a'b", "1"]),
        kinds.Percentiles: lambda: st.just([""]) | words(st.floats(0, 100).map(str), 1, 3),
    }
    return by_kind[type(kind)]()


@st.composite
def pieces(draw):
    """Draw a row, one of its names, and words for it."""
    row = draw(st.sampled_from(TABLE))
    name = draw(st.sampled_from([row.name, *row.aliases]))
    return row, draw(st.sampled_from([name, name.upper()])), draw(words_of(row))


FILLER = st.sampled_from(
    ["", "# a comment", "\t", SIGNATURE.decode(), 'rename-command A ""', "list-max-ziplist-value 1"]
)


@pytest.mark.parametrize("address", ["'", '"', "a b", "\\", "\xe9", "1.1.1.1"])
def test_rewrite_of_one_odd_address(address):
    """A word that stands alone is split twice when read, so it is quoted twice when written."""
    config = Config()
    config.put("bind", address)

    assert config_of(config.rewrite(b"")).bind == (address,)


@given(st.lists(FILLER | pieces()), st.lists(pieces()), st.booleans())
def test_rewrite_reads_back(old, sets, spaced):
    """Whatever was read and set, reading the rewritten file gives it again, and rewriting that file changes nothing."""
    blank = "  " if spaced else " "
    texts = [one if isinstance(one, str) else blank.join([one[1], *map(quoted, one[2])]) for one in old]
    text = "\n".join(texts).encode()
    config = config_of(text)
    for row, _, words in sets:
        config.put(row.name, *words)
    new = config.rewrite(text)
    again = config_of(new)

    assert everything(again) == everything(config)
    assert again.rewrite(new) == new
