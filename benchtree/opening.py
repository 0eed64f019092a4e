"""Opening a tree from a script, and stopping it whatever happens."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import trio
from attrs import evolve

from actors import Observer, current_clock
from recorder import Journal

from .buses import Stage
from .config import load_config
from .spec import TreeSpec
from .tree import Tree

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@asynccontextmanager
async def open_tree(
    source: str | Path | TreeSpec | None = None,
    *,
    sim: bool = False,
    wait: bool | None = None,
    priority: int | None = None,
    observer: Observer | None = None,
    journal: Journal | None = None,
    stage: Stage | None = None,
) -> AsyncGenerator[Tree, None]:
    """Run a supervision tree for the length of the block.

    However the block ends (normally, by an error, by cancellation, by Ctrl-C or SIGTERM),
    the tree stops in order: it refuses new commands, finishes those accepted within the
    drain time, drives every instrument safe, and closes. A second signal skips the
    finishing, never the safe state.

    Args:
        source: A configuration file, a specification, or None for an empty tree.
        sim: Put every driver's own device model on its bus instead of the real one.
        wait: Whether to wait for ports that other trees have; None for what `source` says.
        priority: How important the tree is: while it waits, one of a lower priority hands its
            port over, everything on it safe. None for what `source` says.
        observer: Sees every event of the tree from the very first on.
        journal: Takes down what happens to commands; open it before and close it after, as
            `async with open_journal(...) as journal, open_tree(..., journal=journal)` does.
        stage: Provides the simulated buses, and has every step of every command published.

    Raises:
        ConfigError: The file has mistakes; all are listed.
        PortOwnedError: Another tree has one of the buses, and `wait` is False.
        SupervisionError: A required bus or a child failed to start.
        SystemExit: After the tree stopped because of a signal: 130 or 143.
    """
    if isinstance(source, TreeSpec):
        spec = source
    elif source is None:
        spec = TreeSpec()
    else:
        spec = (await current_clock().run_sync(load_config, Path(source))).tree
    spec = evolve(
        spec,
        wait=spec.wait if wait is None else wait,
        priority=spec.priority if priority is None else priority,
    )
    tree = Tree(spec, sim=sim, stage=stage, ledger=journal)
    failure: BaseException | None = None
    heed = trio.CancelScope(shield=True)
    watching = ExitStack()
    watching.enter_context(
        tree.events.observed(observer or _unobserved, commands=stage is not None)
    )
    if journal is not None:
        journal.attach(tree.events.publish)
        watching.enter_context(tree.events.observed(journal.observe))
    with watching:
        async with trio.open_nursery() as nursery:
            try:
                with trio.CancelScope() as body:
                    # Both shield themselves: begun while cancelled, they would never end.
                    with trio.CancelScope(shield=True):
                        if threading.current_thread() is threading.main_thread():
                            await nursery.start(_heed_signals, tree, body, heed)
                        await nursery.start(tree.run_root)
                    await tree.build()
                    yield tree
            except BaseException as error:  # noqa: BLE001 - raised again below
                failure = error
            with trio.CancelScope(shield=True):
                try:
                    await tree.stop(_reason(tree, failure))
                finally:
                    tree.release()
                    heed.cancel()
    if tree.stop_signal is not None:
        raise SystemExit(128 + tree.stop_signal) from failure
    if failure is not None:
        raise failure


def _unobserved(event: object) -> None:
    del event


def _reason(tree: Tree, failure: BaseException | None) -> str:
    if tree.stop_signal is not None:
        return tree.stop_signal.name
    if failure is None:
        return "the end of the program"
    return "cancellation" if isinstance(failure, trio.Cancelled) else repr(failure)


async def _heed_signals(
    tree: Tree,
    body: trio.CancelScope,
    heed: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with heed, trio.open_signal_receiver(*_SIGNALS) as signals:
        task_status.started()
        async for number in signals:
            if tree.stop_signal is None:
                tree.stop_signal = signal.Signals(number)
                body.cancel()
            else:
                tree.hurry()
