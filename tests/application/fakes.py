"""Far ends that a thread serves: on pseudo-terminals and on the loopback."""

from __future__ import annotations

import os
import select
import socket
import termios
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

Answer = Callable[[bytes, int], bytes]
"""Given what was received and the port's speed (a constant of termios): what to send."""


@contextmanager
def port(link: Path, answer: Answer | None = None) -> Generator[int]:
    """Make a serial port behind a link, silent unless it has an `answer`; yields its far end."""
    far, near = os.openpty()
    link.symlink_to(os.ttyname(near))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            if answer is not None and select.select([far], [], [], 0.01)[0]:
                data = os.read(far, 4_096)
                speed = termios.tcgetattr(far)[4]
                os.write(far, answer(data, speed))
            elif answer is None:
                stop.wait(0.05)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield far
    finally:
        stop.set()
        thread.join()
        os.close(near)
        os.close(far)


@contextmanager
def host(answer: Callable[[bytes], bytes] | None = None) -> Generator[int]:
    """Listen on the loopback, silent unless it has an `answer`; yields the port."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.02)

        def serve() -> None:
            connections: list[socket.socket] = []
            while not stop.is_set():
                with suppress(TimeoutError):
                    connections.append(listening.accept()[0])
                for each in select.select(connections, [], [], 0)[0]:
                    data = each.recv(4_096)
                    if not data:
                        connections.remove(each)
                        each.close()
                    elif answer is not None:
                        each.sendall(answer(data))
            for each in connections:
                each.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            stop.set()
            thread.join()


@contextmanager
def host_that_hangs_up() -> Generator[int]:
    """Listen on the loopback and close each connection when something arrives; yields the port."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.02)

        def serve() -> None:
            while not stop.is_set():
                with suppress(TimeoutError), listening.accept()[0] as connection:
                    connection.recv(4_096)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            stop.set()
            thread.join()


@contextmanager
def full_host() -> Generator[int]:
    """Listen without taking any connection: who connects waits for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        fillers = [socket.socket() for _ in range(4)]
        try:
            for each in fillers:
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            yield full.getsockname()[1]
        finally:
            for each in fillers:
                each.close()


def closed_port() -> int:
    """Return a port of the loopback at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
