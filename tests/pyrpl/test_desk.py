"""Who works with which module: one operation each, waiting in order, conflicts refused."""

from __future__ import annotations

import pytest

from transports.pyrpl.desk import Desk, Place, RefusedCallError


def _place(module: str, *needs: str, name: str = "", called: list[str] | None = None) -> Place:
    told = [] if called is None else called
    title = name or f"{module}-work"
    return Place(module, frozenset(needs), title, lambda: told.append(title))


def test_a_free_module_is_had_at_once_and_waited_for_in_order() -> None:
    """The first has it; those who wait are called one after the other."""
    called: list[str] = []
    desk = Desk()
    places = [_place("scope", name=name, called=called) for name in "abc"]
    for place in places:
        desk.take(place, wait=True)
    assert called == ["a"]
    assert (desk.doing("scope"), desk.waiting("scope")) == ("a", 2)
    desk.leave(places[1])  # given up while it waits
    desk.leave(places[0])
    assert called == ["a", "c"]
    desk.leave(places[2])
    assert desk.doing("scope") is None


def test_who_does_not_wait_is_refused() -> None:
    """A busy module is a refusal that names what it is busy with."""
    desk = Desk()
    desk.take(_place("scope", name="single"), wait=True)
    with pytest.raises(RefusedCallError, match="scope is busy with single") as refused:
        desk.take(_place("scope"), wait=False)
    assert refused.value.kind == "busy"


def test_conflicts_are_refused_both_ways() -> None:
    """What an operation needs beside its module it has alone, or it does not begin."""
    desk = Desk()
    sweep = _place("analyzer", "iq2", name="sweep")
    desk.take(sweep, wait=True)
    for place in (_place("iq2"), _place("spectrum", "iq2", "scope")):
        with pytest.raises(RefusedCallError, match="sweep uses iq2") as refused:
            desk.take(place, wait=True)
        assert refused.value.kind == "conflict"
    desk.take(_place("scope"), wait=True)
    with pytest.raises(RefusedCallError, match="sweep uses iq2"):
        desk.check_write("iq2", "iq2.frequency")
    desk.check_write("asg0", "asg0.frequency")
    desk.leave(sweep)
    desk.check_write("iq2", "iq2.frequency")
    desk.take(_place("iq2", name="lock-in"), wait=True)
    with pytest.raises(RefusedCallError, match="lock-in uses iq2"):
        desk.take(_place("analyzer", "iq2"), wait=True)


def test_who_waits_may_find_its_modules_taken() -> None:
    """Of one module, one waits for the other; if another took what it needs, it is refused."""
    called: list[str] = []
    desk = Desk()
    first = _place("analyzer", "iq2", name="a", called=called)
    second = _place("analyzer", name="b", called=called)
    third = _place("analyzer", "iq2", name="c", called=called)
    for place in (first, second, third):
        desk.take(place, wait=True)
    desk.leave(first)
    assert called == ["a", "b"]
    desk.confirm(second)
    desk.take(_place("iq2", name="lock-in"), wait=True)
    desk.leave(second)
    assert called == ["a", "b", "c"]
    with pytest.raises(RefusedCallError, match="lock-in uses iq2") as refused:
        desk.confirm(third)
    assert refused.value.kind == "conflict"
