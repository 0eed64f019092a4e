"""Simulated EZ-ZONE controllers."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.instruments.watlow import ENTRIES, ControllerModel, Kind, ModbusModel, StandardBusModel
from actors.instruments.watlow.modbus import frames as modbus
from actors.instruments.watlow.models import Refusal, RefusalError
from actors.instruments.watlow.standard_bus import frames as standard
from transports.sim import DeviceModel, SimReply

AUTO = 10
MANUAL = 54
OPEN = 65


def read_f(controller: ControllerModel, number: int, now_s: float, instance: int = 1) -> float:
    """Return a number that a controller holds at an instant."""
    controller.advance(now_s)
    value = controller.read(number, instance)
    assert not isinstance(value, str)
    return value


def heated(*instants_s: float) -> ControllerModel:
    """Return a controller that was switched on at 0 and looked at in these instants."""
    controller = ControllerModel(1)
    controller.advance(0.0)
    controller.write(7001, 1, 400.0)
    controller.write(8001, 1, AUTO)
    for now_s in instants_s:
        controller.advance(now_s)
    return controller


def standard_request(number: int, value: float | None = None, address: int = 1) -> bytes:
    """Return a Standard Bus request for the first instance."""
    kind = ENTRIES[number].kind if number in ENTRIES else Kind.FLOAT
    return standard.encode_request(standard.Request(address, number, 1, value), kind)


def one(replies: Sequence[SimReply]) -> SimReply:
    """Return the one reply there is."""
    (reply,) = replies
    return reply


def test_it_settles_at_the_set_point() -> None:
    """In automatic mode the temperature comes to the set point and stays there."""
    controller = heated()
    assert read_f(controller, 4001, 3600.0) == pytest.approx(400.0, abs=0.1)
    assert 0.0 < read_f(controller, 8011, 3600.0) < 100.0


@given(st.lists(st.floats(0.0, 300.0), max_size=8).map(sorted))
@example([2.0])
@settings(max_examples=25, deadline=None)
def test_being_asked_changes_nothing(instants_s: list[float]) -> None:
    """The temperature does not depend on when, or how often, it was asked for."""
    asked = heated(*instants_s)
    assert read_f(asked, 4001, 300.0) == pytest.approx(read_f(heated(), 4001, 300.0), abs=1e-6)


def test_long_silence_is_cheap() -> None:
    """A line that nobody used for a year goes on at once, with its loops where they belong."""
    controller = heated(3600.0)
    settled_f = read_f(controller, 4001, 20_000.0)
    assert read_f(controller, 4001, 365.25 * 86_400) == pytest.approx(settled_f, abs=1e-6)
    controller.write(8001, 1, 62)
    assert read_f(controller, 4001, 2 * 365.25 * 86_400) == pytest.approx(73.4, abs=1e-6)


def test_modes_and_algorithms() -> None:
    """Off heats nothing, manual what it was told, on/off all or nothing."""
    controller = heated(60.0)
    controller.write(8001, 1, 62)
    assert read_f(controller, 8011, 61.0) == 0.0
    controller.write(8001, 1, MANUAL)
    controller.write(7002, 1, 30.0)
    assert read_f(controller, 8011, 62.0) == 30.0
    controller.write(8001, 1, AUTO)
    controller.write(8003, 1, 64)
    assert read_f(controller, 8011, 63.0) == 100.0
    controller.write(7001, 1, 50.0)
    assert read_f(controller, 8011, 64.0) == 0.0


def test_a_loop_without_its_input_does_not_heat() -> None:
    """With an open input the loop is off and the process value means nothing."""
    controller = heated(60.0)
    controller.loops[0].input_error = OPEN
    assert read_f(controller, 8011, 61.0) == 0.0
    assert (controller.read(8001, 1), controller.read(8002, 1)) == (AUTO, 62)
    assert controller.read(4002, 1) == OPEN
    assert controller.read(9009, 1) == 28


def test_alarms() -> None:
    """The alarm says on which side of its set points the process is."""
    controller = ControllerModel(1)
    assert controller.read(9009, 3) == 61
    controller.write(9001, 3, 40.0)
    assert controller.read(9009, 3) == 7
    controller.write(9001, 3, 400.0)
    controller.write(9002, 3, 200.0)
    assert (controller.read(9009, 3), controller.read(9009, 1)) == (8, 61)


@pytest.mark.parametrize(
    ("number", "instance", "why"),
    [
        (99001, 1, Refusal.NO_OBJECT),
        (4099, 1, Refusal.NO_ATTRIBUTE),
        (4001, 3, Refusal.NO_INSTANCE),
        (1007, 2, Refusal.NO_INSTANCE),
    ],
)
def test_what_is_not_there(number: int, instance: int, why: Refusal) -> None:
    """Reading or writing what does not exist is refused, and with the right reason."""
    controller = ControllerModel(1)
    with pytest.raises(RefusalError) as refused:
        controller.read(number, instance)
    assert refused.value.why is why
    with pytest.raises(RefusalError) as refused:
        controller.write(number, instance, 1.0)
    assert refused.value.why is why


def test_what_is_only_read() -> None:
    """Measured values cannot be written, and no write of the memory is counted."""
    controller = ControllerModel(1)
    with pytest.raises(RefusalError) as refused:
        controller.write(4001, 1, 100.0)
    assert refused.value.why is Refusal.READ_ONLY
    assert controller.eeprom_writes == 0


def test_values_out_of_range() -> None:
    """Numbers are clamped, unknown codes and texts ignored."""
    controller = ControllerModel(1)
    controller.set_point_high_f = 300.0
    controller.write(7001, 1, 400.0)
    controller.write(8001, 1, 999)
    controller.write(7002, 1, "text")
    assert [controller.read(number, 1) for number in (7001, 8001, 7002)] == [300.0, 62, 0.0]


def test_settings_outlive_the_power() -> None:
    """Settings are kept, half a request is lost, and the body goes on cooling."""
    model = StandardBusModel()
    request = standard_request(7001, 250.0)
    model.receive(request, 0.0)
    model.receive(request[:9], 1.0)
    model.reset(1.0)
    assert model.receive(request[9:], 1.0) == []
    assert model.controllers[1].read(7001, 1) == 250.0


@pytest.mark.parametrize("model", [StandardBusModel([1, 2]), ModbusModel([1, 2])])
def test_half_a_request_does_not_spoil_the_next(model: DeviceModel) -> None:
    """What a killed program left is forgotten after silence."""
    request = (
        standard_request(1007, address=2)
        if isinstance(model, StandardBusModel)
        else modbus.encode_request(modbus.ReadRequest(2, 12, 2))
    )
    assert model.receive(request[:5], 0.0) == []
    assert one(model.receive(request, 1.0)).unit == "2"


def test_damaged_requests_are_ignored() -> None:
    """A request that fails its check, or asks nobody there, is answered by nobody."""
    bus = StandardBusModel()
    request = bytearray(standard_request(4001))
    request[-1] ^= 1
    assert bus.receive(bytes(request), 0.0) == []
    request[4] ^= 1  # the header as well: the good request behind it is still found
    found = one(bus.receive(bytes(request) + standard_request(1007), 1.0))
    assert isinstance(standard.decode_reply(found.data), standard.ValueReply)
    assert bus.receive(standard_request(4001, address=7), 2.0) == []
    line = ModbusModel()
    damaged = bytearray(modbus.encode_request(modbus.ReadRequest(1, 360, 2)))
    damaged[3] ^= 1
    assert line.receive(bytes(damaged), 0.0) == []
    assert line.receive(modbus.encode_request(modbus.ReadRequest(9, 360, 2)), 1.0) == []


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_anything_may_be_sent(pieces: list[bytes]) -> None:
    """No bytes make a model fail."""
    for model in (StandardBusModel(), ModbusModel()):
        for index, piece in enumerate(pieces):
            model.receive(piece, 0.01 * index)


def test_a_standard_bus_transcript() -> None:
    """A write is answered with its value; reads name what they read; refusals say why."""
    bus = StandardBusModel([ControllerModel(1, loops=1)])

    def ask(request: bytes) -> str:
        return one(bus.receive(request, 0.0)).data[8:-2].hex(" ").upper()

    assert ask(standard_request(7001, 250.0)) == "02 04 07 01 01 08 43 7A 00 00"
    assert ask(standard_request(7001)) == "02 03 01 07 01 01 08 43 7A 00 00"
    assert ask(standard_request(8003)) == "02 03 01 08 03 01 0F 01 00 47"
    assert ask(standard_request(4099)) == "02 83"
    assert ask(standard_request(99001)) == "02 81"
    second = standard.Request(1, 7001, 2)
    assert ask(standard.encode_request(second, Kind.FLOAT)) == "02 84"
    assert ask(standard_request(4001, 1.0)) == "02 80"


def test_modbus_registers() -> None:
    """Blocks may span parameters and begin within one; a hole in them is refused."""
    line = ModbusModel([ControllerModel(1, loops=1)])

    def ask(request: modbus.Request) -> modbus.Reply:
        return modbus.decode_reply(one(line.receive(modbus.encode_request(request), 0.0)).data)

    whole = ask(modbus.ReadRequest(1, 1880, 6))
    assert whole == modbus.ReadReply(1, (62, 0, 62, 0, 71, 0))
    assert ask(modbus.ReadRequest(1, 1881, 3)) == modbus.ReadReply(1, (0, 62, 0))
    refused = modbus.ErrorReply(1, modbus.READ, modbus.ILLEGAL_ADDRESS)
    assert ask(modbus.ReadRequest(1, 1880, 20)) == refused
    assert ask(modbus.ReadRequest(1, 1880 + 70, 2)) == refused
    for register, content in ((360, (0, 0)), (1880, (10,)), (5, (0, 0))):
        refusal = ask(modbus.WriteRequest(1, register, content))
        assert refusal == modbus.ErrorReply(1, modbus.WRITE, modbus.ILLEGAL_ADDRESS)


def test_modbus_units() -> None:
    """Temperatures travel in the units of the display."""
    line = ModbusModel()
    controller = line.controllers[1]

    def write_set_point(value: float) -> None:
        request = modbus.WriteRequest(1, 2160, modbus.words_of_float(value))
        line.receive(modbus.encode_request(request), 0.0)

    write_set_point(100.0)
    assert controller.read(7001, 1) == pytest.approx(212.0)
    controller.write(3005, 1, 30)
    write_set_point(100.0)
    assert controller.read(7001, 1) == 100.0
