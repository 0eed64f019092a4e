"""Supervision trees for the lab bench.

A name is imported from where it is made when it is first asked for: pytest imports this
package wherever it is installed, and asks for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors import (
        Action,
        Cause,
        CommandError,
        CommandState,
        Event,
        Identity,
        Instrument,
        Lease,
        LeaseLostError,
        Observer,
        OnDrift,
        Priority,
        Reading,
        ReconcilePolicy,
        RefusedError,
        Sample,
        Setting,
        Ticket,
    )
    from actors.instruments.alicat import (
        FlowController,
        FlowMeter,
        PressureController,
        PressureMeter,
    )
    from actors.instruments.scpi import (
        Multimeter,
        PowerSupply,
        ScpiInstrument,
        TemperatureController,
    )
    from recorder import (
        AcquisitionSummary,
        CsvSink,
        Journal,
        OverflowPolicy,
        Recording,
        SqliteSink,
        open_journal,
        pipe,
        record,
    )

    from .config import Config, load_config
    from .fleet import Fleet
    from .group import DeviceGroup
    from .mistakes import ConfigError, Mistake
    from .opening import open_tree
    from .results import (
        DeviceAdded,
        DeviceCloseFailed,
        DeviceRemoved,
        DeviceResult,
        ErrorPolicy,
        FleetClosedError,
        FleetError,
    )
    from .run import RunError, RunResult, run_bench
    from .spec import TreeSpec
    from .tree import Tree
else:
    from importlib import import_module as _import_module

    _HOMES = {
        "actors": (
            "Action",
            "Cause",
            "CommandError",
            "CommandState",
            "Event",
            "Identity",
            "Instrument",
            "Lease",
            "LeaseLostError",
            "Observer",
            "OnDrift",
            "Priority",
            "Reading",
            "ReconcilePolicy",
            "RefusedError",
            "Sample",
            "Setting",
            "Ticket",
        ),
        "actors.instruments.alicat": (
            "FlowController",
            "FlowMeter",
            "PressureController",
            "PressureMeter",
        ),
        "actors.instruments.scpi": (
            "Multimeter",
            "PowerSupply",
            "ScpiInstrument",
            "TemperatureController",
        ),
        "recorder": (
            "AcquisitionSummary",
            "CsvSink",
            "Journal",
            "OverflowPolicy",
            "Recording",
            "SqliteSink",
            "open_journal",
            "pipe",
            "record",
        ),
        ".config": ("Config", "load_config"),
        ".fleet": ("Fleet",),
        ".group": ("DeviceGroup",),
        ".mistakes": ("ConfigError", "Mistake"),
        ".opening": ("open_tree",),
        ".results": (
            "DeviceAdded",
            "DeviceCloseFailed",
            "DeviceRemoved",
            "DeviceResult",
            "ErrorPolicy",
            "FleetClosedError",
            "FleetError",
        ),
        ".run": ("RunError", "RunResult", "run_bench"),
        ".spec": ("TreeSpec",),
        ".tree": ("Tree",),
    }
    _HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        """Import what is asked for."""
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import_module(home, __name__), name)
        return value

    def __dir__() -> list[str]:
        """Return what can be asked for."""
        return sorted({*globals(), *__all__})


__all__ = [
    "AcquisitionSummary",
    "Action",
    "Cause",
    "CommandError",
    "CommandState",
    "Config",
    "ConfigError",
    "CsvSink",
    "DeviceAdded",
    "DeviceCloseFailed",
    "DeviceGroup",
    "DeviceRemoved",
    "DeviceResult",
    "ErrorPolicy",
    "Event",
    "Fleet",
    "FleetClosedError",
    "FleetError",
    "FlowController",
    "FlowMeter",
    "Identity",
    "Instrument",
    "Journal",
    "Lease",
    "LeaseLostError",
    "Mistake",
    "Multimeter",
    "Observer",
    "OnDrift",
    "OverflowPolicy",
    "PowerSupply",
    "PressureController",
    "PressureMeter",
    "Priority",
    "Reading",
    "ReconcilePolicy",
    "Recording",
    "RefusedError",
    "RunError",
    "RunResult",
    "Sample",
    "ScpiInstrument",
    "Setting",
    "SqliteSink",
    "TemperatureController",
    "Ticket",
    "Tree",
    "TreeSpec",
    "load_config",
    "open_journal",
    "open_tree",
    "pipe",
    "record",
    "run_bench",
]
