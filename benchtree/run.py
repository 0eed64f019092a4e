"""Running a configured bench: its tree, its recordings, and the folder of the run.

Rules:
1. The folder is there before the tree and is closed after it, with how the run ended.
2. Recordings run beside the tree, not in it: a subtree that gave up, or a sink that
   failed, stops neither the others nor the tree.
3. The journal is there before the tree, and is closed after it.
4. At the end recordings begin no more polls, and then the tree stops at once: no
   instrument waits for a disk before it is driven safe.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Final, Self

import structlog
import trio
from attrs import asdict, frozen

from actors import (
    ActorError,
    ChildEnded,
    Event,
    InstrumentIdentified,
    Observer,
    SafeStateFailed,
    Sample,
    Service,
    current_clock,
    describe,
)
from recorder import (
    JOURNAL_FILE,
    AcquisitionSummary,
    BatchStream,
    FinishedJournal,
    Journal,
    Recording,
    Run,
    SampleSink,
    SinkError,
    create_run,
    finish_killed_journals,
    open_journal,
    pipe,
    record,
)
from transports import PortOwnedError, TransportError

from .config import Config
from .logs import Logbook
from .loop_watch import watching_loop
from .opening import open_tree
from .run_events import EVENTS_FILE, EventFile
from .sinks import SINKS
from .spec import RecordingSpec
from .tree import Tree

LOG_FILE: Final = "run.log"
"""The log of a run, in its folder."""

OK: Final = 0
FAILED: Final = 1

READY_S: Final = 3.0
"""How long recordings wait for the instruments to be identified, in seconds."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class RunError(Exception):
    """A run could not begin."""


@frozen
class RunResult:
    """How a run ended.

    Attributes:
        path: Its folder.
        exit_status: 0, 1 where something failed, or 128 and the signal's number.
        problems: What failed, a line each.
        recordings: What became of each recording.
        files: The files of each recording.
    """

    path: Path
    exit_status: int
    problems: Sequence[str]
    recordings: Mapping[str, AcquisitionSummary]
    files: Mapping[str, Sequence[Path]]


class BenchRun:
    """A run that is going on, as those who watch it see it.

    Attributes:
        config: What is run.
        path: The run's folder.
        tree: The tree, once it is open; its status is empty after it has stopped.
        recordings: The recordings that have begun.
        latest: The last sample of each parameter, by instrument and parameter.
        problems: What has failed so far, a line each.
        stopping: Why the run is coming to its end, or "".
    """

    def __init__(self, config: Config, run: Run, *, watch_loop: bool = False) -> None:
        """Show a run whose tree is not open yet."""
        self.config = config
        self._watch_loop = watch_loop
        self.path = run.path
        self.tree: Tree | None = None
        self.recordings: dict[str, Recording[Sequence[Sample]]] = {}
        self.files: dict[str, list[Path]] = {}
        self.latest: dict[str, dict[str, Sample]] = {}
        self.problems: list[str] = []
        self.stopping = ""
        self._run = run
        self._unsafe: list[str] = []
        self._signal: signal.Signals | None = None
        self._identified = trio.Event()
        # Where the chain of the journal ends, once it has.
        self._journal: dict[str, object] | None = None
        self._events = EventFile(run.path / EVENTS_FILE)
        self._logger = structlog.get_logger("benchtree")

    def __repr__(self) -> str:
        """Return the folder and how many recordings there are."""
        return f"<BenchRun {self.path.name} {len(self.recordings)} recordings>"

    def note(self, problem: str) -> None:
        """Note something that failed: it is logged, and the run ends with status 1."""
        self.problems.append(problem)
        self._logger.error(problem)

    def observe(self, event: Event) -> None:
        """Note what the run's metadata has to say about the tree."""
        self._events.add(event)
        match event:
            case SafeStateFailed(instrument=instrument, error=error):
                self._unsafe.append(instrument)
                self.problems.append(f"{instrument} was not driven safe: {error}")
            case ChildEnded(supervisor="root", child=child, error=str() as error):
                # What the root loses is left down; it restarts nothing.
                self.problems.append(f"{child} is down: {error}")
            case InstrumentIdentified():
                self._identified.set()
            case _:
                pass

    def note_samples(self, batch: Sequence[Sample]) -> None:
        """Keep the last sample of each parameter."""
        for sample in batch:
            self.latest.setdefault(sample.device, {})[sample.parameter] = sample

    async def keep_going(
        self,
        *,
        sim: bool,
        for_s: float | None,
        observer: Observer,
        beside: Callable[[Tree], Awaitable[None]],
    ) -> RunResult:
        """Run the bench to its end and close the folder."""
        async with trio.open_nursery() as nursery, self._heeding(nursery):
            try:
                nursery.start_soon(self._events.run)
                killed = await self._finish_killed()
                # Recordings end by themselves, after the tree has been told to stop.
                async with trio.open_nursery() as recordings:
                    await self._keep_tree(recordings, killed, sim, for_s, observer, beside)
            finally:
                with trio.CancelScope(shield=True):
                    await self._events.flush()
                    await current_clock().run_sync(self._finish, current_clock().utc_ns())
        return RunResult(
            self.path, self._exit_status, tuple(self.problems), self._summaries, self.files
        )

    async def _keep_tree(
        self,
        recordings: trio.Nursery,
        killed: Sequence[FinishedJournal],
        sim: bool,
        for_s: float | None,
        observer: Observer,
        beside: Callable[[Tree], Awaitable[None]],
    ) -> None:
        def observe(event: Event) -> None:
            self.observe(event)
            observer(event)

        journal: Journal | None = None
        try:
            async with (
                self._open_journal(killed) as journal,
                open_tree(self.config.tree, sim=sim, observer=observe, journal=journal) as tree,
            ):
                watching = watching_loop(tree.events.publish) if self._watch_loop else nullcontext()
                self.tree = tree
                try:
                    if self._signal is None:  # it may have come before the tree took signals
                        with watching:
                            await self._work(tree, recordings, for_s, beside)
                finally:
                    self._note_stop(tree)
        except SystemExit as leaving:
            # A signal stopped the tree, perhaps before it was open.
            if self._signal is None and isinstance(leaving.code, int):
                self._signal = signal.Signals(leaving.code - 128)
        except PortOwnedError as error:
            self.note(f"{describe(error)}; --wait waits for it, and --priority can take it over")
        except (ActorError, TransportError) as error:
            self.note(describe(error))
        except Exception as error:  # noqa: BLE001 - the run is closed and says what it was
            text = "".join(traceback.format_exception(error))
            await current_clock().run_sync(self._append_log, text)
            self.note(f"{describe(error)}; the traceback is in {self.path / LOG_FILE}")
        if journal is not None:
            batches, seal = journal.head
            self._journal = {"batches": batches, "seal": seal}
            if journal.waiting:
                self._journal["unwritten"] = journal.waiting
                self.note(f"journal: {journal.waiting} rows were not written: {journal.failing}")
            elif journal.lost:
                self.note(f"journal: {journal.lost} rows could not be kept")

    @asynccontextmanager
    async def _open_journal(self, killed: Sequence[FinishedJournal]) -> AsyncGenerator[Journal]:
        spec = self.config.tree
        async with open_journal(
            self.path / JOURNAL_FILE,
            tree=spec.name,
            run=self.path.name,
            everything=spec.journal == "all",
        ) as journal:
            journal.note_closed(killed)
            yield journal

    async def _finish_killed(self) -> Sequence[FinishedJournal]:
        """Close the journals that runs of this tree left open when they were killed."""
        clock = current_clock()
        found = await clock.run_sync(
            partial(
                finish_killed_journals,
                self.path.parent,
                tree=self.config.tree.name,
                by=self.path.name,
                utc_ms=clock.utc_ns() // 1_000_000,
                mono_ns=clock.mono_ns(),
            )
        )
        for each in found:
            if each.error is None:
                self._logger.warning(
                    "closed the journal of a killed run", run=each.run.name, open=each.commands
                )
            else:
                self._logger.error("a journal cannot be closed", error=each.error)
        return found

    async def _work(
        self,
        tree: Tree,
        recordings: trio.Nursery,
        for_s: float | None,
        beside: Callable[[Tree], Awaitable[None]],
    ) -> None:
        async with trio.open_nursery() as nursery:
            await self._wait_identified(tree)
            await current_clock().run_sync(self._run.set_instruments, self._identities(tree))
            for index, spec in enumerate(tree.spec.recordings):
                await recordings.start(self._keep_recording, tree, spec, index == 0, for_s)
            nursery.start_soon(beside, tree)
            await trio.sleep(float("inf") if for_s is None else for_s)
            nursery.cancel_scope.cancel()

    async def _wait_identified(self, tree: Tree) -> None:
        """Give instruments a moment, so that a recording does not begin with holes."""
        with trio.move_on_after(READY_S):
            while any(
                each.service in (Service.CONNECTING, Service.RECOVERING)
                and bus.retry_after_s is None
                for bus in tree.status()
                for each in bus.instruments
            ):
                self._identified = trio.Event()
                with trio.move_on_after(0.1):
                    await self._identified.wait()

    def _note_stop(self, tree: Tree) -> None:
        for recording in self.recordings.values():
            recording.stop()
        self._signal = self._signal or tree.stop_signal
        self.stopping = "the end" if self._signal is None else self._signal.name
        self._logger.info("stopping", reason=self.stopping)

    # Recordings.

    async def _keep_recording(
        self,
        tree: Tree,
        spec: RecordingSpec,
        first: bool,
        for_s: float | None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        limits = [each for each in (spec.duration_s, for_s) if each is not None]
        # The files of the first recording keep their names when others are added.
        stem = "samples" if first else f"samples-{spec.name}"
        begun = False
        try:
            async with AsyncExitStack() as stack:
                sinks = await self._open_sinks(stack, spec, stem)
                if not sinks:
                    return
                recording = await stack.enter_async_context(
                    record(
                        tree,
                        parameters=spec.parameters,
                        rate_hz=spec.rate_hz,
                        duration=min(limits, default=None),
                        names=spec.names,
                        instances=spec.instances,
                        overflow=spec.overflow,
                        buffer_size=spec.buffer_size,
                        on_error=spec.on_error,
                        observer=tree.events.publish,
                    )
                )
                self.recordings[spec.name] = recording
                begun = True
                self._logger.info("recording", name=spec.name, rate_hz=spec.rate_hz)
                task_status.started()
                if self.stopping:
                    recording.stop()
                await self._keep_writing(spec, recording, sinks)
        except Exception as error:  # noqa: BLE001 - a recording never stops the tree
            self.note(f"recording {spec.name}: {describe(error)}")
        finally:
            if not begun:
                task_status.started()

    async def _open_sinks(
        self, stack: AsyncExitStack, spec: RecordingSpec, stem: str
    ) -> list[SampleSink]:
        """Open a recording's sinks, to be closed by `stack`; go on without those that fail."""
        opened: list[SampleSink] = []
        for name in spec.sinks:
            path = self.path / f"{stem}.{name}"
            try:
                sink = await stack.enter_async_context(SINKS[name](path, spec))
            except Exception as error:  # noqa: BLE001 - a recording never stops the tree
                self.note(f"recording {spec.name}: {path.name}: {describe(error)}")
            else:
                opened.append(sink)
                if name != "postgres":
                    self.files.setdefault(spec.name, []).append(path)
        return opened

    async def _keep_writing(
        self,
        spec: RecordingSpec,
        recording: Recording[Sequence[Sample]],
        sinks: Sequence[SampleSink],
    ) -> None:
        """Write into every sink, and go on with the others when one fails."""
        stream = _Watched(recording.stream, self.note_samples)
        left = list(sinks)
        while left:
            failed: list[SinkError] = []
            try:
                await pipe(
                    stream,
                    *left,
                    batch_size=spec.batch_size,
                    flush_s=spec.flush_s,
                    spill=self.path,
                )
            except* SinkError as group:
                failed = _leaves(group)
            if not failed:
                return
            for error in failed:
                self.note(f"recording {spec.name}: {error}")
            lost = {error.sink for error in failed}
            left = [sink for sink in left if sink.name not in lost]

    # Signals before the tree opens and after it has closed.

    @asynccontextmanager
    async def _heeding(self, nursery: trio.Nursery) -> AsyncGenerator[None]:
        """Note signals that the tree does not take, so that the run is closed in order."""
        if threading.current_thread() is threading.main_thread():
            await nursery.start(self._heed)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()

    async def _heed(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                self._signal = self._signal or signal.Signals(number)

    # The folder. What blocks runs in a thread.

    def _identities(self, tree: Tree) -> dict[str, object]:
        return {
            each.name: None if each.identity is None else asdict(each.identity)
            for bus in tree.status()
            for each in bus.instruments
        }

    def _append_log(self, text: str) -> None:
        with (self.path / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(text)

    @property
    def _exit_status(self) -> int:
        if self._signal is not None:
            return 128 + self._signal
        return FAILED if self.problems else OK

    @property
    def _summaries(self) -> Mapping[str, AcquisitionSummary]:
        return {name: each.summary for name, each in self.recordings.items()}

    def _finish(self, utc_ns: int) -> None:
        self._run.update(
            outcome=self._signal.name if self._signal else "failed" if self.problems else "ok",
            problems=list(self.problems),
            journal=self._journal,
            safe_state_failures=list(self._unsafe),
        )
        self._run.finish(
            exit_status=self._exit_status,
            finished_utc_ns=utc_ns,
            recordings={
                name: {
                    **recording.summary.as_dict(),
                    "rate_hz": recording.rate_hz,
                    "files": [path.name for path in self.files.get(name, ())],
                }
                for name, recording in self.recordings.items()
            },
        )


async def run_bench(
    config: Config,
    *,
    sim: bool = False,
    for_s: float | None = None,
    runs_root: Path = Path("runs"),
    observer: Observer | None = None,
    logbook: Logbook | None = None,
    watch: Callable[[BenchRun], Awaitable[None]] | None = None,
    beside: Callable[[Tree], Awaitable[None]] | None = None,
    watch_loop: bool = False,
) -> RunResult:
    """Run a configured bench until its time is up or a signal stops it.

    Ctrl-C and SIGTERM end it in order; a second one skips finishing accepted commands.

    Args:
        config: The bench.
        sim: Put every driver's own device model on its bus instead of the real one.
        for_s: For how long, in seconds from the beginning of the recordings; None for
            no end.
        runs_root: Where the run's folder is made.
        observer: Sees every event of the tree.
        logbook: Its lines are kept in the run's folder too.
        watch: Shows the run while it goes on; cancelled at its end.
        beside: Runs beside the recordings and is cancelled at their end.
        watch_loop: Publish a `LoopHeldUp` event whenever a task holds the others up.

    Raises:
        RunError: The run's folder cannot be made.
    """
    clock = current_clock()
    try:
        run = await clock.run_sync(
            partial(
                create_run,
                runs_root,
                tree_name=config.tree.name,
                started_utc_ns=clock.utc_ns(),
                config_text=config.text,
                config_name=str(config.path),
            )
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"no run folder can be made in {runs_root}: {reason}") from error
    bench = BenchRun(config, run, watch_loop=watch_loop)
    if logbook is not None:
        logbook.keep_in(run.path / LOG_FILE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch or _nothing, bench)
        result = await bench.keep_going(
            sim=sim, for_s=for_s, observer=observer or _unobserved, beside=beside or _nothing
        )
        nursery.cancel_scope.cancel()
    return result


async def _nothing(_: object) -> None:
    await trio.lowlevel.checkpoint()


def _unobserved(event: Event) -> None:
    del event


class _Watched:
    """A recording's stream that shows each batch on its way to the sinks."""

    def __init__(
        self, stream: BatchStream[Sequence[Sample]], note: Callable[[Sequence[Sample]], None]
    ) -> None:
        self._stream = stream
        self._note = note

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Sample]:
        batch = await self._stream.__anext__()
        self._note(batch)
        return batch

    def drain_nowait(self) -> Sequence[Sequence[Sample]]:
        batches = self._stream.drain_nowait()
        for batch in batches:
            self._note(batch)
        return batches


def _leaves(group: BaseExceptionGroup[SinkError]) -> list[SinkError]:
    leaves: list[SinkError] = []
    for each in group.exceptions:
        leaves += [each] if isinstance(each, SinkError) else _leaves(each)
    return leaves
