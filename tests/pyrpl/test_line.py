"""The line to a worker process: calls that overtake one another, and what ends them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from tests.pyrpl.kit import FAKE, CallError, alive, ask, call, fake_line, soon
from transports.address import parse_address
from transports.base import Exchange
from transports.board import BoardSettings
from transports.errors import (
    ConnectError,
    ConnectProblem,
    LineBusyError,
    LineClosedError,
    PeerLostError,
    ReplyTimeoutError,
)
from transports.line_state import LineState
from transports.lookup import resolve_key
from transports.opening import make_board_transport
from transports.pyrpl import PyrplTransport
from transports.pyrpl.board import open_board
from transports.pyrpl.contract import StartError


async def test_calls_overtake_an_operation() -> None:
    """While an operation takes its time, other calls are answered in a fraction of it."""
    async with fake_line() as line, trio.open_nursery() as nursery:
        ended: list[float] = []

        async def operate() -> None:
            assert await ask(line, "operate", module="scope", steps=10, step_s=0.1) == 10
            ended.append(trio.current_time())

        nursery.start_soon(operate)
        for index in range(50):
            assert await ask(line, "echo", value=index) == index
        assert not ended
    assert line.state is LineState.CLOSED


async def test_concurrent_callers_get_their_own_replies() -> None:
    """Of many callers at once, each gets the reply to its own call, arrays included."""
    async with fake_line() as line, trio.open_nursery() as nursery:

        async def caller(number: int) -> None:
            for turn in range(20):
                array = np.full(1000, number + turn / 100)
                if turn % 5 == number % 5:
                    module = f"module{number}"
                    steps = await ask(line, "operate", module=module, steps=number, step_s=0.001)
                    assert steps == number
                received = await ask(line, "echo", value=array)
                assert received.dtype == np.float64
                assert np.array_equal(received, array)

        for number in range(12):
            nursery.start_soon(caller, number)


async def test_a_cancelled_call_is_ended_in_the_worker_and_answered_never() -> None:
    """Cancelling a call frees its module at once; no reply of it arrives."""
    async with fake_line() as line:
        with trio.move_on_after(0.2):
            await ask(line, "operate", module="scope", steps=100, step_s=0.1)
        began_s = trio.current_time()
        assert await ask(line, "operate", module="scope", steps=1, step_s=0.0) == 1
        assert trio.current_time() - began_s < 1.0
        assert line.counters.abandoned == 1
        assert line.dropped == 0


async def test_a_call_that_is_too_slow_is_forgotten() -> None:
    """A time-out ends the operation too; the line goes on."""
    async with fake_line() as line:
        with pytest.raises(ReplyTimeoutError):
            await ask(line, "operate", module="scope", steps=100, step_s=0.1, within_s=0.1)
        assert await ask(line, "operate", module="scope", steps=1, step_s=0.0) == 1
        assert line.counters.timeouts == 1
        assert not line.owed()


async def test_a_late_reply_is_dropped_and_counted() -> None:
    """A reply that was under way when its call was given up reaches nobody."""
    async with fake_line() as line:
        # What nobody waits for is answered all the same.
        await line.exchange(Exchange(call("echo", {"value": 1}), reply_within_s=None))
        assert await ask(line, "echo", value=2) == 2
        assert line.dropped == 1
        assert line.counters.unsolicited_bytes > 0


async def test_a_refused_commit_sends_nothing() -> None:
    """What `commit` raises keeps the call from the worker."""

    def refuse() -> None:
        raise RuntimeError("withdrawn")

    async with fake_line() as line:
        with pytest.raises(RuntimeError, match="withdrawn"):
            await line.exchange(
                Exchange(call("set", {"path": "scope.x", "value": 1})), commit=refuse
            )
        assert await ask(line, "get", path="scope.x") is None
        assert line.counters.exchanges == 1


async def test_the_second_operation_of_a_module_waits() -> None:
    """Operations of one module come one after the other, in order; none kills another."""
    async with fake_line() as line:
        ended: list[int] = []

        async def operate(steps: int) -> None:
            await ask(line, "operate", module="scope", steps=steps, step_s=0.05)
            ended.append(steps)

        async with trio.open_nursery() as nursery:
            for steps in (4, 1, 2):
                nursery.start_soon(operate, steps)
                await trio.sleep(0.02)
        assert ended == [4, 1, 2]


async def test_who_does_not_wait_is_refused_and_told_who_is_there() -> None:
    """Without waiting, a busy module is refused; the first operation goes on."""
    async with fake_line() as line, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ask(line, "operate", module="scope", steps=4, step_s=0.05))
        await trio.sleep(0.05)
        with pytest.raises(CallError, match="scope is busy with operate") as refused:
            await ask(line, "operate", wait=False, module="scope", steps=1, step_s=0.0)
        assert refused.value.kind == "busy"
        status = await ask(line, "status", module="scope")
        assert status["doing"] == "operate"


async def test_modules_that_exclude_one_another_are_refused() -> None:
    """What an operation uses beside its own module is refused to others, with the reason."""
    async with fake_line() as line, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ask(line, "operate", module="analyzer", steps=4, step_s=0.1))
        await trio.sleep(0.05)
        calls: list[tuple[str, dict[str, Any]]] = [
            ("operate", {"module": "iq2", "steps": 1, "step_s": 0.0}),
            ("set", {"path": "iq2.frequency", "value": 1}),
        ]
        for name, arguments in calls:
            with pytest.raises(CallError, match="operate uses iq2; wait for it") as refused:
                await ask(line, name, **arguments)
            assert refused.value.kind == "conflict"
        # Reading asks nobody.
        assert await ask(line, "get", path="iq2.frequency") is None


async def test_an_operation_is_followed_by_its_token() -> None:
    """Begun, an operation is polled for its reports and finished once."""
    async with fake_line() as line:
        operation: dict[str, Any] = {"module": "scope", "steps": 3, "step_s": 0.03}
        await ask(line, "begin", token="a", name="operate", arguments=operation)
        reports: list[int] = []
        done = False
        while not done:
            news = await ask(line, "poll", token="a")
            reports += news["reports"]
            done = news["done"]
            await trio.sleep(0.005)
        assert reports == [0, 1, 2]
        assert await ask(line, "finish", token="a") == 3
        with pytest.raises(CallError, match="no such operation"):
            await ask(line, "finish", token="a")


async def test_an_operation_that_waits_is_followed_like_one_that_works() -> None:
    """Begun behind another one, it is answered at once, says what it waits for, is stopped."""
    async with fake_line() as line:

        async def begin(token: str, steps: int, *, wait: bool = True) -> None:
            operation = {"module": "scope", "steps": steps, "step_s": 0.1}
            await ask(line, "begin", wait=wait, token=token, name="operate", arguments=operation)

        with trio.fail_after(5.0):
            await begin("a", 1000)
            await begin("b", 1)
            await begin("c", 1)
            assert await ask(line, "poll", token="b") == {
                "done": False,
                "reports": [],
                "waits": "it waits for scope, which is busy with operate",
            }
            with pytest.raises(CallError, match="scope is busy with operate") as refused:
                await begin("d", 1, wait=False)
            assert refused.value.kind == "busy"
            assert await ask(line, "stop", token="b")
            status = await ask(line, "status", module="scope")
            assert (status["doing"], status["waiting"]) == ("operate", 1)
            # Whoever waits keeps its place when the one before it is stopped.
            assert await ask(line, "stop", module="scope")
            assert await ask(line, "finish", token="c") == 1


async def test_stopping_frees_the_module_at_once() -> None:
    """Once a stop is answered, the module is free; the operation says that it was stopped."""
    async with fake_line() as line:
        operation: dict[str, Any] = {"module": "scope", "steps": 100, "step_s": 0.1}
        await ask(line, "begin", token="a", name="operate", arguments=operation)
        began_s = trio.current_time()
        assert await ask(line, "stop", token="a")
        assert (await ask(line, "status", module="scope"))["doing"] is None
        assert trio.current_time() - began_s < 0.5
        assert not await ask(line, "stop", token="a")
        async with trio.open_nursery() as nursery:

            async def operate() -> None:
                with pytest.raises(CallError, match="it was stopped") as aborted:
                    await ask(line, "operate", **operation)
                assert aborted.value.kind == "aborted"

            nursery.start_soon(operate)
            await trio.sleep(0.05)
            assert await ask(line, "stop", module="scope")


async def test_switching_off_ends_everything_first() -> None:
    """Before the outputs go off, every operation is ended: none turns them on again."""
    async with fake_line() as line:
        for module in ("scope", "analyzer"):
            arguments = {"module": module, "steps": 100, "step_s": 0.1}
            await ask(line, "begin", token=module, name="operate", arguments=arguments)
        waiting = {"module": "scope", "steps": 100, "step_s": 0.1}
        await ask(line, "begin", token="waiting", name="operate", arguments=waiting)
        await ask(line, "off")
        assert await ask(line, "get", path="output") == "off"
        with pytest.raises(CallError, match="the outputs were switched off"):
            await ask(line, "finish", token="waiting")
        for module in ("scope", "analyzer", "iq2"):
            assert (await ask(line, "status", module=module))["doing"] is None


async def test_failures_in_the_worker_are_answers() -> None:
    """A call that fails, is unknown or gives what cannot travel is answered with the reason."""
    async with fake_line() as line:
        for name, kind, text in (
            ("fail", "failed", "OSError: the register could not be read"),
            ("nonsense", "rejected", "there is no call 'nonsense'"),
            ("object", "failed", "object cannot be packed"),
            ("endless", "failed", "bytes are more than the 67108800 that can travel"),
            ("begin", "failed", "token"),
        ):
            with pytest.raises(CallError, match=text) as failed:
                await ask(line, name)
            assert failed.value.kind == kind
        assert await ask(line, "echo", value="well") == "well"


async def test_what_a_library_prints_does_not_disturb() -> None:
    """Standard output of the worker is not the pipe that carries the answers."""
    async with fake_line() as line:
        for _ in range(3):
            await ask(line, "noise")
        assert await ask(line, "echo", value=1) == 1


async def test_killing_the_worker_fails_what_is_in_flight_at_once() -> None:
    """`kill -9`: every caller is told within 100 ms; the line can be opened again."""
    async with fake_line() as line:

        async def kill() -> float:
            pid = line.pid
            assert pid is not None
            told: list[float] = []

            async def operate(module: str) -> None:
                with pytest.raises(PeerLostError, match="the worker process ended"):
                    await ask(line, "operate", module=module, steps=100, step_s=0.1)
                told.append(trio.current_time())

            async with trio.open_nursery() as nursery:
                for module in ("scope", "asg0", "pid0"):
                    nursery.start_soon(operate, module)
                await trio.sleep(0.05)
                killed_s = trio.current_time()
                os.kill(pid, signal.SIGKILL)
                await line.wait_lost()
            assert line.state is LineState.CLOSED
            with pytest.raises(LineClosedError):
                await ask(line, "echo", value=1)
            await line.open()
            assert line.pid != pid
            assert await ask(line, "echo", value=1) == 1
            return max(told) - killed_s

        await soon(kill, 0.1)


async def test_a_frozen_worker_is_killed() -> None:
    """A worker that answers no heart-beat is killed within the default budget of 3 s."""
    async with fake_line() as line:
        pid = line.pid
        assert pid is not None

        async def freeze() -> float:
            began_s = trio.current_time()
            with pytest.raises(PeerLostError, match=r"the worker process did not answer for"):
                await ask(line, "freeze")
            return trio.current_time() - began_s

        await soon(freeze, 3.0, turns=1)
    assert not alive(pid)


async def test_a_lost_board_is_said_within_a_heart_beat() -> None:
    """A worker that finds its board gone says so and ends."""
    async with fake_line() as line:
        await ask(line, "lose")
        with trio.fail_after(2.0):
            await line.wait_lost()
        with pytest.raises(LineClosedError):
            await ask(line, "echo", value=1)


async def test_a_call_that_blocks_the_worker_may_be_silent() -> None:
    """A call that says how long it keeps everybody waiting is not taken for a frozen worker."""
    async with fake_line(heartbeat_s=0.8) as line:
        assert await ask(line, "block", for_s=1.5) == "done"
        assert await ask(line, "echo", value=1) == 1


async def test_a_worker_that_freezes_in_a_long_call_is_killed() -> None:
    """Patience is for the part of a call that blocks, not for all the time that it goes on."""
    async with fake_line() as line, trio.open_nursery() as nursery:

        async def call_method() -> None:
            with pytest.raises(PeerLostError, match="did not answer for"):
                await ask(line, "block", for_s=0.0, then_s=60.0, within_s=60.0)

        nursery.start_soon(call_method)
        await trio.sleep(0.1)

        async def freeze() -> float:
            began_s = trio.current_time()
            with pytest.raises(PeerLostError, match="did not answer for"):
                await ask(line, "freeze")
            return trio.current_time() - began_s

        await soon(freeze, 3.0, turns=1)


@pytest.mark.parametrize(
    ("host", "text", "problem"),
    [
        ("refusing", "refusing:2222 refused the connection", ConnectProblem.UNREACHABLE),
        (
            "crashing",
            "its last words: RuntimeError: a mistake in the worker",
            ConnectProblem.OTHER,
        ),
    ],
)
async def test_a_failed_start_says_why(host: str, text: str, problem: ConnectProblem) -> None:
    """What keeps a worker from starting is the error of `open`, on one line, and its kind."""
    line = PyrplTransport(f"redpitaya://{host}", BoardSettings(host=host), command=FAKE)
    with pytest.raises(ConnectError, match=text) as failed:
        await line.open()
    assert "\n" not in str(failed.value)
    assert failed.value.problem is problem
    assert line.pid is None
    await line.aclose()


async def test_a_worker_that_sends_something_else_is_ended() -> None:
    """Bytes that are no frames are a fault, not a wait."""
    line = PyrplTransport("redpitaya://fake", BoardSettings(host="fake"), command=(*FAKE, "garble"))
    with pytest.raises(ConnectError, match="something else than frames"):
        await line.open()


async def test_a_slow_start_is_given_up() -> None:
    """A worker that does not get ready within its time is killed."""
    from attrs import evolve

    from transports.pyrpl import REDPITAYA

    profile = evolve(REDPITAYA, connect_within_s=1.0)
    settings = BoardSettings(host="dawdling")
    line = PyrplTransport("redpitaya://slow", settings, profile, command=FAKE)
    began_s = time.monotonic()
    with pytest.raises(ConnectError, match="did not reach the board"):
        await line.open()
    assert time.monotonic() - began_s < 5.0


async def test_closing_leaves_nothing_and_lets_the_board_go(tmp_path: Path) -> None:
    """Closing ends the process after it has let go of the board; twice is harmless."""
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a view on a process
    farewell = tmp_path / "farewell"
    async with fake_line() as line:
        pid = line.pid
        assert pid is not None
        with pytest.raises(LineBusyError):
            await line.open()
        await ask(line, "set", path="farewell", value=str(farewell))
    assert farewell.exists()
    assert not alive(pid)
    await line.aclose()
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208


def test_virtual_time_is_refused() -> None:
    """Under a virtual clock no process is started; the error says what to use instead."""

    async def main() -> None:
        line = PyrplTransport("redpitaya://fake", BoardSettings(host="fake"), command=FAKE)
        with pytest.raises(ConnectError, match="use redpitaya://sim without a virtual clock"):
            await line.open()

    trio.run(main, clock=MockClock())


async def test_all_names_of_a_board_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host name, `.local` name and address of one board have one canonical name."""

    def look_up(host: str, *more: object, **options: object) -> list[object]:
        del more, options
        assert host in ("rp-f0a1b2.local", "rp.example.org", "192.0.2.7")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    names = ("rp-f0a1b2.local", "rp.example.org", "192.0.2.7", "192.0.2.7?config_name=lab&port=80")
    keys = {await resolve_key(parse_address(f"redpitaya://{name}")) for name in names}
    assert keys == {"redpitaya://192.0.2.7"}


def test_a_missing_library_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyRPL, the worker says how to install it."""

    def find_nothing(name: str) -> None:
        del name

    monkeypatch.setattr("transports.pyrpl.board.find_spec", find_nothing)
    with pytest.raises(StartError) as missing:
        open_board({"config_name": None, "host": "rp", "port": 2222, "ssh": False})
    assert str(missing.value) == 'PyRPL is not installed: pip install "benchtree[pyrpl]"'


def _inside(folder: Path) -> list[Path]:
    return [*folder.iterdir()]


async def test_a_worker_that_keeps_nothing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder goes with it, killed or not; what a killed program left goes at the next start."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("PYRPL_USER_DIR", raising=False)
    async with fake_line() as line:
        (folder,) = _inside(tmp_path)
        assert folder.name.startswith("benchtree-pyrpl-")
        (folder / "written").touch()
        assert line.pid is not None
        os.kill(line.pid, signal.SIGKILL)
        await line.wait_lost()
        await line.open()
        (again,) = _inside(tmp_path)
        assert again != folder
    assert not _inside(tmp_path)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    program = await trio.lowlevel.open_process(
        [sys.executable, "-c", _ORPHAN], stdout=subprocess.PIPE, env=environment
    )
    assert program.stdout is not None
    async with program.stdout:
        await program.stdout.receive_some()
        async with fake_line():
            assert len(_inside(tmp_path)) == 2  # nobody takes what is in use
        program.kill()
        await program.wait()
    (left,) = _inside(tmp_path)
    async with fake_line():
        assert not left.exists()
    assert not _inside(tmp_path)


async def test_the_users_own_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyRPL keeps in a folder that was chosen for it is nobody else's to remove."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.setenv("PYRPL_USER_DIR", str(tmp_path))
    (tmp_path / "config").touch()
    async with fake_line():
        pass
    assert [each.name for each in _inside(tmp_path)] == ["config"]


async def test_a_missing_library_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyRPL is not installed, adding a board fails with one line, and is not retried."""

    def find_nothing(name: str) -> None:
        del name

    monkeypatch.setattr("transports.pyrpl.client.find_spec", find_nothing)
    says = 'redpitaya://rp.invalid: PyRPL is not installed: pip install "benchtree[pyrpl]"'
    with pytest.raises(ConnectError) as missing:
        make_board_transport(parse_address("redpitaya://rp.invalid"))
    assert str(missing.value) == says
    assert missing.value.problem is ConnectProblem.MISSING_LIBRARY


_ORPHAN = """
import trio
from tests.pyrpl.kit import fake_line

async def main() -> None:
    async with fake_line() as line:
        print(line.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


async def test_a_worker_does_not_outlive_its_program() -> None:
    """A program that is killed leaves no worker behind."""
    command = [sys.executable, "-c", _ORPHAN]
    program = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert program.stdout is not None
    async with program.stdout:
        pid = int(await program.stdout.receive_some())
        assert alive(pid)
        program.kill()
        await program.wait()
    with trio.fail_after(5.0):
        while alive(pid):  # noqa: ASYNC110 - of another process
            await trio.sleep(0.01)
