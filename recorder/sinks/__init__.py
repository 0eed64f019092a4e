"""Where samples are kept."""

from __future__ import annotations

from .arrow import ArrowSink, read_stream
from .base import BlockingSink, Retryable, SampleSink
from .csv import CsvSink
from .jsonl import JsonlSink
from .memory import MemorySink
from .parquet import ParquetSink
from .postgres import PostgresSink
from .sqlite import SqliteSink, Synchronous

__all__ = [
    "ArrowSink",
    "BlockingSink",
    "CsvSink",
    "JsonlSink",
    "MemorySink",
    "ParquetSink",
    "PostgresSink",
    "Retryable",
    "SampleSink",
    "SqliteSink",
    "Synchronous",
    "read_stream",
]
