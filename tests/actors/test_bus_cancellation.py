"""The bus, cancelled at each of its checkpoints; and its callers at each of theirs."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any, Final

import trio
from attrs import evolve

from actors import (
    BreakerState,
    Identity,
    Overlap,
    Plan,
    Priority,
    Progress,
    RefusedError,
    SafeOutcome,
    Script,
    Service,
    Ticket,
    attempts,
    bus,
    dispatch,
    exchanges,
    following,
    intake,
    safety,
    upkeep,
)
from tests.support.cancellation import Ending, Hits, sweep, unhit
from transports import TCP, LineState, StreamTransport

from .bench import PLAIN, SHARED, STEADY, Bench, Parts, Witness, WitnessModel

MODULES: Final = (bus, dispatch, following, attempts, upkeep, safety, exchanges, intake)


class Lingering(StreamTransport):
    """A line that is closed at once, but can be cancelled while it takes its leave."""

    async def aclose(self) -> None:
        """Close, then let others have their turn."""
        await super().aclose()
        await trio.lowlevel.checkpoint()


class Life:
    """One bus whose actor is the victim, and commands that all have to be answered."""

    def __init__(self, parts: Parts | None = None, *, units: str = "A") -> None:
        self.model = WitnessModel(*units)
        self.devices = [Witness(unit.lower(), unit) for unit in units]
        self.a = self.devices[0]
        parts = evolve(parts or Parts(), transport=Lingering)
        self.bench = Bench(self.model, self.devices, parts)
        self.tickets: list[Ticket[Any]] = []
        self.ran = self.works_again = False
        self.living = trio.CancelScope()

    async def victim(self) -> None:
        """Run the actor; once it has ended, see what it left behind."""
        self.ran = True
        try:
            await self.bench.bus.run(lambda: None)
        finally:
            with trio.CancelScope(shield=True):
                await self.afterwards()

    async def beside(self) -> None:
        """Keep the bus busy."""
        with self.bench.events.observed(self.bench.seen.append), self.living:
            await self.live()

    async def live(self) -> None:
        """Do what this bus does."""
        raise NotImplementedError

    async def submit(
        self,
        plan: Plan[object],
        *,
        device: Witness | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> None:
        """Submit a command and wait for its outcome; refused is answered, too."""
        with suppress(RefusedError):
            ticket = await self.bench.bus.submit(device or self.a, plan, priority=priority)
            self.tickets.append(ticket)
            await ticket.outcome()

    async def afterwards(self) -> None:
        """Check what the actor left, and that another incarnation serves."""
        self.living.cancel()
        bench = self.bench
        assert bench.transport.state is LineState.CLOSED
        assert bench.bus.status().breaker is not BreakerState.HALF_OPEN
        assert all(each.service is Service.CONNECTING for each in bench.bus.status().instruments)
        flying = [
            each for each in self.tickets if each.state.name in ("DISPATCHED", "ACKNOWLEDGED")
        ]
        assert not flying
        bench.bus.settle("the bus stopped", for_good=False)
        assert all(each.state.final for each in self.tickets)
        bench.line.unhang()
        bench.line.replug()
        with bench.events.observed(bench.seen.append):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bench.bus.run, lambda: None)
                await bench.in_service()
                for device in self.devices:
                    if bench.status(device.name).tripped is not None:
                        bench.bus.rearm(device.name)
                        await bench.in_service()
                    ticket = await bench.bus.submit(device, device.read("again"))
                    assert (await ticket.outcome()).value == "again"
                nursery.cancel_scope.cancel()
        self.works_again = True

    def check(self, ending: Ending) -> None:
        """Check that it was seen to work again."""
        assert ending.error is None
        assert not ending.returned
        assert self.works_again or not self.ran


class Ordinary(Life):
    """Opened, asked, out of step, back in step, unplugged and plugged in again."""

    async def live(self) -> None:
        """Live."""
        await self.bench.in_service()
        bench, a = self.bench, self.a
        await self.submit(a.write("v 5"))
        bench.line.late(1.2)
        await self.submit(a.read("late"))
        await self.submit(a.read("after"))
        await trio.sleep(1)
        bench.line.unplug()
        await trio.sleep(5)
        bench.line.replug()
        await trio.sleep(20)
        await self.submit(a.read("again"))


class Silent(Life):
    """One of two falls silent, is probed, and comes back; then both, and the bus is lost."""

    def __init__(self) -> None:
        super().__init__(Parts(profile=SHARED), units="AB")

    async def live(self) -> None:
        """Live."""
        await self.bench.in_service()
        bench, a = self.bench, self.a
        b = self.devices[1]
        bench.line.hang("A")
        for tag in range(3):
            await self.submit(a.read(tag))
        await self.submit(b.read("alone"), device=b)
        await trio.sleep(60)
        bench.line.unhang()
        await trio.sleep(200)
        bench.line.hang()
        for tag in range(3):
            await self.submit(a.read(tag))
            await self.submit(b.read(tag), device=b)
        await trio.sleep(3)


class Urgent(Life):
    """Emergencies and trips: on the line, while it hangs, and while it is away."""

    def __init__(self) -> None:
        super().__init__(Parts(profile=SHARED), units="AB")

    async def live(self) -> None:
        """Live."""
        await self.bench.in_service()
        bench, a = self.bench, self.a
        b = self.devices[1]
        off = a.write("out 0")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.submit, b.read("hangs", wait_s=5.0))
            await trio.sleep(0.1)
            await self.submit(off, priority=Priority.EMERGENCY)
        await trio.sleep(3)
        with suppress(RefusedError):
            bench.bus.rearm("a")
        bench.line.hang("A")
        bench.bus.trip("a", "the door is open")
        bench.bus.trip("b", "the door is open")
        await trio.sleep(10)
        bench.line.unplug()
        await trio.sleep(1)
        await self.submit(off, priority=Priority.EMERGENCY)
        bench.line.unhang()
        bench.line.replug()
        await self.submit(off, priority=Priority.EMERGENCY)


class Faulty(Life):
    """Everything that can go wrong on the line of one instrument."""

    async def live(self) -> None:
        """Live."""
        bench, a = self.bench, self.a
        await bench.in_service()
        bench.line.foreign(b"what?\n", count=3)
        for tag in range(3):
            await self.submit(a.read(tag))
        await trio.sleep(10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.submit, a.read("lost", wait_s=0.5))
            await trio.sleep(0.1)
            bench.line.unplug()
        bench.line.replug()
        bench.bus.trip("a", "the door is open")
        await trio.sleep(5)
        bench.bus.rearm("a")
        await trio.sleep(1)
        bench.line.hang()
        bench.bus.trip("a", "the door is open")
        await trio.sleep(10)
        bench.line.unhang()
        await trio.sleep(20)
        bench.bus.rearm("a")
        await trio.sleep(1)
        bench.line.hang()
        bench.bus.trip("a", "the door is open")
        await trio.sleep(0.2)
        bench.line.unplug()
        await trio.sleep(1)


class SilentAtFirst(Life):
    """Nobody answers at the first opening."""

    async def live(self) -> None:
        """Live."""
        self.bench.line.hang()
        await trio.sleep(30)


class LostInProbe(Life):
    """The line is lost while it gets into step after a probe."""

    def __init__(self) -> None:
        super().__init__(Parts(profile=SHARED), units="AB")

    async def live(self) -> None:
        """Live."""
        bench, a = self.bench, self.a
        await bench.in_service()
        bench.line.hang("A")
        for tag in range(3):
            await self.submit(a.read(tag))
        await trio.sleep(5)
        bench.line.unplug()
        await trio.sleep(1)


class Steps(Life):
    """Commands of more than one exchange, and the settings that are written again so."""

    async def live(self) -> None:
        """Live."""
        await self.bench.in_service()
        a = self.a

        def again(raw: bytes) -> Plan[object]:
            assert raw.startswith(b"A:DONE")
            return a.write("v 5")

        await self.submit(evolve(a.write("v 5"), then=again))
        self.bench.line.unplug()
        await trio.sleep(1)
        self.bench.line.replug()
        await trio.sleep(5)


class Operating(Life):
    """Operations that end, that are called off, lost sight of and tripped; and retries."""

    def __init__(self) -> None:
        super().__init__(Parts(profile=evolve(PLAIN, attempts=3)))

    def operation(self, polls: int, name: str = "sweep") -> Plan[object]:
        """Return an operation that is done once its status was asked so often."""
        a, left = self.a, [polls]

        def judge(raw: bytes) -> Progress:
            a.answer(raw, "ASK" if polls else "PONG")
            left[0] -= 1
            return Progress(done=left[0] <= 0)

        overlap = Overlap[object](
            poll=a.exchange("ASK status"),
            judge=judge,
            result=partial(a.answer, word="ASK"),
            finish=a.exchange("ASK result"),
            abort=a.exchange("SET stop 1"),
        )
        return evolve(a.write(f"{name} 1"), setting=None, idempotent=False, overlap=overlap)

    async def live(self) -> None:
        """Live."""
        bench = self.bench
        await bench.in_service()
        await self.submit(self.operation(3))
        with trio.move_on_after(0.2):
            ticket = await bench.bus.submit(self.a, self.operation(100))
            self.tickets.append(ticket)
            await ticket.outcome()
        bench.line.lose()
        await self.submit(self.a.read("twice"))
        with suppress(RefusedError):
            ticket = await bench.bus.submit(self.a, self.operation(100))
            self.tickets.append(ticket)
            await trio.sleep(0.06)
            bench.line.late(0.5)
            await trio.sleep(0.06)
            bench.line.unplug()
            await trio.sleep(0.1)
            bench.line.replug()
            await trio.sleep(5)
            ticket = await bench.bus.submit(self.a, self.operation(100))
            self.tickets.append(ticket)
            await trio.sleep(0.1)
            bench.bus.trip("a", "a test")
            await trio.sleep(0.1)
            bench.bus.rearm("a")
            await self.submit(self.operation(0))
        await trio.sleep(1)


class Refusing(Life):
    """The device refuses its safe state for a while."""

    async def live(self) -> None:
        """Live."""
        await self.bench.in_service()
        refuses = self.model.units["A"].refuses
        refuses.add("out 0")
        try:
            self.bench.bus.trip("a", "the door is open")
            await trio.sleep(1)
        finally:
            refuses.clear()
        await trio.sleep(5)
        self.bench.bus.rearm("a")


class Noisy(Life):
    """So large a share of exchanges fails that the bus is left alone, and tried again."""

    def __init__(self) -> None:
        super().__init__(Parts(breaker=evolve(STEADY, ratio=0.5, minimum=2)))

    async def live(self) -> None:
        """Live."""
        await self.bench.in_service()
        self.bench.line.lose()
        await self.submit(self.a.read(1))
        await trio.sleep(5)


class ByHand(Life):
    """The breaker is opened by hand, and closed again whatever happens."""

    async def live(self) -> None:
        """Live."""
        await self.bench.in_service()
        self.bench.bus.force_open("a test")
        try:
            await trio.sleep(1)
        finally:
            self.bench.bus.force_close()


class Crashing(Life):
    """The actor crashes by itself, unless it is cancelled before."""

    async def live(self) -> None:
        """Live."""
        await self.bench.in_service()
        await self.submit(self.a.read(1))
        await self.submit(self.a.failing(RuntimeError("planned")))
        await trio.sleep_forever()

    def check(self, ending: Ending) -> None:
        """Check that nothing but the planned crash was raised."""
        if ending.error is not None:
            assert "RuntimeError('planned')" in repr(ending.error)
        assert self.works_again or not self.ran


class Waiting(Life):
    """A driver that was driven safe by nobody is waited for by the next incarnation."""

    def __init__(self) -> None:
        super().__init__(Parts(connect_s=0.3))

    async def victim(self) -> None:
        """Start while the instrument is driven safe without an actor."""
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.bench.bus.make_safe, ["a"], "stop")
                await trio.sleep(0.1)
                await super().victim()
                scope.cancel()

    async def live(self) -> None:
        """Live."""
        await trio.sleep(5)


class Caller(Life):
    """A caller is the victim; the bus and its supervisor live on."""

    def __init__(self, parts: Parts | None = None) -> None:
        super().__init__(parts)
        self.ticket: Ticket[str] | None = None
        self.refused = False

    async def victim(self) -> None:
        """Wait for room, then for the outcome."""
        await trio.sleep(0.1)
        try:
            self.ticket = await self.bench.bus.submit(self.a, self.a.read("mine"))
            await self.ticket.outcome()
        except RefusedError:
            self.refused = True
        finally:
            if self.ticket is not None:
                self.ticket.withdraw()

    async def live(self) -> None:
        """Live."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.bench.bus.run, lambda: None)
            await self.bench.in_service()
            for tag in range(2):
                ticket = await self.bench.bus.submit(self.a, self.a.read(tag, wait_s=0.5))
                self.tickets.append(ticket)
            await trio.sleep_forever()

    def check(self, ending: Ending) -> None:
        """Check that a cancelled caller left nothing on the wire."""
        assert ending.error is None
        mine = [text for text in self.bench.sent() if text.endswith("mine")]
        if self.ticket is None or not ending.returned:
            assert not mine or ending.checkpoint is not None
        else:
            assert mine == ["A:ASK mine"]


class Broken(Witness):
    """A driver that fails, once it is told to."""

    broken = False

    def identify(self) -> Script[Identity]:
        """Say who it is, or fail."""
        if self.broken:
            raise RuntimeError("a fault of the driver")
        return super().identify()


class Safety(Life):
    """Who wants it driven safe is the victim, with the actor up or down."""

    def __init__(self, *, up: bool) -> None:
        super().__init__(Parts(profile=SHARED), units="AB")
        self.up = up
        self.outcomes: list[SafeOutcome] = []

    async def victim(self) -> None:
        """Ask for safety; that is shielded, so it comes to its end."""
        await trio.sleep(0.1)
        self.outcomes += await self.bench.bus.make_safe(["a", "b"], "stop")
        await trio.lowlevel.checkpoint()

    async def live(self) -> None:
        """Live."""
        async with trio.open_nursery() as nursery:
            if self.up:
                nursery.start_soon(self.bench.bus.run, lambda: None)
            await trio.sleep(20)
            nursery.cancel_scope.cancel()

    def check(self, ending: Ending) -> None:
        """Check that what was begun was carried through."""
        assert ending.error is None
        if self.outcomes:
            assert [each.error for each in self.outcomes] == [None, None]
            assert all(unit.state == {"out": "0"} for unit in self.model.units.values())
        else:
            assert not ending.returned


class Draining(Life):
    """Who waits for the lanes to be empty is the victim."""

    async def victim(self) -> None:
        """Wait until it is drained."""
        await trio.sleep(0.1)
        await self.bench.bus.wait_drained()

    async def live(self) -> None:
        """Live."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.bench.bus.run, lambda: None)
            await self.bench.in_service()
            await self.submit(self.a.read(1, wait_s=0.5))
            nursery.cancel_scope.cancel()

    def check(self, ending: Ending) -> None:
        """Check that nothing else happened."""
        assert ending.error is None
        assert all(each.state.final for each in self.tickets)


def test_every_await_of_the_bus_can_be_cancelled() -> None:
    """Cancelled anywhere: line closed, everything answered, no breaker stuck, works again."""
    reopened = Parts(profile=TCP, keeps_late=False)
    full = Parts(profile=evolve(PLAIN, queue_depth=1))
    hits = Hits()
    for make in (
        Ordinary,
        lambda: Ordinary(reopened),
        Silent,
        Urgent,
        Faulty,
        SilentAtFirst,
        LostInProbe,
        Steps,
        Operating,
        Refusing,
        Noisy,
        ByHand,
        Crashing,
        Waiting,
        lambda: Caller(full),
        lambda: Safety(up=True),
        lambda: Safety(up=False),
        Draining,
    ):
        hits |= sweep(make, *MODULES)
    safe = "runs within the shield of `make_safe`"
    excused = {
        "Bus._stand_in": safe,
        "Bus._safe_alone": safe,
        "Bus.make_safe.hear": safe,
        "Bus.lend": "only waits: cancelled, the port is lent all the same",
        "Bus.run: async with trio.open_nursery() as nursery:": "its body never returns",
    }
    assert unhit(bus, hits, excused) == []
    last_look = "Exchanges.resync: await trio.lowlevel.checkpoint_if_cancelled()"
    over = "await trio.sleep_forever()  # a task beside has ended the incarnation"
    aside = "cancelled in the tests of multiplexed lines"
    away = "waits for an event, on a line that was lent or is stuck"
    excused = {
        "Dispatch.drive_safe_alone": safe,
        "Dispatch._await_unstuck": away,
        "Dispatch._stay_away": away,
        "Dispatch._reach: await self._await_unstuck()": away,
        "Dispatch._await_unstuck.ring": away,
        "Dispatch.watch_service": "cancelled in the tests of operations",
        f"Dispatch.serve: {over}": aside,
        "Dispatch._send_off.fly": aside,
    }
    assert unhit(dispatch, hits, excused) == []
    elsewhere = {
        "Following._ask_result: await self._run_out(member, engagement, overlap)": "as elsewhere"
    }
    assert unhit(following, hits, elsewhere) == []
    assert unhit(attempts, hits, {}) == []
    assert unhit(upkeep, hits, {}) == []
    assert unhit(safety, hits, {}) == []
    assert unhit(exchanges, hits, {last_look: "waits for nothing unless it is cancelled"}) == []
    written = "cancelled in the tests of ledgers"
    excused = {
        "Intake.submit: await self._put_written(ledger, device, ticket, wait=wait)": written,
        "Intake._put_written": written,
    }
    assert unhit(intake, hits, excused) == []
