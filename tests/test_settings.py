"""Typed settings: from text to values, and what is said about a wrong one."""

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.errors import UserError
from lmdbench.settings import describe, parse, resolve


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
