"""Readings to disk."""

from __future__ import annotations

from .buffer import BatchStream, OverflowPolicy
from .connection import is_connection_error
from .errors import (
    JournalError,
    MissingExtraError,
    NoSamplesError,
    RecorderError,
    SinkClosedError,
    SinkError,
    TargetExistsError,
)
from .events import (
    JournalFailed,
    JournalRestored,
    ReadsFailed,
    RecordingEnded,
    RecordingStarted,
    SeriesAdded,
    SeriesRemoved,
    SourceLost,
    SourceReturned,
)
from .extras import need
from .journal import BEHIND_S, GATHER_S, RETRY_S, Journal, JournalStore, keep_journal, open_journal
from .journal_check import JournalReport, check_journal
from .journal_closing import (
    FinishedJournal,
    JournalEnd,
    closings,
    finish_journal,
    finish_killed_journals,
)
from .journal_file import JOURNAL_FILE, JournalFile, last_entry, read_entries
from .lines import decode_lines, encode_lines
from .load import find_samples, load
from .pipe import Drainable, pipe
from .record import GRACE_S, OnError, ReconnectFactory, Recording, record
from .run import Run, RunInfo, RunState, create_run, find_runs, read_run
from .schedule import Schedule
from .sinks import (
    ArrowSink,
    BlockingSink,
    CsvSink,
    JsonlSink,
    MemorySink,
    ParquetSink,
    PostgresSink,
    Retryable,
    SampleSink,
    SqliteSink,
    Synchronous,
)
from .source import (
    Partition,
    Partitioned,
    PollSource,
    PollSourceAdapter,
    Revised,
    SourcePartition,
    Watched,
)
from .summary import AcquisitionSummary, Counts
from .wide import to_wide
from .writing import write_arrow, write_csv, write_jsonl, write_parquet

__all__ = [
    "BEHIND_S",
    "GATHER_S",
    "GRACE_S",
    "JOURNAL_FILE",
    "RETRY_S",
    "AcquisitionSummary",
    "ArrowSink",
    "BatchStream",
    "BlockingSink",
    "Counts",
    "CsvSink",
    "Drainable",
    "FinishedJournal",
    "Journal",
    "JournalEnd",
    "JournalError",
    "JournalFailed",
    "JournalFile",
    "JournalReport",
    "JournalRestored",
    "JournalStore",
    "JsonlSink",
    "MemorySink",
    "MissingExtraError",
    "NoSamplesError",
    "OnError",
    "OverflowPolicy",
    "ParquetSink",
    "Partition",
    "Partitioned",
    "PollSource",
    "PollSourceAdapter",
    "PostgresSink",
    "ReadsFailed",
    "ReconnectFactory",
    "RecorderError",
    "Recording",
    "RecordingEnded",
    "RecordingStarted",
    "Retryable",
    "Revised",
    "Run",
    "RunInfo",
    "RunState",
    "SampleSink",
    "Schedule",
    "SeriesAdded",
    "SeriesRemoved",
    "SinkClosedError",
    "SinkError",
    "SourceLost",
    "SourcePartition",
    "SourceReturned",
    "SqliteSink",
    "Synchronous",
    "TargetExistsError",
    "Watched",
    "check_journal",
    "closings",
    "create_run",
    "decode_lines",
    "encode_lines",
    "find_runs",
    "find_samples",
    "finish_journal",
    "finish_killed_journals",
    "is_connection_error",
    "keep_journal",
    "last_entry",
    "load",
    "need",
    "open_journal",
    "pipe",
    "read_entries",
    "read_run",
    "record",
    "to_wide",
    "write_arrow",
    "write_csv",
    "write_jsonl",
    "write_parquet",
]
