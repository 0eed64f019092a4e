"""A worker process from its first byte to its last."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import trio

from .contract import Board, StartError
from .serving import Worker
from .wire import Frame, FrameReader, Kind, encode, pack, unpack

OpenBoard: TypeAlias = Callable[[Mapping[str, Any]], Board]
"""Reaches a board, or raises StartError. May block."""

_FIRST_CHUNK: int = 65_536


def run_worker(open_board: OpenBoard) -> None:
    """Serve a board over standard input and output until the input ends."""
    # Ctrl-C is for the program, which stops its instruments first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.dup(0), os.dup(1)
    # What a library prints must not mix with the answers.
    os.dup2(2, 1)
    with open(os.devnull) as nothing:  # noqa: PTH123 - a device, not a path of ours
        os.dup2(nothing.fileno(), 0)
    trio.run(_serve, open_board, requests, answers)


async def _serve(open_board: OpenBoard, requests: int, answers: int) -> None:
    frames = FrameReader()
    async with trio.lowlevel.FdStream(requests) as source, trio.lowlevel.FdStream(answers) as sink:
        settings = await _receive_settings(source, frames)
        if settings is None:
            return
        try:
            board = open_board(settings)
        except StartError as why:
            failed = Frame(Kind.FAILED, 0, pack([why.kind, str(why)]))
            await sink.send_all(encode(failed))
            return
        try:
            await Worker(board, source, sink).serve(frames)
        except* trio.BrokenResourceError:
            pass  # the program is gone
        finally:
            board.close()


async def _receive_settings(
    source: trio.abc.ReceiveStream, frames: FrameReader
) -> Mapping[str, Any] | None:
    while data := await source.receive_some(_FIRST_CHUNK):
        for frame in frames.feed(bytes(data)):
            settings: Mapping[str, Any] = unpack(frame.body)
            return settings
    return None
