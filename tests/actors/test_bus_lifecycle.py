"""A bus and its instruments: identified, quarantined, lost, and brought back."""

from __future__ import annotations

import math

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from actors import (
    BreakerChanged,
    BreakerPolicy,
    BreakerState,
    BusLost,
    BusOpened,
    Cause,
    ChildEnded,
    CommandError,
    Identity,
    IdentityMismatch,
    InstrumentIdentified,
    InstrumentQuarantined,
    MemberPolicy,
    OnReconnect,
    Priority,
    RefusedError,
    Service,
    SettingsRefused,
    SettingsRestored,
)
from actors.upkeep import PROBE_SHARE
from transports import TCP, EchoModel, LineState

from .bench import SHARED, STEADY, Bench, Parts, Witness, WitnessModel, bench_running, running

ID = "A:ID"


def policy(
    *,
    expect: Identity | None = None,
    on_reconnect: OnReconnect = OnReconnect.RESTORE,
    recovery_s: float = 0.0,
) -> Parts:
    """Return parts with another policy for the instruments."""
    return Parts(
        policy=MemberPolicy(
            breaker=STEADY,
            expect=expect or Identity(),
            on_reconnect=on_reconnect,
            recovery_s=recovery_s,
        )
    )


async def test_nothing_is_sent_before_the_identity(autojump_clock: MockClock) -> None:
    """At first opening the identity comes first, though commands wait already."""
    a = Witness("a")
    async with running(WitnessModel(), a, settled=False) as bench:
        tickets = [await bench.bus.submit(a, a.read(tag)) for tag in range(3)]
        assert [(await each.outcome()).value for each in tickets] == ["0", "1", "2"]
        assert bench.sent() == [ID, "A:ASK 0", "A:ASK 1", "A:ASK 2"]
        assert bench.status().identity == Identity("maker", "model", "S-A")


async def test_the_identity_comes_first_after_every_reopening(autojump_clock: MockClock) -> None:
    """A line that was lost carries nothing else before everybody was identified again."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        for _ in range(3):
            bench.line.requests.clear()
            bench.line.unplug()
            await trio.sleep(1)
            bench.line.replug()
            await bench.in_service()
            ticket = await bench.bus.submit(a, a.read("x"))
            assert (await ticket.outcome()).value == "x"
            assert bench.sent() == [ID, "A:ASK x"]


async def test_an_unexpected_serial_number_is_never_told_anything(
    autojump_clock: MockClock,
) -> None:
    """The wrong instrument stays in quarantine, and the right one is taken when it answers."""
    a = Witness("a")
    model = WitnessModel()
    model.units["A"].serial = "S-other"
    async with running(
        model, a, parts=policy(expect=Identity(serial="S-A")), settled=False
    ) as bench:
        waiting = await bench.bus.submit(a, a.write("v 5"))
        outcome = await waiting.outcome()
        assert outcome.cause is Cause.BREAKER
        assert not outcome.may_have_executed
        assert outcome.error is not None
        assert outcome.error.retry_after_s is not None
        await trio.sleep(100)
        with pytest.raises(RefusedError) as refused:
            await bench.bus.submit(a, a.read(1))
        assert refused.value.retry_after_s is not None
        assert bench.status().service is Service.QUARANTINED
        assert set(bench.sent()) == {ID}
        assert bench.of(IdentityMismatch)[0].found == "maker model S-other"
        assert not bench.of(BusLost)
        model.units["A"].serial = "S-A"
        await bench.in_service()
        ticket = await bench.bus.submit(a, a.read("back"))
        assert (await ticket.outcome()).value == "back"


async def test_another_serial_number_after_a_reconnection_is_a_mismatch(
    autojump_clock: MockClock,
) -> None:
    """Who answered first is who must answer from then on."""
    a = Witness("a")
    model = WitnessModel()
    async with running(model, a) as bench:
        bench.line.unplug()
        await trio.sleep(1)
        model.units["A"].serial = "S-new"
        bench.line.replug()
        await bench.until(lambda: bool(bench.of(IdentityMismatch)))
        await trio.sleep(30)
        assert bench.status().service is Service.QUARANTINED
        assert set(bench.sent()) == {ID}
        model.units["A"].serial = "S-A"
        await bench.in_service()


async def test_an_emergency_is_not_told_to_the_wrong_instrument(
    autojump_clock: MockClock,
) -> None:
    """Not even an emergency reaches an instrument that took the place of a silent one."""
    a, b = Witness("a", "A"), Witness("b", "B")
    model = WitnessModel("A", "B")
    async with running(model, a, b, parts=Parts(profile=SHARED)) as bench:
        bench.line.hang("A")
        for tag in range(3):
            await (await bench.bus.submit(a, a.read(tag))).outcome()
        assert bench.status("a").service is Service.QUARANTINED
        bench.line.unhang()
        model.units["A"].serial = "S-other"
        model.units["A"].heard.clear()
        ticket = await bench.bus.submit(a, a.write("out 0"), priority=Priority.EMERGENCY)
        outcome = await ticket.outcome()
        assert outcome.cause is Cause.TRANSPORT
        assert not outcome.may_have_executed
        assert model.units["A"].words("SET") == []
        assert bench.status("a").safe_owed
        assert bench.status("b").service is Service.IN_SERVICE


async def test_half_a_request_in_the_input_is_forgiven(autojump_clock: MockClock) -> None:
    """What a killed program left in the device's input costs one more question."""
    a = Witness("a")
    model = WitnessModel()
    model.receive(b"A:SET v 5", 0.0)
    async with running(model, a) as bench:
        assert bench.status().service is Service.IN_SERVICE
        assert model.units["A"].state == {"v": "5A:ID"}
        assert not bench.of(InstrumentQuarantined)


async def test_silence_in_the_recovery_window_is_no_fault(autojump_clock: MockClock) -> None:
    """An instrument that warms up is asked nothing, and commands wait for it."""
    a = Witness("a")
    async with running(WitnessModel(), a, parts=policy(recovery_s=30.0), settled=False) as bench:
        ticket = await bench.bus.submit(a, a.read(1))
        await bench.until(lambda: bool(bench.of(BusOpened)))
        with pytest.raises(RefusedError) as refused:
            await bench.bus.submit(a, a.read(2), wait=False)
        assert refused.value.retry_after_s == pytest.approx(30.0, abs=0.01)
        await trio.sleep(29.9)
        assert bench.status().service is Service.RECOVERING
        assert bench.sent() == []
        assert (await ticket.outcome()).value == "1"
        assert not bench.of(InstrumentQuarantined)


async def test_the_recovery_window_is_respected_after_a_reconnection(
    autojump_clock: MockClock,
) -> None:
    """After coming back it has its time again, and commands are refused until then."""
    a = Witness("a")
    async with running(WitnessModel(), a, parts=policy(recovery_s=30.0)) as bench:
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.requests.clear()
        bench.line.replug()
        await bench.until(lambda: len(bench.of(BusOpened)) == 2)
        await trio.sleep(20)
        assert bench.sent() == []
        with pytest.raises(RefusedError) as refused:
            await bench.bus.submit(a, a.read(1))
        assert refused.value.cause is Cause.BREAKER
        assert refused.value.retry_after_s is not None
        assert 0 < refused.value.retry_after_s < 11
        await bench.in_service()
        assert not bench.of(InstrumentQuarantined)


async def test_a_first_connection_that_fails_fails_what_waits(autojump_clock: MockClock) -> None:
    """Commands for a bus that is not there fail at once and say when to ask again."""
    a = Witness("a")
    bench = Bench(WitnessModel(), [a], Parts(connect_s=0.2))
    bench.line.unplug()
    async with bench_running(bench):
        ticket = await bench.bus.submit(a, a.read(1))
        outcome = await ticket.outcome()
        assert trio.current_time() == pytest.approx(0.2)
        assert outcome.cause is Cause.BREAKER
        assert outcome.error is not None
        assert outcome.error.retry_after_s == pytest.approx(2.0)
        assert not outcome.may_have_executed
        with pytest.raises(RefusedError) as refused:
            await bench.bus.submit(a, a.read(2))
        assert refused.value.retry_after_s == pytest.approx(2.0)
        bench.line.replug()
        await bench.in_service()


async def test_unplugged_for_an_hour_escalates_nothing(autojump_clock: MockClock) -> None:
    """Probes back off to their bound; nothing restarts; it is back once plugged in."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        bench.line.unplug()
        await trio.sleep(3600)
        assert not bench.of(ChildEnded)
        opened = [
            each.retry_after_s
            for each in bench.of(BreakerChanged)
            if each.state is BreakerState.OPEN and each.retry_after_s is not None
        ]
        assert opened[:7] == pytest.approx([2, 4, 8, 16, 32, 64, 120])
        assert opened[6:] == pytest.approx([120.0] * len(opened[6:]))
        assert 30 < len(opened) < 40
        bench.line.replug()
        await trio.sleep(120)
        ticket = await bench.bus.submit(a, a.read("back"))
        assert (await ticket.outcome()).value == "back"


async def test_silent_for_an_hour_on_an_open_line_escalates_nothing(
    autojump_clock: MockClock,
) -> None:
    """A device switched off behind its adapter is probed ever less often, and comes back."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        bench.line.hang()
        await (await bench.bus.submit(a, a.read(0))).outcome()
        bench.line.requests.clear()
        await trio.sleep(3600)
        assert not bench.of(ChildEnded)
        assert len(bench.of(BusLost)) <= 40
        bench.line.unhang()
        await trio.sleep(140)
        assert bench.status().service is Service.IN_SERVICE


async def test_a_loss_is_noticed_while_idle(autojump_clock: MockClock) -> None:
    """A connection lost while nothing is asked opens the breaker at once."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        await trio.sleep(10)
        bench.line.unplug()
        lost_s = trio.current_time()
        await bench.until(lambda: bool(bench.of(BusLost)))
        assert trio.current_time() - lost_s < 0.5
        with pytest.raises(RefusedError) as refused:
            await bench.bus.submit(a, a.read(1))
        assert refused.value.cause is Cause.BREAKER
        assert bench.transport.state is LineState.CLOSED


async def test_settings_are_restored_save_hazardous_ones(autojump_clock: MockClock) -> None:
    """After an outage the last settings are written again, in order; hazards are left out."""
    a = Witness("a")
    model = WitnessModel()
    async with running(model, a) as bench:
        for plan in (a.write("v 5"), a.write("i 1"), a.write("v 6"), a.write("out 1")):
            await (await bench.bus.submit(a, plan)).outcome()
        hazard = await bench.bus.submit(a, a.write("beam 1", hazardous=True))
        await hazard.outcome()
        bench.line.requests.clear()
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.reset()
        bench.line.replug()
        await bench.in_service()
        assert bench.sent() == [ID, "A:SET i 1", "A:SET v 6", "A:SET out 1"]
        assert model.units["A"].state == {"i": "1", "v": "6", "out": "1"}
        assert bench.of(SettingsRestored)[-1].left_out == ("beam",)
        assert bench.of(InstrumentIdentified)[-1].mono_ns >= bench.of(SettingsRestored)[-1].mono_ns


async def test_settings_that_are_refused_are_restored_after_the_others(
    autojump_clock: MockClock,
) -> None:
    """A range that is too small for its old value until another setting is back is no refusal."""
    a = Witness("a")
    model = WitnessModel()
    async with running(model, a) as bench:
        for text in ("v 5", "w 1", "range 10"):
            await (await bench.bus.submit(a, a.write(text))).outcome()
        model.units["A"].needs.update({"v 5": "w 1", "w 1": "range 10"})
        bench.line.requests.clear()
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.reset()
        bench.line.replug()
        await bench.in_service()
        assert model.units["A"].state == {"v": "5", "w": "1", "range": "10"}
        assert bench.of(SettingsRestored)[-1].settings == ("range", "w", "v")
        assert not bench.of(InstrumentQuarantined)


async def test_a_setting_that_cannot_be_restored_keeps_it_out(autojump_clock: MockClock) -> None:
    """An instrument that refuses its old settings stays in quarantine, and is asked again."""
    a = Witness("a")
    model = WitnessModel()
    async with running(model, a) as bench:
        await (await bench.bus.submit(a, a.write("v 5"))).outcome()
        bench.line.unplug()
        await trio.sleep(1)
        model.units["A"].refuses.add("v 5")
        bench.line.replug()
        await bench.until(lambda: bool(bench.of(InstrumentQuarantined)))
        await trio.sleep(60)
        assert bench.status().service is Service.QUARANTINED
        assert not bench.of(BusLost)[1:]
        model.units["A"].refuses.clear()
        await bench.in_service()
        assert model.units["A"].state == {"v": "5"}


async def test_rearming_lets_it_in_without_what_it_refuses(autojump_clock: MockClock) -> None:
    """What keeps an instrument out is named once, and given up when somebody rearms it.

    It was asked the same for ever, and nothing but a restart of the tree let it in.
    """
    a = Witness("a")
    model = WitnessModel()
    async with running(model, a) as bench:
        for text in ("v 5", "w 1", "i 2"):
            await (await bench.bus.submit(a, a.write(text))).outcome()
        model.units["A"].refuses.update({"v 5", "i 2"})
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.reset()
        bench.line.replug()
        await trio.sleep(600)
        (told,) = bench.of(SettingsRefused)
        assert told.settings == ("v", "i")
        assert "it said no" in told.reason
        assert "does not take v, i back" in bench.status().reason
        bench.bus.rearm("a")
        await bench.in_service()
        assert model.units["A"].state == {"w": "1"}
        restored = bench.of(SettingsRestored)[-1]
        assert (restored.settings, restored.left_out) == (("w",), ("v", "i"))
        assert list(bench.bus.intended("a")) == ["w"]
        await (await bench.bus.submit(a, a.write("v 6"))).outcome()
        assert list(bench.bus.intended("a")) == ["w", "v"]


async def test_rearming_after_a_trip_tries_what_was_refused_once_more(
    autojump_clock: MockClock,
) -> None:
    """Who rearms a trip gives no setting up: that is for who was told that it is refused."""
    a = Witness("a")
    model = WitnessModel()
    async with running(model, a) as bench:
        await (await bench.bus.submit(a, a.write("v 5"))).outcome()
        model.units["A"].refuses.add("v 5")
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.replug()
        await bench.until(lambda: bool(bench.of(SettingsRefused)))
        await bench.bus.make_safe(["a"], "somebody")
        bench.bus.rearm("a")
        await trio.sleep(60)
        assert bench.status().service is Service.QUARANTINED
        model.units["A"].refuses.clear()
        await bench.in_service()
        assert model.units["A"].state["v"] == "5"


async def test_quarantined_on_reconnect_waits_for_rearm(autojump_clock: MockClock) -> None:
    """With `on_reconnect = "quarantine"` it is identified, told nothing, and waits."""
    a = Witness("a")
    parts = policy(on_reconnect=OnReconnect.QUARANTINE)
    async with running(WitnessModel(), a, parts=parts) as bench:
        await (await bench.bus.submit(a, a.write("v 5"))).outcome()
        bench.line.requests.clear()
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.replug()
        await trio.sleep(1000)
        assert bench.sent() == [ID]
        with pytest.raises(RefusedError) as refused:
            await bench.bus.submit(a, a.read(1))
        assert refused.value.cause is Cause.BREAKER
        bench.bus.rearm("a")
        await bench.in_service()
        assert bench.sent() == [ID, ID, "A:SET v 5"]
        ticket = await bench.bus.submit(a, a.read("x"))
        assert (await ticket.outcome()).value == "x"


async def test_what_waits_for_an_instrument_that_is_to_be_rearmed_fails(
    autojump_clock: MockClock,
) -> None:
    """Accepted before a crash or while the bus starts again, nothing waits for a person.

    Only an emergency does, and is carried out at once: it needs nobody's leave.
    """
    a = Witness("a")
    parts = evolve(policy(on_reconnect=OnReconnect.QUARANTINE), connect_s=1.0)
    async with running(WitnessModel(), a, parts=parts) as bench:
        crash = await bench.bus.submit(a, a.failing(RuntimeError("a bug")))
        before = await bench.bus.submit(a, a.read(1))
        await crash.outcome()
        during = await bench.bus.submit(a, a.read(2))
        urgent = await bench.bus.submit(a, a.write("out 0"), priority=Priority.EMERGENCY)
        for ticket in (before, during):
            with trio.fail_after(10):
                error = (await ticket.outcome()).error
            assert isinstance(error, CommandError)
            assert (error.cause, error.may_have_executed) == (Cause.BREAKER, False)
        assert (await urgent.outcome()).error is None
        assert bench.status().service is Service.QUARANTINED
        with pytest.raises(RefusedError, match="waits to be rearmed"):
            await bench.bus.submit(a, a.read(3))


async def test_one_silent_unit_is_quarantined_alone(autojump_clock: MockClock) -> None:
    """The other's commands go on, and probes take at most their share of the line's time."""
    a, b = Witness("a", "A"), Witness("b", "B")
    model = WitnessModel("A", "B", reply_s=0.05)
    parts = Parts(
        profile=SHARED,
        policy=MemberPolicy(breaker=evolve(STEADY, max_open_s=2.0)),
    )
    async with running(model, a, b, parts=parts) as bench:
        bench.line.hang("A")
        for tag in range(3):
            outcome = await (await bench.bus.submit(a, a.read(tag))).outcome()
            assert outcome.cause is Cause.TRANSPORT
        assert bench.status("a").service is Service.QUARANTINED
        assert not bench.of(BusLost)
        # The first exchange brings the line back into step after the failed ones.
        await (await bench.bus.submit(b, b.read("in step"))).outcome()
        began_s, busy_s, asked = trio.current_time(), 0.0, 0
        while trio.current_time() < began_s + 500:
            asked_s = trio.current_time()
            ticket = await bench.bus.submit(b, b.read(asked))
            assert (await ticket.outcome()).value == str(asked)
            taken_s = trio.current_time() - asked_s
            busy_s += taken_s - 0.05
            asked += 1
        assert busy_s / (trio.current_time() - began_s) <= PROBE_SHARE * 1.001
        probes = [at_s for at_s, text in model.units["A"].heard if text == "ID"]
        assert len(probes) > 3
        bench.line.unhang()
        await bench.in_service()


async def test_all_units_silent_is_a_bus_failure(autojump_clock: MockClock) -> None:
    """Once nobody answers who did, the bus is lost: its breaker opens, its line is closed."""
    a, b = Witness("a", "A"), Witness("b", "B")
    async with running(WitnessModel("A", "B"), a, b, parts=Parts(profile=SHARED)) as bench:
        bench.line.hang()
        for each in (a, b):
            for tag in range(3):
                outcome = await (await bench.bus.submit(each, each.read(tag))).outcome()
                assert outcome.cause is Cause.TRANSPORT
        assert len(bench.of(BusLost)) == 1
        await trio.testing.wait_all_tasks_blocked()
        assert bench.transport.state is LineState.CLOSED
        assert bench.bus.status().breaker is BreakerState.OPEN
        bench.line.unhang()
        await bench.in_service()


async def test_a_transport_fault_is_a_bus_failure(autojump_clock: MockClock) -> None:
    """A line that breaks in an exchange takes the whole bus down at once."""
    a, b = Witness("a", "A"), Witness("b", "B")
    async with running(WitnessModel("A", "B"), a, b, parts=Parts(profile=SHARED)) as bench:
        flying = await bench.bus.submit(a, a.read(1, wait_s=0.9))
        waiting = await bench.bus.submit(b, b.read(2))
        await trio.sleep(0.1)
        bench.line.unplug()
        first = await flying.outcome()
        second = await waiting.outcome()
        assert (first.cause, first.may_have_executed) == (Cause.TRANSPORT, True)
        assert (second.cause, second.may_have_executed) == (Cause.BREAKER, False)
        assert second.error is not None
        assert second.error.retry_after_s is not None
        assert bench.bus.status().breaker is BreakerState.OPEN


async def test_garbled_replies_are_faults_never_values(autojump_clock: MockClock) -> None:
    """Replies that do not fit fail their command, and several in a row open the breaker."""
    a, b = Witness("a", "A"), Witness("b", "B")
    async with running(WitnessModel("A", "B"), a, b, parts=Parts(profile=SHARED)) as bench:
        bench.line.foreign(b"B:ASK 0 99\n", count=2, unit="A")
        for tag in range(2):
            outcome = await (await bench.bus.submit(a, a.read(tag))).outcome()
            assert outcome.cause is Cause.TRANSPORT
            assert outcome.value is None
        assert bench.status("a").service is Service.IN_SERVICE
        bench.line.foreign(b"\xff\xff\n", unit="A")
        await (await bench.bus.submit(a, a.read(2))).outcome()
        await bench.in_service()
        ticket = await bench.bus.submit(a, a.read("right"))
        assert (await ticket.outcome()).value == "right"


async def test_answers_between_faults_keep_the_breaker_closed(autojump_clock: MockClock) -> None:
    """Only faults in a row count: one answer forgets those before it."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        for _ in range(4):
            bench.line.lose(count=2)
            for tag in range(2):
                await (await bench.bus.submit(a, a.read(tag))).outcome()
            await (await bench.bus.submit(a, a.read("fine"))).outcome()
        assert not bench.of(InstrumentQuarantined)


async def test_a_share_of_exchanges_opens_the_bus(autojump_clock: MockClock) -> None:
    """Where every other exchange fails, with whomever, the bus is left alone for a while."""
    a, b = Witness("a", "A", within_s=0.1), Witness("b", "B", within_s=0.1)
    noisy = BreakerPolicy(open_s=5.0, jitter=0.0, ratio=0.5, window_s=30.0, minimum=7)
    parts = Parts(profile=SHARED, breaker=noisy)
    async with running(WitnessModel("A", "B"), a, b, parts=parts) as bench:
        for turn, answered in enumerate(["yes", "no", "no", "yes", "yes", "no", "no", "no"]):
            each = (a, b)[turn % 2]
            if answered == "no":
                bench.line.lose(1, unit=each.unit)
            ticket = await bench.bus.submit(each, each.read(turn))
            assert (await ticket.outcome()).ok is (answered == "yes")
        with pytest.raises(RefusedError, match="too many exchanges fail") as refused:
            await bench.bus.submit(a, a.read("no"))
        assert refused.value.cause is Cause.BREAKER
        opened = bench.of(BreakerChanged)[-1]
        assert (opened.name, opened.state) == ("bus", BreakerState.OPEN)
        assert not bench.of(InstrumentQuarantined)
        await trio.sleep(6.0)
        assert (await (await bench.bus.submit(b, b.read("yes"))).outcome()).value == "yes"


async def test_cancelled_and_expired_commands_count_as_neither(autojump_clock: MockClock) -> None:
    """Callers that give up in mid-exchange open no breaker."""
    a = Witness("a", within_s=5.0)
    async with running(WitnessModel(), a) as bench:
        for tag in range(10):
            with trio.move_on_after(0.05):
                ticket = await bench.bus.submit(a, a.read(tag, wait_s=1.0))
                await ticket.outcome()
        await trio.sleep(20)
        assert bench.status().service is Service.IN_SERVICE
        assert bench.bus.status().breaker is BreakerState.CLOSED


async def test_a_required_bus_has_started_once_connected(autojump_clock: MockClock) -> None:
    """`required` makes connecting part of starting; a restart does not wait for it again."""
    a = Witness("a")
    bench = Bench(WitnessModel(), [a], Parts(required=True))
    bench.line.unplug()
    started: list[float] = []
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.supervisor.run, lambda: started.append(trio.current_time()))
            await trio.sleep(3)
            assert not started
            bench.line.replug()
            await trio.sleep(10)
            assert len(started) == 1
            bench.line.unplug()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()


async def test_a_bus_without_instruments_is_reached_by_opening(autojump_clock: MockClock) -> None:
    """Nobody has to answer where nobody is; who is attached later is identified first."""
    bench = Bench(WitnessModel(), [], Parts())
    bench.line.unplug()
    async with bench_running(bench):
        await trio.sleep(1)
        bench.line.replug()
        await trio.sleep(3)
        assert bench.bus.status().breaker is BreakerState.CLOSED
        a = Witness("a")
        bench.bus.attach(a, bench.parts.policy)
        ticket = await bench.bus.submit(a, a.read("x"))
        assert (await ticket.outcome()).value == "x"
        assert bench.sent() == [ID, "A:ASK x"]


async def test_attaching_checks_names_and_units(autojump_clock: MockClock) -> None:
    """Two instruments are told apart by name, and by unit where they share a line."""
    bench = Bench(WitnessModel(), [Witness("a", "A")], Parts(profile=SHARED))
    with pytest.raises(ValueError, match="named a exists"):
        bench.bus.attach(Witness("a", "B"))
    with pytest.raises(ValueError, match="a is already unit A"):
        bench.bus.attach(Witness("b", "A"))


async def test_a_device_that_is_no_witness_is_quarantined(autojump_clock: MockClock) -> None:
    """An instrument of another make on the line is never told a command."""
    a = Witness("a")
    async with running(EchoModel(), a, settled=False) as bench:
        await trio.sleep(100)
        assert set(bench.sent()) <= {ID, "A:PING"}
        assert bench.status().service is not Service.IN_SERVICE


async def test_probing_is_repeatable_and_jittered(autojump_clock: MockClock) -> None:
    """Breakers of different buses do not probe in step, and do the same in every run."""
    waits: dict[str, float | None] = {}
    for name in ("one", "two", "one"):
        bench = Bench(WitnessModel(), [], Parts(breaker=BreakerPolicy()), name=name)
        bench.line.unplug()
        async with bench_running(bench):
            await bench.until(lambda: bool(bench.of(BreakerChanged)))  # noqa: B023 - awaited here
            wait_s = bench.of(BreakerChanged)[0].retry_after_s
            assert waits.setdefault(name, wait_s) == wait_s
    assert waits["one"] != waits["two"]
    assert all(wait_s is not None and math.isfinite(wait_s) for wait_s in waits.values())


async def test_reopening_to_resynchronise_is_no_outage(autojump_clock: MockClock) -> None:
    """A line that comes into step by reopening keeps its instruments in service."""
    a = Witness("a")
    parts = Parts(profile=evolve(TCP, attempts=1), keeps_late=False)
    async with running(WitnessModel(), a, parts=parts) as bench:
        bench.line.late(1.3)
        outcome = await (await bench.bus.submit(a, a.read("late"))).outcome()
        assert outcome.cause is Cause.TRANSPORT
        ticket = await bench.bus.submit(a, a.read("next"))
        assert (await ticket.outcome()).value == "next"
        assert len(bench.of(BusOpened)) == 1
        assert not bench.of(BusLost)
