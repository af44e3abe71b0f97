"""Publish and subscribe: words and replies. Source: the Redis 7.2 manual, group *pubsub*. Who listens to what, `pubsub` knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lmdbredis import pattern
from lmdbredis.errors import NOT_IN_ONE_GO, SUBCOMMAND_SYNTAX, ReplyError
from lmdbredis.pubsub import Kind
from lmdbredis.registry import FAST, LOADING, NOSCRIPT, PUBSUB, STALE, Context, command, container
from lmdbredis.resp import Push, Several

if TYPE_CHECKING:
    from collections.abc import Sequence

_FLAGS: Final = PUBSUB | LOADING | STALE
_LISTEN: Final = _FLAGS | NOSCRIPT
_PUBLISH: Final = _FLAGS | FAST


# --- listening ----------------------------------------------------------------------------------------------------------------


def _counted(cx: Context, kind: Kind) -> int:
    """Return the count that stands in a reply: of channels and patterns, or of shard channels."""
    channels, patterns, shards = cx.session.listens
    return len(shards) if kind == Kind.SHARD else len(channels) + len(patterns)


def _subscribe(cx: Context, kind: Kind, word: bytes, names: Sequence[bytes]) -> Several:
    """Listen to names; the reply to each is a push."""
    replies = Several()
    for name in names:
        cx.executor.subscribe(cx.session, kind, name)
        replies.append(Push((word, name, _counted(cx, kind))))
    return replies


def _unsubscribe(cx: Context, kind: Kind, word: bytes, names: Sequence[bytes]) -> Several:
    """Listen to names no more, to all if none is named."""
    replies = Several()
    for name in names or list(cx.session.listens[kind]):
        cx.executor.unsubscribe(cx.session, kind, name)
        replies.append(Push((word, name, _counted(cx, kind))))
    return replies or Several([Push((word, None, _counted(cx, kind)))])


@command("SUBSCRIBE", flags=_LISTEN)
def subscribe(cx: Context, channel: bytes, *channels: bytes) -> Several:
    """SUBSCRIBE channel [channel ...] -- Listens for messages published to channels. O(N) where N is the number of channels to subscribe to. Since 2.0.0."""
    return _subscribe(cx, Kind.CHANNEL, b"subscribe", (channel, *channels))


@command("UNSUBSCRIBE", flags=_LISTEN)
def unsubscribe(cx: Context, *channels: bytes) -> Several:
    """UNSUBSCRIBE [channel [channel ...]] -- Stops listening to messages posted to channels. O(N) where N is the number of channels to unsubscribe. Since 2.0.0."""
    return _unsubscribe(cx, Kind.CHANNEL, b"unsubscribe", channels)


@command("PSUBSCRIBE", flags=_LISTEN)
def psubscribe(cx: Context, pattern_: bytes, *patterns: bytes) -> Several:
    """PSUBSCRIBE pattern [pattern ...] -- Listens for messages published to channels that match one or more patterns. O(N) where N is the number of patterns to subscribe to. Since 2.0.0."""
    return _subscribe(cx, Kind.PATTERN, b"psubscribe", (pattern_, *patterns))


@command("PUNSUBSCRIBE", flags=_LISTEN)
def punsubscribe(cx: Context, *patterns: bytes) -> Several:
    """PUNSUBSCRIBE [pattern [pattern ...]] -- Stops listening to messages published to channels that match one or more patterns. O(N) where N is the number of patterns to unsubscribe. Since 2.0.0."""
    return _unsubscribe(cx, Kind.PATTERN, b"punsubscribe", patterns)


@command("SSUBSCRIBE", flags=_LISTEN, keys=(1, -1, 1))
def ssubscribe(cx: Context, shardchannel: bytes, *shardchannels: bytes) -> Several:
    """SSUBSCRIBE shardchannel [shardchannel ...] -- Listens for messages published to shard channels. O(N) where N is the number of shard channels to subscribe to. Since 7.0.0."""
    if cx.executor.in_transaction:
        raise ReplyError(NOT_IN_ONE_GO % ("SSUBSCRIBE", "a "))
    return _subscribe(cx, Kind.SHARD, b"ssubscribe", (shardchannel, *shardchannels))


@command("SUNSUBSCRIBE", flags=_LISTEN, keys=(1, -1, 1))
def sunsubscribe(cx: Context, *shardchannels: bytes) -> Several:
    """SUNSUBSCRIBE [shardchannel [shardchannel ...]] -- Stops listening to messages posted to shard channels. O(N) where N is the number of shard channels to unsubscribe. Since 7.0.0."""
    return _unsubscribe(cx, Kind.SHARD, b"sunsubscribe", shardchannels)


# --- publishing ---------------------------------------------------------------------------------------------------------------


@command("PUBLISH", flags=_PUBLISH)
def publish(cx: Context, channel: bytes, message: bytes) -> Any:
    """PUBLISH channel message -- Posts a message to a channel. O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of subscribed patterns (by any client). Since 2.0.0."""
    return cx.executor.publish_everywhere(Kind.CHANNEL, channel, message)


@command("SPUBLISH", flags=_PUBLISH, keys=(1, 1, 1))
def spublish(cx: Context, shardchannel: bytes, message: bytes) -> Any:
    """SPUBLISH shardchannel message -- Posts a message to a shard channel. O(N) where N is the number of clients subscribed to the receiving shard channel. Since 7.0.0."""
    return cx.executor.publish_everywhere(Kind.SHARD, shardchannel, message)


# --- looking ------------------------------------------------------------------------------------------------------------------


@container("PUBSUB", help_since="6.2.0")
def pubsub(cx: Context) -> None:
    """PUBSUB -- A container for Pub/Sub commands. Since 2.8.0."""


def _active(cx: Context, kind: Kind, patterns: Sequence[bytes]) -> list[bytes]:
    """Return the names that somebody listens to, and that match. Raises ReplyError."""
    if len(patterns) > 1:
        raise ReplyError(SUBCOMMAND_SYNTAX)
    names = cx.executor.hub.names(kind)
    return list(filter(pattern.compile(patterns[0]), names)) if patterns else names


@command("PUBSUB|CHANNELS", flags=_FLAGS)
def pubsub_channels(cx: Context, *patterns: bytes) -> list[bytes]:
    """PUBSUB CHANNELS [pattern] -- Returns the active channels. O(N) where N is the number of active channels, and assuming constant time pattern matching (relatively short channels and patterns). Since 2.8.0."""
    return _active(cx, Kind.CHANNEL, patterns)


@command("PUBSUB|NUMPAT", flags=_FLAGS)
def pubsub_numpat(cx: Context) -> int:
    """PUBSUB NUMPAT -- Returns a count of unique pattern subscriptions. O(1). Since 2.8.0."""
    return len(cx.executor.hub.names(Kind.PATTERN))


@command("PUBSUB|NUMSUB", flags=_FLAGS)
def pubsub_numsub(cx: Context, *channels: bytes) -> list[Any]:
    """PUBSUB NUMSUB [channel [channel ...]] -- Returns a count of subscribers to channels. O(N) for the NUMSUB subcommand, where N is the number of requested channels. Since 2.8.0."""
    return [word for name in channels for word in (name, cx.executor.hub.count(Kind.CHANNEL, name))]


@command("PUBSUB|SHARDCHANNELS", flags=_FLAGS)
def pubsub_shardchannels(cx: Context, *patterns: bytes) -> list[bytes]:
    """PUBSUB SHARDCHANNELS [pattern] -- Returns the active shard channels. O(N) where N is the number of active shard channels, and assuming constant time pattern matching (relatively short shard channels). Since 7.0.0."""
    return _active(cx, Kind.SHARD, patterns)


@command("PUBSUB|SHARDNUMSUB", flags=_FLAGS)
def pubsub_shardnumsub(cx: Context, *shardchannels: bytes) -> list[Any]:
    """PUBSUB SHARDNUMSUB [shardchannel [shardchannel ...]] -- Returns the count of subscribers of shard channels. O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels. Since 7.0.0."""
    return [word for name in shardchannels for word in (name, cx.executor.hub.count(Kind.SHARD, name))]
