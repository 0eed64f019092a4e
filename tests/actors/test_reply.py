"""The one-shot reply channel."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import ReplyChannel


async def test_an_answer_given_before_is_returned_after_a_checkpoint() -> None:
    """Receiving what is there already returns it, and is still a checkpoint."""
    channel: ReplyChannel[int] = ReplyChannel()
    channel.send(7)
    assert channel.answered
    assert await channel.receive() == 7
    checkpoints = 0
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await channel.receive()
        except trio.Cancelled:
            checkpoints += 1
            raise
    assert checkpoints == 1


async def test_all_who_wait_get_the_answer(autojump_clock: MockClock) -> None:
    """Any number of tasks wait for one answer, each of them more than once."""
    channel: ReplyChannel[str] = ReplyChannel()
    got: list[str] = []

    async def wait() -> None:
        got.append(await channel.receive())
        got.append(await channel.receive())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        channel.send("here")
    assert got == ["here"] * 6


async def test_an_error_is_raised_in_all_who_wait() -> None:
    """An answer that is an exception is raised for everybody, each time."""
    channel: ReplyChannel[str] = ReplyChannel()
    error = ValueError("no")
    caught: list[BaseException] = []

    async def wait() -> None:
        try:
            await channel.receive()
        except ValueError as raised:
            caught.append(raised)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        channel.send_error(error)
    await wait()
    assert caught == [error] * 3


async def test_a_second_answer_is_an_error_of_the_program() -> None:
    """The answer is given once; the first one stays."""
    channel: ReplyChannel[int] = ReplyChannel()
    channel.send(1)
    with pytest.raises(RuntimeError, match="twice"):
        channel.send(2)
    with pytest.raises(RuntimeError, match="twice"):
        channel.send_error(ValueError())
    assert await channel.receive() == 1


async def test_none_is_an_answer() -> None:
    """A channel answered with None is answered."""
    channel: ReplyChannel[None] = ReplyChannel()
    answered = [channel.answered]
    channel.send(None)
    answered.append(channel.answered)
    assert answered == [False, True]
    await channel.receive()


async def test_a_cancelled_wait_leaves_the_channel_to_others(autojump_clock: MockClock) -> None:
    """One waiter's deadline marks the channel abandoned, and harms no other waiter."""
    channel: ReplyChannel[int] = ReplyChannel()
    got: list[int] = []

    async def wait() -> None:
        got.append(await channel.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        states = [channel.abandoned]
        with trio.move_on_after(1.0):
            await channel.receive()
        states.append(channel.abandoned)
        assert states == [False, True]
        channel.send(3)
    assert got == [3]


async def test_an_answer_wins_over_a_cancellation_that_comes_after_it() -> None:
    """Who was answered and then cancelled in the same step still gets the answer."""
    channel: ReplyChannel[int] = ReplyChannel()
    got: list[int] = []

    async def wait(scope: trio.CancelScope) -> None:
        with scope:
            got.append(await channel.receive())

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(wait, scope)
        await wait_all_tasks_blocked()
        channel.send(5)
        scope.cancel()
    assert got == [5]
    assert not channel.abandoned
