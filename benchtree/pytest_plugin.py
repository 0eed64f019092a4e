"""Simulated benches in pytest: the fixture `bench`, and its markers.

A test that asks for `bench` runs inside a simulation, once for each seed:

    @pytest.mark.seeds(200)
    @pytest.mark.bench("bench.toml", faults="heavy")
    async def test_unplug(bench: Bench) -> None: ...

Everything is imported when the first such test runs, not when pytest starts. Tests without
the fixture are left alone, so that pytest-trio and its virtual clock work beside it.
"""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeGuard

import pytest

if TYPE_CHECKING:
    from .faultplan import FaultPlan
    from .simulate import Bench, Report
    from .spec import TreeSpec

FIXTURE: Final = "bench"

FAULTS_S: Final = 600.0
"""How long faults of a level go on unless the marker says otherwise, in seconds."""

VIOLATIONS_SHOWN: Final = 10

NUMBERS: Final = ("faults_for_s", "limit_s", "prompt_s")
"""What the marker `bench` takes that is a number of seconds."""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    config.addinivalue_line(
        "markers",
        "bench(tree, *, faults=None, faults_for_s=600, limit_s=86400, prompt_s=120): what the "
        "fixture `bench` simulates: a file beside the test, a dict of the same tables, or a "
        "TreeSpec; faults are 'none', 'light', 'heavy', a FaultPlan, or the file of one",
    )
    config.addinivalue_line(
        "markers", "seeds(count): simulate the bench this often, each time with another seed"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each seed."""
    if FIXTURE in metafunc.fixturenames and inspect.iscoroutinefunction(metafunc.function):
        asked = metafunc.definition.get_closest_marker("bench")
        if asked is not None:
            _check(asked, metafunc.definition.path.parent)
        marker = metafunc.definition.get_closest_marker("seeds")
        count = 1 if marker is None else _count(marker)
        metafunc.parametrize(FIXTURE, range(count), indirect=True, ids=_seed_id)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Wrap each test of a simulated bench, before other plugins look for async tests."""
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and FIXTURE in item.fixturenames
            and inspect.iscoroutinefunction(item.obj)
        ):
            item.obj = _Simulated(item, item.obj)


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> int:
    """Return the simulated bench of the markers `bench` and `seeds`.

    The test, which must be async, gets the running `benchtree.simulate.Bench`.
    """
    if not hasattr(request, "param"):
        pytest.fail("the fixture `bench` is a running bench; a test that asks for it is async")
    # The bench exists only while its simulation runs; until then it is its seed.
    seed: int = request.param
    return seed


class _Simulated:
    """A test function that runs an async one inside a simulation."""

    # pytest-trio leaves alone what it has wrapped; this brings its own event loop.
    _trio_test_runner_wrapped = True

    def __init__(self, item: pytest.Function, test: Callable[..., Awaitable[object]]) -> None:
        self.__name__ = item.name
        self.__doc__ = test.__doc__
        self._item = item
        self._test = test

    def __call__(self, **fixtures: Any) -> None:
        _check_fixtures(fixtures)
        seed: int = fixtures.pop(FIXTURE)
        path = os.path.relpath(self._item.path, self._item.config.invocation_params.dir)
        test = self._item.nodeid.partition("::")[2]
        replay = f"replay it with: pytest {shlex.quote(f'{path}::{test}')}"
        failure: BaseException | None = None
        report: Report | None = None
        try:
            report = self._simulate(seed, fixtures)
        except BaseException as error:  # noqa: BLE001 - raised again below, without its way here
            failure = error
        if failure is not None:
            said = _said(failure, replay)
            if said is not None:
                pytest.fail(said, pytrace=False)
            __tracebackhide__ = True
            failure.add_note(replay)
            own = _from(failure.__traceback__, self._code)
            raise failure.with_traceback(own or failure.__traceback__)
        if report is not None and report.violations:
            shown = [str(each) for each in report.violations[:VIOLATIONS_SHOWN]]
            trace = [f"seed {seed}, the last of its trace:", *report.last]
            pytest.fail("\n".join([*shown, *trace, replay]), pytrace=False)

    @property
    def _code(self) -> CodeType | None:
        return getattr(inspect.unwrap(self._test), "__code__", None)

    def _simulate(self, seed: int, fixtures: Mapping[str, Any]) -> Report:
        from .simulate import simulate

        marker = self._item.get_closest_marker("bench")
        given, options = _arguments(marker)
        folder = self._item.path.parent
        tree = _tree_of(given, folder)
        faults = options.pop("faults", None)
        faults_for_s = options.pop("faults_for_s", FAULTS_S)
        return simulate(
            seed,
            partial(self._run, fixtures),
            bench=tree,
            faults=_plan_of(faults, seed, tree, faults_for_s, folder),
            **options,
        )

    async def _run(self, fixtures: Mapping[str, Any], bench: Bench) -> None:
        import trio

        # What pytest-trio would have given: the clock of the run, and a nursery.
        given = {
            name: trio.lowlevel.current_clock() if isinstance(value, trio.abc.Clock) else value
            for name, value in fixtures.items()
        }
        if "nursery" not in given:
            await self._test(bench=bench, **given)
            return
        async with trio.open_nursery() as nursery:
            await self._test(bench=bench, **{**given, "nursery": nursery})
            nursery.cancel_scope.cancel()


def _from(traceback: TracebackType | None, code: CodeType | None) -> TracebackType | None:
    """Return the part of a traceback from the frame that runs `code`."""
    while traceback is not None and traceback.tb_frame.f_code is not code:
        traceback = traceback.tb_next
    return traceback


def _said(error: BaseException, replay: str) -> str | None:
    """Return what an error says that needs no traceback; None for any other."""
    from .mistakes import ConfigError
    from .repeatable import SimulationError

    match error:
        case ConfigError():
            return str(error)
        case SimulationError():
            notes: Sequence[str] = getattr(error, "__notes__", ())
            return "\n".join([str(error), *notes, replay])
        case _:
            return None


def _arguments(marker: pytest.Mark | None) -> tuple[Any, dict[str, Any]]:
    """Return the tree that a marker `bench` gives, and its options."""
    if marker is None:
        return None, {}
    options = dict(marker.kwargs)
    return (marker.args[0] if marker.args else options.pop("tree", None)), options


def _check(marker: pytest.Mark, folder: Path) -> None:
    """Fail if a marker `bench` gives what is not understood."""
    from .mistakes import suggest

    if len(marker.args) + ("tree" in marker.kwargs) > 1:
        _refuse("bench takes one tree; the rest is given by name, as in faults='heavy'")
    given, options = _arguments(marker)
    if given is not None and not isinstance(given, str | Path) and not _is_table(given):
        _check_spec(given)
    for name, value in options.items():
        if name == "faults":
            _check_faults(value, folder)
        elif name not in NUMBERS:
            _refuse(f"bench knows no {name!r}; {suggest(name, ('tree', 'faults', *NUMBERS))}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not value > 0.0:
            _refuse(f"bench: {name}={value!r} must be a number above 0, in seconds")


def _check_spec(given: object) -> None:
    from .spec import TreeSpec

    if not isinstance(given, TreeSpec):
        _refuse(f"bench takes a file's name, a dict of tables or a TreeSpec, not {given!r}")


def _check_faults(faults: object, folder: Path) -> None:
    from .faultplan import LEVELS, FaultPlan
    from .mistakes import suggest

    if faults is None or isinstance(faults, FaultPlan):
        return
    if not isinstance(faults, str | Path):
        _refuse(
            f"bench: faults={faults!r} must be one of {', '.join(LEVELS)}, a FaultPlan, or the "
            "name of its file"
        )
    if str(faults) not in LEVELS and not (folder / faults).exists():
        _refuse(
            f"bench: faults={str(faults)!r} is no level of faults, and {folder / faults} does "
            f"not exist; {suggest(str(faults), LEVELS)}"
        )


def _check_fixtures(fixtures: Mapping[str, object]) -> None:
    """Fail if a simulated test was given what only exists outside of its simulation."""
    if FIXTURE not in fixtures:
        _refuse(
            "the fixture `bench` is a running bench; the test asks for it itself, since another "
            "fixture gets its seed only"
        )
    pytest_trio = sys.modules.get("pytest_trio.plugin")
    for name, value in fixtures.items():
        if name != "nursery" and pytest_trio and isinstance(value, pytest_trio.TrioFixture):
            _refuse(
                f"the fixture {name!r} runs in an event loop of pytest-trio, and this test in a "
                "simulation; do in the test what it does"
            )


def _refuse(text: str) -> NoReturn:
    pytest.fail(text, pytrace=False)


def _count(marker: pytest.Mark) -> int:
    match marker.args:
        case (int(count),) if count > 0:
            return count
        case _:
            _refuse("seeds takes a whole number above 0, as in seeds(200)")


def _seed_id(seed: int) -> str:
    return f"seed{seed}"


def _tree_of(given: TreeSpec | Mapping[str, object] | str | Path | None, folder: Path) -> TreeSpec:
    from .config import load_config, read_tree
    from .spec import TreeSpec

    match given:
        case None:
            return TreeSpec()
        case TreeSpec():
            return given
        case str() | Path():
            return load_config(folder / given).tree
        case _:
            drivers: dict[str, type[Any]] = {}
            return read_tree(_named(given, drivers), folder=folder, drivers=drivers)


def _named(values: Mapping[str, object], drivers: dict[str, type[Any]]) -> dict[str, object]:
    """Return tables with classes replaced by names, which are added to `drivers`."""
    named: dict[str, object] = {}
    for key, value in values.items():
        if _is_table(value):
            named[key] = _named(value, drivers)
        elif isinstance(value, type):
            named[key] = value.__name__
            drivers[value.__name__] = value
        else:
            named[key] = value
    return named


def _is_table(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, Mapping)


def _plan_of(
    faults: FaultPlan | str | Path | None,
    seed: int,
    tree: TreeSpec,
    for_s: float,
    folder: Path,
) -> FaultPlan | None:
    from .faultplan import LEVELS, FaultPlan

    if faults is None or isinstance(faults, FaultPlan):
        return faults
    if isinstance(faults, str) and faults in LEVELS:
        return FaultPlan.seeded(seed, tree, duration_s=for_s, rates=LEVELS[faults])
    return FaultPlan.load(folder / faults, tree)
