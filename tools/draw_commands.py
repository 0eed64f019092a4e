"""Print what the manual says of commands and faults, drawn from the code.

The life of a command as a diagram, and the table of faults. `docs/commands.md` holds both;
a test compares.
"""

import sys

from actors import CommandState, FaultClass, faults
from actors.command import TRANSITIONS


def life() -> str:
    """Return the states of a command as a diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {CommandState.QUEUED.name}: accepted"]
    lines += [
        f"    {state.name} --> {after.name}: {event.name.lower()}"
        for (state, event), after in TRANSITIONS.items()
    ]
    lines += [f"    {state.name} --> [*]" for state in CommandState if state.final]
    return "\n".join(lines) + "\n"


def fault_table() -> str:
    """Return the faults that are known to every driver, and what follows from each."""
    rows = ["| fault | |", "|---|---|"]
    for name, fault in sorted(vars(faults).items()):
        if isinstance(fault, FaultClass) and fault.name == name:
            follows = "is not tried again"
            if fault.recoverable:
                follows = "may pass: tried again"
            elif fault.fatal:
                follows = "fatal: trips the lane and drives it safe, never tried again"
            rows.append(f"| `{name}` | {follows} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(f"{life()}\n{fault_table()}")
