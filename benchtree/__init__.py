"""Supervision trees for the lab bench."""

from __future__ import annotations

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
