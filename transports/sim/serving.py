"""The inside of a process of simulated lines."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import trio

from .hosts import serve_pty, serve_tcp
from .line import SimLine
from .model import DeviceModel
from .spec import Json, SimSpec, encode


async def run_lines() -> None:
    """Be the process: serve what standard input describes until it closes."""
    requests = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    # What a model prints must not mix with the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines: list[SimLine] = []
    with answers:
        async with requests, AsyncExitStack() as hosts:
            received = b""
            while data := await requests.receive_some():
                *messages, received = (received + data).split(b"\n")
                for message in messages:
                    answers.write(encode(await _answer(json.loads(message), lines, hosts)))


async def _answer(
    message: dict[str, Json], lines: list[SimLine], hosts: AsyncExitStack
) -> dict[str, Json]:
    try:
        if "lines" in message:
            described = cast("list[dict[str, Json]]", message["lines"])
            opened = [await _open(each, lines, hosts) for each in described]
            # Python looks at all that was imported for 5 to 50 ms, which no device takes.
            gc.collect()
            gc.freeze()
            return {"result": opened}
        line = lines[cast("int", message["line"])]
        arguments = cast("dict[str, Json]", message["arguments"])
        return {"result": _call(line, str(message["call"]), arguments)}
    except Exception as error:  # noqa: BLE001 - the other process is told, whatever it is
        return {"error": f"{type(error).__name__}: {error}"}


async def _open(described: dict[str, Json], lines: list[SimLine], hosts: AsyncExitStack) -> str:
    spec = cast("Callable[..., SimSpec]", SimSpec)(**described)
    module, _, name = spec.model.partition(":")
    factory = cast("Callable[..., DeviceModel]", getattr(importlib.import_module(module), name))
    line = SimLine(factory(**spec.arguments), latency_s=spec.latency_s)
    lines.append(line)
    if spec.host == "pty":
        if spec.link is None:
            raise ValueError("a serial port needs a link")
        return await hosts.enter_async_context(serve_pty(line, link=Path(spec.link)))
    return await hosts.enter_async_context(
        serve_tcp(line, port=spec.port, keeps_late=spec.keeps_late, one_client=spec.one_client)
    )


def _call(line: SimLine, name: str, arguments: dict[str, Json]) -> Json:
    match name:
        case "ask_model":
            return _ask(line.model, str(arguments["name"]))
        case "set_latency":
            line.latency_s = cast("float", arguments["latency_s"])
        case "foreign":
            data = bytes.fromhex(str(arguments.pop("data")))
            cast("Callable[..., None]", line.foreign)(data, **arguments)
        case (
            "late"
            | "lose"
            | "garble"
            | "truncate"
            | "duplicate"
            | "hang"
            | "unhang"
            | "unplug"
            | "replug"
            | "reset"
        ):
            cast("Callable[..., None]", getattr(line, name))(**arguments)
        case _:
            raise ValueError(f"no such call: {name}")
    return None


def _ask(model: DeviceModel, name: str) -> Json:
    value: object = model
    for part in name.split("."):
        value = getattr(value, part)
    return cast("Json", value() if callable(value) else value)
