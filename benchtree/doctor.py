"""What is wrong with a bench: every bus of a file is opened and everybody asked who it is.

Nothing is set anywhere, and nothing is sent to a port that another process owns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio
from attrs import asdict, define, evolve, field

from actors import DeviceError, Identity, Instrument, current_clock
from transports import (
    LineState,
    Resync,
    SerialSettings,
    Transport,
    TransportError,
    claim,
    resolve_key,
)

from .asking import REPLY_S, UNIT_S, ask, is_silence, stand_in
from .diagnosis import Diagnosis, Trouble, diagnose
from .drivers import best_driver, driver_names, find_driver, name_of
from .lines import LinePlan, make_line, plan_line
from .spec import BusSpec, InstrumentSpec, TreeSpec

WITHIN_S: Final = 10.0
"""How long a bus may take, in seconds."""

TREE: Final = "benchtree doctor"
"""What others are told who find a port owned while it is examined."""

ATTEMPTS: Final = 2
"""Asking twice forgives what a program that was killed left in the instrument's input."""


@define(kw_only=True)
class InstrumentReport:
    """What became of asking one instrument.

    Attributes:
        spec: The instrument, as the file has it.
        identity: Who answered, or None.
        latency_s: How long its first answer took, in seconds.
        diagnosis: What is wrong, or None.
        remark: What may be wrong, or "".
    """

    spec: InstrumentSpec
    identity: Identity | None = None
    latency_s: float | None = None
    diagnosis: Diagnosis | None = None
    remark: str = ""

    @property
    def unit(self) -> str | None:
        """Its unit on the bus."""
        return self.spec.unit_id or self.spec.driver.default_unit


@define(kw_only=True)
class BusReport:
    """What became of opening one bus.

    Attributes:
        spec: The bus, as the file has it.
        diagnosis: What is wrong with all of it, or None.
        simulated: Whether there is nothing to examine.
        instruments: What became of asking those on it.
    """

    spec: BusSpec
    diagnosis: Diagnosis | None = None
    simulated: bool = False
    instruments: list[InstrumentReport] = field(factory=list[InstrumentReport])

    @property
    def well(self) -> bool:
        """Whether everybody on it is there, and who it should be."""
        return self.diagnosis is None and all(each.diagnosis is None for each in self.instruments)


async def examine(tree: TreeSpec, *, within_s: float = WITHIN_S) -> Sequence[BusReport]:
    """Open every bus of a tree at once, and ask everybody on it who it is.

    A bus that takes longer than `within_s` is given up.
    """
    reports = [
        BusReport(
            spec=bus,
            instruments=[
                InstrumentReport(spec=each) for each in tree.instruments if each.bus == bus.name
            ],
        )
        for bus in tree.buses
    ]
    async with trio.open_nursery() as nursery:
        for report in reports:
            nursery.start_soon(_examine_in_time, report, within_s)
    return reports


async def _examine_in_time(report: BusReport, within_s: float) -> None:
    with trio.move_on_after(within_s) as scope:
        await _examine(report)
    if scope.cancelled_caught and report.well:
        report.diagnosis = Diagnosis(
            Trouble.TOO_SLOW,
            f"it was given up after {within_s:g} s",
            "give it longer with --within, or look whether its driver hangs",
        )


async def _examine(report: BusReport) -> None:
    plan = plan_line(report.spec, [each.spec.driver for each in report.instruments])
    board = plan.address.board
    if plan.address.scheme == "sim" or (board is not None and board.emulated):
        report.simulated = True
        return
    key = await resolve_key(plan.address)
    try:
        owner = await current_clock().run_sync(lambda: claim(key, tree=TREE))
    except TransportError as error:
        report.diagnosis = await diagnose(error, plan)
        return
    try:
        await _open_and_ask(report, plan)
        if report.diagnosis is not None:
            return
        await _find_missing(report, plan)
        if all(_unheard(each.diagnosis) for each in report.instruments):
            await _look_for_settings(report, plan)
    finally:
        owner.release()


async def _open_and_ask(report: BusReport, plan: LinePlan) -> None:
    try:
        transport = make_line(plan)
        await transport.open()
    except TransportError as error:
        report.diagnosis = await diagnose(error, plan)
        return
    try:
        for each in report.instruments:
            await _ask(each, transport, plan)
    finally:
        await transport.aclose()


async def _ask(report: InstrumentReport, transport: Transport, plan: LinePlan) -> None:
    instrument = stand_in(report.spec.driver, transport, plan.profile, report.unit)
    instrument.timeout_s = report.spec.timeout_s
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if transport.state is LineState.CLOSED:
                await transport.open()
            answer = await ask(instrument, instrument.identify())
        except (DeviceError, TransportError, ValueError) as error:
            report.diagnosis = await diagnose(error, plan)
            if attempt == ATTEMPTS or is_silence(error) or isinstance(error, DeviceError):
                return
        else:
            report.identity, report.latency_s = answer.identity, answer.latency_s
            report.diagnosis = _contradiction(report.spec, answer.identity)
            report.remark = _remark(report.spec, answer.identity)
            return


def _contradiction(spec: InstrumentSpec, found: Identity) -> Diagnosis | None:
    why = found.contradiction(spec.identity)
    if why is None:
        return None
    return Diagnosis(
        Trouble.WRONG_IDENTITY,
        f"{found} answers: {why}",
        f"connect the right instrument, or mend identity in [instrument.{spec.name}]",
    )


def _remark(spec: InstrumentSpec, found: Identity) -> str:
    """Return that another driver is for who answers, where the file's says that it is not."""
    known, model = spec.driver.known_models, found.model or ""
    base = spec.driver.protocol
    if known is None or known.fullmatch(model) or base not in driver_names():
        return ""
    fits = best_driver(base, model)
    if fits == base or issubclass(spec.driver, find_driver(fits)):
        return ""
    return f"{fits} is the driver for it, not {name_of(spec.driver)}"


async def _find_missing(report: BusReport, plan: LinePlan) -> None:
    """Say of who is silent while others answer that its unit is missing, and who is there."""
    missing = [each for each in report.instruments if _absent(each.diagnosis)]
    there = [f"{each.unit}" for each in report.instruments if each.identity is not None]
    if not missing or missing[0].unit is None:
        return
    stray = await _stray_units(report, missing[0].spec.driver, _quickly(plan))
    if not (there or stray):
        return
    if not stray:
        found = f"unit {', '.join(there)} answers here"
    elif not there:
        found = f"unit {', '.join(stray)} answers here and is in no table of the file"
    else:
        found = f"unit {', '.join(there)} answers here, and so does unit {', '.join(stray)}"
        found += ", which is in no table of the file"
    for each in missing:
        mend = f"check its unit id and its wiring; {found}"
        why = f"unit {each.unit} does not answer, and others on the bus do"
        each.diagnosis = Diagnosis(Trouble.UNIT_MISSING, why, mend)


async def _stray_units(
    report: BusReport, driver: type[Instrument], plan: LinePlan
) -> Sequence[str]:
    """Return the units that answer and that the file does not name."""
    named = {each.unit for each in report.instruments}
    transport = make_line(plan)
    try:
        await transport.open()
        return [
            unit
            for unit in (driver.default_unit, *driver.recognised_units)
            if unit not in named
            and unit is not None
            and await _is_there(driver, transport, plan, unit, UNIT_S)
        ]
    except TransportError:
        return ()
    finally:
        await transport.aclose()


async def _look_for_settings(report: BusReport, plan: LinePlan) -> None:
    """Try a silent or garbled serial port with the other settings that its driver knows."""
    if plan.address.scheme != "serial" or not report.instruments:
        return
    first = report.instruments[0]
    used = plan.address.options or SerialSettings()
    for settings in first.spec.driver.recognised_at:
        if settings == used or not await _answers(first, plan, settings):
            continue
        for each in report.instruments:
            trouble = Trouble.WRONG_SETTINGS
            why = f"nobody answers at {_words(used)}; {first.spec.name} does at {_words(settings)}"
            mend = f"write {_full(plan, settings)} as the address of [bus.{report.spec.name}]"
            each.diagnosis = Diagnosis(trouble, why, mend)
        return


async def _answers(report: InstrumentReport, plan: LinePlan, settings: SerialSettings) -> bool:
    quick = _quickly(plan, settings)
    transport = make_line(quick)
    try:
        await transport.open()
        # Twice: the first may end half a line that was heard at another speed.
        for _ in range(ATTEMPTS):
            if await _is_there(report.spec.driver, transport, quick, report.unit):
                return True
    except TransportError:
        return False
    finally:
        await transport.aclose()
    return False


async def _is_there(
    driver: type[Instrument],
    transport: Transport,
    plan: LinePlan,
    unit: str | None,
    at_most_s: float = REPLY_S,
) -> bool:
    """Return whether a unit answers as one of the driver's does."""
    instrument = stand_in(driver, transport, plan.profile, unit)
    try:
        await ask(instrument, instrument.recognise(), at_most_s=at_most_s)
    except (DeviceError, TransportError, ValueError):
        return False
    return True


def _quickly(plan: LinePlan, settings: SerialSettings | None = None) -> LinePlan:
    """Return a plan that waits for nobody who is late."""
    profile = evolve(plan.profile, resync=Resync.DRAIN, lateness_s=0.05, close_within_s=0.1)
    return evolve(
        plan,
        profile=profile,
        address=evolve(plan.address, options=settings or plan.address.options),
    )


def _full(plan: LinePlan, settings: SerialSettings) -> str:
    """Return an address with line settings, and whatever else it has."""
    path, _, _ = plan.address.text.partition("?")
    options: dict[str, object] = asdict(settings)
    plain = asdict(SerialSettings())
    changed = [f"{name}={each}" for name, each in options.items() if each != plain[name]]
    return f"{path}?{'&'.join(changed) or f'baudrate={settings.baudrate}'}"


def _words(settings: SerialSettings) -> str:
    return f"{settings.baudrate} baud, {settings.bytesize}{settings.parity}{settings.stopbits:g}"


def _unheard(diagnosis: Diagnosis | None) -> bool:
    return _is(diagnosis, Trouble.SILENT) or _is(diagnosis, Trouble.GARBLED)


def _absent(diagnosis: Diagnosis | None) -> bool:
    """Return whether nobody is heard, or VISA finds nobody, where an instrument should be."""
    return _is(diagnosis, Trouble.SILENT) or _is(diagnosis, Trouble.NO_SUCH_PORT)


def _is(diagnosis: Diagnosis | None, trouble: Trouble) -> bool:
    return diagnosis is not None and diagnosis.trouble is trouble
