"""Typed settings: from text to values, and what is said about a wrong one."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.core.errors import UserError
from lmdbench.core.settings import (
    WHERE_CHANGED,
    Choice,
    LogUniform,
    Times,
    Uniform,
    above,
    at_least,
    at_most,
    below,
    describe,
    draw,
    parse,
    recorded,
    resolve,
)
from lmdbench.training.method import METHODS


@dataclass(frozen=True, kw_only=True)
class Base:
    epochs: int = 100  # passes over the data
    lr: float = 0.1

    def __post_init__(self):
        if self.epochs < 0:
            raise ValueError("epochs must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Settings(Base):
    lr: float = 0.01  # of the head
    mode: Literal["eval", "train"] = "eval"
    power: float | None = None  # none: no power
    soft: bool = False


def test_describe_gives_defaults_and_the_comments_behind_fields():
    settings = describe(Settings)
    assert list(settings) == ["epochs", "lr", "mode", "power", "soft"]
    assert settings["epochs"].help == "passes over the data"
    assert settings["lr"].help == "of the head"
    assert settings["lr"].default == 0.01
    assert settings["mode"].type_name == "one of eval, train"
    assert settings["power"].type_name == "a finite number or none"


def test_a_setting_that_came_later_is_recorded_where_it_is_changed():
    @dataclass(frozen=True)
    class Later:
        decay: Annotated[float, WHERE_CHANGED] = 1.0
        rise: Annotated[float, WHERE_CHANGED] = 0.0
        lr: float = 0.1

    @dataclass(frozen=True)
    class Rising(Later):
        rise: float = 0.5

    assert recorded(Later()) == {"lr": 0.1}
    assert recorded(Later(decay=0.5)) == {"decay": 0.5, "lr": 0.1}
    assert recorded(Rising()) == {"rise": 0.5, "lr": 0.1}
    assert list(describe(Rising)) == ["lr", "decay", "rise"]


def test_later_recipes_win_and_the_user_wins_over_all():
    settings = resolve(
        "m", Settings, [{"epochs": 5, "lr": 1.0}, {"lr": 2.0, "other": 1}], {"epochs": "7"}
    )
    assert (settings.epochs, settings.lr, settings.mode) == (7, 2.0, "eval")


def test_types():
    texts = {"lr": "1e-3", "mode": "train", "power": "none", "soft": "yes", "epochs": "1_000"}
    settings = resolve("m", Settings, [], texts)
    assert settings == Settings(lr=1e-3, mode="train", power=None, soft=True, epochs=1000)
    assert isinstance(resolve("m", Settings, [], {"lr": "1"}).lr, float)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"epoch": "1"}, r"unknown setting of m 'epoch'. Did you mean epochs\?.*mode"),
        ({"epochs": "1.5"}, "m.epochs is '1.5', but wants a whole number"),
        ({"lr": "quick"}, "m.lr is 'quick', but wants a finite number"),
        ({"lr": "nan"}, "wants a finite number"),
        ({"mode": "off"}, "m.mode is 'off', but wants one of eval, train"),
        ({"soft": "perhaps"}, "wants true or false"),
        ({"epochs": "-1"}, "settings of m: epochs must be 0 or more"),
    ],
)
def test_a_wrong_text_is_named_with_what_is_wanted(texts, message):
    with pytest.raises(UserError, match=message):
        resolve("m", Settings, [], texts)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_survive_the_way_through_text(value):
    assert parse("x", float, repr(value)) == value


@given(st.integers())
def test_whole_numbers_survive_the_way_through_text(value):
    assert parse("x", int, str(value)) == value


@dataclass(frozen=True, kw_only=True)
class Searched:
    lr: Annotated[float, LogUniform(1e-3, 1e-1)] = 0.01  # of SGD
    layers: Annotated[int, Uniform(1, 4)] = 2
    mode: Annotated[Literal["a", "b"], Choice("a", "b")] = "a"
    soft: Annotated[bool, Choice(True, False)] = False
    power: Annotated[float | None, Uniform(0, 1)] = None
    weight: Annotated[float, Times(0.1, 10)] = -1e-4
    epochs: int = 3


SEARCHED = [name for name, setting in describe(Searched).items() if setting.range is not None]


def test_a_range_stands_beside_its_setting_and_changes_nothing_else():
    settings = describe(Searched)
    assert (settings["lr"].type, settings["lr"].default) == (float, 0.01)
    assert settings["lr"].help == "of SGD"
    assert settings["power"].type_name == "a finite number or none"
    assert str(settings["lr"].range) == "0.001 to 0.1, log"
    assert str(settings["weight"].range) == "default × 0.1 to 10, log"
    assert str(settings["mode"].range) == "a or b"
    assert settings["epochs"].range is None
    assert resolve("m", Searched, [], {"lr": "0.02", "soft": "yes"}).lr == 0.02


@pytest.mark.parametrize(
    ("name", "share", "text"),
    [
        ("lr", 0.5, "0.01"),  # the middle of two decades
        ("lr", 0.25, "0.00316"),
        ("lr", 0.0, "0.001"),
        ("layers", 0.5, "2"),  # 2.5, to the even one
        ("layers", 0.99, "4"),
        ("mode", 0.49, "a"),
        ("mode", 0.5, "b"),
        ("mode", 1.0, "b"),
        ("power", 0.12345, "0.123"),
        ("weight", 0.5, "-0.0001"),
        ("weight", 0.0, "-1e-05"),
    ],
)
def test_a_share_of_a_range(name, share, text):
    setting = describe(Searched)[name]
    assert draw(setting, share, setting.default) == text


@given(st.sampled_from(SEARCHED), st.floats(0, 1))
def test_draws_stay_in_their_range_and_are_of_the_settings_type(name, share):
    setting = describe(Searched)[name]
    text = draw(setting, share, setting.default)
    value = getattr(resolve("m", Searched, [], {name: text}), name)
    if isinstance(setting.range, Choice):
        assert value in setting.range.values
    else:
        ends = [setting.range.low, setting.range.high]
        if isinstance(setting.range, Times):
            ends = sorted(end * setting.default for end in ends)
        assert ends[0] <= value <= ends[1]
        assert len(text.lstrip("-0.").partition("e")[0].replace(".", "")) <= 3


@given(st.floats(0, 1), st.floats(1e-6, 1e-3))
def test_logarithms_are_uniform(share, low):
    text = draw(describe(Searched)["lr"], share, None)
    assert float(text) == pytest.approx(1e-3 * 100**share, rel=6e-3)
    setting = replace(describe(Searched)["lr"], range=LogUniform(low, 2 * low))
    assert low <= float(draw(setting, share, None)) <= 2 * low


def test_what_is_switched_off_stays_so_under_multiples():
    setting = describe(Searched)["weight"]
    assert float(draw(setting, 0.7, 0.0)) == 0


@pytest.mark.parametrize(
    "made", [lambda: Uniform(1, 1), lambda: LogUniform(0, 1), lambda: Choice(1)]
)
def test_a_range_of_nothing_is_refused(made):
    with pytest.raises(ValueError, match=r"first number|two values"):
        made()


@pytest.mark.parametrize("name", METHODS.names())
@given(share=st.floats(0, 1))
def test_ranges_of_the_methods_lie_inside_their_bounds(name, share):
    settings = describe(METHODS.get(name).Settings)
    ranged = {key: s for key, s in settings.items() if s.range is not None}
    # What these two have is fitted, or chosen on validation by their definition.
    assert ranged or name in ("ncm", "tau-norm"), "each other method has something to search"
    texts = {key: draw(s, share, s.default) for key, s in ranged.items()}
    resolve(name, METHODS.get(name).Settings, [], texts)


def test_what_makes_a_budget_has_no_range():
    budget = ("epochs", "rounds", "batch_size", "head_batch_size", "virtual_per_class")
    for name in METHODS.names():
        settings = describe(METHODS.get(name).Settings)
        assert not [key for key in budget if key in settings and settings[key].range is not None]


@pytest.mark.parametrize(
    ("bound", "words", "within"),
    [
        (at_least, "at least", lambda value, limit: value >= limit),
        (at_most, "at most", lambda value, limit: value <= limit),
        (above, "above", lambda value, limit: value > limit),
        (below, "below", lambda value, limit: value < limit),
    ],
)
@given(value=st.integers(-2, 2), limit=st.integers(-2, 2))
def test_bounds(bound, words, within, value, limit):
    settings = replace(Base(), lr=value)
    if within(value, limit):
        bound(settings, lr=limit)
    else:
        with pytest.raises(ValueError, match=f"^lr is {value}, but must be {words} {limit}$"):
            bound(settings, lr=limit)
