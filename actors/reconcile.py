"""What instruments were told, against what they say: a loop for each bus.

Rules:
1. It only reads, after everybody else, and never tries twice; what cannot be read now is
   looked at next time.
2. Whose lane is never empty is asked before the others instead, beside the rest of its bus:
   whoever is told most is not looked at least.
3. Nobody is left out in silence.
4. A setting that was written since it was asked for is not judged.
5. It writes only where the policy says so, never what can do harm, and never into what
   somebody has leased.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Final, Protocol, TypeGuard, TypeVar

import trio
from attrs import field, frozen, validators

from transports import current_clock

from .bus import Bus
from .command import LOW, QUEUED, Outcome, Plan, Priority
from .errors import RefusedError
from .events import StateDrifted, StateUnchecked, StatusFault, StatusUnknown, WriteResolved
from .faults import REJECTED, TIMEOUT, Cause, Fault
from .member import Device, Member, Service
from .supervisor import Started
from .ticket import Ticket

T = TypeVar("T")


_PATIENCE_S: Final = 5.0
"""How long one question may take."""

_LOW_S: Final = 0.1, 1.0
"""How long others may go first in a lane, at least and at most, before that is too long."""

_MISSED: Final = 2
"""How often in a row an instrument may not be looked at before that is told."""

_SILENCES: Final = 2
"""How often in a row a status may be asked for in vain: less often than a breaker bears."""


class OnDrift(Enum):
    """What happens when a device does not hold what it was told."""

    REPORT = "report"
    """It is an event."""
    REAPPLY = "reapply"
    """The setting is written again, unless it can do harm or the instrument is leased."""
    TRIP = "trip"
    """The instrument takes only reads from then on, and is driven safe."""


@frozen(kw_only=True)
class ReconcilePolicy:
    """How a bus is looked after.

    Attributes:
        every_s: How often its instruments are asked, in seconds; 0 for never.
        on_drift: What happens when they do not hold what they were told.
    """

    every_s: float = field(default=10.0, validator=validators.ge(0.0))
    on_drift: OnDrift = OnDrift.REPORT


class HasStatus(Protocol):
    """A device that can be asked for faults it found by itself."""

    def status_plan(self) -> Plan[Sequence[Fault]] | None:
        """Return what reads its status, or None where its driver knows no such thing."""
        ...


def _has_status(device: Device) -> TypeGuard[HasStatus]:
    """Return whether a device is one, without what asking the protocol costs each time."""
    return hasattr(device, "status_plan")


class _UnaskedError(Exception):
    """Something could not be asked for now."""


class _CrowdedOutError(_UnaskedError):
    """Others went first all the time."""


class Reconciler:
    """Compares what the instruments of one bus were told with what they say.

    Args:
        bus: The bus.
        policy: How often, and what to do.
    """

    def __init__(self, bus: Bus, policy: ReconcilePolicy) -> None:
        """Start with nothing seen."""
        self.bus = bus
        self.policy = policy
        # Who has no status to be asked for, as far as it shows, and how often others were silent.
        self._without: set[str] = set()
        self._silent: Counter[str] = Counter()
        # What was told of each setting last, so that it is told once.
        self._told: dict[tuple[str, str], tuple[Plan[object], object, str]] = {}
        self._faults: dict[str, frozenset[str]] = {}
        # Whose lanes were never empty, and how often in a row who could not be looked at.
        self._crowded: set[str] = set()
        self._missed: Counter[str] = Counter()

    def __repr__(self) -> str:
        """Return the bus, the period and what to do."""
        policy = self.policy
        return f"<Reconciler {self.bus.name} {policy.every_s:g} s {policy.on_drift.value}>"

    async def run(self, started: Started) -> None:
        """Look at all instruments, again and again, until cancelled."""
        started()
        next_s = trio.current_time()
        while True:
            next_s = max(next_s + self.policy.every_s, trio.current_time())
            await trio.sleep_until(next_s)
            await self.look()

    async def look(self) -> None:
        """Look at every instrument that is in service once."""
        async with trio.open_nursery() as nursery:
            for member in self.bus.members:
                name = member.name
                if member.service is not Service.IN_SERVICE:
                    del self._missed[name]  # why it is not has been told
                    continue
                crowded = name in self._crowded and len(member.lane) > 0
                if crowded or not await self._look_at(member, LOW):
                    self._crowded.add(name)
                    nursery.start_soon(self._look_at, member, Priority.HIGH)
                else:
                    self._crowded.discard(name)

    async def _look_at(self, member: Member, priority: Priority) -> bool:
        """Look at an instrument; return False if it is worth another, more urgent try now."""
        try:
            if member.engagement is not None:
                raise _UnaskedError(f"it is busy with {member.engagement.ticket.command.plan.name}")
            if member.unrestored:
                raise _UnaskedError("its settings are not restored yet")
            await self._check_status(member, priority)
            for name in tuple(dict.fromkeys((*member.intended, *member.doubts))):
                await self._check_setting(member, name, priority)
        except _CrowdedOutError:
            return False
        except _UnaskedError as why:
            self._note_missed(member, str(why))
        else:
            del self._missed[member.name]
        return True

    def _note_missed(self, member: Member, why: str) -> None:
        """Tell once that an instrument is not looked at, however long that goes on."""
        if member.service is not Service.IN_SERVICE:
            return
        self._missed[member.name] += 1
        if self._missed[member.name] == _MISSED:
            self.bus.events.publish(
                StateUnchecked(
                    instrument=member.name, for_s=_MISSED * self.policy.every_s, reason=why
                )
            )

    async def _check_status(self, member: Member, priority: Priority) -> None:
        device = member.device
        if member.name in self._without or not _has_status(device):
            return
        plan = device.status_plan()
        if plan is None:
            return
        outcome = await self._ask(member, plan, priority)
        if not outcome.ok:
            self._note_without(member, outcome)
            return
        del self._silent[member.name]
        if outcome.value is None:
            return
        before = self._faults.get(member.name, frozenset())
        self._faults[member.name] = frozenset(str(each) for each in outcome.value)
        for fault in outcome.value:
            if str(fault) not in before:
                self.bus.events.publish(
                    StatusFault(instrument=member.name, fault=fault.kind.name, reason=fault.text)
                )
            if fault.kind.fatal and member.tripped is None:
                await self.bus.make_safe([member.name], str(fault))

    def _note_without(self, member: Member, outcome: Outcome[Any]) -> None:
        """Ask no more for a status that the device does not know, or is silent about."""
        fault = outcome.fault
        if fault is not None and fault.kind is TIMEOUT:
            self._silent[member.name] += 1
        refused = fault is not None and fault.kind is REJECTED
        if refused or self._silent[member.name] >= _SILENCES:
            self._without.add(member.name)
            self.bus.events.publish(
                StatusUnknown(instrument=member.name, reason=str(outcome.error))
            )

    async def _check_setting(self, member: Member, name: str, priority: Priority) -> None:
        intended, doubt = member.intended.get(name), member.doubts.get(name)
        readback = next((each.readback for each in (doubt, intended) if each is not None), None)
        if readback is None:
            return
        try:
            plan = readback.read()
        except (RefusedError, ValueError):
            return  # its driver cannot read it, or not now
        outcome = await self._ask(member, plan, priority)
        changed = member.intended.get(name) is not intended or member.doubts.get(name) is not doubt
        if not outcome.ok or outcome.value is None or changed or member.may_have_moved(name):
            return
        found = outcome.value
        if doubt is not None:
            self._resolve(member, name, doubt, found)
            intended = member.intended.get(name)
        if intended is None or intended.readback is None:
            return
        if intended.readback.agrees(found):
            self._told.pop((member.name, name), None)
        else:
            await self._drifted(member, name, intended, found)

    def _resolve(self, member: Member, name: str, doubt: Plan[object], found: object) -> None:
        """Find out whether a write was carried out whose answer never came."""
        del member.doubts[name]
        executed = doubt.readback is not None and doubt.readback.agrees(found)
        if executed:
            member.intend(doubt)
        self.bus.events.publish(
            WriteResolved(instrument=member.name, command=doubt.name, executed=executed)
        )

    async def _drifted(
        self, member: Member, name: str, intended: Plan[object], found: object
    ) -> None:
        action = self._action(member, intended)
        wanted = None if intended.readback is None else intended.readback.wanted
        told = intended, found, action
        if self._told.get((member.name, name)) != told or action == _REAPPLIED:
            self._told[member.name, name] = told
            self.bus.events.publish(
                StateDrifted(
                    instrument=member.name,
                    setting=name,
                    wanted=wanted,
                    found=found,
                    action=action,
                )
            )
        if action == _REAPPLIED:
            # Before what waits: that may be a newer value.
            with suppress(_UnaskedError):
                await self._ask(member, intended, Priority.HIGH)
        elif action == _TRIPPED:
            reason = f"{name} is {found!r} at the device, not {wanted!r}"
            await self.bus.make_safe([member.name], reason)

    def _action(self, member: Member, intended: Plan[object]) -> str:
        """Return what is done about a setting that has drifted."""
        if self.policy.on_drift is OnDrift.REPORT:
            return _REPORTED
        if member.tripped is not None:
            return "only reported: it is tripped"
        if self.policy.on_drift is OnDrift.TRIP:
            return _TRIPPED
        if intended.hazardous:
            return "only reported: it can do harm"
        holder = self.bus.leases.holder(member.name)
        return _REAPPLIED if holder is None else f"only reported: {holder.owner!r} has leased it"

    async def _ask(self, member: Member, plan: Plan[T], priority: Priority) -> Outcome[T]:
        """Carry a plan out once, and return how it ended.

        Raises:
            _CrowdedOutError: Of low priority, others in its lane went first for too long.
            _UnaskedError: It was not accepted, or not done in time.
        """
        ends_s = trio.current_time() + _PATIENCE_S
        ticket: Ticket[T] | None = None
        outcome: Outcome[T] | None = None
        try:
            if priority is LOW:
                ticket = await self._submit(member, plan, priority, ends_s)
                await self._await_turn(member, ticket, ends_s)
            if ticket is not None and ticket.state.final:
                outcome = await ticket.outcome()
            else:
                with trio.CancelScope(deadline=ends_s):
                    ticket = ticket or await self._submit(member, plan, priority, ends_s)
                    outcome = await ticket.outcome()
        finally:
            if ticket is not None and not ticket.state.final:
                ticket.withdraw()
        if outcome is None:
            raise _not_in_time(plan)
        if outcome.error is not None and outcome.error.cause is Cause.CONFLICT:
            raise _UnaskedError(outcome.error.reason)
        return outcome

    async def _submit(
        self, member: Member, plan: Plan[T], priority: Priority, ends_s: float
    ) -> Ticket[T]:
        """Have a plan accepted; wait for room only where the lane is known to be full."""
        try:
            return await self.bus.submit(
                member.device,
                plan,
                priority=priority,
                wait=priority is not LOW,
                watch_deadline=False,
                caller=f"reconcile.{self.bus.name}",
                deadline_s=min(ends_s, trio.current_effective_deadline()),
                once=True,
            )
        except RefusedError as refusal:
            if refusal.cause is Cause.FULL:
                raise _CrowdedOutError(refusal.reason) from refusal
            raise _UnaskedError(refusal.reason) from refusal

    async def _await_turn(self, member: Member, ticket: Ticket[Any], ends_s: float) -> None:
        """Wait until a question is over or on the line; give up where others go first.

        One that waits for other lanes only comes to its turn by itself.
        """
        least_s, most_s = _LOW_S
        share_s = self.policy.every_s / (4 * max(1, len(self.bus.members)))
        clock, over = current_clock(), trio.lowlevel.ParkingLot()

        def wake(_: object) -> None:
            over.unpark()

        ticket.follow(wake)
        while _waits(ticket):
            look_s = clock.now_s() + min(max(share_s, least_s), most_s)
            await clock.park_until(over, min(look_s, ends_s))
            if _waits(ticket) and clock.now_s() >= ends_s:
                raise _not_in_time(ticket.command.plan)
            if _waits(ticket) and len(member.lane) > 1:
                raise _CrowdedOutError(f"{len(member.lane) - 1} commands go first")


def _not_in_time(plan: Plan[object]) -> _UnaskedError:
    return _UnaskedError(f"{plan.name} was not done within {_PATIENCE_S:g} s")


def _waits(ticket: Ticket[Any]) -> bool:
    return ticket.state is QUEUED


_REPORTED: Final = "reported"
_REAPPLIED: Final = "reapplied"
_TRIPPED: Final = "tripped"
