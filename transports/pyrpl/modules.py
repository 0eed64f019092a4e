"""What is inside of a PyRPL, by name and by dotted path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from .desk import RefusedCallError
from .values import member

DRIVEN: Final = ("asg0", "asg1", "pid0", "pid1", "pid2", "iq0", "iq1", "iq2", "iir")
"""The modules that can drive an output."""

GENERATORS: Final = ("asg0", "asg1")

ANALYZER: Final = "networkanalyzer"

NOTHING: Final[frozenset[str]] = frozenset()

NEEDS: Final[Mapping[str, frozenset[str]]] = {
    ANALYZER: frozenset({"iq2"}),
    "spectrumanalyzer": frozenset({"iq2", "scope"}),
}
"""The modules that some modules work with."""

ACQUIRING: Final = ("scope", ANALYZER, "spectrumanalyzer")
"""The modules that PyRPL itself may have acquire again and again."""

_LOCKING: Final = ("_acquire_lock_task", "_monitor_lock_status_task")
"""What PyRPL's lockbox goes on with: taking a lock, and taking it again when it is lost."""

ALIASES: Final[Mapping[str, str]] = {
    "network_analyzer": ANALYZER,
    "spectrum_analyzer": "spectrumanalyzer",
    "trigger": "trig",
}


class Modules:
    """The modules of one PyRPL."""

    def __init__(self, pyrpl: Any) -> None:
        """Look into `pyrpl`."""
        self._pyrpl = pyrpl

    def known(self) -> Mapping[str, Any]:
        """Return all modules by PyRPL's names for them."""
        software = {each.name: each for each in self._pyrpl.software_modules}
        return {**software, **self._pyrpl.rp.modules}

    def find(self, name: str) -> Any:
        """Return a module by name.

        Raises:
            RefusedCallError: There is none.
        """
        known = self.known()
        found = known.get(ALIASES.get(name, name))
        if found is None:
            text = f"there is no module {name!r}; there are: {', '.join(sorted(known))}"
            raise RefusedCallError("rejected", text)
        return found

    def name_of(self, module: str) -> str:
        """Return what PyRPL calls a module.

        Raises:
            RefusedCallError: There is none.
        """
        self.find(module)
        return ALIASES.get(module, module)

    def end_runs(self) -> None:
        """End what PyRPL goes on with by itself, after the call that began it."""
        for name in ACQUIRING:
            self.end_run(name)
        lockbox = self.known().get("lockbox")
        for name in _LOCKING:
            task = getattr(lockbox, name, None)
            if task is not None:
                task.cancel()
                # The next lock starts another only where there is none.
                setattr(lockbox, name, None)

    def end_run(self, name: str) -> None:
        """End what PyRPL itself does with a module."""
        module = self.known().get(name) if name in ACQUIRING else None
        if module is not None and running(module):
            module.stop()

    def check_alone(self, name: str) -> None:
        """Check that PyRPL does not go on with a module, or with what uses it, by itself.

        Raises:
            RefusedCallError: It does.
        """
        known = self.known()
        wanted = {name, *NEEDS.get(name, NOTHING)}
        for each in ACQUIRING:
            used = {each, *NEEDS.get(each, NOTHING)} if each in known else NOTHING
            if used & wanted and str(known[each].running_state) == "running_continuous":
                text = f"PyRPL goes on with {each} by itself: call {each}.stop first"
                raise RefusedCallError("conflict", text)

    def signal_of(self, name: str) -> str:
        """Return the signal of the board behind what a module takes as its input."""
        first, *rest = name.split(".")
        found: Any = self.known().get(first)
        for part in rest:
            found = getattr(found, part)
        return str(found.signal()) if hasattr(found, "signal") else name

    def locate(self, path: str) -> tuple[str, Any, str]:
        """Return the name of a path's module, the object at the path, and its last part.

        A path that leads from one module into another belongs to the other one.

        Raises:
            RefusedCallError: It leads nowhere, or out of the modules.
        """
        first, *rest = path.split(".")
        if not rest:
            raise RefusedCallError("rejected", f"{path!r} names no attribute: write module.name")
        found = self.find(first)
        module = ALIASES.get(first, first)
        for part in rest:
            if part.startswith("_"):
                text = f"{path!r}: {part!r} is not for use from outside"
                raise RefusedCallError("rejected", text)
        for part in rest[:-1]:
            found = member(found, part, path)
            if any(found is each for each in (self._pyrpl, self._pyrpl.rp, self._pyrpl.rp.client)):
                text = f"{path!r}: {part!r} leads out of the module; begin with the one you mean"
                raise RefusedCallError("rejected", text)
            owners = (name for name, each in self.known().items() if each is found)
            module = next(owners, module)
        kind = cast("Any", type(found))
        # Looking at the class reads no register.
        member(kind if hasattr(kind, rest[-1]) else found, rest[-1], path)
        return module, found, rest[-1]


def running(module: Any) -> bool:
    """Return whether PyRPL itself has a module acquire."""
    return str(module.running_state) != "stopped"
