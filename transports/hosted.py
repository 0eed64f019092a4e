"""Somebody else's instrument library on a line of ours.

A library that talks through a stream of bytes, whether written for Trio or for AnyIO, is
hosted: its object lives beside the connection, and one call of it is one exchange. A call
that is cancelled, too slow or failed leaves the line stale; the line is then drained or
reopened, and the library's object made anew, because nobody knows what it still holds.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Concatenate, Final, Generic, TypeVar

import trio
from attrs import evolve, frozen

from .base import Exchange
from .errors import FrameError, LineClosedError, PeerLostError, ReplyTimeoutError, TransportError
from .framing import Lines
from .line_state import LineState
from .profile import BusProfile
from .stream import ByteStream, StreamTransport

L = TypeVar("L")

_UNFRAMED: Final = Lines(b"\n")


class HostedStream:
    """What a hosted library reads and writes: the connection, without a way to close it.

    It has the methods of Trio's streams and those of AnyIO's. A far end that went away is
    a PeerLostError.
    """

    def __init__(self, stream: ByteStream) -> None:
        """Lend a connection."""
        self._stream = stream
        self.lost: PeerLostError | None = None

    async def send_all(self, data: bytes) -> None:
        """Send all of `data`, as Trio's streams do."""
        try:
            taken = self._stream.write_nowait(data)
            while taken < len(data):
                await self._stream.wait_writable()
                taken += self._stream.write_nowait(data[taken:])
        except PeerLostError as lost:
            self.lost = lost
            raise
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, at least one byte; all of it, whatever `max_bytes` is."""
        del max_bytes
        try:
            while not (data := self._stream.read_nowait()):
                await self._stream.wait_readable()
        except PeerLostError as lost:
            self.lost = lost
            raise
        await trio.lowlevel.checkpoint()
        return data

    async def send(self, item: bytes) -> None:
        """Send all of `item`, as AnyIO's streams do."""
        await self.send_all(item)

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """Return what has arrived, as AnyIO's streams do."""
        return await self.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until more can be sent."""
        await self._stream.wait_writable()

    async def send_eof(self) -> None:
        """Do nothing: a line has no end."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Do nothing: the connection belongs to the bus."""
        await trio.lowlevel.checkpoint()


@frozen
class Hosting(Generic[L]):
    """How a library is hosted.

    Attributes:
        make: Makes the library's object on a stream; called after every opening. It may
            talk to the device. It must not start tasks that outlive it.
        calls: What can be asked of the object, by name. Each gives what JSON can hold.
    """

    make: Callable[[HostedStream], Awaitable[L]]
    calls: Mapping[str, Callable[Concatenate[L, ...], Awaitable[Any]]]

    def request(self, call: str, *arguments: object) -> bytes:
        """Return the request that makes a call.

        Raises:
            ValueError: There is no call of that name.
        """
        if call not in self.calls:
            raise ValueError(f"no call is named {call!r}; there are: {', '.join(self.calls)}")
        return json.dumps([call, *arguments]).encode()


class HostedTransport(StreamTransport):
    """A line whose exchanges are the calls of a library.

    A reply is what the call returned, as JSON.

    Args:
        key: The canonical name of the bus.
        connect: Opens the stream; called by `open` and to reopen.
        hosting: The library.
        profile: The numbers of the bus.
        locate: Finds the canonical name of the bus anew; see `StreamTransport`.
    """

    def __init__(
        self,
        key: str,
        connect: Callable[[], Awaitable[ByteStream]],
        hosting: Hosting[Any],
        profile: BusProfile,
        *,
        locate: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        """Make a closed line."""
        # What arrives is for the library to read, at whatever time it does.
        profile = evolve(profile, flush_every_s=0.0)
        super().__init__(key, connect, _UNFRAMED, profile, locate=locate)
        self._hosting = hosting
        self._lent: HostedStream | None = None
        self._library: Any = None

    async def open(self) -> None:
        """Open the line and make the library's object.

        Raises:
            ConnectError: It cannot be opened now.
            FrameError: The library's object could not be made.
            ReplyTimeoutError: Making it took longer than `connect_within_s`.
        """
        await super().open()
        try:
            await self._make()
        except BaseException:
            await self.aclose()
            raise

    async def resync(self, fence: Exchange | None = None) -> None:
        """Bring a stale line back into step and make the library's object anew."""
        if self.state is not LineState.STALE:
            return
        before = self._lent
        # No fence: how the library asks for an identity is its own affair.
        await super().resync(None)
        if self._lent is before:
            try:
                await self._make()
            except BaseException:
                await self.aclose()
                raise

    async def aclose(self) -> None:
        """Close the line; the library's object is forgotten."""
        self._library = self._lent = None
        await super().aclose()

    async def _converse(self, stream: ByteStream, exchange: Exchange, sent_s: float) -> bytes:
        del stream
        call, *arguments = json.loads(exchange.request)
        within_s = exchange.reply_within_s or self._profile.reply_within_s
        held = await self._run(
            lambda: self._hosting.calls[call](self._library, *arguments), sent_s, within_s
        )
        return json.dumps(held).encode()

    async def _make(self) -> None:
        self._lent = HostedStream(self._open_stream())
        lent = self._lent
        self._library = await self._run(
            lambda: self._hosting.make(lent), trio.current_time(), self._profile.connect_within_s
        )

    async def _run(
        self, work: Callable[[], Awaitable[Any]], since_s: float, within_s: float
    ) -> Any:
        results: list[Any] = []
        try:
            with trio.CancelScope(deadline=since_s + within_s):
                results.append(await work())
        except TransportError:
            raise
        except Exception as error:
            lent = self._lent
            if lent is not None and lent.lost is not None:
                raise PeerLostError(lent.lost.reason) from error
            if lent is None:
                raise LineClosedError("the line was closed meanwhile") from error
            raise FrameError(f"the library failed: {error!r}") from error
        if not results:
            raise ReplyTimeoutError("the library did not return", waited_s=within_s)
        return results[0]
