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
