"""Operations on an emulated board: side by side, followed, withdrawn, refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import trio

from actors import (
    Cause,
    CommandError,
    ReconcilePolicy,
    Reconciler,
    RefusedError,
    StateDrifted,
)
from actors.instruments.red_pitaya import Point
from tests.pyrpl.boards import bench, eventually, strongest
from tests.pyrpl.kit import soon

pytestmark = pytest.mark.heavy


async def test_a_setting_overtakes_an_acquisition() -> None:
    """Changed in mid-acquisition, the frequency shows in the trace: both are in it."""
    async with bench() as b, trio.open_nursery() as nursery:
        rp = b.rp
        await rp.asg0.setup(waveform="sin", frequency=100.0, amplitude=0.5)

        async def change() -> None:
            await trio.sleep(0.5)

            async def set_frequency() -> float:
                began_s = trio.current_time()
                await rp.asg0.frequency.set(300.0)
                return trio.current_time() - began_s

            # A serial worker would take what is left of the acquisition.
            await soon(set_frequency, 0.1, turns=20)

        nursery.start_soon(change)
        trace = await rp.scope.single(input1="asg0", duration=1.0)
        third = len(trace.ch1) // 3
        assert strongest(trace.time[:third], trace.ch1[:third]) == pytest.approx(100.0, abs=4)
        assert strongest(trace.time[-third:], trace.ch1[-third:]) == pytest.approx(300.0, abs=4)


async def test_withdrawing_frees_the_module_at_once() -> None:
    """A withdrawn acquisition or sweep frees its module within moments; others go on."""
    async with bench() as b:
        rp = b.rp

        async def withdraw_trace() -> float:
            ticket = await rp.scope.submit_single(duration=8.0)
            await trio.sleep(0.1)
            began_s = trio.current_time()
            ticket.withdraw()
            outcome = await ticket.outcome()
            assert outcome.cause is Cause.WITHDRAWN
            while (await rp.status("scope")).doing is not None:
                assert trio.current_time() - began_s < 1.0
            return trio.current_time() - began_s

        await soon(withdraw_trace, 0.5, turns=10)
        await rp.scope.single(duration=0.001)

        async def withdraw_sweep() -> float:
            points: list[Point] = []
            sweep = rp.network_analyzer.sweep(1e3, 1e5, 1000, input="in2", output="out2")
            async for point in sweep:
                points.append(point)
                if len(points) == 3:
                    break
            assert [each.index for each in points] == [0, 1, 2]
            began_s = trio.current_time()
            sweep.withdraw()
            while (await rp.status("network_analyzer")).doing is not None:
                assert trio.current_time() - began_s < 1.0
            return trio.current_time() - began_s

        await soon(withdraw_sweep, 0.5, turns=10)
        # Its module is free for the next one.
        with trio.fail_after(5.0):
            await rp.network_analyzer.sweep(1e4, 1e5, 2, input="in2", output="out2").result()
        # The excitation is off again.
        assert await rp.iq2.amplitude.get() == 0.0
        assert await rp.iq2.output.get() == "off"


async def test_progress_arrives() -> None:
    """An acquisition says again and again how much of its time has passed."""
    async with bench() as b:
        ticket = await b.rp.scope.submit_single(duration=0.5)
        seen = [each.fraction async for each in ticket.progress() if each.fraction is not None]
        outcome = await ticket.outcome()
        assert outcome.error is None
        assert len(seen) >= 3
        assert seen == sorted(seen)
        assert 0.0 <= seen[0] < seen[-1] <= 1.0


async def test_a_second_client_waits_or_is_refused() -> None:
    """A busy module makes the second client wait; with wait=False it is refused at once."""
    async with bench() as b, trio.open_nursery() as nursery:
        scope = b.rp.scope
        first = await scope.submit_single(duration=0.5, input1="in1")
        await trio.sleep(0.1)
        with pytest.raises(RefusedError, match=r"rp\.scope is busy with single") as refused:
            await scope.single(duration=0.001, wait=False)
        assert refused.value.cause is Cause.CONFLICT
        second: list[int] = []

        async def wait() -> None:
            trace = await scope.single(duration=0.001, input1="in2")
            assert first.state.final
            second.append(len(trace.ch1))

        nursery.start_soon(wait)
        outcome = await first.outcome()
        assert outcome.value is not None
        assert outcome.value.time[-1] > 0.4
    assert second == [16_384]


async def test_what_was_called_by_path_is_waited_for_too() -> None:
    """A module that PyRPL's own method keeps busy is waited for, or refused, like any other."""
    async with bench() as b, trio.open_nursery() as nursery:
        rp = b.rp
        await rp.scope.trigger_source.set("ch1_positive_edge")

        async def acquire() -> None:
            with pytest.raises(CommandError, match="it was stopped"):
                await rp.call_method("scope.single_async", within_s=20.0)

        nursery.start_soon(acquire)
        while (await rp.scope.get_status()).doing is None:  # noqa: ASYNC110 - of the board
            await trio.sleep(0.01)
        with trio.fail_after(2.0), pytest.raises(CommandError, match="scope is busy with call"):
            await rp.scope.single(duration=0.001, wait=False)
        settings: dict[str, Any] = {"duration": 0.001, "trigger_source": "immediately"}
        with pytest.raises(CommandError, match="it waits for scope, which is busy with call"):
            await rp.scope.single(timeout_s=0.1, **settings)
        ticket = await rp.scope.submit_single(**settings)
        async for progress in ticket.progress():
            if progress.doing:
                assert progress.doing == "it waits for scope, which is busy with call"
                break
        assert await rp.scope.stop()
        outcome = await ticket.outcome()
        assert outcome.value is not None
        assert len(outcome.value.ch1) == 16_384


async def test_a_trigger_is_waited_for_and_given() -> None:
    """A trigger that was set before is waited for as long as is said, and it is said."""
    async with bench() as b, trio.open_nursery() as nursery:
        rp = b.rp
        await rp.asg0.setup(
            waveform="halframp",
            frequency=100.0,
            amplitude=0.5,
            phase=90.0,
            cycles_per_burst=1,
            trigger_source="off",
        )
        await rp.scope.trigger_source.set("asg0")
        waits = "not done within 0.2 s: it waits for the trigger 'asg0'"
        with pytest.raises(CommandError, match=waits):
            await rp.scope.single(input1="asg0", duration=0.03, timeout_s=0.2)
        ticket = await rp.scope.submit_single()

        async def trigger() -> None:
            async for progress in ticket.progress():
                if progress.doing:
                    assert progress.doing == "it waits for the trigger 'asg0'"
                    break
            await rp.asg0.trigger()

        nursery.start_soon(trigger)
        outcome = await ticket.outcome()
        assert outcome.value is not None
        trace = outcome.value
        # One turn of the table from a quarter on: from -0.25 up, once around, and at rest.
        after = trace.ch1[trace.time > 0.0]
        assert after[0] == pytest.approx(-0.25, abs=0.02)
        assert np.count_nonzero(np.diff(after) < -0.5) == 1
        assert after[-1] == pytest.approx(-0.25, abs=0.02)
        assert await rp.asg0.trigger_source.get() == "off"
        assert await rp.asg0.phase.get() == pytest.approx(90.0)


async def test_what_was_told_is_what_is_found() -> None:
    """What the board rounds, changes itself or takes along with an operation is no drift."""
    async with bench() as b:
        rp = b.rp
        await rp.scope.decimation.set(16)
        await rp.scope.duration.set(0.1)
        await rp.asg0.frequency.set(1e3)
        await rp.asg0.phase.set(360.0)
        await rp.pid0.input_filter.set([1234.0, -3.0])
        await rp.pid0.p.set(0.123)
        await rp.pid0.i.set(-5.0)
        await rp.pid0.ival.set(0.5)
        await rp.pid0.setpoint.set(0.3)
        await rp.iq0.bandwidth.set([777.0])
        await rp.iq0.ac_bandwidth.set(55.0)
        await rp.iq0.gain.set(0.33)
        await rp.iq2.frequency.set(1e6)
        await rp.iq2.bandwidth.set([5e3, 5e3])
        await rp.iq2.amplitude.set(0.2)
        await rp.trigger.armed.set(True)
        await rp.hk.pin_p.set(True, instance=2)
        await rp.network_analyzer.points.set(100)
        await rp.network_analyzer.resolution_bandwidth.set(333.0)
        await rp.network_analyzer.sweep(1e4, 1e5, 2, output="off").result()
        await rp.scope.threshold.set(0.25)
        await rp.scope.single(duration=0.002, threshold=0.5)
        assert rp.bus.intended("rp.scope").keys() == {"duration", "threshold"}
        await Reconciler(rp.bus, ReconcilePolicy()).look()
        assert not [each for each in b.events if isinstance(each, StateDrifted)]
        await rp.set("iq2.frequency", 2e6)
        # Little beside the range of the setting, but another frequency and another gain.
        await rp.set("asg0.frequency", 5e3)
        await rp.set("pid0.p", 0.2)
        await Reconciler(rp.bus, ReconcilePolicy()).look()
        drifted = [each for each in b.events if isinstance(each, StateDrifted)]
        assert {(each.instrument, each.setting) for each in drifted} == {
            ("rp.iq2", "frequency"),
            ("rp.asg0", "frequency"),
            ("rp.pid0", "p"),
        }


async def test_what_excludes_one_another_is_refused() -> None:
    """The network analyser and iq2 exclude one another, each with a message that says so."""
    async with bench() as b:
        rp = b.rp
        await rp.iq2.amplitude.set(0.5)
        await rp.iq2.output.set("out1")
        with pytest.raises(CommandError, match=r"drives out1 with 0\.5 V now: switch iq2 off"):
            await rp.network_analyzer.sweep(1e3, 1e4, 3).result()
        await rp.network_analyzer.points.set(3)
        await rp.network_analyzer.output.set("off")
        assert await rp.iq2.amplitude.get() == pytest.approx(0.5)
        await rp.iq2.output.set("off")
        async with rp.network_analyzer.sweep(1e3, 1e5, 1000) as sweep:
            await anext(sweep)
            with pytest.raises(CommandError, match="uses iq2; wait for it or stop it"):
                await rp.iq2.frequency.set(1e3)
            with pytest.raises(CommandError, match="uses iq2"):
                await rp.call_method("spectrumanalyzer.single")
            # What makes it safer passes.
            await rp.iq2.output.set("off")
            await rp.set("networkanalyzer.output_direct", "off")
            for path, says in (
                ("rp.iq2.frequency", "there is no module 'rp'"),
                ("networkanalyzer.iq.frequency", "uses iq2; wait for it or stop it"),
                ("lockbox.parent.rp.iq2.frequency", "'parent' leads out of the module; begin with"),
                ("asg0.parent.iq2.frequency", "'parent' leads out of the module"),
            ):
                with pytest.raises(CommandError, match=says):
                    await rp.set(path, 1e3)
            for module in ("iq2", "networkanalyzer", "network_analyzer"):
                assert (await rp.status(module)).doing == "sweep"
            for ask in (rp.status, rp.stop):
                with pytest.raises(CommandError, match="there is no module 'analyser'"):
                    await ask("analyser")
            status = await rp.network_analyzer.get_status()
            assert (status.module, status.doing) == ("networkanalyzer", "sweep")
            assert (await rp.scope.get_status()).doing is None
            assert not await rp.scope.stop()
            assert await rp.network_analyzer.stop()
            with pytest.raises(CommandError, match="it was stopped"):
                await sweep.result()


async def test_a_trip_ends_everything_and_switches_off() -> None:
    """Tripping the board ends what goes on, takes every module off the outputs, and holds."""
    async with bench() as b:
        rp = b.rp
        await rp.asg0.setup(frequency=1e3, amplitude=0.5, output="out1")
        await rp.pid1.output.set("out2")
        await rp.iq2.amplitude.set(0.25)
        ticket = await rp.scope.submit_single(duration=8.0)
        await trio.sleep(0.1)
        outcome = await b.tree.trip("rp.asg0")
        assert outcome.error is None
        ended = await ticket.outcome()
        assert ended.error is not None
        driven = (0x4038_0004, 0x4031_0004)
        await eventually(lambda: not any(b.register(each) for each in driven), 5.0)
        for attempt in (rp.asg1.frequency.set(1e3), rp.pid0.setpoint.set(0.1)):
            with pytest.raises(RefusedError) as refused:
                await attempt
            assert refused.value.cause is Cause.TRIPPED
        assert await rp.asg0.output.get() == "off"
        assert await rp.iq2.amplitude.get() == pytest.approx(0.25)


async def test_stopping_what_was_called_by_path_ends_its_excitation() -> None:
    """A sweep of PyRPL's own that is stopped leaves nothing on the outputs."""
    amplitude = 0x4037_0114
    async with bench() as b, trio.open_nursery() as nursery:
        rp = b.rp
        for name, value in {"points": 100, "rbw": 100.0, "amplitude": 0.3}.items():
            await rp.set(f"networkanalyzer.{name}", value)
        await rp.set("networkanalyzer.output_direct", "out1")

        async def sweep() -> None:
            with pytest.raises(CommandError, match="it was stopped"):
                await rp.call_method("networkanalyzer.single_async", within_s=60.0)

        nursery.start_soon(sweep)
        await eventually(lambda: bool(b.register(amplitude)), 5.0)
        assert await rp.network_analyzer.stop()
        assert b.register(amplitude) == 0
        assert await rp.get("networkanalyzer.running_state") == "stopped"


async def test_a_trip_ends_what_goes_on_after_its_call() -> None:
    """What PyRPL repeats by itself, sweeps or locks, drives nothing any more after a trip."""
    async with bench() as b:
        rp = b.rp
        for name, value in {"points": 3, "start_freq": 1e4, "rbw": 1e3, "amplitude": 0.3}.items():
            await rp.set(f"networkanalyzer.{name}", value)
        await rp.set("networkanalyzer.output_direct", "out1")
        await rp.call_method("networkanalyzer.continuous")
        await rp.set("lockbox.auto_lock", True)
        await rp.call_method("lockbox.lock_async", within_s=10.0)
        driven = (0x4030_0004, 0x4031_0004, 0x4032_0004, 0x4037_0004)
        await eventually(lambda: bool(b.register(driven[-1])), 5.0)
        await rp.call_method("scope.continuous")
        for attempt, module in (
            (rp.network_analyzer.sweep(1e3, 1e4, 3).result(), "networkanalyzer"),
            (rp.scope.single(duration=0.001), "scope"),
        ):
            says = f"PyRPL goes on with {module} by itself: call {module}.stop first"
            with pytest.raises(CommandError, match=says):
                await attempt
        assert (await b.tree.trip("rp")).error is None
        for _ in range(20):
            assert not any(b.register(each) for each in driven)
            await trio.sleep(0.05)
        assert await rp.get("networkanalyzer.running_state") == "stopped"


async def test_streams_go_on_until_they_are_left() -> None:
    """A stream gives trace after trace; a rolling one shows what was just seen."""
    async with bench() as b:
        rp = b.rp
        await rp.asg0.setup(waveform="sin", frequency=1e3, amplitude=0.5)
        taken = 0
        async for trace in rp.scope.stream(input1="asg0", duration=0.005):
            taken += 1
            assert trace.summaries[0].high == pytest.approx(0.5, abs=0.01)
            if taken == 5:
                break
        counted = [trace async for trace in rp.scope.stream(count=3, duration=0.001)]
        assert 1 <= len(counted) <= 3
        rolled = [trace async for trace in rp.scope.rolling(count=8, every_s=0.05, duration=0.2)]
        assert rolled[-1].time[-1] == 0.0
        known = np.isfinite(rolled[-1].ch1)
        assert known[-100:].all()
        # What was overwritten while it was read is not known.
        assert known.mean() > 0.5
        with pytest.raises(CommandError, match="too short to roll"):
            await rp.scope.rolling(duration=0.01).result()


async def test_everything_else_is_reached_by_path() -> None:
    """Attributes and methods without a module of their own here go by their dotted paths."""
    async with bench() as b:
        rp = b.rp
        await rp.set("asg1.frequency", 1234.0)
        assert await rp.get("asg1.frequency") == pytest.approx(1234.0, abs=0.1)
        assert await rp.get("spectrumanalyzer.running_state") == "stopped"
        assert isinstance(await rp.call_method("lockbox.unlock"), (type(None), bool, list, dict))
        for path, says in (
            ("lockbx.x", "there is no module 'lockbx'; there are:"),
            ("asg0.frequenzy", "there is no 'frequenzy'; there are:"),
            ("asg0._write", "not for use from outside"),
            ("asg0", "write module.name"),
            ("spectrumanalyzer.iq", "is an object"),
        ):
            with pytest.raises(CommandError, match=says):
                await rp.get(path)
        with pytest.raises(CommandError, match=r"asg0\.setup is a method: call it"):
            await rp.set("asg0.setup", 1)
        async with trio.open_nursery() as nursery:

            async def acquire() -> None:
                with pytest.raises(CommandError, match="it was stopped"):
                    await rp.call_method("scope.single_async", within_s=20.0)

            await rp.scope.trigger_source.set("ch1_positive_edge")
            nursery.start_soon(acquire)
            while (await rp.scope.get_status()).doing is None:  # noqa: ASYNC110 - of the board
                await trio.sleep(0.01)
            assert await rp.scope.stop()
        await rp.call_method("asg0.setup", frequency=2e3)
        assert await rp.asg0.frequency.get() == pytest.approx(2e3, abs=0.1)


async def test_values_are_checked_before_they_travel() -> None:
    """Out of range, not among PyRPL's choices, or of the wrong kind: refused, nothing sent."""
    async with bench() as b:
        rp = b.rp
        before = b.rp.bus.transport.counters.exchanges
        for attempt, says in (
            (rp.asg0.frequency.set(1e9), "out of range; it takes a number from 0 to 62500000 Hz"),
            (rp.asg0.waveform.set("sine"), "one of 'sin', 'cos'"),
            (rp.scope.input1.set("in3"), "'in1', 'in2'"),
            (rp.pid0.setpoint.set(2.0), "from -1 to"),
            (rp.asg0.setup(frequenzy=1.0), "there is no setting 'frequenzy'; there are:"),
            (rp.asg0.load([0.0, 1.0]), "a table has 16384"),
            (rp.scope.single(decimation=3), "3 is not among its values"),
            (rp.scope.single(decimation=1, duration=1.0), "give one of the two"),
            (rp.iq0.quadratures(average_s=-1.0), "out of range"),
        ):
            with pytest.raises(RefusedError, match=says) as refused:
                await attempt
            assert refused.value.cause is Cause.VALIDATION
        assert b.rp.bus.transport.counters.exchanges == before


async def test_the_commands_of_the_shared_worker() -> None:
    """Programs of the shared-worker design find their commands, parameters and answers."""
    async with bench() as b:
        rp = b.rp

        async def send(name: str, **params: object) -> Any:
            answer = await rp.send_command(name, params, timeout_s=10.0)
            assert set(answer) == {"status", "data", "id"}
            assert answer["status"] == "ok", answer["data"]
            return answer["data"]

        await send("asg_setup", channel="asg0", waveform="sin", frequency=1e3, amplitude=0.5,
                   output_direct="out1")  # fmt: skip
        await send("asg_set_frequency", channel="asg0", value=2e3)
        await send("pid_configure", channel="pid1", p=0.5, i=10.0, input="in1", setpoint=0.1)
        await send("pid_set_setpoint", channel="pid1", value=0.25)
        assert await send("pid_get_setpoint", channel="pid1") == pytest.approx(0.25)
        await send("iq_setup", channel="iq0", frequency=2e3, bandwidth=100.0, input="in1")
        await send("scope_set_decimation", value=64)
        trace = await send(
            "scope_acquire", decimation=64, trigger_source="immediately", input_channel="in1"
        )
        assert trace["voltage"].max() == pytest.approx(0.5, abs=0.01)
        assert len(trace["time"]) == len(trace["voltage"]) == 16_384
        assert isinstance(await send("iq_get_measurement", channel="iq0"), dict)
        await send("pid_configure", channel="pid1", inputfilter=100.0)
        # What was chosen for acquisitions holds for each that does not say otherwise.
        await send("scope_set_decimation", value=256)
        trace = await send("scope_acquire")
        assert trace["time"][-1] == pytest.approx(256 * 16_384 / 125e6, rel=1e-3)
        assert await rp.scope.decimation.get() == 256
        await send("scope_set_trigger", source="ch2_positive_edge")
        answer = await rp.send_command("scope_acquire", {"timeout": 0.2})
        assert "it waits for the trigger 'ch2_positive_edge'" in answer["data"]
        await send("scope_acquire", trigger_source="immediately", duration=0.001)
        for name, params, says in (
            ("scope_acquir", {}, "unknown command"),
            ("pid_set_setpoint", {}, "pid_set_setpoint: it needs the parameter 'setpoint'"),
            ("pid_set_setpoint", {"channel": "pid7", "value": 0}, "there is no channel"),
            ("asg_set_frequency", {"channel": "asg0", "value": 1e9}, "out of range"),
        ):
            answer = await rp.send_command(name, params)
            assert answer["status"] == "error"
            assert says in answer["data"]
