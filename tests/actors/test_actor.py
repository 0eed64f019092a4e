"""Actors of one's own: asking, telling, crashing, stopping, and what an ask costs."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, field
from trio.abc import Instrument
from trio.testing import MockClock

from actors import (
    Actor,
    ActorError,
    AskError,
    Cause,
    ChildSpec,
    DeviceError,
    Events,
    Fault,
    FaultClass,
    GaveUpError,
    Intensity,
    Ref,
    Restart,
    Strategy,
    Supervisor,
)
from actors.actor import INBOX_BOUND

from .family import quiet


class Counter:
    """A plain actor: counts what it receives, fails on request."""

    def __init__(self, seen: list[str] | None = None) -> None:
        self.count = 0
        self.seen = seen if seen is not None else []

    def receive(self, message: str) -> int:
        """Return how many messages this incarnation has received."""
        self.seen.append(message)
        match message:
            case "crash":
                raise ZeroDivisionError("crashed")
            case "refuse":
                raise ActorError("will not")
            case _:
                pass
        self.count += 1
        return self.count


@define
class Async:
    """An async actor that answers by a function."""

    answer: Callable[[str], Awaitable[str]]

    async def receive(self, message: str) -> str:
        """Answer by the function."""
        return await self.answer(message)


async def sleep(message: str) -> str:
    """Sleep as many seconds as the message says, and answer with it."""
    await trio.sleep(float(message))
    return message


def later(name: str, answer: Callable[[str], Awaitable[str]]) -> Ref[str, str]:
    """Return a ref to an async actor that answers by `answer`."""
    return Ref(name, lambda: Async(answer))


@asynccontextmanager
async def supervised(
    *specs: ChildSpec,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    most: int = 100,
) -> AsyncGenerator[Supervisor]:
    """Run children under a supervisor until the block ends."""
    supervisor = Supervisor(
        "s",
        specs,
        events=Events(),
        strategy=strategy,
        intensity=Intensity(max_restarts=most, window_s=5.0),
    )
    up = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run, up.set)
        await up.wait()
        yield supervisor
        nursery.cancel_scope.cancel()


def counter(name: str = "counter", seen: list[str] | None = None) -> Ref[str, int]:
    """Return a ref to a counting actor."""
    return Ref(name, lambda: Counter(seen))


@define
class Asker:
    """Asks in the background and keeps what came."""

    ref: Ref[str, int]
    answers: dict[str, int | AskError] = field(factory=dict[str, int | AskError])

    async def ask(self, message: str) -> None:
        """Ask and keep the answer or the error."""
        try:
            self.answers[message] = await self.ref.ask(message)
        except AskError as error:
            self.answers[message] = error

    def cause(self, message: str) -> Cause | None:
        """Return the cause an ask failed with, or None."""
        answer = self.answers[message]
        return answer.cause if isinstance(answer, AskError) else None


# Asking and telling.


async def test_an_actor_answers_in_the_order_of_asking(autojump_clock: MockClock) -> None:
    """Messages wait first in, first out, told ones among the asked ones."""
    seen: list[str] = []
    ref = counter(seen=seen)
    async with supervised(ref.spec()):
        ref.tell_nowait("1")
        async with trio.open_nursery() as nursery:
            for message in "234":
                nursery.start_soon(ref.ask, message)
                await quiet()
        assert await ref.ask("5") == 5
    assert seen == list("12345")


async def test_what_was_told_or_asked_before_the_start_waits_for_it(
    autojump_clock: MockClock,
) -> None:
    """A ref is good before its actor runs."""
    ref = counter()
    ref.tell_nowait("early")
    asker = Asker(ref)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker.ask, "x")
        await quiet()
        assert repr(ref) == "<Ref counter waiting=2>"
        async with supervised(ref.spec()):
            await quiet()
    assert asker.answers == {"x": 2}


async def test_an_actor_error_is_an_answer_not_a_crash(autojump_clock: MockClock) -> None:
    """The asker gets the very error; the actor lives on with its state."""
    ref = counter()
    error = DeviceError(Fault(FaultClass("BUSY"), "later"))

    async def refuse(message: str) -> str:
        del message
        raise error

    other = later("other", refuse)
    async with supervised(ref.spec(), other.spec(), most=0):
        assert await ref.ask("a") == 1
        with pytest.raises(ActorError, match="will not"):
            await ref.ask("refuse")
        assert await ref.ask("b") == 2
        with pytest.raises(DeviceError) as caught:
            await other.ask("x")
        assert caught.value is error


async def test_any_function_that_returns_an_awaitable_counts_as_async(
    autojump_clock: MockClock,
) -> None:
    """A plain `receive` may hand on to an async function."""

    class Handing:
        def receive(self, message: str) -> Awaitable[str]:
            return sleep(message)

    ref: Ref[str, str] = Ref("handing", Handing)
    async with supervised(ref.spec()):
        assert await ref.ask("1.5") == "1.5"
        assert trio.current_time() == 1.5


async def test_an_actor_that_tells_itself_lets_others_run(autojump_clock: MockClock) -> None:
    """An endless chain of own messages can be cancelled, and askers get their turn."""

    class Busy:
        def receive(self, message: str) -> str:
            if message == "again":
                ref.tell_nowait("again")
            return message

    ref: Ref[str, str] = Ref("busy", Busy)
    async with supervised(ref.spec()):
        ref.tell_nowait("again")
        assert await ref.ask("me") == "me"


# The cost.


class Costs(Instrument):
    """Counts passes of the scheduler and steps of tasks."""

    def __init__(self) -> None:
        self.passes = 0
        self.steps = 0

    def before_io_wait(self, timeout: float) -> None:
        """Count one pass."""
        del timeout
        self.passes += 1

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count one step."""
        del task
        self.steps += 1


async def cost_of_asks(ref: Ref[str, int] | Ref[str, str], count: int) -> tuple[float, float]:
    """Return passes and steps per ask, for asks one after the other."""
    costs = Costs()
    await ref.ask("0")
    trio.lowlevel.add_instrument(costs)
    for _ in range(count):
        await ref.ask("0")
    trio.lowlevel.remove_instrument(costs)
    return costs.passes / count, costs.steps / count


async def test_an_ask_costs_two_passes_and_two_steps() -> None:
    """One step of the actor and one of the asker, each in a pass of its own."""
    ref = counter()
    async with supervised(ref.spec()):
        assert await cost_of_asks(ref, 100) == (2.0, 2.0)


async def test_an_async_answer_costs_its_own_checkpoints_and_no_more() -> None:
    """A coroutine that never waits costs as much as a function; each checkpoint one more."""

    async def at_once(message: str) -> str:
        return message

    async def one_checkpoint(message: str) -> str:
        await trio.lowlevel.checkpoint()
        return message

    first, second = later("a", at_once), later("b", one_checkpoint)
    async with supervised(first.spec(), second.spec()):
        assert await cost_of_asks(first, 100) == (2.0, 2.0)
        assert await cost_of_asks(second, 100) == (3.0, 3.0)


async def test_many_askers_share_the_actors_steps() -> None:
    """Ten at once cost the actor two steps: one for all of them, one to look again."""
    ref = counter()
    costs = Costs()
    async with supervised(ref.spec()), trio.open_nursery() as nursery:
        await quiet()
        for message in "0123456789":
            nursery.start_soon(ref.ask, message)
        trio.lowlevel.add_instrument(costs)
        await quiet()
        trio.lowlevel.remove_instrument(costs)
    # Ten askers take two steps each, and this test's own task one.
    assert costs.steps == 20 + 2 + 1


async def test_an_asker_cancelled_before_its_turn_costs_the_actor_nothing(
    autojump_clock: MockClock,
) -> None:
    """Its message is taken back: the actor never sees it, and its room is free at once."""
    seen: list[str] = []

    async def note(message: str) -> str:
        seen.append(message)
        return await sleep(message)

    ref = later("slow", note)
    async with supervised(ref.spec()), trio.open_nursery() as nursery:
        nursery.start_soon(ref.ask, "10")
        await quiet()
        with trio.move_on_after(1.0):
            await ref.ask("20")
        assert repr(ref) == "<Ref slow waiting=0>"
        await ref.ask("0")
    assert seen == ["10", "0"]


# Deadlines.


async def test_a_deadline_ends_the_answer_with_the_asker(autojump_clock: MockClock) -> None:
    """The handler is cancelled at the asker's deadline and the next one is served then."""
    ref = later("slow", sleep)
    async with supervised(ref.spec(), most=0):
        with pytest.raises(trio.TooSlowError), trio.fail_after(2.0):
            await ref.ask("100")
        assert trio.current_time() == 2.0
        assert await ref.ask("1") == "1"
        assert trio.current_time() == 3.0


async def test_a_cancelled_asker_cancels_its_answer(autojump_clock: MockClock) -> None:
    """Without any deadline: the handler ends with the asker, and the actor lives on."""
    ref = later("slow", sleep)
    async with supervised(ref.spec(), most=0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.ask, "100")
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
        assert await ref.ask("1") == "1"
        assert trio.current_time() == 2.0


async def test_nested_asks_inherit_the_deadline(autojump_clock: MockClock) -> None:
    """When it passes, everybody down the line is free at that very instant."""
    deadlines: list[float] = []

    async def hang(message: str) -> str:
        deadlines.append(trio.current_effective_deadline())
        return await sleep(message)

    last = later("last", hang)
    middle = later("middle", last.ask)
    first = later("first", middle.ask)
    async with supervised(last.spec(), middle.spec(), first.spec(), most=0):
        with trio.move_on_after(3.0):
            await first.ask("1000")
        assert deadlines == [3.0]
        for ref in (first, middle, last):
            assert await ref.ask("0") == "0"
        assert trio.current_time() == 3.0


async def test_a_deadline_that_an_actor_sets_is_its_own_affair(autojump_clock: MockClock) -> None:
    """A handler that stops waiting for another frees that other, and answers."""

    async def impatient(message: str) -> str:
        answers: list[str] = []
        with trio.move_on_after(1.0):
            answers.append(await slow.ask(message))
        return "".join(answers) or "gave up"

    slow = later("slow", sleep)
    ref = later("impatient", impatient)
    async with supervised(slow.spec(), ref.spec(), most=0):
        assert await ref.ask("100") == "gave up"
        assert await slow.ask("0") == "0"
        assert trio.current_time() == 1.0


async def test_an_asker_that_puts_off_its_deadline_is_not_left_waiting(
    autojump_clock: MockClock,
) -> None:
    """The answer ends at the deadline of the moment of asking, and the asker is told."""
    ref = later("slow", sleep)
    caught: list[Cause] = []

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            try:
                await ref.ask("100")
            except AskError as error:
                caught.append(error.cause)

    async with supervised(ref.spec(), most=0):
        scope = trio.CancelScope(deadline=2.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, scope)
            await trio.sleep(1.0)
            scope.deadline = math.inf
    assert caught == [Cause.EXPIRED]
    assert trio.current_time() == 2.0


# Crashes.


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_crash_fails_the_asker_and_keeps_those_who_wait(
    asynchronous: bool, autojump_clock: MockClock
) -> None:
    """A new incarnation with new state answers them, in order."""

    class Late:
        def __init__(self) -> None:
            self.counter = Counter()

        async def receive(self, message: str) -> int:
            await trio.sleep(1.0)
            return self.counter.receive(message)

    ref: Ref[str, int] = Ref("c", Late) if asynchronous else counter()
    asker = Asker(ref)
    async with supervised(ref.spec()):
        assert await ref.ask("before") == 1
        async with trio.open_nursery() as nursery:
            for message in ("crash", "a", "b", "c"):
                nursery.start_soon(asker.ask, message)
                await trio.sleep(0.001)
    assert asker.cause("crash") is Cause.CRASHED
    assert [asker.answers[message] for message in "abc"] == [1, 2, 3]


async def test_a_crash_is_told_with_its_cause(autojump_clock: MockClock) -> None:
    """The asker's error names the actor and carries the exception."""
    ref = counter()
    async with supervised(ref.spec()):
        with pytest.raises(AskError, match="counter: it failed: ZeroDivision") as caught:
            await ref.ask("crash")
    assert caught.value.actor == "counter"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_told_messages_survive_a_crash_too(autojump_clock: MockClock) -> None:
    """The one that crashed the actor is gone, those behind it are not."""
    seen: list[str] = []
    ref = counter(seen=seen)
    async with supervised(ref.spec()) as supervisor:
        for message in ("1", "crash", "2", "crash", "3"):
            ref.tell_nowait(message)
        assert await ref.ask("4") == 2
        assert supervisor.children[0].restarts == 2
    assert seen == ["1", "crash", "2", "crash", "3", "4"]


async def test_a_crash_of_an_actor_that_is_not_restarted_answers_those_who_wait(
    autojump_clock: MockClock,
) -> None:
    """A temporary actor's end is final, and whoever asks later is told at once."""
    ref = counter()
    asker = Asker(ref)
    async with trio.open_nursery() as nursery:
        for message in ("crash", "a"):
            nursery.start_soon(asker.ask, message)
            await quiet()
        async with supervised(ref.spec(restart=Restart.TEMPORARY)):
            await quiet()
            assert asker.cause("crash") is Cause.CRASHED
            assert asker.cause("a") is Cause.STOPPED
            with pytest.raises(AskError, match="it ended") as caught:
                await ref.ask("later")
            assert caught.value.cause is Cause.STOPPED


async def test_giving_up_answers_everybody(autojump_clock: MockClock) -> None:
    """When the supervisor gives up, nobody waits on."""
    ref = counter()
    asker = Asker(ref)
    async with trio.open_nursery() as nursery:
        for message in ("crash", "a", "b"):
            nursery.start_soon(asker.ask, message)
            await quiet()
        with pytest.RaisesGroup(GaveUpError):
            async with supervised(ref.spec(), most=0):
                await trio.sleep_forever()
    assert [asker.cause(message) for message in ("crash", "a", "b")] == [
        Cause.CRASHED,
        Cause.STOPPED,
        Cause.STOPPED,
    ]


async def test_an_actor_that_cannot_be_made_is_a_failed_start(autojump_clock: MockClock) -> None:
    """Added while running, it is forgotten, and who asked it already is answered."""

    def make() -> Actor[str, int]:
        raise RuntimeError("no such thing")

    ref: Ref[str, int] = Ref("x", make)
    asker = Asker(ref)
    async with supervised() as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(asker.ask, "a")
        await quiet()
        with pytest.raises(ActorError, match="no such thing"):
            await supervisor.start_child(ref.spec())
    assert asker.cause("a") is Cause.STOPPED


# Stops.


@pytest.mark.parametrize("room", [True, False])
async def test_a_stop_answers_all_who_wait(room: bool, autojump_clock: MockClock) -> None:
    """The one in work, those in the queue, and those who wait for room."""
    ref = later("slow", sleep)
    causes: list[Cause] = []

    async def ask() -> None:
        try:
            await ref.ask("100")
        except AskError as error:
            causes.append(error.cause)

    count = 5 if room else INBOX_BOUND + 5
    async with supervised(ref.spec()) as supervisor, trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(ask)
        await quiet()
        await supervisor.stop_child("slow")
        await quiet()
        assert causes == [Cause.STOPPED] * count
        with pytest.raises(AskError):
            await ref.ask("0")
        with pytest.raises(AskError):
            ref.tell_nowait("0")
        assert trio.current_time() == 0.0


async def test_a_stopped_actor_that_is_started_again_answers(autojump_clock: MockClock) -> None:
    """A ref outlives a stop."""
    ref = counter()
    async with supervised(ref.spec()) as supervisor:
        await ref.ask("a")
        await supervisor.stop_child("counter")
        await supervisor.restart_child("counter")
        assert await ref.ask("b") == 1


async def test_a_siblings_restart_empties_the_queue_first(autojump_clock: MockClock) -> None:
    """Those who wait are answered, and the new incarnation takes new messages."""
    ref = later("slow", sleep)
    bad = counter("bad")
    causes: list[Cause] = []

    async def ask() -> None:
        try:
            await ref.ask("100")
        except AskError as error:
            causes.append(error.cause)

    async with supervised(ref.spec(), bad.spec(), strategy=Strategy.ONE_FOR_ALL):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await quiet()
            bad.tell_nowait("crash")
        assert causes == [Cause.STOPPED] * 2
        assert await ref.ask("0") == "0"


# Deadlocks.


async def test_asking_one_who_waits_for_the_asker_is_an_immediate_error(
    autojump_clock: MockClock,
) -> None:
    """A asks B asks A: B's ask fails at once, and so does its answer to A."""

    async def ask_second(text: str) -> str:
        return await second.ask(text)

    first = later("first", ask_second)
    second = later("second", first.ask)
    async with supervised(first.spec(), second.spec(), most=0):
        with pytest.raises(AskError, match="first: it waits for second") as caught:
            await first.ask("x")
        assert caught.value.cause is Cause.CONFLICT
        assert trio.current_time() == 0.0


@pytest.mark.parametrize("length", [1, 2, 5])
async def test_a_cycle_of_any_length_is_found(length: int, autojump_clock: MockClock) -> None:
    """An actor that asks itself is the shortest one."""
    refs: list[Ref[str, str]] = []

    def make(index: int) -> Ref[str, str]:
        async def ask_next(text: str) -> str:
            return await refs[(index + 1) % length].ask(text)

        return later(str(index), ask_next)

    refs.extend(make(index) for index in range(length))
    async with supervised(*(ref.spec() for ref in refs), most=0):
        with pytest.raises(AskError) as caught:
            await refs[0].ask("x")
        assert caught.value.cause is Cause.CONFLICT


async def test_a_task_that_a_handler_started_makes_no_false_cycle(
    autojump_clock: MockClock,
) -> None:
    """It asks for itself: the actor is free, and answers it."""

    async def background(message: str) -> str:
        if message == "start":
            spawner.start_soon(other.ask, "call back")
            await trio.lowlevel.checkpoint()
        return message

    async def call_back(message: str) -> str:
        answers.append(await ref.ask("hello"))
        return message

    answers: list[str] = []
    ref = later("ref", background)
    other = later("other", call_back)
    async with supervised(ref.spec(), other.spec(), most=0), trio.open_nursery() as spawner:
        assert await ref.ask("start") == "start"
    assert answers == ["hello"]


async def test_two_who_ask_the_same_one_are_no_cycle(autojump_clock: MockClock) -> None:
    """Waiting in a row is not waiting in a circle, nor is asking the same one again."""

    async def twice(message: str) -> str:
        return await last.ask(message) + await last.ask(message)

    last = later("last", sleep)
    first, second = later("first", twice), later("second", twice)
    async with supervised(last.spec(), first.spec(), second.spec(), most=0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.ask, "1")
            nursery.start_soon(second.ask, "1")
        assert trio.current_time() == 4.0


# The bound.


async def fill(ref: Ref[str, str]) -> None:
    """Let the actor work on a slow message, and fill its inbox."""
    ref.tell_nowait("100")
    await quiet()
    for _ in range(INBOX_BOUND):
        ref.tell_nowait("0")


async def test_telling_a_full_inbox_fails_at_once(autojump_clock: MockClock) -> None:
    """The teller is told that it is full, and nothing is dropped silently."""
    ref = later("slow", sleep)
    async with supervised(ref.spec()):
        await fill(ref)
        with pytest.raises(AskError) as caught:
            ref.tell_nowait("0")
        assert caught.value.cause is Cause.FULL


async def test_asking_a_full_inbox_waits_in_order(autojump_clock: MockClock) -> None:
    """Askers get room in the order of asking; one cancelled meanwhile leaves no hole."""
    served: list[str] = []

    async def note(message: str) -> str:
        if message.startswith("ask"):
            served.append(message)
        else:
            await trio.sleep(float(message))
        return message

    ref = later("slow", note)
    async with supervised(ref.spec()):
        await fill(ref)
        async with trio.open_nursery() as nursery:
            for index in range(5):
                scope = trio.CancelScope(deadline=50.0 if index == 2 else math.inf)
                nursery.start_soon(_ask_within, scope, ref, f"ask {index}")
                await quiet()
        assert served == ["ask 0", "ask 1", "ask 3", "ask 4"]


async def _ask_within(scope: trio.CancelScope, ref: Ref[str, str], message: str) -> None:
    with scope:
        await ref.ask(message)


# Interrupts.


def test_a_busy_actor_is_not_interrupted() -> None:
    """Ctrl-C while an actor works reaches the main task; the message itself is finished."""
    finished: list[int] = []

    class Busy:
        def receive(self, message: str) -> str:
            signal.raise_signal(signal.SIGINT)
            finished.append(1)
            return message

    async def main() -> None:
        ref: Ref[str, str] = Ref("busy", Busy)
        async with supervised(ref.spec()):
            ref.tell_nowait("x")
            await trio.sleep_forever()

    with pytest.RaisesGroup(KeyboardInterrupt):
        trio.run(main)
    assert finished == [1]
