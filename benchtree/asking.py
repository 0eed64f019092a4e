"""Asking instruments who they are, outside a running tree.

Only what a driver asks to identify an instrument is sent: nothing is set anywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import trio
from attrs import evolve, frozen

from actors import Bus, DeviceError, Events, Identity, Instrument, Script
from transports import (
    SERIAL,
    Address,
    BusProfile,
    ConnectError,
    ConnectProblem,
    Exchange,
    Lines,
    ReplyTimeoutError,
    Resync,
    SerialSettings,
    Transport,
    TransportError,
    make_transport,
)

REPLY_S: Final = 0.2
"""How long an unknown device may take to answer, in seconds."""

UNIT_S: Final = 0.1
"""The same for the other units of a line on which one has answered."""

SETTLE_S: Final = 0.02
"""How long the answer to an empty line is waited for, in seconds."""

_PROBING: Final = evolve(
    SERIAL, name="probing", resync=Resync.DRAIN, lateness_s=0.05, close_within_s=0.1
)


@frozen(kw_only=True)
class Answer:
    """Who answered.

    Attributes:
        identity: Who it is.
        latency_s: How long the answer to the first question took, in seconds.
    """

    identity: Identity
    latency_s: float


@frozen(kw_only=True)
class Recognised:
    """A device that one of the drivers knows.

    Attributes:
        driver: The name of the driver that asked.
        unit: Its unit on a shared line, or None.
        settings: How its serial port is set up; None where there is none.
        answer: Who it is.
    """

    driver: str
    unit: str | None
    settings: SerialSettings | None
    answer: Answer


def stand_in(
    driver: type[Instrument], transport: Transport, profile: BusProfile, unit: str | None
) -> Instrument:
    """Return an instrument to ask over `transport`; no bus runs for it.

    Raises:
        ValueError: The unit is none of the driver's.
    """
    bus = Bus("asked", transport, profile, events=Events(), sequence=itertools.count(1))
    return driver("asked", bus, unit=unit)


async def ask(
    instrument: Instrument, script: Script[Identity], *, at_most_s: float | None = None
) -> Answer:
    """Carry out a script of the instrument's driver over its open transport.

    Args:
        instrument: Whom to ask.
        script: `instrument.identify()` or `instrument.recognise()`.
        at_most_s: How long any reply may take, where the driver allows more.

    Raises:
        TransportError: The line failed, or nobody answered.
        DeviceError: It answered that it will not.
        ValueError: The answer does not fit.
    """
    transport = instrument.bus.transport
    latency_s: float | None = None
    try:
        exchange = next(script)
        while True:
            owed = transport.owed(exchange.unit)
            if owed:
                await transport.resync(instrument.fence(owed))
            reply = await transport.exchange(_within(exchange, at_most_s))
            if latency_s is None:
                latency_s = (reply.received_ns - reply.sent_ns) / 1e9
            exchange = script.send(reply.data)
    except StopIteration as end:
        identity: Identity = end.value
        return Answer(identity=identity, latency_s=latency_s or 0.0)
    finally:
        script.close()


async def recognise(
    address: Address,
    drivers: Mapping[str, type[Instrument]],
    found: list[Recognised],
    *,
    first: Sequence[tuple[str, SerialSettings]] = (),
) -> None:
    """Ask an unknown serial port, as each driver would, until somebody answers.

    Then the other units of its line are asked for. Cancelled, `found` holds what was found
    so far, and the port is closed.

    Args:
        address: The port.
        drivers: The drivers by name; see `recognising`.
        found: Where to put what is found.
        first: What to try before all else: driver and settings.

    Raises:
        ConnectError: The port cannot be opened.
    """
    tries = dict.fromkeys((*first, *_rounds(drivers)))
    for number, (name, settings) in enumerate(tries):
        driver = drivers[name]
        profile = driver.profiles.get("serial", SERIAL)
        profile = evolve(_PROBING, pacing_s=profile.pacing_s, shared=profile.shared)
        transport = make_transport(
            evolve(address, options=settings), framing=driver.framing, profile=profile
        )
        try:
            await transport.open()
        except ConnectError as error:
            if error.problem is ConnectProblem.BAD_SETTINGS:
                continue  # it may take others
            raise
        try:
            if number:
                await _end_line(transport, driver)
            await _ask_units(transport, profile, driver, (name, settings), found)
        finally:
            await transport.aclose()
        if found:
            return


async def _ask_units(
    transport: Transport,
    profile: BusProfile,
    driver: type[Instrument],
    way: tuple[str, SerialSettings],
    found: list[Recognised],
) -> None:
    """Ask the default unit and, where it answers on a shared line, the others."""
    units = (driver.default_unit, *(driver.recognised_units if profile.shared else ()))
    for unit in units:
        instrument = stand_in(driver, transport, profile, unit)
        at_most_s = REPLY_S if unit == driver.default_unit else UNIT_S
        try:
            answer = await ask(instrument, instrument.recognise(), at_most_s=at_most_s)
        except (DeviceError, TransportError, ValueError):
            if unit == driver.default_unit:
                return
        else:
            name, settings = way
            found.append(Recognised(driver=name, unit=unit, settings=settings, answer=answer))


async def _end_line(transport: Transport, driver: type[Instrument]) -> None:
    """End what was said at another speed: the device may have taken it for half a line."""
    if isinstance(driver.framing, Lines):
        await transport.exchange(Exchange(driver.framing.terminator, reply_within_s=None))
        await trio.sleep(SETTLE_S)


def _rounds(drivers: Mapping[str, type[Instrument]]) -> Iterator[tuple[str, SerialSettings]]:
    """Yield everybody's likeliest settings, then everybody's next, and so on."""
    longest = max((len(each.recognised_at) for each in drivers.values()), default=0)
    for index in range(longest):
        for name, driver in drivers.items():
            if index < len(driver.recognised_at):
                yield name, driver.recognised_at[index]


def _within(exchange: Exchange, at_most_s: float | None) -> Exchange:
    if at_most_s is None or exchange.reply_within_s is None:
        return exchange
    return evolve(exchange, reply_within_s=min(exchange.reply_within_s, at_most_s))


def is_silence(error: Exception) -> bool:
    """Return whether nothing at all came back."""
    return isinstance(error, ReplyTimeoutError) and not error.received
