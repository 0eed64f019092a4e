"""What instruments were told, against what they say: a loop for each bus.

Rules:
1. It only reads, at low priority, never waits for room and never tries twice; what cannot
   be read now is looked at next time.
2. A setting that was written since it was asked for is not judged.
3. It writes only where the policy says so, never what can do harm, and never into what
   somebody has leased.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

import trio
from attrs import field, frozen, validators

from .bus import Bus
from .command import Outcome, Plan, Priority
from .errors import RefusedError
from .events import StateDrifted, StatusFault, StatusUnknown, WriteResolved
from .faults import REJECTED, TIMEOUT, Fault
from .member import Member, Service
from .supervisor import Started

T = TypeVar("T")


_PATIENCE_S: Final = 5.0

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


@runtime_checkable
class HasStatus(Protocol):
    """A device that can be asked for faults it found by itself."""

    def status_plan(self) -> Plan[Sequence[Fault]] | None:
        """Return what reads its status, or None where its driver knows no such thing."""
        ...


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
        self._told: dict[tuple[str, str], tuple[object, str]] = {}
        self._faults: dict[str, frozenset[str]] = {}

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
        for member in self.bus.members:
            free = member.engagement is None and not member.unrestored
            if member.service is Service.IN_SERVICE and free:
                await self._check_status(member)
                for name in tuple(dict.fromkeys((*member.intended, *member.doubts))):
                    await self._check_setting(member, name)

    async def _check_status(self, member: Member) -> None:
        device = member.device
        known = isinstance(device, HasStatus) and member.name not in self._without
        plan = device.status_plan() if known and isinstance(device, HasStatus) else None
        outcome = None if plan is None else await self._ask(member, plan)
        if outcome is None:
            return
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

    async def _check_setting(self, member: Member, name: str) -> None:
        intended, doubt = member.intended.get(name), member.doubts.get(name)
        readback = next((each.readback for each in (doubt, intended) if each is not None), None)
        if readback is None:
            return
        try:
            plan = readback.read()
        except (RefusedError, ValueError):
            return  # its driver cannot read it, or not now
        outcome = await self._ask(member, plan)
        changed = member.intended.get(name) is not intended or member.doubts.get(name) is not doubt
        if outcome is None or not outcome.ok or outcome.value is None or changed:
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
        told = found, action
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
            await self._ask(member, intended)
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

    async def _ask(self, member: Member, plan: Plan[T]) -> Outcome[T] | None:
        """Carry a plan out once, and return how it ended; None where it was not accepted."""
        try:
            ticket = await self.bus.submit(
                member.device,
                plan,
                priority=Priority.LOW,
                wait=False,
                watch_deadline=False,
                caller=f"reconcile.{self.bus.name}",
                once=True,
            )
        except RefusedError:
            return None
        outcome: Outcome[Any] | None = None
        try:
            # One that is busy keeps the others of its bus from being looked at no longer.
            with trio.move_on_after(_PATIENCE_S):
                outcome = await ticket.outcome()
        finally:
            if not ticket.state.final:
                ticket.withdraw()
        return outcome


_REPORTED: Final = "reported"
_REAPPLIED: Final = "reapplied"
_TRIPPED: Final = "tripped"
