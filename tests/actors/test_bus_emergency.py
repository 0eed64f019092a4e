"""Emergencies, trips and safe states: first on the wire, once, and owed until done."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from attrs import evolve
from trio.testing import MockClock

from actors import (
    Cause,
    DeviceError,
    Fault,
    FaultClass,
    Identity,
    Intensity,
    LaneRearmed,
    LaneTripped,
    MemberPolicy,
    OnReconnect,
    Plan,
    Priority,
    RefusedError,
    SafeOutcome,
    SafeStateOwed,
    SafeStateReached,
    Script,
    Service,
)

from .bench import (
    PLAIN,
    SHARED,
    STEADY,
    Bench,
    Parts,
    Witness,
    WitnessModel,
    bench_running,
    running,
)

OFF = "out 0"


async def emergency(bench: Bench, device: Witness, text: str = OFF) -> None:
    """Send an emergency off and wait until the instrument has taken it."""
    ticket = await bench.bus.submit(device, device.write(text), priority=Priority.EMERGENCY)
    outcome = await ticket.outcome()
    assert outcome.ok, outcome


def sets(model: WitnessModel, unit: str = "A") -> list[str]:
    """Return what a unit was told to set."""
    return model.units[unit].words("SET")


async def test_an_emergency_passes_a_thousand_commands(autojump_clock: MockClock) -> None:
    """It goes out after the exchange in flight; nothing queued earlier undoes it."""
    a = Witness("a")
    model = WitnessModel(reply_s=0.01)
    async with running(model, a) as bench:
        await (await bench.bus.submit(a, a.write("out 1"))).outcome()
        writes = [await bench.bus.submit(a, a.write("out 1")) for _ in range(500)]
        reads = [await bench.bus.submit(a, a.read(tag)) for tag in range(500)]
        await trio.sleep(0.005)
        bench.line.requests.clear()
        await emergency(bench, a)
        assert bench.sent()[0] == "A:SET out 0"
        causes = [(await each.outcome()).cause for each in writes]
        assert causes == [None] + [Cause.TRIPPED] * 499
        assert [(await each.outcome()).value for each in reads] == [str(tag) for tag in range(500)]
        assert model.units["A"].state == {"out": "0"}
        with pytest.raises(RefusedError) as refused:
            await bench.bus.submit(a, a.write("out 1"))
        assert refused.value.cause is Cause.TRIPPED
        assert bench.of(LaneTripped)[0].failed == 499
        assert len(bench.of(SafeStateReached)) == 1
        bench.bus.rearm("a")
        assert len(bench.of(LaneRearmed)) == 1
        await (await bench.bus.submit(a, a.write("out 1"))).outcome()
        assert model.units["A"].state == {"out": "1"}


async def test_an_emergency_cuts_an_exchange_that_hangs(autojump_clock: MockClock) -> None:
    """It waits for it no longer than `emergency_wait_s`, then for one resynchronisation."""
    a = Witness("a", within_s=30.0)
    model = WitnessModel()
    async with running(model, a) as bench:
        flying = await bench.bus.submit(a, a.read("slow", wait_s=0.7))
        await trio.sleep(0.1)
        began_s = trio.current_time()
        await emergency(bench, a)
        outcome = await flying.outcome()
        assert (outcome.cause, outcome.may_have_executed) == (Cause.TRIPPED, True)
        told_s = next(at_s for at_s, text in model.units["A"].heard if text == f"SET {OFF}")
        assert told_s - began_s == pytest.approx(0.6, abs=0.01)
        assert bench.sent()[2:4] == ["A:ID", f"A:SET {OFF}"]


async def test_an_emergency_waits_for_a_resynchronisation_once(
    autojump_clock: MockClock,
) -> None:
    """One under way is not begun anew, and no other command slips in after it."""
    a = Witness("a")
    model = WitnessModel()
    async with running(model, a) as bench:
        late = await bench.bus.submit(a, a.read("late", wait_s=1.9))
        assert (await late.outcome()).cause is Cause.TRANSPORT
        next_one = await bench.bus.submit(a, a.read("next"))
        await trio.sleep(0.1)
        assert bench.sent()[-1] == "A:ID"
        began_s = trio.current_time()
        await emergency(bench, a)
        assert trio.current_time() - began_s == pytest.approx(0.8, abs=0.01)
        assert (await next_one.outcome()).cause is Cause.TRIPPED
        assert bench.transport.counters.resyncs == 1
        assert "A:ASK next" not in bench.sent()


async def test_an_emergency_waits_for_one_of_several_instruments(
    autojump_clock: MockClock,
) -> None:
    """On a shared line a neighbour's exchange is cut, and its queue waits."""
    a, b = Witness("a", "A"), Witness("b", "B", within_s=30.0)
    model = WitnessModel("A", "B")
    async with running(model, a, b, parts=Parts(profile=SHARED)) as bench:
        flying = await bench.bus.submit(b, b.read("slow", wait_s=0.8))
        waiting = [await bench.bus.submit(b, b.write(f"v {tag}")) for tag in range(20)]
        await trio.sleep(0.1)
        await emergency(bench, a)
        assert sets(model, "B") == []
        assert (await flying.outcome()).cause is Cause.TRIPPED
        assert all([(await each.outcome()).ok for each in waiting])


async def test_an_emergency_waits_for_no_breaker(autojump_clock: MockClock) -> None:
    """With the breaker open the line is tried at once: identity, then safe, then the rest."""
    a = Witness("a")
    model = WitnessModel()
    async with running(model, a) as bench:
        bench.line.unplug()
        await trio.sleep(60)
        bench.line.requests.clear()
        began_s = trio.current_time()
        ticket = await bench.bus.submit(a, a.write(OFF), priority=Priority.EMERGENCY)
        outcome = await ticket.outcome()
        assert (outcome.cause, outcome.may_have_executed) == (Cause.TRANSPORT, False)
        assert bench.of(SafeStateOwed)[-1].instrument == "a"
        bench.line.replug()
        await emergency(bench, a, "out 0")
        assert trio.current_time() - began_s < 0.1
        assert bench.sent()[0] == "A:ID"
        assert set(bench.sent()[1:]) == {f"A:SET {OFF}"}
        assert bench.bus.status().retry_after_s is None


async def test_an_emergency_of_a_quarantined_instrument_is_tried_at_once(
    autojump_clock: MockClock,
) -> None:
    """Its identity comes first, whatever its breaker says; then it is told."""
    a, b = Witness("a", "A"), Witness("b", "B")
    model = WitnessModel("A", "B")
    async with running(model, a, b, parts=Parts(profile=SHARED)) as bench:
        bench.line.hang("A")
        for tag in range(3):
            await (await bench.bus.submit(a, a.read(tag))).outcome()
        bench.line.unhang()
        began_s = trio.current_time()
        model.units["A"].heard.clear()
        await emergency(bench, a)
        assert trio.current_time() - began_s < 2.0
        heard = [text for _, text in model.units["A"].heard]
        assert heard[0] == "ID"
        assert set(heard) == {"ID", f"SET {OFF}"}
        assert bench.status("a").service is Service.IN_SERVICE


async def test_an_emergency_between_incarnations_comes_first(autojump_clock: MockClock) -> None:
    """An actor that crashed with its breaker open still takes an emergency to the wire."""
    a = Witness("a")
    model = WitnessModel()
    parts = Parts(breaker=evolve(STEADY, failures=1, open_s=60.0))
    async with running(model, a, parts=parts) as bench:
        crashing = await bench.bus.submit(a, a.failing(RuntimeError("no")))
        await crashing.outcome()
        began_s = trio.current_time()
        await emergency(bench, a)
        assert trio.current_time() - began_s < 0.1
        assert model.units["A"].state == {"out": "0"}


async def test_an_emergency_survives_the_crash_before_it(autojump_clock: MockClock) -> None:
    """What waits urgently behind a crash is the first work afterwards, breaker or not."""
    a = Witness("a")
    model = WitnessModel()
    parts = Parts(breaker=evolve(STEADY, failures=1, open_s=60.0))
    async with running(model, a, parts=parts) as bench:
        await bench.bus.submit(a, a.failing(RuntimeError("no")))
        ordinary = await bench.bus.submit(a, a.read(1))
        await trio.testing.wait_all_tasks_blocked()
        await emergency(bench, a)
        assert (await ordinary.outcome()).cause is Cause.BREAKER
        assert model.units["A"].state == {"out": "0"}


async def test_a_trip_drives_safe_once(autojump_clock: MockClock) -> None:
    """One loss of control, one safe-state sequence, however often it is asked for."""
    a = Witness("a", safe=("out 0", "v 0"))
    model = WitnessModel()
    async with running(model, a) as bench:
        bench.bus.trip("a", "the door is open")
        bench.bus.trip("a", "the door is open again")
        outcomes = await bench.bus.make_safe(["a"], "stop")
        assert list(outcomes) == [SafeOutcome("a", None)]
        await trio.sleep(10)
        assert sets(model) == ["SET out 0", "SET v 0"]
        assert [each.reason for each in bench.of(SafeStateReached)] == ["the door is open"]
        assert bench.status().tripped == "the door is open"


async def test_a_fatal_fault_trips_the_lane(autojump_clock: MockClock) -> None:
    """An instrument that reports that going on is unsafe is tripped and driven safe."""
    a = Witness("a")
    model = WitnessModel()

    def decode(raw: bytes) -> object:
        raise DeviceError(Fault(FaultClass("OVER_CURRENT", fatal=True), "too much", raw))

    async with running(model, a) as bench:
        fatal = Plan(name="v.set", exchange=a.exchange("SET v 9"), decode=decode, writes=True)
        ticket = await bench.bus.submit(a, fatal)
        later = await bench.bus.submit(a, a.write("v 10"))
        assert (await ticket.outcome()).cause is Cause.DEVICE
        assert (await later.outcome()).cause is Cause.TRIPPED
        await bench.until(lambda: bool(bench.of(SafeStateReached)))
        assert sets(model) == ["SET v 9", "SET out 0"]


async def test_what_cannot_be_reached_is_owed_and_comes_first(autojump_clock: MockClock) -> None:
    """After reconnecting: identity, then the safe state, then service; no old settings."""
    a = Witness("a")
    model = WitnessModel()
    async with running(model, a) as bench:
        for text in ("v 5", "out 1"):
            await (await bench.bus.submit(a, a.write(text))).outcome()
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.requests.clear()
        outcomes = await bench.bus.make_safe(["a"], "stop")
        assert outcomes[0].error is not None
        assert len(bench.of(SafeStateOwed)) == 1
        assert bench.status().safe_owed
        with pytest.raises(RefusedError) as refused:
            bench.bus.rearm("a")
        assert refused.value.cause is Cause.TRIPPED
        bench.line.replug()
        await bench.in_service()
        assert bench.sent() == ["A:ID", f"A:SET {OFF}"]
        assert model.units["A"].state == {"v": "5", "out": "0"}
        bench.bus.rearm("a")
        await bench.in_service()
        assert bench.sent()[2:] == ["A:ID", "A:SET v 5", "A:SET out 0"]


async def test_settings_wait_for_rearm_while_tripped(autojump_clock: MockClock) -> None:
    """Tripped while it was away, an instrument gets its settings back with its rearm."""
    a = Witness("a")
    model = WitnessModel()
    async with running(model, a) as bench:
        await (await bench.bus.submit(a, a.write("v 5"))).outcome()
        bench.bus.trip("a", "the door is open")
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.reset()
        bench.line.replug()
        await bench.in_service()
        assert model.units["A"].state == {"out": "0"}
        ticket = await bench.bus.submit(a, a.read("still read"))
        assert (await ticket.outcome()).ok
        bench.bus.rearm("a")
        await bench.in_service()
        assert model.units["A"].state == {"out": "0", "v": "5"}


async def test_a_refused_part_does_not_keep_the_rest(autojump_clock: MockClock) -> None:
    """A device that refuses one part of its safe state gets the others; it stays owed."""
    a = Witness("a", safe=("heat 0", "out 0", "pump 1"))
    model = WitnessModel()
    model.units["A"].refuses.add("out 0")
    async with running(model, a) as bench:
        outcomes = await bench.bus.make_safe(["a"], "stop")
        assert outcomes[0].error is not None
        assert "said no" in outcomes[0].error
        assert model.units["A"].state == {"heat": "0", "pump": "1"}
        assert bench.status().safe_owed
        assert bench.status().service is Service.QUARANTINED
        model.units["A"].refuses.clear()
        await bench.in_service()
        assert model.units["A"].state == {"heat": "0", "pump": "1", "out": "0"}
        assert not bench.status().safe_owed


async def test_a_garbled_part_does_not_keep_the_rest(autojump_clock: MockClock) -> None:
    """Nor does a part whose answer is unreadable, twice."""
    a = Witness("a", safe=("heat 0", "out 0"))
    model = WitnessModel()
    async with running(model, a) as bench:
        bench.line.foreign(b"A:what\n", count=2)
        outcomes = await bench.bus.make_safe(["a"], "stop")
        assert outcomes[0].error is not None
        assert sets(model) == ["SET heat 0", "SET heat 0", "SET out 0"]


async def test_make_safe_is_bounded_and_shielded(autojump_clock: MockClock) -> None:
    """It ends within `safe_s` however the device hangs, and cancelling it changes nothing."""
    a = Witness("a", within_s=60.0)
    async with running(WitnessModel(), a) as bench:
        bench.line.hang()
        began_s = trio.current_time()
        outcomes: list[SafeOutcome] = []
        with trio.move_on_after(0.1) as scope:
            outcomes += await bench.bus.make_safe(["a"], "stop")
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert trio.current_time() - began_s == pytest.approx(PLAIN.safe_s)
        assert outcomes[0].error == "not within 3 s"
        assert bench.status().safe_owed


async def test_one_that_hangs_keeps_no_other_unsafe(autojump_clock: MockClock) -> None:
    """On a shared line, healthy instruments are safe within `safe_s`, whoever hangs first."""
    devices = [Witness(name, name.upper()) for name in "abcd"]
    for hung in "ABCD":
        model = WitnessModel(*"ABCD")
        async with running(model, *devices, parts=Parts(profile=SHARED)) as bench:
            bench.line.hang(hung)
            outcomes = await bench.bus.make_safe(list("abcd"), "stop")
            errors = {each.instrument for each in outcomes if each.error is not None}
            assert errors == {hung.lower()}
            # The hung one withholds its answers only: it, too, was told.
            assert all(unit.state == {"out": "0"} for unit in model.units.values())


async def test_a_neighbours_safe_state_is_no_obstacle(autojump_clock: MockClock) -> None:
    """An emergency waits for an instrument that hangs in its safe state as for any other."""
    a, b = Witness("a", "A", within_s=20.0), Witness("b", "B")
    model = WitnessModel("A", "B")
    async with running(model, a, b, parts=Parts(profile=SHARED)) as bench:
        bench.line.hang("A")
        bench.bus.trip("a", "the door is open")
        await trio.sleep(0.1)
        began_s = trio.current_time()
        bench.line.unhang()
        await emergency(bench, b)
        assert trio.current_time() - began_s < 0.7
        await bench.until(lambda: len(bench.of(SafeStateReached)) == 2)
        assert model.units["A"].state == model.units["B"].state == {"out": "0"}


async def test_slow_instruments_are_all_driven_safe(autojump_clock: MockClock) -> None:
    """Instruments slower than `emergency_wait_s` do not cut each other short for ever."""

    class Slow(Witness):
        def write(self, text: str, *, hazardous: bool = False) -> Plan[object]:
            def decode(raw: bytes) -> None:
                assert self.answer(raw, "ASK") == text

            plan = super().write(text, hazardous=hazardous)
            return evolve(plan, exchange=self.exchange(f"WAIT 0.8 {text}"), decode=decode)

    devices = [Slow(name, name.upper(), within_s=2.0) for name in "abc"]
    parts = Parts(profile=evolve(SHARED, safe_s=20.0))
    async with running(WitnessModel(*"ABC"), *devices, parts=parts) as bench:
        outcomes = await bench.bus.make_safe(list("abc"), "stop")
        assert [each.error for each in outcomes] == [None] * 3
        assert len(bench.of(SafeStateReached)) == 3


async def test_make_safe_with_the_actor_down(autojump_clock: MockClock) -> None:
    """With nobody running, the line is opened, everybody driven safe, and it is closed."""
    a, b = Witness("a", "A"), Witness("b", "B")
    model = WitnessModel("A", "B")
    async with running(model, a, b, parts=Parts(profile=SHARED)) as bench:
        await bench.supervisor.stop_child("bus")
        bench.line.requests.clear()
        outcomes = await bench.bus.make_safe(["a", "b"], "stop")
        assert [each.error for each in outcomes] == [None, None]
        assert bench.sent() == ["A:ID", f"A:SET {OFF}", "B:ID", f"B:SET {OFF}"]
        assert bench.transport.counters.opened == 2
        assert bench.bus.status().line.name == "CLOSED"
        assert model.units["B"].state == {"out": "0"}
        await bench.supervisor.restart_child("bus")
        await bench.in_service()


async def test_make_safe_with_the_actor_down_and_the_device_away(
    autojump_clock: MockClock,
) -> None:
    """What cannot be reached is named, quickly, and owed at the next start."""
    a = Witness("a")
    model = WitnessModel()
    async with running(model, a) as bench:
        await bench.supervisor.stop_child("bus")
        bench.line.unplug()
        began_s = trio.current_time()
        outcomes = await bench.bus.make_safe(["a"], "stop")
        assert trio.current_time() - began_s < 0.1
        assert outcomes[0].error == "the simulated device is unplugged"
        assert len(bench.of(SafeStateOwed)) == 1
        bench.line.replug()
        await trio.sleep(3)
        bench.line.requests.clear()
        await bench.supervisor.restart_child("bus")
        await bench.in_service()
        assert bench.sent() == ["A:ID", f"A:SET {OFF}"]


async def test_make_safe_when_the_actor_gave_up(autojump_clock: MockClock) -> None:
    """After the intensity was exceeded, the instruments are still driven safe."""
    a = Witness("a")
    model = WitnessModel()
    bench = Bench(model, [a], Parts(intensity=Intensity(0, 60.0)))
    with pytest.raises(ExceptionGroup):
        async with bench_running(bench):
            await bench.in_service()
            await bench.bus.submit(a, a.failing(RuntimeError("no")))
            await trio.sleep_forever()
    outcomes = await bench.bus.make_safe(["a"], "the bus gave up")
    assert outcomes[0].error is None
    assert model.units["A"].state == {"out": "0"}
    assert bench.bus.status().line.name == "CLOSED"


async def test_a_failing_driver_keeps_no_other_unsafe(autojump_clock: MockClock) -> None:
    """With the actor down, a driver that raises is named; the others are driven safe."""

    class Broken(Witness):
        broken = False

        def identify(self) -> Script[Identity]:
            if self.broken:
                raise RuntimeError("a fault of the driver")
            return super().identify()

    a, b = Broken("a", "A"), Witness("b", "B")
    model = WitnessModel("A", "B")
    async with running(model, a, b, parts=Parts(profile=SHARED)) as bench:
        await bench.supervisor.stop_child("bus")
        a.broken = True
        outcomes = await bench.bus.make_safe(["a", "b"], "stop")
        assert outcomes[0].error is not None
        assert "a fault of the driver" in outcomes[0].error
        assert outcomes[1].error is None
        assert model.units["B"].state == {"out": "0"}


async def test_a_crash_while_driving_safe_is_made_good(autojump_clock: MockClock) -> None:
    """An actor that crashes under `make_safe` leaves nobody unsafe, nor anybody waiting."""
    a, b = Witness("a", "A"), Witness("b", "B")
    model = WitnessModel("A", "B")
    async with running(model, a, b, parts=Parts(profile=SHARED)) as bench:
        await bench.bus.submit(a, a.failing(RuntimeError("no")))
        outcomes = await bench.bus.make_safe(["a", "b"], "stop")
        assert [each.error for each in outcomes] == [None, None]
        assert all(unit.state == {"out": "0"} for unit in model.units.values())
        assert sets(model, "A") == sets(model, "B") == [f"SET {OFF}"]
        await bench.in_service()


async def test_several_can_ask_for_safety_at_once(autojump_clock: MockClock) -> None:
    """Two callers with the actor down both get their answers, and the line is opened once."""
    a, b = Witness("a", "A"), Witness("b", "B")
    model = WitnessModel("A", "B")
    async with running(model, a, b, parts=Parts(profile=SHARED)) as bench:
        await bench.supervisor.stop_child("bus")
        outcomes: list[SafeOutcome] = []

        async def ask(name: str) -> None:
            outcomes.extend(await bench.bus.make_safe([name], "stop"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "a")
            nursery.start_soon(ask, "b")
            nursery.start_soon(bench.supervisor.restart_child, "bus")
        assert {each.error for each in outcomes} == {None}
        await bench.in_service()
        assert sets(model, "A") == sets(model, "B") == [f"SET {OFF}"]


async def test_nothing_is_driven_where_nothing_is_unsafe(autojump_clock: MockClock) -> None:
    """An instrument without a safe state is tripped, and has nothing owed."""
    a = Witness("a", safe=())
    async with running(WitnessModel(), a) as bench:
        requests = len(bench.sent())
        assert list(await bench.bus.make_safe(["a"], "stop")) == [SafeOutcome("a", None)]
        assert len(bench.sent()) == requests
        bench.bus.rearm("a")
        assert bench.status().tripped is None


async def test_an_unconfirmed_instrument_is_driven_safe(autojump_clock: MockClock) -> None:
    """Quarantined after a reconnection, it takes an emergency, and stays in quarantine."""
    a = Witness("a")
    model = WitnessModel()
    policy = MemberPolicy(breaker=STEADY, on_reconnect=OnReconnect.QUARANTINE)
    async with running(model, a, parts=Parts(policy=policy)) as bench:
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.replug()
        await trio.sleep(5)
        assert bench.status().service is Service.QUARANTINED
        await emergency(bench, a)
        assert model.units["A"].state == {"out": "0"}
        assert bench.status().service is Service.QUARANTINED


async def test_removing_an_instrument_answers_who_wants_it_safe(
    autojump_clock: MockClock,
) -> None:
    """Taken off its bus while it hangs, it is named as not safe at once."""
    a, b = Witness("a", "A", within_s=30.0), Witness("b", "B")
    async with running(WitnessModel("A", "B"), a, b, parts=Parts(profile=SHARED)) as bench:
        bench.line.hang("A")
        outcomes: list[SafeOutcome] = []

        async def ask() -> None:
            outcomes.extend(await bench.bus.make_safe(["a"], "stop"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.2)
            bench.bus.detach("a")
            with trio.fail_after(0.1):
                await trio.testing.wait_all_tasks_blocked()
        assert outcomes == [SafeOutcome("a", "the instrument was removed")]


async def test_an_emergency_that_has_not_ended_keeps_it_tripped(
    autojump_clock: MockClock,
) -> None:
    """Rearmed before its emergency was carried out, it would not end in its safe state."""
    a = Witness("a")
    model = WitnessModel(reply_s=0.1)
    async with running(model, a) as bench:
        bench.bus.trip("a", "the door is open")
        await bench.until(lambda: bool(bench.of(SafeStateReached)))
        waiting = [
            await bench.bus.submit(a, a.write(f"out {n}"), priority=Priority.EMERGENCY)
            for n in range(2)
        ]
        for ticket in waiting:
            with pytest.raises(RefusedError, match="has not"):
                bench.bus.rearm("a")
            await ticket.outcome()
        await bench.until(lambda: len(bench.of(SafeStateReached)) == 2)
        bench.bus.rearm("a")
        assert sets(model)[-1] == f"SET {OFF}"


async def test_a_read_that_was_taken_up_lets_the_safe_state_go_first(
    autojump_clock: MockClock,
) -> None:
    """A read that waits for pacing as its instrument is tripped goes out after the safe state."""
    a = Witness("a")
    model = WitnessModel()
    parts = Parts(profile=evolve(PLAIN, pacing_s=0.3))
    async with running(model, a, parts=parts) as bench:
        tickets = [await bench.bus.submit(a, a.read(word)) for word in ("taken up", "behind it")]
        await trio.sleep(0.1)
        bench.bus.trip("a", "the door is open")
        for ticket in tickets:
            assert (await ticket.outcome()).error is None
        heard = [word for _, word in model.units["A"].heard]
        assert heard[-3:] == [f"SET {OFF}", "ASK taken up", "ASK behind it"]


async def test_the_step_before_the_first_byte_sees_a_trip(autojump_clock: MockClock) -> None:
    """A write that was taken up, and waits for pacing, does not go out after a trip."""
    a = Witness("a")
    model = WitnessModel()
    parts = Parts(profile=evolve(PLAIN, pacing_s=0.3))
    async with running(model, a, parts=parts) as bench:
        ticket = await bench.bus.submit(a, a.write("out 1"))
        await trio.sleep(0.1)
        bench.bus.trip("a", "the door is open")
        outcome = await ticket.outcome()
        assert (outcome.cause, outcome.may_have_executed) == (Cause.TRIPPED, False)
        await bench.until(lambda: bool(bench.of(SafeStateReached)))
        assert sets(model) == [f"SET {OFF}"]
