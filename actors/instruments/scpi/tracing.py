"""The base of instruments that measure many values at once: traces, sweeps, spectra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, TypeVar

from attrs import evolve

from actors.command import Plan
from actors.operation import Overlap
from actors.parameter import Action
from actors.ticket import Ticket
from transports import Exchange

from .blocks import Block, decode_block, last_error
from .driver import ScpiInstrument
from .frames import CLEAR, fits

T = TypeVar("T")


class TracingInstrument(ScpiInstrument):
    """The base of SCPI instruments that send their values as blocks.

    A block, what explains it and what the error queue holds are asked for in one exchange, so
    that they belong together. A driver calls `fetch` for what is there, `begin` for what has
    to be measured first.

    Class attributes beside those of `ScpiInstrument`:
        block_within_s: How long a block may take, in seconds.
    """

    block_within_s: ClassVar[float] = 30.0

    async def fetch(
        self,
        name: str,
        asks: Sequence[str],
        build: Callable[[Block], T],
        *,
        before: Sequence[str] = (),
    ) -> T:
        """Ask for a block, and return what `build` makes of it and of the answers behind it.

        Args:
            name: What the command is called.
            asks: The queries: the block's own, then those that explain it.
            build: Makes the value; raises ValueError where the answers do not fit.
            before: What has to be said first; changes nothing but how the answer is written.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It failed: with cause DEVICE, there is nothing to send.
        """
        exchange, decode = self._request(asks, build, before)
        return await self.ask_plan(Plan(name=name, exchange=exchange, decode=decode))

    async def begin(
        self,
        operation: Action,
        asks: Sequence[str],
        build: Callable[[Block], T],
        *,
        before: Sequence[str] = (),
        confirm: bool = False,
    ) -> Ticket[T]:
        """Begin an operation whose value is a block; return its ticket. Arguments as `fetch`.

        Raises:
            RefusedError: It was not accepted.
        """
        plan = self.plan(operation, confirm=confirm)
        followed = plan.overlap
        if followed is None:
            raise ValueError(f"{operation!r} is not followed: nothing tells when it is done")
        exchange, decode = self._request(asks, build, before)
        # The exchange goes out when the operation is done, and its reply is the value.
        overlap = Overlap(
            poll=followed.poll,
            judge=followed.judge,
            finish=exchange,
            result=decode,
            abort=followed.abort,
            within_s=followed.within_s,
            by_status=followed.by_status,
            on_request=followed.on_request,
        )
        started: Plan[T] = evolve(plan, overlap=overlap)
        return await self.bus.submit(self, started)

    def _request(
        self, asks: Sequence[str], build: Callable[[Block], T], before: Sequence[str]
    ) -> tuple[Exchange, Callable[[bytes], T]]:
        check = ["SYST:ERR?"] if self.check_errors else []
        text = ";:".join([*before, *asks, *check])
        if check and self._leftovers:
            text = f"{CLEAR};:{text}"
        answers = len(asks) - 1 + len(check)
        decode = partial(self._decode_block, answers, build)
        within_s = max(self.block_within_s, self._within_s)
        accepts = partial(_answers, answers)
        return Exchange(f"{text}\n".encode("ascii"), self.unit, within_s, accepts), decode

    def _decode_block(self, answers: int, build: Callable[[Block], T], raw: bytes) -> T:
        error = last_error(raw)
        if error is not None:
            self._check_error(error)
        block = decode_block(raw, answers)
        if self.check_errors:
            self._check_error(block.answers[-1])
        return build(block)


def _answers(answers: int, raw: bytes) -> bool:
    """Tell whether a frame is a block with so many answers, or says why there is none."""
    return last_error(raw) is not None or fits(partial(decode_block, answers=answers), raw)
