"""Print what the manual says of commands, faults and buses, drawn from the code.

The life of a command as a diagram and the table of faults, which `docs/commands.md` holds,
and the numbers of the profiles, which `docs/configuration.md` holds; a test compares.
"""

import sys

from actors import CommandState, FaultClass, faults
from actors.command import TRANSITIONS
from transports import PROFILES

NUMBERS = (
    "queue_depth",
    "pacing_s",
    "acknowledge_within_s",
    "flush_every_s",
    "status_poll_s",
    "lateness_s",
    "max_frame",
)


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
            elif fault is faults.IDENTITY_MISMATCH:
                follows = "fatal: it is kept out of service and told nothing, not even to be safe"
            elif fault.fatal:
                follows = "fatal: trips the lane and drives it safe, never tried again"
            rows.append(f"| `{name}` | {follows} |")
    return "\n".join(rows) + "\n"


def profile_table() -> str:
    """Return the numbers that tell one kind of bus from another."""
    rows = ["| profile | " + " | ".join(f"`{each}`" for each in NUMBERS) + " |"]
    rows.append("|---" * (len(NUMBERS) + 1) + "|")
    for name, profile in PROFILES.items():
        held = " | ".join(f"{getattr(profile, each):.8g}" for each in NUMBERS)
        rows.append(f"| `{name}` | {held} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(f"{life()}\n{fault_table()}\n{profile_table()}")
