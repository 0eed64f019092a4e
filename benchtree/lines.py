"""What a bus's address, its profile and the drivers on it make of its line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen

from actors import Instrument
from transports import (
    Address,
    BusProfile,
    Framing,
    Hosting,
    Lines,
    Medium,
    Transport,
    default_profile,
    make_board_transport,
    make_transport,
    parse_address,
)

from .spec import BusSpec


@frozen
class LinePlan:
    """How a bus is to be opened and its replies told apart.

    Attributes:
        address: Where it is, with the line settings of its drivers unless it says its own.
        profile: Its numbers.
        framing: How replies are told apart.
        hosting: The library that talks to it, or None.
    """

    address: Address
    profile: BusProfile
    framing: Framing
    hosting: Hosting[Any] | None


def plan_line(spec: BusSpec, drivers: Sequence[type[Instrument]]) -> LinePlan:
    """Return how a bus with instruments of these drivers is to be opened.

    Raises:
        AddressError: The address cannot be understood.
        ValueError: The drivers cannot share a bus, or cannot be at this address.
    """
    address = parse_address(spec.address)
    for driver in drivers:
        problem = scheme_problem(driver, address)
        if problem is not None:
            raise ValueError(f"{spec.name}: {problem}")
    usual = (each.profiles.get(address.medium.value) for each in drivers)
    profile = spec.profile or next(filter(None, usual), default_profile(address))
    if address.medium is Medium.SERIAL and "?" not in spec.address:
        settings = (each.serial_settings for each in drivers)
        address = evolve(address, options=next(filter(None, settings), address.options))
    framings = {each.framing for each in drivers} or {Lines()}
    if len(framings) > 1:
        raise ValueError(f"{spec.name}: the drivers on one bus frame their replies differently")
    hosting = next((each.hosting for each in drivers), None)
    if any(each.hosting is not hosting for each in drivers):
        raise ValueError(f"{spec.name}: one bus is driven by one library")
    return LinePlan(address, profile, framings.pop(), hosting)


def make_line(plan: LinePlan) -> Transport:
    """Return a closed line to the bus itself, simulated nowhere; nothing is touched yet.

    Raises:
        AddressError: It exists inside a simulation only.
    """
    if plan.address.board is not None:
        return make_board_transport(plan.address, profile=plan.profile)
    return make_transport(
        plan.address, framing=plan.framing, profile=plan.profile, hosting=plan.hosting
    )


def scheme_problem(driver: type[Instrument], address: Address) -> str | None:
    """Return why a driver cannot be at an address, and what would be right; None if it can."""
    if driver.scheme is not None and address.scheme != driver.scheme:
        return f"{driver.__name__} is not at {address}; write {driver.scheme}://HOST"
    if driver.scheme is None and address.board is not None:
        return f"{driver.__name__} cannot talk to a Red Pitaya; the driver for it is red_pitaya"
    return None
