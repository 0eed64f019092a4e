"""Simulated SCPI instruments."""

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.instruments.scpi.frames import ErrorKind, decode_error, decode_float, decode_identity
from actors.instruments.scpi.models import (
    EnvironmentalChamberModel,
    FunctionGeneratorModel,
    MultimeterModel,
    OscilloscopeModel,
    PowerSupplyModel,
    ScpiModel,
    SignalGeneratorModel,
    SourceMeasureModel,
    SpectrometerModel,
    SpectrumAnalyserModel,
    TemperatureControllerModel,
)
from transports.sim import DeviceModel

# How long an example takes says more about the machine than about the claim.
UNHURRIED = settings(deadline=None)

MODELS: tuple[Callable[[], ScpiModel], ...] = (
    PowerSupplyModel,
    MultimeterModel,
    TemperatureControllerModel,
    SignalGeneratorModel,
    OscilloscopeModel,
    SourceMeasureModel,
    FunctionGeneratorModel,
    SpectrumAnalyserModel,
    EnvironmentalChamberModel,
    SpectrometerModel,
)


def ask(model: ScpiModel, message: str, now_s: float = 0.0) -> str:
    """Send one message and return its answer without the terminator, empty for none."""
    replies = model.receive(message.encode("latin-1") + b"\n", now_s)
    return b"".join(reply.data for reply in replies).decode("ascii").removesuffix("\n")


def read(model: ScpiModel, message: str, now_s: float = 0.0) -> float | None:
    """Send one question and return the number it answers."""
    return decode_float(ask(model, message, now_s).encode("ascii"))


def error_of(model: ScpiModel, message: str, now_s: float = 0.0) -> int:
    """Send one message followed by the question how it went; return the error number."""
    return decode_error(ask(model, f"{message};:SYST:ERR?", now_s).encode("ascii")).number


@pytest.mark.parametrize(
    ("message", "number"),
    [
        ("NOPE 1", -113),
        ("VOLTA 1", -113),
        ("MEAS:VOLT 1", -113),
        ("OUTP:PROT:CLE?", -113),
        ("*IDN", -113),
        ("VOLT", -109),
        ("VOLT 1,2", -108),
        ("*RST 1", -108),
        ("MEAS:VOLT? 1", -108),
        ("VOLT abc", -104),
        ("VOLT 1 A", -131),
        ("VOLT 30.001", -222),
        ("VOLT -0.001", -222),
        ("VOLT 1e999", -222),
        ("VOLT? 5", -224),
        ("!", -102),
        ("VOLT?MAX", -102),
        ("VOLT \xff", -101),
        ("*ESE 256", -222),
        ("*ESE 1e999", -222),
        ("OUTP 1e999", -222),
    ],
)
def test_bad_requests_queue_their_error_and_change_nothing(message: str, number: int) -> None:
    """A refused request leaves every setting as it was and names its error once."""
    model = PowerSupplyModel()
    ask(model, "VOLT 5;CURR 2;OUTP 1")
    assert ask(model, message) == ""
    assert [error.number for error in model.errors] == [number]
    assert (model.setpoint_v, model.limit_a, model.output_on) == (5.0, 2.0, True)
    assert decode_error(ask(model, "SYST:ERR?").encode()).number == number
    assert ask(model, "SYST:ERR?") == '+0,"No error"'


def test_a_checked_setting_is_answered_in_the_same_message() -> None:
    """One message carries the write and its answer, whether it went well or not."""
    model = PowerSupplyModel()
    assert ask(model, "VOLT 5.0;:SYST:ERR?") == '+0,"No error"'
    assert ask(model, "VOLT 99.0;:SYST:ERR?") == '-222,"Data out of range"'
    assert ask(model, "BAD:HEADER 1;:SYST:ERR?") == '-113,"Undefined header"'
    assert model.setpoint_v == 5.0


def test_a_full_error_queue_ends_with_overflow() -> None:
    """Twenty errors fit; later ones turn the last into -350 and are lost."""
    model = PowerSupplyModel()
    for _ in range(25):
        ask(model, "NOPE")
    assert ask(model, "SYST:ERR:COUN?") == "20"
    numbers = [decode_error(ask(model, "SYST:ERR?").encode()).number for _ in range(21)]
    assert numbers == [-113] * 19 + [-350, 0]


def test_an_endless_message_is_dropped() -> None:
    """Input is bounded: what is too long is one error, and the next message is read."""
    model = PowerSupplyModel()
    for _ in range(100):
        assert not model.receive(b"VOLT 5;" * 1000, 0.0)
    assert ask(model, "VOLT 5") == ""
    assert [error.number for error in model.errors] == [-363]
    assert model.setpoint_v == 0.0
    assert error_of(model, "*CLS;VOLT 7") == 0
    assert model.setpoint_v == 7.0


@pytest.mark.parametrize("make", MODELS)
@UNHURRIED
@given(data=st.binary(max_size=200))
def test_noise_never_breaks_a_model(make: Callable[[], ScpiModel], data: bytes) -> None:
    """Whatever bytes arrive, the model goes on and still knows its name."""
    model = make()
    model.receive(data + b"\n", 0.0)
    assert ask(model, "*IDN?", 1.0) == model.idn


MESSAGES = st.lists(
    st.sampled_from(
        [
            "*IDN?",
            "*RST",
            "*ESR?;*STB?",
            "SYST:ERR?",
            "VOLT 5.0;:SYST:ERR?",
            "SOUR:VOLT?;CURR?",
            "VOLT 99",
            "READ?;READ?",
            "MEAS:VOLT?",
            "MEAS:TEMP?",
            "INIT;*OPC",
            "FORM REAL,32;:TRAC? TRACE1",
            "WAV:DATA?;PRE?",
            "SING;*STB?",
            "ABOR",
            "TEMP:SPO 300",
            "OUTP 1",
            'FUNC "RES"',
            "nonsense\xff",
            "",
            "X" * 1100,
        ]
    ),
    max_size=8,
)


@pytest.mark.parametrize("make", MODELS)
@UNHURRIED
@given(messages=MESSAGES, data=st.data(), ending=st.sampled_from([b"\n", b"\r\n"]))
def test_any_split_of_the_bytes_gives_the_same_replies(
    make: Callable[[], ScpiModel], messages: Sequence[str], data: st.DataObject, ending: bytes
) -> None:
    """How the bytes arrive makes no difference to what is answered."""
    sent = b"".join(message.encode("latin-1") + ending for message in messages) + b"*ID"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
    whole, split = make(), make()
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    replies = [reply for piece in pieces for reply in split.receive(piece, 2.0)]
    assert replies == list(whole.receive(sent, 2.0))
    assert split.errors == whole.errors
    assert ask(split, "N?", 3.0) == ask(whole, "N?", 3.0) == whole.idn


@pytest.mark.parametrize("make", MODELS)
def test_a_model_is_a_device_with_an_identity(make: Callable[[], ScpiModel]) -> None:
    """Each model fits the line's protocol and answers four fields with its serial number."""
    device: DeviceModel = make()
    (reply,) = device.receive(b"*IDN?\n", 5.0)
    assert reply.data.endswith(b"\n")
    assert decode_identity(reply.data)[2].startswith("SIM-")
    assert "SIM-" in repr(device)


def test_identity_can_be_chosen() -> None:
    """A serial number or a whole identity of one's own is answered as given."""
    assert decode_identity(ask(PowerSupplyModel(serial="MY53"), "*IDN?").encode())[2] == "MY53"
    assert ask(MultimeterModel(idn="A,B,C,D"), "*IDN?") == "A,B,C,D"


@pytest.mark.parametrize(
    "header",
    [
        "VOLT",
        "volt",
        "VOLTage",
        "SOUR:VOLT",
        ":SOURCE:VOLTAGE:LEVEL:IMMEDIATE:AMPLITUDE",
        "source1:volt:ampl",
    ],
)
def test_headers_have_short_and_long_forms(header: str) -> None:
    """Case, long forms, optional nodes and channel 1 are spellings of one header."""
    model = PowerSupplyModel()
    assert error_of(model, f"{header} 4.5 V") == 0
    assert ask(model, f"{header}?") == "+4.50000000E+00"


def test_units_of_a_message_follow_the_path() -> None:
    """After a semicolon the path of the header before holds, a colon goes to the root."""
    model = PowerSupplyModel()
    assert ask(model, "VOLT:PROT 12;PROT?;PROT:TRIP?;:VOLT?") == (
        "+1.20000000E+01;0;+0.00000000E+00"
    )
    assert ask(model, "SOUR:VOLT 3;CURR 1;*WAI;CURR?") == "+1.00000000E+00"
    assert error_of(model, "VOLT:PROT 12;VOLT 4") == -113
    assert error_of(model, "VOLT:PROT 12;:VOLT 4") == 0


def test_numbers_take_units_and_words() -> None:
    """Suffixes scale, MIN and MAX stand for the limits."""
    model = PowerSupplyModel()
    assert error_of(model, "VOLT 2500mV;CURR MAX") == 0
    assert (model.setpoint_v, model.limit_a) == (2.5, 5.0)
    assert ask(model, "VOLT? MAX;VOLT? MIN") == "+3.00000000E+01;+0.00000000E+00"
    meter = MultimeterModel()
    assert error_of(meter, "RES:RANG 2 MOHM") == 0
    assert ask(meter, "RES:RANG?") == "+2.00000000E+06"


def test_several_answers_leave_in_one_line() -> None:
    """The answers of one message are joined by semicolons."""
    model = PowerSupplyModel()
    assert ask(model, "*OPC?;*TST?;OUTP?") == "1;0;0"
    replies = model.receive(b"*OPC?\n*TST?\n", 0.0)
    assert [reply.data for reply in replies] == [b"1\n", b"0\n"]


@pytest.mark.parametrize(
    ("message", "bit"), [("NOPE", 32), ("VOLT 99", 16), ("*OPC", 1), ("Y" * 2000, 8)]
)
def test_events_set_their_bit_until_read(message: str, bit: int) -> None:
    """Errors and completion set the event of their class; reading clears it."""
    model = PowerSupplyModel()
    assert ask(model, "*ESR?;*ESR?") == "128;0"
    ask(model, message)
    assert ask(model, "*ESR?;*ESR?") == f"{bit};0"


def test_the_status_byte_sums_up() -> None:
    """Queued errors, enabled events and the service request show in the status byte."""
    model = PowerSupplyModel()
    ask(model, "*CLS;*ESE 16;*SRE 32")
    assert model.status_byte == 0
    ask(model, "VOLT 99")
    assert ask(model, "*STB?") == str(4 + 32 + 64)
    ask(model, "*CLS")
    assert ask(model, "*STB?;*ESE?;*SRE?") == "0;16;32"


def test_preset_masks_the_device_status() -> None:
    """`STAT:PRES` takes back what the condition registers report, and nothing else."""
    model = PowerSupplyModel()
    ask(model, "*ESE 4;STAT:QUES:ENAB 1;:STAT:OPER:ENAB 2")
    assert ask(model, "STAT:PRES;;:STAT:QUES:ENAB?;:STAT:OPER:ENAB?;*ESE?") == "0;0;4"


def test_reset_command_keeps_the_errors_and_the_masks() -> None:
    """`*RST` restores settings only; `*CLS` clears errors only."""
    model = PowerSupplyModel()
    ask(model, "*ESE 4;VOLT 5;NOPE")
    ask(model, "*RST")
    assert (model.setpoint_v, len(model.errors)) == (0.0, 1)
    assert ask(model, "*ESE?") == "4"


@pytest.mark.parametrize("make", MODELS)
def test_a_power_cycle_forgets_half_a_message(make: Callable[[], ScpiModel]) -> None:
    """After a reset the line starts afresh, with the power-on event and no errors."""
    model = make()
    model.receive(b"NOPE\n*ESE 4\nNOPE;*ID", 1.0)
    model.reset(2.0)
    assert model.errors == ()
    assert ask(model, "*ESR?;*ESE?", 3.0) == "128;0"


@pytest.mark.parametrize("load_ohm", [0.0, -1.0, math.nan])
def test_a_load_is_above_zero(load_ohm: float) -> None:
    """A load the physics cannot be solved for is refused, at once and later."""
    with pytest.raises(ValueError, match="load"):
        PowerSupplyModel(load_ohm=load_ohm)
    model = PowerSupplyModel()
    with pytest.raises(ValueError, match="load"):
        model.load_ohm = load_ohm


def test_the_supply_holds_voltage_until_the_current_limit() -> None:
    """Below the limit the voltage is the one set, above it the current is the limit."""
    model = PowerSupplyModel(load_ohm=10.0)
    ask(model, "VOLT 5;CURR 1")
    assert ask(model, "MEAS:VOLT?") == "+0.00000000E+00"
    ask(model, "OUTP ON")
    assert (model.voltage_v, model.current_a) == (5.0, 0.5)
    assert read(model, "MEAS:POW?") == 2.5
    assert ask(model, "STAT:QUES:COND?") == "0"
    model.load_ohm = 2.0
    assert read(model, "MEAS:VOLT?") == 2.0
    assert read(model, "MEAS:CURR?") == 1.0
    assert ask(model, "STAT:QUES:COND?;:STAT:QUES?;:STAT:QUES?") == "1;1;0"
    model.load_ohm = math.inf
    assert (model.voltage_v, model.current_a) == (5.0, 0.0)


def test_overvoltage_trips_and_stays_tripped() -> None:
    """Above the level the output goes off and stays off until the trip is cleared."""
    model = PowerSupplyModel()
    ask(model, "VOLT 5;VOLT:PROT 6;:STAT:QUES:ENAB 512;:OUTP 1")
    assert model.output_on
    ask(model, "VOLT 7")
    assert (model.output_on, model.tripped, model.voltage_v) == (False, True, 0.0)
    assert ask(model, "OUTP?;:VOLT:PROT:TRIP?;:STAT:QUES:COND?") == "0;1;512"
    assert int(ask(model, "*STB?")) & 8
    assert error_of(model, "OUTP 1") == -221
    assert error_of(model, "VOLT 5;:OUTP:PROT:CLE;:OUTP 1") == 0
    assert (model.output_on, model.voltage_v) == (True, 5.0)


def test_a_limited_current_keeps_the_protection_quiet() -> None:
    """The protection watches the terminals, not the setting; a lost load trips it."""
    model = PowerSupplyModel(load_ohm=1.0)
    ask(model, "VOLT 20;CURR 2;VOLT:PROT 10;:OUTP 1")
    assert (model.output_on, model.voltage_v) == (True, 2.0)
    model.load_ohm = 1000.0
    assert model.tripped


def test_a_power_cycle_switches_the_supply_off() -> None:
    """After a power cycle the output is off, settings are the defaults, no trip is left."""
    model = PowerSupplyModel()
    ask(model, "VOLT 5;VOLT:PROT 3;:OUTP 1")
    model.reset(1.0)
    assert not model.tripped
    assert (model.output_on, model.setpoint_v, model.protection_v) == (False, 0.0, 33.0)


def test_readings_follow_the_signal() -> None:
    """Without noise a reading is the signal in the middle of its integration time."""
    model = MultimeterModel(signal_v=lambda time_s: time_s, noise_ppm=0.0)
    ask(model, "VOLT:NPLC 10")
    (reply,) = model.receive(b"READ?\n", 4.0)
    assert decode_float(reply.data) == pytest.approx(4.1)
    assert reply.delay_s == pytest.approx(0.2)
    assert model.nplc == 10.0


def test_a_busy_meter_answers_in_turn() -> None:
    """Readings asked for while one is under way follow it; answers keep their order."""
    model = MultimeterModel()
    ask(model, "VOLT:NPLC 50")
    delays = [r.delay_s for r in model.receive(b"READ?\n*IDN?\nREAD?;READ?\n", 10.0)]
    assert delays == pytest.approx([1.0, 1.0, 3.0])
    (reply,) = model.receive(b"*OPC?\n", 12.5)
    assert reply.delay_s == pytest.approx(0.5)
    model.reset(12.6)
    (reply,) = model.receive(b"*OPC?\n", 12.6)
    assert reply.delay_s == 0.0


def test_noise_repeats_with_its_seed() -> None:
    """The same seed gives the same readings, another seed others, all near the signal."""

    def readings(seed: int) -> list[float | None]:
        model = MultimeterModel(signal_v=lambda _time_s: 1.0, seed=seed)
        return [read(model, "READ?", float(step)) for step in range(20)]

    assert readings(1) == readings(1)
    assert readings(1) != readings(2)
    assert readings(3) == pytest.approx([1.0] * 20, abs=1e-4)


def test_the_default_signal_is_a_slow_sine() -> None:
    """Without a signal of one's own the meter sees 1 V that swings."""
    model = MultimeterModel(noise_ppm=0.0)
    assert read(model, "MEAS:VOLT?", 0.0) == pytest.approx(1.0, abs=1e-4)
    assert read(model, "MEAS:VOLT?", 15.0) == pytest.approx(1.1, abs=1e-4)


def test_overload_has_a_sign_and_no_value() -> None:
    """Beyond its range the meter answers 9.9E37, which is unavailable."""
    model = MultimeterModel(signal_v=lambda time_s: -2.0 if time_s > 1 else 2.0)
    ask(model, "VOLT:RANG 1")
    assert ask(model, "READ?", 0.0) == "+9.90000000E+37"
    assert ask(model, "READ?", 2.0) == "-9.90000000E+37"
    assert read(model, "FETC?", 2.0) is None
    ask(model, "VOLT:RANG:AUTO 1", 2.0)
    assert read(model, "READ?", 3.0) == pytest.approx(-2.0, rel=1e-4)
    assert read(model, "MEAS:VOLT:DC? 1", 4.0) is None
    assert read(model, "MEAS:VOLT:DC? DEF,0.001", 4.0) == pytest.approx(-2.0, rel=1e-4)


def test_functions_are_chosen_by_name() -> None:
    """FUNC, CONF and MEAS choose what is read; refused arguments choose nothing."""
    model = MultimeterModel(signal_a=lambda _time_s: 0.25, noise_ppm=0.0)
    assert error_of(model, 'FUNC "FOO"') == -224
    assert error_of(model, "FUNC VOLT") == -151
    assert error_of(model, "CONF:CURR:DC 99") == -222
    assert model.function == "VOLT"
    assert error_of(model, "func 'current:dc'") == 0
    assert ask(model, "FUNC?;CONF?") == '"CURR";"CURR +1.00000000E+01"'
    assert read(model, "READ?") == 0.25
    assert read(model, "MEAS:RES?") == 1000.0
    assert model.function == "RES"
    assert error_of(model, "CONF:VOLT:DC 10,0.001;:INIT") == 0
    assert read(model, "FETC?") == pytest.approx(1.0, abs=1e-3)
    assert model.readings == 3


def test_a_meter_without_a_reading_has_none_to_fetch() -> None:
    """FETC? before any reading, and after a power cycle, is not a number."""
    model = MultimeterModel()
    assert ask(model, "FETC?") == "+9.91000000E+37"
    ask(model, "READ?")
    model.reset(1.0)
    assert read(model, "FETC?", 2.0) is None


FULL_STEP = "HEAT:LIM 40;:TEMP:SPO 1200;:OUTP 1"
"""Heat at 40 % for as long as the setpoint is out of reach."""


def step_response_c(time_s: float) -> float:
    """Return the textbook answer of the default plant to 40 % of its heater."""
    return 23.0 + 0.4 * 500.0 / 0.4 * (1.0 - math.exp(-time_s * 0.4 / 50.0))


@settings(UNHURRIED, max_examples=30)
@given(polls=st.lists(st.floats(0.0, 400.0), max_size=30))
def test_step_response_is_the_exponential_however_it_is_polled(polls: Sequence[float]) -> None:
    """The heated plant follows the analytic step within 0.1 %, polled or not."""
    polled, left_alone = TemperatureControllerModel(), TemperatureControllerModel()
    for model in (polled, left_alone):
        ask(model, FULL_STEP, 100.0)
        assert model.power_percent == 40.0
    for time_s in sorted(polls):
        expected_c = step_response_c(time_s)
        assert read(polled, "MEAS:TEMP?", 100.0 + time_s) == pytest.approx(expected_c, rel=1e-3)
    assert polled.temperature_c(500.0) == left_alone.temperature_c(500.0)
    assert left_alone.temperature_c(500.0) == pytest.approx(step_response_c(400.0), rel=1e-9)


@settings(UNHURRIED, max_examples=30)
@given(polls=st.lists(st.floats(0.0, 300.0), max_size=30))
def test_control_does_not_depend_on_polling(polls: Sequence[float]) -> None:
    """Under a ramp and with a derivative term, too, looking changes nothing."""
    polled, left_alone = TemperatureControllerModel(), TemperatureControllerModel()
    for model in (polled, left_alone):
        ask(model, "TEMP:SPO 150;RAMP 60;LCON:DER 0.5;:OUTP 1", 0.03)
    for time_s in sorted(polls):
        ask(polled, "MEAS:TEMP?;POW?", 0.03 + time_s)
    assert polled.temperature_c(301.0) == left_alone.temperature_c(301.0)


@pytest.mark.parametrize("setpoint_c", [60.0, 300.0, 1100.0])
def test_the_loop_reaches_its_setpoint(setpoint_c: float) -> None:
    """With its default constants the loop settles without overshooting by 5 %."""
    model = TemperatureControllerModel()
    ask(model, f"TEMP:SPO {setpoint_c};:OUTP 1", 0.0)
    track = [model.temperature_c(float(second)) for second in range(2000)]
    assert track[-1] == pytest.approx(setpoint_c, abs=0.01)
    assert max(track) < 23.0 + 1.05 * (setpoint_c - 23.0)


def test_without_an_integral_the_loop_droops() -> None:
    """Proportional control alone rests where its output balances the loss."""
    model = TemperatureControllerModel()
    ask(model, "TEMP:SPO 300;LCON:INT 0;:OUTP 1", 0.0)
    balance_c = 23.0 + 277.0 * 25.0 / 26.0
    assert model.temperature_c(500.0) == pytest.approx(balance_c, abs=0.01)


def test_a_day_without_a_question_costs_little() -> None:
    """A loop that has come to rest skips ahead and still answers a later step."""
    model = TemperatureControllerModel()
    ask(model, "TEMP:SPO 300;:OUTP 1", 0.0)
    far_s = 1e9
    assert model.temperature_c(far_s) == pytest.approx(300.0, abs=1e-6)
    ask(model, "TEMP:SPO 100", far_s)
    assert model.temperature_c(far_s + 1.0) < 299.0
    assert model.temperature_c(far_s + 3000.0) == pytest.approx(100.0, abs=0.01)


def test_a_ramp_limits_the_rate() -> None:
    """The working setpoint walks from the temperature at the rate set."""
    model = TemperatureControllerModel()
    ask(model, "TEMP:SPO 83;RAMP 60;:OUTP 1", 0.0)
    assert read(model, "TEMP:SPO:ACT?", 30.05) == pytest.approx(53.0, abs=0.2)
    assert read(model, "MEAS:TEMP?", 30.05) == pytest.approx(53.0, abs=8.0)
    assert ask(model, "STAT:OPER:COND?", 30.05) == "2"
    assert read(model, "TEMP:SPO:ACT?", 61.0) == 83.0
    assert ask(model, "STAT:OPER:COND?", 61.0) == "0"
    assert model.ramp_k_per_min == 60.0


@pytest.mark.parametrize("setpoint", ["1200.5", "-20.5", "500 V"])
def test_the_setpoint_has_a_range(setpoint: str) -> None:
    """A setpoint out of range, or of another unit, leaves the old one."""
    model = TemperatureControllerModel()
    ask(model, "TEMP:SPO 200")
    assert error_of(model, f"SOUR:TEMP:SPO {setpoint}") in {-222, -131}
    assert model.setpoint_c == 200.0


def test_switching_off_stops_the_heat_at_once() -> None:
    """With the output off nothing heats, and the plant cools to the room."""
    model = TemperatureControllerModel()
    ask(model, FULL_STEP, 0.0)
    hot_c = model.temperature_c(60.05)
    assert hot_c > 200.0
    ask(model, "OUTP 0", 60.05)
    assert (model.output_on, model.power_percent) == (False, 0.0)
    expected_c = 23.0 + (hot_c - 23.0) * math.exp(-100.0 / 125.0)
    assert model.temperature_c(160.05) == pytest.approx(expected_c, rel=1e-9)


def test_a_power_cycle_loses_the_settings_and_not_the_heat() -> None:
    """After a power cycle the setpoint is 20, the heater off, and the plant still hot."""
    model = TemperatureControllerModel()
    ask(model, FULL_STEP, 0.0)
    hot_c = model.temperature_c(200.0)
    model.reset(200.0)
    assert (model.setpoint_c, model.output_on) == (20.0, False)
    assert model.temperature_c(200.0) == hot_c
    assert 23.0 < model.temperature_c(260.0) < hot_c


def test_error_classes_agree_with_the_event_bits() -> None:
    """A parameter out of range is an execution error, an unknown header a command error."""
    model = TemperatureControllerModel()
    ask(model, "TEMP:SPO 5000;NOPE")
    assert [error.kind for error in model.errors] == [ErrorKind.EXECUTION, ErrorKind.COMMAND]
