"""The upkeep of a bus: its connection, who is on it, and whether they are well and safe.

Rules:
1. After every opening an instrument is identified before anything else is sent to it.
2. Line faults and failed probes feed the breakers; a result of an older epoch is ignored.
3. One silent instrument is quarantined alone; once nobody answers who did, the bus is lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Protocol, TypeGuard

import trio

from transports import LineState, Transport, TransportError

from .breaker import Breaker
from .command import Plan
from .errors import DeviceError
from .events import (
    BreakerChanged,
    BusLost,
    BusOpened,
    Events,
    IdentityMismatch,
    InstrumentIdentified,
    InstrumentQuarantined,
    SettingsRefused,
    SettingsRestored,
)
from .exchanges import Exchanges, fault_of
from .faults import (
    DISCONNECTED,
    FOREIGN_REPLY,
    FRAMING,
    IDENTITY_MISMATCH,
    OPENED_BY_HAND,
    TIMEOUT,
    Fault,
)
from .intake import Intake
from .member import Device, Identity, Member, OnReconnect, Service
from .safety import Safety

PROBE_CUT: Final = "the probe was cut short"
"""Why a breaker is open again whose probe counts as neither success nor failure."""

PROBE_SHARE: Final = 0.05
"""The largest share of line time spent on probing instruments that do not answer."""

_SILENCE: Final = (TIMEOUT, FOREIGN_REPLY, FRAMING, DISCONNECTED)


class KeepsErrors(Protocol):
    """A device that keeps what went wrong until it is asked."""

    def note_unanswered(self) -> None:
        """Note that something was not answered."""
        ...


def _keeps_errors(device: Device) -> TypeGuard[KeepsErrors]:
    """Return whether a device is one, without what asking the protocol costs each time."""
    return hasattr(device, "note_unanswered")


class Upkeep:
    """Keeps one line and the instruments on it in service.

    Attributes:
        up: Whether the line was opened and has not been found lost since.
        opened: Set while `up`.
        alone: Whether no incarnation runs: the line is opened to drive instruments safe only.
        next_probe_s: When the next instrument is to be identified, in Trio time.
    """

    def __init__(
        self,
        transport: Transport,
        intake: Intake,
        exchanges: Exchanges,
        safety: Safety,
    ) -> None:
        """Start with a line that is not open."""
        self.up = False
        self.alone = False
        self.opened = trio.Event()
        self.next_probe_s = math.inf
        self._transport = transport
        self._intake = intake
        self._exchanges = exchanges
        self._safety = safety
        self._events: Events = intake.events

    @property
    def probe_due(self) -> bool:
        """Whether an instrument is to be identified now."""
        return self.next_probe_s != math.inf and self.next_probe_s <= trio.current_time()

    def note_answer(self, member: Member, epochs: tuple[int, int]) -> None:
        """Note that an instrument answered an exchange of these epochs."""
        member.answered = True
        now_s = trio.current_time()
        self._intake.breaker.succeed(epochs[0], now_s)
        member.breaker.succeed(epochs[1], now_s)

    async def note_fault(self, member: Member, fault: Fault, epochs: tuple[int, int]) -> None:
        """Note that an exchange of these epochs failed on the line."""
        if self._transport.state is LineState.CLOSED:
            # On a multiplexed line others may have met the loss before.
            if self.up or epochs[0] == self._intake.breaker.epoch:
                await self.lose(fault.text)
        else:
            if fault.kind is TIMEOUT and _keeps_errors(member.device):
                member.device.note_unanswered()
            self._note_silence(member, fault, epochs)
            await self._judge_silence()
            if self._intake.breaker.miss(epochs[0], trio.current_time()):
                await self.lose(f"too many exchanges fail; the last, {member.name}: {fault}")

    def _note_silence(self, member: Member, fault: Fault, epochs: tuple[int, int]) -> None:
        if member.breaker.fail(epochs[1], trio.current_time()):
            self._quarantine(member, fault)

    def _quarantine(self, member: Member, fault: Fault) -> None:
        """Take an instrument out of service; its breaker is open."""
        reason = str(fault)
        member.service = Service.QUARANTINED
        member.reason = reason
        # Whoever says no, or is somebody else, is not silent: the line is well.
        member.silent = fault.kind in _SILENCE
        member.lane.held = True
        member.probe_at_s = member.breaker.retry_at_s
        self._note_outage(member)
        self._note_away(member)
        retry_after_s = member.breaker.retry_after_s(trio.current_time())
        self._events.publish(InstrumentQuarantined(instrument=member.name, reason=reason))
        self._report_breaker(member, reason)
        self._intake.fail_away(member, f"quarantined: {reason}", fault, retry_after_s)
        self.plan_probes()

    def _report_breaker(self, member: Member, reason: str) -> None:
        self._events.publish(
            BreakerChanged(
                name=member.name,
                state=member.breaker.state,
                retry_after_s=member.breaker.retry_after_s(trio.current_time()),
                reason=reason,
            )
        )

    async def _give_up_on(self, member: Member, fault: Fault) -> None:
        """Quarantine an instrument at once."""
        member.breaker.open(trio.current_time())
        self._safety.note_unsafe(member, str(fault))
        self._quarantine(member, fault)
        await self._judge_silence()

    async def _judge_silence(self) -> None:
        """Take the bus for lost once nobody answers who did since it was opened."""
        known = [each for each in self._intake.members.values() if each.answered]
        tried = known or list(self._intake.members.values())
        if tried and all(each.service is Service.QUARANTINED and each.silent for each in tried):
            await self.lose(f"no instrument answers; {tried[0].name}: {tried[0].reason}")

    async def lose(self, reason: str) -> None:
        """Give the line up for now: open the breaker, fail what waits, close."""
        now_s = trio.current_time()
        if self.up or self._intake.breaker.closed:
            self._events.publish(BusLost(bus=self._intake.name, reason=reason))
        if self._intake.breaker.open(now_s):
            self.note_breaker(reason)
        retry_after_s = self._intake.breaker.retry_after_s(now_s)
        self.note_closed(reason)
        for member in self._intake.members.values():
            if not self.alone:
                # Whoever is not served was out of reach before: nothing new is known of it.
                self._note_away(member)
            away = f"the bus {self._intake.name} is away: {reason}"
            self._intake.fail_away(member, away, Fault(DISCONNECTED, reason), retry_after_s)
            self._safety.note_unsafe(member, reason)
        await self._transport.aclose()

    def begin_probe(self, breaker: Breaker, now_s: float, name: str) -> bool:
        """Begin the probe of a breaker if it is due, and report it; return whether it is."""
        if not breaker.probe(now_s):
            return False
        self._events.publish(
            BreakerChanged(name=name, state=breaker.state, retry_after_s=None, reason="a probe")
        )
        return True

    def cut_probe(self, breaker: Breaker, epoch: int, name: str) -> None:
        """Forget a probe that was cut short, and report it if there was one."""
        if breaker.cancel_probe(epoch):
            self._events.publish(
                BreakerChanged(
                    name=name,
                    state=breaker.state,
                    retry_after_s=breaker.retry_after_s(trio.current_time()),
                    reason=PROBE_CUT,
                )
            )

    def bar(self, member: Member, reason: str) -> None:
        """Take an instrument out of service until it is let in."""
        member.breaker.force_open()
        self._quarantine(member, Fault(OPENED_BY_HAND, reason))

    def let_in(self, member: Member) -> None:
        """Identify an instrument now, whatever its breaker says, and put it into service."""
        if member.breaker.closed:
            return
        member.breaker.force_close()
        self._report_breaker(member, "closed by hand")
        if member.service is not Service.IN_SERVICE:
            member.service = Service.CONNECTING
            member.probe_at_s = trio.current_time()
            self.plan_probes()

    def note_breaker(self, reason: str) -> None:
        """Report that the bus's breaker changed."""
        self._intake.reason = reason
        self._events.publish(
            BreakerChanged(
                name=self._intake.name,
                state=self._intake.breaker.state,
                retry_after_s=self._intake.breaker.retry_after_s(trio.current_time()),
                reason=reason,
            )
        )

    def note_closed(self, reason: str) -> None:
        """Note that the line is closed: everybody is to be identified anew."""
        self.up = False
        self.next_probe_s = math.inf
        for member in self._intake.members.values():
            member.lane.held = True
            member.service = Service.CONNECTING
            member.reason = reason
            member.answered = False
            self._note_outage(member)

    def _note_outage(self, member: Member) -> None:
        if member.served:
            member.unrestored = True
            if member.policy.on_reconnect is OnReconnect.QUARANTINE:
                member.confirmed = False

    def _note_away(self, member: Member) -> None:
        # What was out of reach may be in any state when it comes back.
        member.touched = True
        if member.tripped is not None and self._safety.owe(member, member.tripped):
            self._safety.note_due(member)

    async def connect(self) -> None:
        """Open the line and plan to identify everybody on it."""
        try:
            await self._transport.open()
        except TransportError as error:
            await self.lose(error.reason)
            return
        self.up = True
        self.opened.set()
        self._events.publish(BusOpened(bus=self._intake.name))
        for member in self._intake.members.values():
            self.expect(member)
        if not self._intake.members:
            self._note_reached()

    def expect(self, member: Member) -> None:
        """Plan to identify an instrument: now, or after its recovery window."""
        member.probe_at_s = trio.current_time() + member.policy.recovery_s
        recovering = member.policy.recovery_s > 0.0
        member.service = Service.RECOVERING if recovering else Service.CONNECTING
        if recovering and not self._intake.breaker.closed:
            self._intake.breaker.postpone(member.probe_at_s)
        self.plan_probes()

    def readmit(self, member: Member) -> None:
        """Plan to identify an instrument now and restore its settings."""
        member.confirmed = True
        member.lane.held = True
        member.service = Service.CONNECTING
        member.probe_at_s = trio.current_time()
        self.plan_probes()

    def _note_reached(self) -> None:
        if self._intake.breaker.succeed(self._intake.breaker.epoch, trio.current_time()):
            self.note_breaker("an instrument on it answered")

    def plan_probes(self) -> None:
        """Work out when the next instrument is to be identified."""
        self.next_probe_s = min((each.probe_at_s for each in self._unserved()), default=math.inf)

    def next_probed(self) -> Member:
        """Return the instrument that is to be identified next."""
        return min(self._unserved(), key=lambda each: each.probe_at_s)

    def _unserved(self) -> Iterator[Member]:
        for member in self._intake.members.values():
            if member.service is not Service.IN_SERVICE and not member.lane.busy:
                yield member

    async def probe(self, member: Member) -> None:
        """Identify an instrument whose turn it is."""
        began_s = trio.current_time()
        await self.bring_up(member)
        if self.up and self._transport.owed(member.device.unit):
            # Getting back into step is part of what the probe takes from the others.
            try:
                await self._exchanges.resync(member.device.unit)
            except TransportError as error:
                await self.lose(error.reason)
        if member.service is not Service.IN_SERVICE and self.up:
            now_s = trio.current_time()
            # The time between probes is a multiple of what a probe takes from the others.
            earliest_s = now_s + (now_s - began_s) * (1.0 / PROBE_SHARE - 1.0)
            member.probe_at_s = max(member.probe_at_s, earliest_s)
            member.breaker.postpone(earliest_s)
            self.plan_probes()

    async def bring_up(self, member: Member) -> None:
        """Identify an instrument and put it into service, or quarantine it."""
        if not member.breaker.closed:
            now_s = trio.current_time()
            member.breaker.hasten(now_s)
            self.begin_probe(member.breaker, now_s, member.name)
        epoch = member.breaker.epoch
        try:
            fault = await self._try(member)
        except BaseException:
            self.cut_probe(member.breaker, epoch, member.name)
            raise
        if self._transport.state is LineState.CLOSED:
            self.cut_probe(member.breaker, epoch, member.name)
            await self.lose("the connection was lost" if fault is None else fault.text)
        elif fault is not None:
            await self._give_up_on(member, fault)
        else:
            if member.breaker.succeed(epoch, trio.current_time()):
                self._report_breaker(member, "it answered")
            self._enter_service(member)

    async def _try(self, member: Member) -> Fault | None:
        """Return what keeps an instrument from service, or None."""
        try:
            identity = await self._identify(member)
            self._note_reached()
            contradiction = identity.contradiction(member.expected)
            if contradiction is not None:
                member.answered = False
                self._events.publish(
                    IdentityMismatch(
                        instrument=member.name,
                        expected=str(member.expected),
                        found=str(identity),
                    )
                )
                return Fault(IDENTITY_MISMATCH, contradiction)
            member.identity = identity
            member.expected = member.expected.merged(identity)
            member.answered = True
            if member.left_running is not None:
                await self._exchanges.stop_left(member)
            if member.safe_reason is not None:
                await self._safety.run(member)
            if member.unrestored and member.confirmed and member.tripped is None:
                await self._restore(member)
        except DeviceError as error:
            self._note_reached()
            return error.fault
        except (TransportError, ValueError) as error:
            return fault_of(error)
        return None

    def _enter_service(self, member: Member) -> None:
        if not member.confirmed:
            member.service = Service.QUARANTINED
            member.reason = "it was away, and waits to be rearmed"
            member.probe_at_s = math.inf
            self._events.publish(
                InstrumentQuarantined(instrument=member.name, reason=member.reason)
            )
            # What was accepted while the bus was opened would wait for whoever rearms it.
            reason = f"quarantined: {member.reason}"
            self._intake.fail_kept_out(member, reason, Fault(OPENED_BY_HAND, member.reason))
        else:
            member.service = Service.IN_SERVICE
            member.lane.held = False
            member.served = True
            self._events.publish(
                InstrumentIdentified(instrument=member.name, identity=str(member.identity))
            )
        self.plan_probes()

    async def _restore(self, member: Member) -> None:
        """Write intended settings again; hazardous ones are left to their owner.

        What is refused is tried again after the others: on the way from one state to
        another a device may refuse what it takes in both.

        Raises:
            DeviceError: It takes none of what is left; rearming it goes on without that.
        """
        restored: list[str] = []
        sent: list[str] = []
        left_out: list[str] = []
        waiting: list[tuple[str, Plan[object]]] = []
        for name, plan in member.intended.items():
            if plan.hazardous or member.waived.get(name) is plan:
                left_out.append(name)
            else:
                waiting.append((name, plan))
        while waiting:
            refused: list[tuple[str, Plan[object]]] = []
            for name, plan in waiting:
                try:
                    await self._exchanges.write(plan)
                except DeviceError as error:
                    refused.append((name, plan))
                    if len(refused) == len(waiting):
                        raise self._kept_out(member, dict(refused), error.fault) from error
                    continue
                restored.append(name)
                sent.append(plan.spelled)
                member.doubts.pop(name, None)
            waiting = refused
        if member.intended:
            self._events.publish(
                SettingsRestored(
                    instrument=member.name,
                    settings=tuple(restored),
                    left_out=tuple(left_out),
                    sent=tuple(sent),
                )
            )
        member.settle()

    def _kept_out(
        self, member: Member, refused: dict[str, Plan[object]], fault: Fault
    ) -> DeviceError:
        """Return what keeps an instrument out that refuses what it held; tell it once."""
        settings = tuple(_told(name, plan) for name, plan in refused.items())
        if refused != member.refused:
            member.refused = refused
            self._events.publish(
                SettingsRefused(instrument=member.name, settings=settings, reason=str(fault))
            )
        text = f"it does not take {', '.join(settings)} back: {fault.text}; rearm to go on without"
        return DeviceError(Fault(fault.kind, text, fault.raw))

    async def drive_safe(self, member: Member) -> None:
        """Drive an instrument safe now, identifying it first if need be."""
        member.safe_tries += 1
        if member.service is not Service.IN_SERVICE:
            await self.bring_up(member)
            return
        epochs = self._intake.breaker.epoch, member.breaker.epoch
        try:
            await self._safety.run(member)
        except (TransportError, DeviceError, ValueError) as error:
            fault = fault_of(error)
        else:
            self.note_answer(member, epochs)
            return
        if self._transport.state is LineState.CLOSED:
            await self.lose(fault.text)
        else:
            # What is owed comes first when a probe brings it back.
            await self._give_up_on(member, fault)

    async def _identify(self, member: Member) -> Identity:
        run = self._exchanges.run_script
        return await self._exchanges.insist(member, lambda: run(member.device.identify()))


def _told(name: str, plan: Plan[object]) -> str:
    """Return a setting and what it was to be."""
    return name if plan.readback is None else f"{name} = {plan.readback.wanted!r}"
