"""Leases among the tasks of one tree."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from actors import (
    CommandError,
    LaneTripped,
    LeaseExpired,
    LeaseGranted,
    LeaseLostError,
    LeasePreempted,
    LeaseQueued,
    LeaseReleased,
    LeaseReprieved,
    LeaseRevoked,
    Reads,
    SafeStateReached,
)
from actors.instruments.scpi import PowerSupply
from benchtree import Cause, Priority, RefusedError, Ticket, Tree, open_tree
from tests.tree.kit import Witness, bench_of, supply
from transports import VirtualClock, install_clock


@asynccontextmanager
async def _tree(*names: str) -> AsyncGenerator[tuple[Tree, Witness]]:
    witness = Witness()
    async with open_tree(bench_of(*(names or ("psu",))), sim=True, observer=witness) as tree:
        yield tree, witness


def _psu(tree: Tree, name: str = "psu") -> PowerSupply:
    return tree.get(name, PowerSupply)


async def _say_if_refused(tree: Tree, name: str = "psu") -> str:
    """Return why a write is refused now to whoever holds no lease, or ""."""
    with pytest.raises(RefusedError) as refused:
        await _psu(tree, name).voltage.set(1.0)
    assert refused.value.cause is Cause.LEASE
    return str(refused.value)


async def test_holder_and_children_command(autojump_clock: MockClock) -> None:
    """Commands of the block and of tasks started in it pass, without naming the lease."""
    async with _tree() as (tree, witness), tree.lease("psu", owner="annealing") as lease:
        await _psu(tree).voltage.set(5.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_psu(tree).voltage.set, 6.0)
        assert await _psu(tree).voltage.get() == 6.0
        assert lease.held
        assert lease.instruments == ("psu",)
    (granted,), (released,) = witness.of(LeaseGranted), witness.of(LeaseReleased)
    assert (granted.token, granted.owner) == (released.token, "annealing")


async def test_others_are_refused(autojump_clock: MockClock) -> None:
    """A foreign command is refused naming instrument, command, holder and how long, unsent."""
    async with _tree() as (tree, _), trio.open_nursery() as nursery:
        await _psu(tree).voltage.set(2.0)
        asked = len(tree.lines["psu"].requests)

        # Started from outside the block: it does not carry the lease.
        start = trio.Event()
        said: list[str] = []

        async def stranger() -> None:
            await start.wait()
            said.append(await _say_if_refused(tree))

        nursery.start_soon(stranger)
        async with tree.lease("psu", owner="annealing", ttl_s=30, priority=5):
            await trio.sleep(12)
            start.set()
            await trio.testing.wait_all_tasks_blocked()
            assert await _psu(tree).voltage.get() == 2.0
        text = (
            "psu: voltage.set: 'annealing' (lease 1, priority 5, for 12 s so far) holds it until "
            "it gives it back or shows no sign of life for 30 s (lease)"
        )
        assert said == [text]
        # Only reads, and no byte of theirs.
        told = [data for _, data in tree.lines["psu"].requests][asked:]
        assert set(told) == {b"VOLT?\n", b"STAT:QUES:COND?;:SYST:ERR?\n"}
        await _psu(tree).voltage.set(1.0)


async def test_explicit_lease(autojump_clock: MockClock) -> None:
    """A task that was started before the block can be given the lease."""
    async with _tree() as (tree, _), trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[object](0)

        async def helper() -> None:
            lease = await receive.receive()
            with pytest.raises(RefusedError, match="annealing"):
                await _psu(tree).voltage.set(3.0)
            with lease.carried():  # type: ignore[attr-defined]  # the channel carries leases
                await _psu(tree).voltage.set(3.0)
            await receive.receive()

        nursery.start_soon(helper)
        async with tree.lease("psu", owner="annealing") as lease:
            await send.send(lease)
            await send.send(None)
            assert await _psu(tree).voltage.get() == 3.0


@pytest.mark.parametrize("reads", ["shared", "exclusive"])
async def test_reads_of_others(reads: Reads, autojump_clock: MockClock) -> None:
    """Reads stay open to all unless asked otherwise."""
    async with _tree() as (tree, _), trio.open_nursery() as nursery:
        answered: list[object] = []

        async def stranger() -> None:
            try:
                answered.append(await _psu(tree).voltage.get())
            except RefusedError as refused:
                answered.append(refused.cause)

        held = trio.Event()
        done = trio.Event()

        async def holder() -> None:
            async with tree.lease("psu", owner="annealing", reads=reads):
                held.set()
                await done.wait()

        nursery.start_soon(holder)
        await held.wait()
        await stranger()
        done.set()
        assert answered == [0.0 if reads == "shared" else Cause.LEASE]


async def test_patterns(autojump_clock: MockClock) -> None:
    """A pattern is all instruments it means; one that means none is an error that says so."""
    async with _tree("mfc1", "mfc2", "psu") as (tree, _):
        async with tree.lease("mfc*", owner="gas") as lease:
            assert lease.instruments == ("mfc1", "mfc2")
        with pytest.raises(KeyError, match=r"no instrument is named 'oven\*'"):
            tree.lease("oven*", owner="gas")
        for wrong in ({"ttl_s": 0.0}, {"grace_s": -1.0}, {"owner": ""}):
            with pytest.raises(ValueError, match=r"ttl_s|grace_s|owner"):
                tree.lease("psu", **{"owner": "gas", **wrong})  # type: ignore[arg-type]  # wrong


async def test_twice_in_one_task(autojump_clock: MockClock) -> None:
    """A task that would wait for itself for ever is told at once."""
    async with _tree() as (tree, _), tree.lease("psu", owner="outer"):
        with pytest.raises(RefusedError, match="'outer'") as refused:
            async with tree.lease("psu", owner="inner"):
                pass
        assert refused.value.cause is Cause.CONFLICT


async def test_without_waiting(autojump_clock: MockClock) -> None:
    """Who does not want to wait is told who holds it, and holds up nobody."""
    async with _tree() as (tree, _), trio.open_nursery() as nursery:
        go = trio.Event()

        async def second() -> None:
            await go.wait()
            with pytest.raises(RefusedError, match="'first'") as refused:
                async with tree.lease("psu", owner="second", priority=9, wait=False):
                    pass
            assert refused.value.cause is Cause.LEASE

        nursery.start_soon(second)
        async with tree.lease("psu", owner="first") as lease:
            go.set()
            await trio.testing.wait_all_tasks_blocked()
            assert lease.held


async def test_waits_its_turn(autojump_clock: MockClock) -> None:
    """The next waits until the lease is given back, and what was set stays as it is."""
    async with _tree() as (tree, witness), trio.open_nursery() as nursery:

        async def first() -> None:
            async with tree.lease("psu", owner="first"):
                await _psu(tree).voltage.set(7.0)
                await trio.sleep(100)

        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        began_s = trio.current_time()
        async with tree.lease("psu", owner="second"):
            assert trio.current_time() - began_s == pytest.approx(100, abs=1)
            assert await _psu(tree).voltage.get() == 7.0
        (queued,) = witness.of(LeaseQueued)
        assert queued.owner == "second"
        assert "'first'" in queued.waits_for
        assert not witness.of(LaneTripped)


async def test_gives_up_waiting(autojump_clock: MockClock) -> None:
    """Who is cancelled while waiting stands in nobody's way."""
    async with _tree() as (tree, _), trio.open_nursery() as nursery:
        done = trio.Event()

        async def first() -> None:
            async with tree.lease("psu", owner="first"):
                await done.wait()

        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(5) as patience:
            async with tree.lease("psu", owner="second"):
                pass
        assert patience.cancelled_caught
        done.set()
        async with tree.lease("psu", owner="third"):
            pass


async def test_graceful_preemption(autojump_clock: MockClock) -> None:
    """The holder is told, reaches its safe point within the grace, and nothing is tripped."""
    async with _tree() as (tree, witness), trio.open_nursery() as nursery:

        async def annealing() -> None:
            async with tree.lease("psu", owner="annealing", priority=1, grace_s=20) as lease:
                await _psu(tree).output.set(True, confirm=True)
                await lease.preempted.wait()
                assert lease.remaining_s == pytest.approx(20)
                await trio.sleep(15)
                await _psu(tree).output.set(False)

        nursery.start_soon(annealing)
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1)
        began_s = trio.current_time()
        async with tree.lease("psu", owner="calibration", priority=5):
            assert trio.current_time() - began_s == pytest.approx(15, abs=0.5)
            assert not supply(tree, "psu").output_on
            await _psu(tree).voltage.set(1.0)
        (told,) = witness.of(LeasePreempted)
        assert told.grace_s == 20
        assert "'calibration'" in told.by
        assert not witness.of(LaneTripped)
        assert not witness.of(LeaseRevoked)


async def test_preemption_without_answer(autojump_clock: MockClock) -> None:
    """After its grace the holder is cut off, all of it is driven safe, and the next goes on."""
    async with _tree("psu", "oven") as (tree, witness), trio.open_nursery() as nursery:
        raised: list[LeaseLostError] = []

        async def annealing() -> None:
            with pytest.raises(LeaseLostError, match="preempted by 'calibration'") as lost:
                async with tree.lease("psu", "oven", owner="annealing", grace_s=20):
                    for name in ("psu", "oven"):
                        await _psu(tree, name).output.set(True, confirm=True)
                    await trio.sleep_forever()
            raised.append(lost.value)

        nursery.start_soon(annealing)
        await trio.sleep(1)
        began_s = trio.current_time()
        async with tree.lease("psu", owner="calibration", priority=5):
            assert trio.current_time() - began_s == pytest.approx(20, abs=1)
            assert not supply(tree, "psu").output_on
            assert not supply(tree, "oven").output_on
            await _psu(tree).voltage.set(1.0)
        assert raised[0].instruments == ("oven", "psu")
        assert [each.owner for each in witness.of(LeaseRevoked)] == ["annealing"]
        assert {each.instrument for each in witness.of(SafeStateReached)} == {"psu", "oven"}


async def test_reprieve(autojump_clock: MockClock) -> None:
    """When who preempted it waits no more, a lease goes on; the next one preempts it anew."""
    async with _tree() as (tree, witness), trio.open_nursery() as nursery:
        told: list[float] = []

        async def annealing() -> None:
            with pytest.raises(LeaseLostError, match="'third'"):
                async with tree.lease("psu", owner="annealing", grace_s=20) as lease:
                    for _ in range(2):
                        await lease.preempted.wait()
                        told.append(trio.current_time())
                        await trio.sleep(15)
                        assert (lease.remaining_s > 20) is (len(told) == 1)
                    await trio.sleep_forever()

        nursery.start_soon(annealing)
        await trio.sleep(1)
        with trio.move_on_after(10):
            async with tree.lease("psu", owner="second", priority=5):
                pass
        await trio.sleep(100)
        async with tree.lease("psu", owner="third", priority=5):
            pass
        assert len(told) == 2
        assert [each.owner for each in witness.of(LeaseReprieved)] == ["annealing"]


async def test_stale_holder_is_fenced(autojump_clock: MockClock) -> None:
    """Of two tasks, the one whose lease expired is refused, whatever it believes."""
    async with _tree() as (tree, witness), trio.open_nursery() as nursery:
        said: list[str] = []

        async def stale() -> None:
            with pytest.raises(LeaseLostError, match="no sign of life for 5 s"):
                async with tree.lease("psu", owner="stale", ttl_s=5, heartbeat=False) as lease:
                    await _psu(tree).output.set(True, confirm=True)
                    await trio.sleep(4)
                    lease.renew()
                    await trio.sleep(4)
                    await _psu(tree).voltage.set(2.0)
                    # It hangs where it cannot be cancelled, and wakes up too late.
                    with trio.CancelScope(shield=True):
                        await trio.sleep(60)
                        assert not lease.held
                        for _ in range(2):
                            with pytest.raises(RefusedError) as refused:
                                await _psu(tree).voltage.set(30.0)
                            assert refused.value.cause is Cause.LEASE
                            said.append(str(refused.value))
                            await trio.sleep(60)
                        with pytest.raises(LeaseLostError):
                            lease.renew()
                    await trio.lowlevel.checkpoint()

        nursery.start_soon(stale)
        await trio.sleep(1)
        began_s = trio.current_time()
        async with tree.lease("psu", owner="next"):
            # Eight seconds after the last sign of life but one.
            assert trio.current_time() - began_s == pytest.approx(8, abs=0.5)
            assert not supply(tree, "psu").output_on
            await _psu(tree).voltage.set(3.0)
            await trio.sleep(100)
        await trio.sleep(100)
        assert await _psu(tree).voltage.get() == 3.0
        assert [each.owner for each in witness.of(LeaseExpired)] == ["stale"]
        assert all("lease 1 of 'stale' was lost" in each for each in said)
        assert len(said) == 2


async def test_queued_command_is_fenced_at_dispatch(autojump_clock: MockClock) -> None:
    """A command accepted under a lease does not reach the wire once that is lost."""
    async with _tree() as (tree, _):
        line = tree.lines["psu"]
        tickets: list[Ticket[None]] = []
        with pytest.raises(LeaseLostError):
            async with tree.lease("psu", owner="annealing"):
                await _psu(tree).voltage.set(1.0)
                line.latency_s = 0.2
                await _psu(tree).submit(PowerSupply.current)
                tickets += [await _psu(tree).voltage.submit(9.0 + each) for each in range(3)]
                assert tree.revoke_lease("psu", "the operator")
                await trio.lowlevel.checkpoint()
        outcomes = [await each.outcome() for each in tickets]
        assert all(each.cause in (Cause.LEASE, Cause.TRIPPED) for each in outcomes)
        assert not any(b"VOLT 9" in data or b"VOLT 1" in data[5:] for _, data in line.requests)
        assert all(ticket.attempts == 0 for ticket in tickets)


async def test_left_in_the_queue(autojump_clock: MockClock) -> None:
    """What a holder left in the queue when it gave its lease back is not the next one's doing."""
    async with _tree() as (tree, _):
        await _psu(tree).voltage.set(1.0)
        async with tree.lease("psu", owner="first"):
            tree.lines["psu"].latency_s = 0.5
            reading = await _psu(tree).submit(PowerSupply.current)
            await trio.testing.wait_all_tasks_blocked()
            left = await _psu(tree).voltage.submit(9.0)
        async with tree.lease("psu", owner="second"):
            assert (await reading.outcome()).ok
            outcome = await left.outcome()
            assert outcome.cause is Cause.LEASE
            assert "'second'" in str(outcome.error)
            assert await _psu(tree).voltage.get() == 1.0


async def test_heartbeat(autojump_clock: MockClock) -> None:
    """A lease with a heartbeat lasts as long as its block, however long that waits."""
    async with _tree() as (tree, witness), tree.lease("psu", owner="annealing", ttl_s=5):
        await trio.sleep(3600)
        await _psu(tree).voltage.set(5.0)
    assert not witness.of(LeaseExpired)


class SleepyClock(VirtualClock):
    """A virtual clock of a machine that can sleep.

    Attributes:
        slept_s: How long it has slept.
    """

    slept_s = 0.0

    def boot_s(self) -> float:
        """Return the time with sleep."""
        return super().boot_s() + self.slept_s


async def test_machine_that_sleeps(autojump_clock: MockClock) -> None:
    """A holder that sleeps with its machine wakes up without its lease, heartbeat or not."""
    clock = SleepyClock()
    install_clock(clock)
    async with _tree() as (tree, witness):
        with pytest.raises(LeaseLostError, match="no sign of life for 30 s"):
            async with tree.lease("psu", owner="annealing", ttl_s=30) as lease:
                await _psu(tree).voltage.set(5.0)
                clock.slept_s = 29.0
                await _psu(tree).voltage.set(6.0)
                clock.slept_s = 100.0
                # Nothing has noticed yet, and no time has passed since.
                assert not lease.held
                with pytest.raises(LeaseLostError, match="no sign of life for 30 s"):
                    lease.renew()
                await _psu(tree).voltage.set(30.0)
        assert await _psu(tree).voltage.get() == 6.0
        assert len(witness.of(LeaseExpired)) == 1


async def test_wall_clock_that_is_set(autojump_clock: MockClock) -> None:
    """Setting the wall clock, forward or back, ends and extends no lease."""
    clock = VirtualClock()
    install_clock(clock)
    async with _tree() as (tree, witness), tree.lease("psu", owner="a", heartbeat=False):
        for by_s in (86_400, -200_000):
            clock.utc_offset_ns += by_s * 10**9
            await trio.sleep(10)
            await _psu(tree).voltage.set(5.0)
    assert not witness.of(LeaseExpired)


async def test_failed_holder(autojump_clock: MockClock) -> None:
    """A holder that fails has lost control: its instruments are driven safe, and usable again."""
    async with _tree("psu", "oven") as (tree, witness):
        await _psu(tree, "oven").output.set(True, confirm=True)
        with pytest.raises(ZeroDivisionError):
            async with tree.lease("psu", owner="annealing"):
                await _psu(tree).output.set(True, confirm=True)
                raise ZeroDivisionError
        assert not supply(tree, "psu").output_on
        assert supply(tree, "oven").output_on
        (revoked,) = witness.of(LeaseRevoked)
        assert "ZeroDivisionError" in revoked.reason
        await _psu(tree).output.set(True, confirm=True)


async def test_cancelled_holder(autojump_clock: MockClock) -> None:
    """A holder that is cancelled leaves its instruments safe, and the cancellation goes on."""
    async with _tree() as (tree, _):
        with trio.move_on_after(5) as patience:
            async with tree.lease("psu", owner="annealing"):
                await _psu(tree).output.set(True, confirm=True)
                await trio.sleep_forever()
        assert patience.cancelled_caught
        assert not supply(tree, "psu").output_on


async def test_unreachable_after_loss(autojump_clock: MockClock) -> None:
    """What cannot be driven safe stays tripped and owed; the next lease is granted all the same."""
    async with _tree() as (tree, _):
        line = tree.lines["psu"]
        with pytest.raises(LeaseLostError):
            async with tree.lease("psu", owner="annealing"):
                await _psu(tree).output.set(True, confirm=True)
                line.unplug()
                tree.revoke_lease("psu", "the operator")
                await trio.sleep_forever()
        async with tree.lease("psu", owner="next"):
            with pytest.raises(CommandError) as refused:
                await _psu(tree).voltage.set(1.0)
            assert refused.value.cause in (Cause.TRIPPED, Cause.BREAKER)
            line.replug()
            await trio.sleep(200)
            assert not supply(tree, "psu").output_on
            tree.rearm("psu")
            await _psu(tree).voltage.set(1.0)


async def test_emergency_needs_no_lease(autojump_clock: MockClock) -> None:
    """Emergencies and safe states pass whoever holds the instrument."""
    async with _tree() as (tree, _), trio.open_nursery() as nursery:
        done = trio.Event()

        async def holder() -> None:
            async with tree.lease("psu", owner="annealing", reads="exclusive"):
                await _psu(tree).output.set(True, confirm=True)
                await done.wait()

        nursery.start_soon(holder)
        await trio.sleep(1)
        await _psu(tree).output.set(False, priority=Priority.EMERGENCY)
        assert not supply(tree, "psu").output_on
        assert (await tree.trip("psu", "the operator")).error is None
        done.set()


async def test_tripped_during_the_grace(autojump_clock: MockClock) -> None:
    """An operator's trip during the grace outlives the lease, and the next one, until rearmed."""
    async with _tree() as (tree, witness), trio.open_nursery() as nursery:

        async def anneal() -> None:
            with pytest.raises(LeaseLostError):
                async with tree.lease("psu", owner="annealing", grace_s=5.0) as lease:
                    await _psu(tree).output.set(True, confirm=True)
                    await lease.preempted.wait()
                    assert (await tree.trip("psu", "the operator")).error is None
                    with pytest.raises(RefusedError) as refused:
                        await _psu(tree).voltage.set(1.0)
                    assert refused.value.cause is Cause.TRIPPED
                    await trio.sleep_forever()

        nursery.start_soon(anneal)
        await trio.sleep(1)
        async with tree.lease("psu", owner="calibration", priority=5):
            assert trio.current_time() == pytest.approx(6.0, abs=0.5)
            with pytest.raises(RefusedError, match="the operator") as refused:
                await _psu(tree).voltage.set(1.0)
            assert refused.value.cause is Cause.TRIPPED
            assert not supply(tree, "psu").output_on
            tree.rearm("psu")
            await _psu(tree).voltage.set(1.0)
        assert len(witness.of(LaneTripped)) == 1


async def test_tripped_while_it_settles(autojump_clock: MockClock) -> None:
    """An operator's trip while a lost lease settles is not rearmed with it."""
    async with _tree() as (tree, witness), trio.open_nursery() as nursery:

        async def anneal() -> None:
            with pytest.raises(LeaseLostError):
                async with tree.lease("psu", owner="annealing"):
                    await _psu(tree).output.set(True, confirm=True)
                    tree.lines["psu"].latency_s = 0.3
                    tree.revoke_lease("psu", "a test")
                    await trio.sleep_forever()

        nursery.start_soon(anneal)
        await trio.sleep(0.1)
        assert witness.of(LeaseRevoked)
        assert not witness.of(SafeStateReached)
        assert (await tree.trip("psu", "the operator")).error is None
        tree.lines["psu"].latency_s = 0.0
        async with tree.lease("psu", owner="next"):
            with pytest.raises(RefusedError, match="the operator") as refused:
                await _psu(tree).voltage.set(1.0)
            assert refused.value.cause is Cause.TRIPPED
            assert not supply(tree, "psu").output_on
            tree.rearm("psu")
            await _psu(tree).voltage.set(1.0)
        assert len(witness.of(LaneTripped)) == 1


async def test_actor_waits_for_its_turn_again(autojump_clock: MockClock) -> None:
    """A supervised task whose lease was taken away is restarted, and waits in turn."""
    begun: list[float] = []

    async def annealing(tree: Tree) -> None:
        async with tree.lease("psu", owner="annealing", grace_s=1):
            begun.append(trio.current_time())
            await trio.sleep_forever()

    async with _tree() as (tree, _):
        await tree.start("annealing", annealing)
        await trio.sleep(1)
        async with tree.lease("psu", owner="calibration", priority=5):
            await trio.sleep(50)
        await trio.sleep(1)
        assert len(begun) == 2
        assert begun[1] - begun[0] > 50


async def test_removed_instrument(autojump_clock: MockClock) -> None:
    """Removing a leased instrument ends nothing else."""
    async with _tree("psu", "oven") as (tree, _):
        with pytest.raises(ZeroDivisionError):
            async with tree.lease("psu", "oven", owner="annealing"):
                await tree.remove("psu")
                await _psu(tree, "oven").output.set(True, confirm=True)
                raise ZeroDivisionError
        assert not supply(tree, "oven").output_on
