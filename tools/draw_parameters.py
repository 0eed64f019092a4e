"""Print the table of a driver's parameters, as the pages of `docs/instruments` show it.

`python -m tools.draw_parameters scpi.oscilloscope`
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from actors import Action, Instrument, Parameter, Setting
from actors.parameter import Operation
from benchtree.drivers import find_driver

HEAD = """\
| name | unit | values | on the wire | can do harm |
|---|---|---|---|---|
"""


def main(names: Sequence[str]) -> int:
    """Print the tables of some drivers."""
    for name in names:
        print(parameter_table(find_driver(name)))
    return 0


def parameter_table(driver: type[Instrument]) -> str:
    """Return the table of a driver's settings, readings and actions."""
    declared: list[Parameter[Any] | Action] = [*driver.parameters.values()]
    declared += driver.actions.values()
    return HEAD + "".join(f"| {' | '.join(_row(driver, each))} |\n" for each in declared)


def _row(driver: type[Instrument], each: Parameter[Any] | Action) -> Iterator[str]:
    yield f"`{each.name}`"
    if isinstance(each, Action):
        yield ""
        yield "an action, followed until it is done" if isinstance(each, Operation) else "an action"
        yield f"`{each.header}`"
        yield _harm(hazardous=each.hazardous, needs=each.requires)
        return
    count = driver.instances_of(each)
    yield each.unit or ""
    values = f"read only, {each.type.__name__}"
    if isinstance(each, Setting):
        values = each.limits.describe().replace("'", "`")
    yield values + (f"; {count} of them" if count > 1 else "")
    yield f"`{each.header}`"
    hazardous = isinstance(each, Setting) and each.limits.hazardous
    needs = each.requires if isinstance(each, Setting) else ()
    yield _harm(hazardous=hazardous, needs=needs)


def _harm(*, hazardous: object, needs: Sequence[Any]) -> str:
    harm = "yes, when on" if callable(hazardous) else ("yes" if hazardous else "")
    after = "; ".join(f"`{each.of.name}` must {each.text}" for each in needs)
    return ", ".join(part for part in (harm, after) if part)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
