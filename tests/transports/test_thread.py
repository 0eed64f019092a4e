"""Calls in a thread of their own: whoever waits is woken, and nobody by mistake."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from transports import current_clock


async def test_a_call_returns_or_raises_to_who_waits() -> None:
    """What a call returns or raises is what waiting for it does, also once it is over."""
    thread = current_clock().make_thread("calls")
    good, bad = thread.start(lambda: 7), thread.start(lambda: 1 // 0)
    assert await good.wait() == 7
    await thread.wait_idle()
    with pytest.raises(ZeroDivisionError):
        await bad.wait()
    thread.stop()


async def test_all_who_wait_are_woken_each_for_its_own() -> None:
    """Several tasks wait for calls and for the end of all; none misses what it waits for."""
    thread = current_clock().make_thread("calls")
    gates = [threading.Event() for _ in range(3)]
    calls = [thread.start(gate.wait) for gate in gates]
    heard: list[int] = []

    async def wait(number: int) -> None:
        assert await calls[number].wait()
        heard.append(number)

    async def wait_idle() -> None:
        await thread.wait_idle()
        heard.append(-1)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_idle)
            for number in reversed(range(3)):
                nursery.start_soon(wait, number)
            for number, gate in enumerate(gates):
                await trio.testing.wait_all_tasks_blocked()
                assert heard == list(range(number))
                assert not thread.idle
                gate.set()
                while len(heard) <= number:  # noqa: ASYNC110 - the thread takes its time
                    await trio.sleep(0.001)
    assert sorted(heard) == [-1, 0, 1, 2]
    thread.stop()


async def test_who_gives_up_leaves_the_others_listening() -> None:
    """A task that is cancelled while it waits takes nobody's call away."""
    thread = current_clock().make_thread("calls")
    gate = threading.Event()
    call = thread.start(gate.wait)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            first, second = trio.CancelScope(), trio.CancelScope()

            async def give_up(scope: trio.CancelScope) -> None:
                with scope:
                    await call.wait()

            nursery.start_soon(give_up, first)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(give_up, second)
            nursery.start_soon(thread.wait_idle)
            await trio.testing.wait_all_tasks_blocked()
            first.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert not second.cancelled_caught
            gate.set()
        assert first.cancelled_caught
        assert not second.cancelled_caught
    thread.stop()


async def test_a_failed_wait_ends_though_the_call_goes_on() -> None:
    """Whoever waits gets the error at once; the thread is busy until its call returns."""
    thread = current_clock().make_thread("calls")
    gate = threading.Event()
    call = thread.start(gate.wait)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(OSError, match="gone"):
                    await call.wait()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            call.fail(OSError("gone"))
        assert not thread.idle
        gate.set()
        await thread.wait_idle()
    thread.stop()


async def test_a_call_after_the_end_starts_another_thread() -> None:
    """What was queued is done first; a later call is made all the same."""
    thread = current_clock().make_thread("calls")
    names: list[str] = []
    for _ in range(2):
        call = thread.start(lambda: names.append(threading.current_thread().name))
        thread.stop()
        await call.wait()
    assert names == ["calls", "calls"]
    assert thread.idle
