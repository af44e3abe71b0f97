"""CONFIG: the settings of the running server. Source: the Redis 7.2 manual, group *server*; what the words mean is `config`'s."""

from __future__ import annotations

from typing import Any

from lmdbredis import pattern
from lmdbredis.errors import CONFIG_REWRITE, NO_CONFIG_FILE, SYNTAX, ReplyError
from lmdbredis.registry import ADMIN, LOADING, NOSCRIPT, STALE, Context, command, container
from lmdbredis.resp import OK

_FLAGS = ADMIN | NOSCRIPT | LOADING | STALE


@container("CONFIG", help_since="5.0.0")
def config(cx: Context) -> None:
    """CONFIG -- A container for server configuration commands. Since 2.0.0."""


@command("CONFIG|GET", flags=_FLAGS)
def config_get(cx: Context, pattern_: bytes, *patterns: bytes) -> dict[bytes, bytes]:
    """CONFIG GET pattern [pattern ...] -- Returns the settings whose names match one of the patterns. O(N) where N is the number of settings. Since 2.0.0."""
    return cx.config.select((pattern_, *patterns), lambda glob: pattern.compile(glob, nocase=True))


@command("CONFIG|SET", flags=_FLAGS)
def config_set(cx: Context, parameter: bytes, value: bytes, *words: bytes) -> Any:
    """CONFIG SET parameter value [parameter value ...] -- Sets all of the parameters or none. O(N) where N is the number of parameters. Since 2.0.0."""
    if len(words) % 2:
        raise ReplyError(SYNTAX)
    pairs = [(parameter, value), *zip(words[::2], words[1::2], strict=True)]
    cx.session.pauses = True  # what follows in the same piece finds it so
    cx.config.set_many(pairs, local=cx.session.is_local, apply=cx.server.apply_config)
    return OK


@command("CONFIG|RESETSTAT", flags=_FLAGS)
def config_resetstat(cx: Context) -> Any:
    """CONFIG RESETSTAT -- Sets the counters that INFO shows to zero. O(1). Since 2.0.0."""
    cx.server.measures.reset()
    return OK


@command("CONFIG|REWRITE", flags=_FLAGS)
def config_rewrite(cx: Context) -> Any:
    """CONFIG REWRITE -- Writes the settings as they are now into the configuration file. O(N) where N is the number of settings. Since 2.8.0."""
    if cx.config.path is None:
        raise ReplyError(NO_CONFIG_FILE)
    try:
        cx.server.rewrite_config()
    except OSError as error:
        raise ReplyError(CONFIG_REWRITE % (error.strerror or error)) from None
    return OK
