"""A bus, its supervisor and a simulated line, for tests under a virtual clock.

The device on the line is a witness: each of its replies says which unit gives it, which
question it answers and how many it has answered, so that no reply can pass for another.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import TypeVar

import trio
from attrs import define, evolve, field, frozen

from actors import (
    BreakerPolicy,
    Bus,
    ChildSpec,
    Device,
    DeviceError,
    Event,
    Events,
    Fault,
    FaultClass,
    Identity,
    InstrumentStatus,
    Intensity,
    Ledger,
    MemberPolicy,
    Plan,
    Script,
    Service,
    Supervisor,
    Ticket,
)
from transports import (
    SERIAL,
    BusProfile,
    ByteStream,
    DeviceModel,
    Exchange,
    Framing,
    Lines,
    MemoryHost,
    SimLine,
    SimReply,
    StreamTransport,
)

E = TypeVar("E", bound=Event)
T = TypeVar("T")

REJECTED = FaultClass("REJECTED")
PLAIN = evolve(SERIAL, lateness_s=0.5, attempts=1)
SHARED = evolve(SERIAL, shared=True, attempts=1)
STEADY = BreakerPolicy(failures=3, open_s=2.0, max_open_s=120.0, jitter=0.0)


def _starts(start: bytes, data: bytes) -> bool:
    return data.startswith(start)


@define
class Unit:
    """One unit of the simulated device.

    Attributes:
        serial: Its serial number.
        heard: What it was told, in order, with its instants.
        state: What it was set to; power cycles forget it.
        refuses: Writes it answers with an error.
        needs: What has to be set before a write, which it answers with an error till then.
    """

    serial: str
    heard: list[tuple[float, str]] = field(factory=list[tuple[float, str]])
    state: dict[str, str] = field(factory=dict[str, str])
    refuses: set[str] = field(factory=set[str])
    needs: dict[str, str] = field(factory=dict[str, str])

    def takes(self, setting: str) -> bool:
        """Return whether it takes a write as it is now."""
        name, _, value = self.needs.get(setting, "").partition(" ")
        return setting not in self.refuses and (not name or self.state.get(name) == value)

    def words(self, *words: str) -> list[str]:
        """Return what it was told that begins with one of these words."""
        return [text for _, text in self.heard if text.split(maxsplit=1)[0] in words]


class WitnessModel:
    r"""Units on one line. `u:ASK tag\n` is answered `u:ASK tag n\n`, n counting answers.

    `u:WAIT seconds tag` answers late, `u:SET name value` sets, `u:ID` and `u:PING` say who
    is there. Anything else is answered `u:ERR text`.
    """

    def __init__(self, *units: str, reply_s: float = 0.001) -> None:
        self.units = {name: Unit(f"S-{name}") for name in units or ("A",)}
        self.reply_s = reply_s
        self._answered = 0
        self._held = b""

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer the whole lines that came."""
        *lines, self._held = (self._held + data).split(b"\n")
        replies: list[SimReply] = []
        for line in lines:
            name, _, text = line.decode("latin-1").partition(":")
            unit = self.units.get(name)
            if unit is not None and text:
                unit.heard.append((now_s, text))
                answer, delay_s = self._answer(unit, text)
                replies.append(SimReply(f"{name}:{answer}\n".encode(), delay_s, name))
        return replies

    def reset(self, now_s: float) -> None:
        """Forget settings and half a request."""
        del now_s
        self._held = b""
        for unit in self.units.values():
            unit.state.clear()

    def _answer(self, unit: Unit, text: str) -> tuple[str, float]:
        self._answered += 1
        word, _, rest = text.partition(" ")
        match word:
            case "ID":
                return f"ID maker,model,{unit.serial},{self._answered}", self.reply_s
            case "PING":
                return f"PONG {self._answered}", self.reply_s
            case "WAIT":
                seconds, _, tag = rest.partition(" ")
                return f"ASK {tag} {self._answered}", float(seconds)
            case "ASK":
                return f"ASK {rest} {self._answered}", self.reply_s
            case "SET" if not unit.takes(rest):
                return f"ERR {rest} {self._answered}", self.reply_s
            case "SET":
                name, _, value = rest.partition(" ")
                unit.state[name] = value
                return f"DONE {rest} {self._answered}", self.reply_s
            case _:
                return f"ERR {text} {self._answered}", self.reply_s


class Witness:
    """The driver of one unit.

    Attributes:
        within_s: How long a reply may take.
    """

    def __init__(
        self,
        name: str,
        unit: str = "A",
        *,
        within_s: float = 1.0,
        safe: Sequence[str] = ("out 0",),
        group: str | None = None,
    ) -> None:
        self.name = name
        self._group = group
        self._unit = unit
        self.within_s = within_s
        self._safe = tuple(self.write(each) for each in safe)

    @property
    def unit(self) -> str | None:
        """Its unit."""
        return self._unit

    @property
    def group(self) -> str | None:
        """What it is a part of."""
        return self._group

    def identify(self) -> Script[Identity]:
        """Ask who it is."""
        start = f"{self._unit}:ID "
        raw = yield self.exchange("ID", partial(_starts, start.encode()))
        maker, model, serial, _ = raw.decode("latin-1").removeprefix(start).split(",")
        return Identity(maker, model, serial)

    def fence(self, owed: Sequence[Exchange]) -> Exchange | None:
        """Ask who it is, or for a sign of life."""
        for word, answer in (("ID", "ID "), ("PING", "PONG ")):
            start = f"{self._unit}:{answer}".encode()
            exchange = self.exchange(word, partial(_starts, start))
            if all(each.request != exchange.request for each in owed):
                return exchange
        return None

    def safe_plans(self) -> Sequence[Plan[object]]:
        """Return what drives it safe."""
        return self._safe

    def exchange(self, text: str, accepts: Callable[[bytes], bool] | None = None) -> Exchange:
        """Return the exchange that sends `text`."""
        request = f"{self._unit}:{text}\n".encode("latin-1")
        return Exchange(request, self._unit, self.within_s, accepts)

    def read(self, tag: object, *, wait_s: float | None = None) -> Plan[str]:
        """Return a question that carries `tag`; its value is the tag of the answer."""
        text = f"ASK {tag}" if wait_s is None else f"WAIT {wait_s} {tag}"

        def decode(raw: bytes) -> str:
            return self.answer(raw, "ASK")

        return Plan(name="ask", exchange=self.exchange(text), decode=decode)

    def write(self, text: str, *, hazardous: bool = False) -> Plan[object]:
        """Return the setting of `name value`."""

        def decode(raw: bytes) -> None:
            if raw.startswith(f"{self._unit}:ERR ".encode()):
                raise DeviceError(Fault(REJECTED, "it said no", raw))
            if (done := self.answer(raw, "DONE")) != text:
                raise ValueError(f"{done!r} is done, not {text!r}")

        return Plan(
            name=f"{text.split(maxsplit=1)[0]}.set",
            exchange=self.exchange(f"SET {text}"),
            decode=decode,
            writes=True,
            hazardous=hazardous,
            setting=text.split(maxsplit=1)[0],
        )

    def failing(self, error: Exception) -> Plan[str]:
        """Return a question whose answer makes the driver fail: a fault of the program."""

        def decode(raw: bytes) -> str:
            raise error

        return Plan(name="fail", exchange=self.exchange("ASK fail"), decode=decode)

    def answer(self, raw: bytes, word: str) -> str:
        """Return what a reply answers.

        Raises:
            ValueError: It is no such reply.
        """
        start = f"{self._unit}:{word} "
        text = raw.decode("latin-1")
        if not text.startswith(start):
            raise ValueError(f"{raw!r} does not begin with {start!r}")
        return text.removeprefix(start).rpartition(" ")[0]


@frozen
class Parts:
    """What a bench is made of.

    Attributes:
        profile: The numbers of the line.
        breaker: The bus's breaker.
        policy: How instruments are treated.
        framing: How replies are told apart.
        keeps_late: Whether late replies outlive a connection.
        required: Whether connecting is part of starting.
        connect_s: How long connecting takes.
        transport: What drives the line.
        intensity: How many crashes are borne.
    """

    profile: BusProfile = PLAIN
    breaker: BreakerPolicy = STEADY
    policy: MemberPolicy = field(factory=lambda: MemberPolicy(breaker=STEADY))
    framing: Framing = field(factory=lambda: Lines(b"\n"))
    keeps_late: bool = True
    required: bool = False
    connect_s: float = 0.0
    transport: type[StreamTransport] = StreamTransport
    intensity: Intensity = field(factory=lambda: Intensity(5, 60.0))


class Bench:
    """A simulated line with a bus on it.

    Attributes:
        line: The line, to arm faults on.
        bus: The bus.
        seen: Every event so far.
    """

    def __init__(
        self,
        model: DeviceModel,
        devices: Mapping[str, Device] | Sequence[Device],
        parts: Parts,
        *,
        name: str = "bus",
        events: Events | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.line = SimLine(model)
        self.events = events or Events()
        self.seen: list[Event] = []
        self.host = MemoryHost(self.line, keeps_late=parts.keeps_late)

        async def connect() -> ByteStream:
            await trio.sleep(parts.connect_s)
            return await self.host.connect()

        self.transport = parts.transport(f"sim:{name}", connect, parts.framing, parts.profile)
        self.bus = Bus(
            name,
            self.transport,
            parts.profile,
            events=self.events,
            sequence=count(1),
            breaker=parts.breaker,
            required=parts.required,
            ledger=ledger,
        )
        each: Device
        for each in devices.values() if isinstance(devices, Mapping) else devices:
            self.bus.attach(each, parts.policy)
        self.parts = parts
        self.supervisor = Supervisor(
            "top",
            [self.spec()],
            events=self.events,
            intensity=parts.intensity,
        )

    def spec(self) -> ChildSpec:
        """Return the bus as a child."""
        return ChildSpec(
            self.bus.name,
            self.bus.run,
            settle=self.bus.settle,
            restart_delay_s=self.bus.restart_delay_s,
        )

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind."""
        return [each for each in self.seen if isinstance(each, kind)]

    def sent(self) -> list[str]:
        """Return what the far end of the line received, request by request."""
        return [data.decode("latin-1").rstrip("\n") for _, data in self.line.requests]

    def status(self, name: str = "a") -> InstrumentStatus:
        """Return where an instrument stands."""
        return next(each for each in self.bus.status().instruments if each.name == name)

    async def submit_within(self, device: Device, plan: Plan[T], within_s: float) -> Ticket[T]:
        """Submit a command whose caller cares for `within_s` seconds only."""
        ticket: Ticket[T] | None = None
        with trio.move_on_after(within_s):
            ticket = await self.bus.submit(device, plan)
        assert ticket is not None
        return ticket

    async def in_service(self, *names: str) -> None:
        """Wait until these instruments, or all, are in service."""

        def ready() -> bool:
            return all(
                each.service is Service.IN_SERVICE
                for each in self.bus.status().instruments
                if not names or each.name in names
            )

        await self.until(ready)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds: it is looked at after every event."""
        changed = trio.Event()

        def note(event: Event) -> None:
            del event
            changed.set()

        with self.events.observed(note):
            while not holds():
                await changed.wait()
                changed = trio.Event()


@asynccontextmanager
async def running(
    model: DeviceModel,
    *devices: Device,
    parts: Parts | None = None,
    settled: bool = True,
) -> AsyncGenerator[Bench]:
    """Run a bus under a supervisor; with `settled`, wait until all are in service."""
    bench = Bench(model, devices, parts or Parts())
    async with bench_running(bench):
        if settled:
            await bench.in_service()
        yield bench


@asynccontextmanager
async def bench_running(bench: Bench) -> AsyncGenerator[None]:
    """Run a bench's supervisor within the block."""
    with bench.events.observed(bench.seen.append):
        async with trio.open_nursery() as nursery:
            up = trio.Event()
            nursery.start_soon(bench.supervisor.run, up.set)
            await up.wait()
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
