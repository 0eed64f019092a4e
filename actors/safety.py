"""Driving instruments safe: who is owed it, and doing it.

Rules:
1. Driving an instrument safe is owed until it succeeded, and comes first when it is reached.
2. A setting that the instrument refuses does not keep the rest of the safe state from it.
"""

from __future__ import annotations

from functools import partial

from .errors import DeviceError
from .events import SafeStateDue, SafeStateFailed, SafeStateOwed, SafeStateReached
from .exchanges import MISFITS, Exchanges
from .intake import Intake
from .member import Member, Service
from .reply import ReplyChannel


class Safety:
    """Knows which instruments of a bus have to be driven safe, and drives them.

    Attributes:
        due: For whom that is to be tried now, whatever their breakers say; its own.
    """

    def __init__(self, intake: Intake, exchanges: Exchanges) -> None:
        """Owe nobody anything yet."""
        self._intake = intake
        self._exchanges = exchanges
        self._events = intake.events
        self.due: dict[Member, None] = {}

    def next_unsafe(self) -> Member | None:
        """Return an instrument that has to be driven safe now."""
        members = self._intake.members.values()
        # One that hangs waits for its next try until everybody has had one.
        return min(
            (each for each in members if each in self.due and not each.lane.busy),
            key=lambda each: (each.safe_tries, each.service is not Service.IN_SERVICE),
            default=None,
        )

    def others_unsafe(self, member: Member) -> bool:
        """Return whether others have not had their first try to be driven safe."""
        return any(not each.safe_tries for each in self.due if each is not member)

    def require(self, member: Member, reason: str) -> None:
        """Note that an instrument has to be driven safe."""
        if self.owe(member, reason):
            self.require_now(member)

    def require_now(self, member: Member) -> None:
        """Have what is owed tried now, whatever the breakers say."""
        self.due[member] = None

    def require_again(self, member: Member) -> None:
        """Note that a tripped instrument may have left its safe state."""
        if member.tripped is not None and member.touched and member.safe_reason is None:
            self.require(member, member.tripped)
            self.note_due(member)

    def owe(self, member: Member, reason: str) -> bool:
        """Owe driving an instrument safe; return whether that is new."""
        if member.safe_reason is None and member.device.safe_plans():
            member.safe_reason = reason
            member.safe_tries = 0
            member.safe_told = ReplyChannel()
            return True
        return False

    def note_due(self, member: Member) -> None:
        """Report that an instrument is owed its safe state once more."""
        if member.safe_reason is not None:
            member.safe_unsaid = True
            self._events.publish(SafeStateDue(instrument=member.name, reason=member.safe_reason))

    def name_unsaid(self, member: Member, reason: str) -> None:
        """Name an instrument that is left as it is though it is owed its safe state.

        Whoever asked for that has heard why not, unless it came to be owed since.
        """
        if member.safe_unsaid and member.safe_reason is not None:
            member.safe_unsaid = False
            error = f"it may have left it since, and {reason}"
            self._events.publish(
                SafeStateFailed(instrument=member.name, reason=member.safe_reason, error=error)
            )

    async def run(self, member: Member) -> None:
        """Write the safe state; what is owed is settled once all of it was taken."""
        if member.left_running is not None:
            await self._exchanges.stop_left(member)
        refused: Exception | None = None
        sent: list[str] = []
        for place, plan in enumerate(member.device.safe_plans()):
            try:
                try:
                    await self._exchanges.insist(member, partial(self._exchanges.write, plan))
                except DeviceError:
                    # It may have told of what came before: planned anew, it tells of this.
                    again = member.device.safe_plans()[place]
                    await self._exchanges.write(again)
            except (DeviceError, *MISFITS) as error:
                refused = error  # it is there: the rest of the safe state is worth writing
            else:
                member.intend(plan)
                sent.append(plan.spelled)
        if refused is not None:
            raise refused
        reason, member.safe_reason = member.safe_reason, None
        self.due.pop(member, None)
        member.touched = member.safe_unsaid = False
        member.safe_told.send(None)
        self._events.publish(
            SafeStateReached(instrument=member.name, reason=reason or "", sent=tuple(sent))
        )

    def note_unsafe(self, member: Member, error: str) -> None:
        """Tell who waits that an instrument could not be driven safe yet."""
        if member.safe_reason is None or member not in self.due:
            return
        del self.due[member]
        told, member.safe_told = member.safe_told, ReplyChannel()
        told.send(error)
        self._events.publish(
            SafeStateOwed(instrument=member.name, reason=member.safe_reason, error=error)
        )
