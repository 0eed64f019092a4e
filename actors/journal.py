"""What is written down of commands: rows, the chain that seals them, and their replay.

Rules:
1. Rows are appended in batches. Each batch is sealed over its rows and the seal before it: a
   row that is changed, added or missing shows, and where.
2. A journaled command has a row for each step it took along the table in `command.py`,
   beginning with QUEUED and ending with the one of its outcome.
3. A read has a row of its own only when it failed; the others are counted. Where everything
   is journaled, reads are commands like the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, TypeAlias

from attrs import define, field, frozen

from .command import TRANSITIONS, CommandState
from .faults import Cause

Cell: TypeAlias = int | str | None
"""What a row is made of where it is stored and sealed."""

COLUMNS: Final = (
    "number",
    "utc_ms",
    "mono_ns",
    "kind",
    "seq",
    "state",
    "target",
    "instrument",
    "command",
    "caller",
    "lease",
    "attempt",
    "acknowledgement",
    "cause",
    "may_have_executed",
    "text",
    "request",
)
"""The names of a row's cells, in order."""

_PAGE: Final = 32_768

_JSON: Final = json.JSONEncoder(separators=(",", ":"))

_STEPS: Final = frozenset((before, after) for (before, _), after in TRANSITIONS.items())


class RowKind(Enum):
    """What a row is about."""

    COMMAND = "command"
    """A step of a command."""
    READ = "read"
    """A read that failed, in one row."""
    REFUSED = "refused"
    """A command that would change an instrument and was not accepted."""
    COUNT = "count"
    """How many reads of an instrument have ended, and how."""
    EVENT = "event"
    """Something that bears upon commands: a trip, a safe state."""
    GAP = "gap"
    """The journal could not be written for a while."""
    BEGUN = "begun"
    """The journal begins."""
    ENDED = "ended"
    """The journal ends; what follows was added by somebody else."""


@frozen(kw_only=True, slots=False)  # made in two thirds of the time
class JournalRow:
    """One row.

    Attributes:
        kind: What it is about.
        utc_ms: When, in milliseconds since 1970.
        mono_ns: When, on the monotonic clock of the computer that wrote it.
        seq: The command's number; None where it is about none.
        state: The state the command is in from then on, or None.
        target: The resource as a URI.
        instrument: The instrument, or "".
        command: What is asked, such as "voltage.set"; what happened, in other rows.
        caller: Who asked.
        lease: The lease it was asked under, or "".
        attempt: How often its first byte was handed over by then.
        acknowledgement: What the hardware said, or "".
        cause: Why it failed or was refused, or None.
        may_have_executed: Whether the device carried it out or may have; None while open.
        text: Why, in words, or what else there is to say.
        request: What is sent first, where the command is queued.
    """

    kind: RowKind
    utc_ms: int
    mono_ns: int
    seq: int | None = None
    state: CommandState | None = None
    target: str = ""
    instrument: str = ""
    command: str = ""
    caller: str = ""
    lease: str = ""
    attempt: int = 0
    acknowledgement: str = ""
    cause: Cause | None = None
    may_have_executed: bool | None = None
    text: str = ""
    request: str = ""

    def cells(self, number: int) -> tuple[Cell, ...]:
        """Return the row as it is stored and sealed, as the row of that number."""
        may = self.may_have_executed
        return (
            number,
            self.utc_ms,
            self.mono_ns,
            self.kind.value,
            self.seq,
            None if self.state is None else self.state.name,
            _plain(self.target),
            _plain(self.instrument),
            _plain(self.command),
            _plain(self.caller),
            _plain(self.lease),
            self.attempt,
            _plain(self.acknowledgement),
            None if self.cause is None else self.cause.value,
            None if may is None else int(may),
            _plain(self.text),
            _plain(self.request),
        )

    @classmethod
    def from_cells(cls, cells: Sequence[Cell]) -> JournalRow:
        """Return the row that these cells store.

        Raises:
            ValueError: They store none.
        """
        if len(cells) != len(COLUMNS):
            raise ValueError(f"a row has {len(COLUMNS)} cells, not {len(cells)}")
        # In the order of `COLUMNS`.
        _, utc_ms, mono_ns, kind, seq, state, target, instrument, command, *more = cells
        caller, lease, attempt, acknowledgement, cause, may, text, request = more
        return cls(
            kind=RowKind(kind),
            utc_ms=_number(utc_ms),
            mono_ns=_number(mono_ns),
            seq=None if seq is None else _number(seq),
            state=None if state is None else _state(state),
            target=_text(target),
            instrument=_text(instrument),
            command=_text(command),
            caller=_text(caller),
            lease=_text(lease),
            attempt=_number(attempt),
            acknowledgement=_text(acknowledgement),
            cause=None if cause is None else Cause(cause),
            may_have_executed=None if may is None else bool(may),
            text=_text(text),
            request=_text(request),
        )


@frozen
class Batch:
    """Rows that were written together.

    Attributes:
        number: Which batch of its journal, from 1.
        previous: The seal of the batch before it.
        seal: Its own.
        cells: Its rows as they are stored.
    """

    number: int
    previous: bytes
    seal: bytes
    cells: Sequence[Sequence[Cell]]


def first_seal(tree: str, run: str) -> bytes:
    """Return what the first batch of a journal is chained to."""
    return hashlib.sha256(json.dumps(["benchtree journal", 1, tree, run]).encode()).digest()


@define
class Chain:
    """The end of a chain of batches.

    Attributes:
        seal: The last batch's seal.
        batches: The last batch's number.
        rows: The last row's number.
    """

    seal: bytes
    batches: int = 0
    rows: int = 0

    def link(self, rows: Iterable[JournalRow]) -> Batch:
        """Return the batch that would follow; the chain goes on from it after `follow`."""
        cells = [row.cells(number) for number, row in enumerate(rows, self.rows + 1)]
        number = self.batches + 1
        return Batch(number, self.seal, _seal(self.seal, number, cells), cells)

    def check(self, batch: Batch) -> str | None:
        """Return what is wrong with the batch that follows; go on from it where it is right."""
        expected = self.batches + 1
        if batch.number > expected:
            last = batch.number - 1
            which = f"batch {expected} is" if last == expected else f"batches {expected}-{last} are"
            return f"{which} missing"
        if batch.number < expected:
            return f"batch {batch.number} is there again"
        if batch.previous != self.seal:
            return f"batch {batch.number} does not follow the one before it"
        for number, cells in enumerate(batch.cells, self.rows + 1):
            if cells[0] != number:
                return f"row {number} of batch {batch.number} is missing"
        try:
            seal = _seal(batch.previous, batch.number, batch.cells)
        except TypeError:
            return f"batch {batch.number} holds what no journal does"
        if seal != batch.seal:
            first, last = self.rows + 1, self.rows + len(batch.cells)
            return f"batch {batch.number} (rows {first}-{last}) was changed after it was sealed"
        self.follow(batch)
        return None

    def follow(self, batch: Batch) -> None:
        """Go on from a batch that is known to be right."""
        self.seal, self.batches = batch.seal, batch.number
        self.rows += len(batch.cells)


@define
class Replay:
    """Follows the commands of a journal, and holds them against the table.

    Attributes:
        open: The last row of each command that has not ended.
        ended: How many commands have.
    """

    open: dict[int, JournalRow] = field(factory=dict[int, JournalRow])
    ended: int = 0
    # A bit for each number that was given, in pages: a journal may be long.
    _given: dict[int, bytearray] = field(factory=dict[int, bytearray], repr=False)

    def step(self, row: JournalRow) -> str | None:
        """Take the next row and return what it does against the table, or None."""
        if row.kind is not RowKind.COMMAND:
            return None
        seq, state = row.seq, row.state
        if seq is None or state is None or seq < 0:
            return "a row of a command has no number or no state"
        before = self.open.get(seq)
        if before is None:
            if self._mark(seq):
                return f"command {seq} went to {state.name} after its end"
            if state is not CommandState.QUEUED:
                return f"command {seq} began as {state.name}"
        elif (before.state, state) not in _STEPS:
            came = "nothing" if before.state is None else before.state.name
            return f"command {seq} went from {came} to {state.name}"
        if state.final:
            self.open.pop(seq, None)
            self.ended += 1
        else:
            self.open[seq] = row
        return None

    def _mark(self, seq: int) -> bool:
        """Note that a number was given; return whether it had been before."""
        page = self._given.setdefault(seq // _PAGE, bytearray(_PAGE // 8))
        place, bit = seq % _PAGE // 8, 1 << (seq & 7)
        was_given = bool(page[place] & bit)
        page[place] |= bit
        return was_given


def closing_row(row: JournalRow, *, utc_ms: int, mono_ns: int) -> JournalRow:
    """Return the outcome of a command whose process was killed; `row` is its last one."""
    return JournalRow(
        kind=RowKind.COMMAND,
        utc_ms=utc_ms,
        mono_ns=mono_ns,
        seq=row.seq,
        state=CommandState.FAILED,
        target=row.target,
        instrument=row.instrument,
        command=row.command,
        caller=row.caller,
        lease=row.lease,
        attempt=row.attempt,
        acknowledgement=row.acknowledgement,
        cause=Cause.CRASHED,
        # Its last steps may not have been written down any more.
        may_have_executed=True,
        text="its process was killed",
    )


def _seal(previous: bytes, number: int, cells: Sequence[Sequence[Cell]]) -> bytes:
    seal = hashlib.sha256(previous)
    seal.update(b"%d\n" % number)
    # Row by row: all at once would keep other threads waiting for long.
    for row in cells:
        seal.update(_JSON.encode(row).encode() + b"\n")
    return seal.digest()


def _plain(text: str) -> str:
    """Return text that every file can hold: one decoded from garbled bytes may not be."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _number(cell: Cell) -> int:
    match cell:
        case int():
            return cell
        case _:
            raise ValueError(f"{cell!r} is no number")


def _text(cell: Cell) -> str:
    match cell:
        case str():
            return cell
        case _:
            raise ValueError(f"{cell!r} is no text")


def _state(cell: Cell) -> CommandState:
    try:
        return CommandState[str(cell)]
    except KeyError:
        raise ValueError(f"{cell!r} is no state of a command") from None
