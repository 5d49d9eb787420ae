"""Probabilities of a run corrected after training: by a temperature that is fitted on its
validation images (Guo et al., ICML 2017), with a bias of each class or without (Alexandari et al.,
ICML 2020), and for other shares of the classes (Saerens et al., Neural Computation 2002)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import log_softmax

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.core.words import listed

TEMPERATURE, BCTS = "temperature", "bcts"
LOWEST, HIGHEST = 0.05, 20.0  # temperatures
FAR = 0.1  # a gap of more tells that logits stand for another prior
ROUNDED = 1e-6  # how far stated shares may add up to other than 1
RULED_OUT = -1e300  # takes the place of −∞, whose product with a probability of 0 is no number
OF_TEST, UNIFORM = "test", "uniform"
EXAMPLE = "such as 0.7,0.2,0.1 in the order of the classes, or MEL=0.1,NV=0.9"

Prior = str | tuple[float, ...] | Mapping[str, float]  # see ``parse_prior``


@dataclass(frozen=True)
class ValidationFit:
    """Of one run. ``temperature``: NaN where its validation logits allow none. ``gap``: how far
    the mean probability of a class on validation images, at this temperature, is at most from the
    share of the class among them. ``impossible``: validation images without a say, as the run gives
    their own class the probability 0. ``bias`` (C,): what is added to the scaled logits; None:
    nothing."""

    temperature: float
    gap: float
    images: int
    impossible: int = 0
    bias: tuple[float, ...] | None = None

    @property
    def at_bound(self) -> bool:
        return self.temperature in (LOWEST, HIGHEST)

    @property
    def other_prior(self) -> bool:
        """Whether the logits stand for other shares than those of the validation images, so that a
        change from these to new ones does not lead to the probabilities under the new ones."""
        return self.gap > FAR


@dataclass(frozen=True)
class Calibration:
    """What is asked for: ``temperature``, with a ``bias`` of each class or without, a ``prior``, or
    both, the temperature first."""

    temperature: bool = False
    prior: Prior | None = None
    bias: bool = False

    @property
    def method(self) -> str | None:
        """As ``parse_calibration`` takes it."""
        return (BCTS if self.bias else TEMPERATURE) if self.temperature else None

    def fit(self, labels: np.ndarray, logits: np.ndarray) -> ValidationFit:
        """What it asks for, of a run's validation images, (N,) and (N, C)."""
        return fit(labels, logits, self.temperature, self.bias)

    def calibrator(
        self,
        found: ValidationFit,
        classes: Sequence[str],
        counts: Mapping[str, Sequence[int]],
    ) -> Calibrator:
        """Of a run: its fit, and its images of each class (C,) of validation and test. Those of
        test only the prior ``test`` heeds."""
        return Calibrator(self, found, self.shift(classes, counts))

    def shift(
        self, classes: Sequence[str], counts: Mapping[str, Sequence[int]]
    ) -> np.ndarray | None:
        """log(new share / share among validation images) of each class (C,); None for no prior."""
        if self.prior is None:
            return None
        new = shares(self.prior, classes, counts["test"])
        return prior_shift(new, np.array(counts["validation"]), classes)

    @property
    def prior_text(self) -> str | None:
        """As ``parse_prior`` takes it."""
        if isinstance(self.prior, Mapping):
            return ",".join(f"{name}={share:.12g}" for name, share in self.prior.items())
        if isinstance(self.prior, tuple):
            return ",".join(f"{share:.12g}" for share in self.prior)
        return self.prior

    @property
    def words(self) -> list[str]:
        """For a title."""
        words = ["temperature-scaled"] if self.temperature else []
        if self.bias:
            words = ["temperature-scaled with biases"]
        if self.prior is not None:
            named = {OF_TEST: "of the test images", UNIFORM: "uniform"}
            words.append(f"prior {named[self.prior] if isinstance(self.prior, str) else 'stated'}")
        return words


@dataclass(frozen=True)
class Calibrator:
    """What corrects the logits of a run as ``calibration`` asks, by its fit. ``shift`` (C,): log of
    new share / old share of each class; None for the old ones."""

    calibration: Calibration
    fit: ValidationFit
    shift: np.ndarray | None = None

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Logarithms of probabilities (N, C) float64 of logits (N, C)."""
        shift = self.shift
        if self.fit.bias is not None:
            shift = np.array(self.fit.bias) + (0.0 if shift is None else shift)
        return corrected(logits, self.fit.temperature, shift)


def parse_calibration(calibrate: str | None, prior: object) -> Calibration | None:
    """What ``--calibrate`` and ``--prior`` ask for; None for neither. Raises UserError."""
    if calibrate not in (None, TEMPERATURE, BCTS):
        raise unknown("calibration", str(calibrate), [TEMPERATURE, BCTS])
    if calibrate is None and prior is None:
        return None
    new = None if prior is None else parse_prior(prior)
    return Calibration(calibrate is not None, new, calibrate == BCTS)


def parse_prior(given: object) -> Prior:
    """``test``, ``uniform``, shares in the order of the classes, or class → share. A text has
    commas between the shares, or between ``CLASS=SHARE``.

    Raises UserError for what is none of these, or does not add up to 1.
    """
    if isinstance(given, str) and given in (OF_TEST, UNIFORM):
        return given
    try:
        prior = _parsed(given)
        values = np.array(list(prior.values() if isinstance(prior, Mapping) else prior))
    except (TypeError, ValueError):
        raise UserError(
            f"--prior {given}: give {OF_TEST}, {UNIFORM}, or the share of each class, {EXAMPLE} "
            "(in their order where a name has a comma)"
        ) from None
    if not np.isfinite(values).all() or (values < 0).any():
        raise UserError(f"--prior {given}: a share is a number from 0 to 1")
    if abs(values.sum() - 1) > ROUNDED:
        raise UserError(f"--prior {given}: the shares add up to {values.sum():.6g}, not to 1")
    return prior


def _parsed(given: object) -> tuple[float, ...] | dict[str, float]:
    if isinstance(given, Mapping):
        return {str(name): float(share) for name, share in given.items()}
    pieces = given.split(",") if isinstance(given, str) else list(given)  # type: ignore[call-overload]
    if not isinstance(given, str) or "=" not in given:
        return tuple(float(piece) for piece in pieces)
    pairs = [piece.rpartition("=") for piece in pieces]
    if not all(name.strip() for name, _, _ in pairs):
        raise ValueError(given)
    if len({name.strip() for name, _, _ in pairs}) < len(pairs):
        raise UserError(f"--prior {given}: a class is named twice")
    return {name.strip(): float(share) for name, _, share in pairs}


def shares(prior: Prior, classes: Sequence[str], test: Sequence[int]) -> np.ndarray:
    """The share of each class (C,). ``test`` (C,): test images of each.

    Raises UserError where the prior is of other classes.
    """
    if prior == UNIFORM:
        return np.full(len(classes), 1 / len(classes))
    if prior == OF_TEST:
        return np.asarray(test) / max(sum(test), 1)
    if isinstance(prior, Mapping):
        for name in prior:
            if name not in classes:
                raise unknown("class of --prior", name, list(classes))
        if lacking := [name for name in classes if name not in prior]:
            raise UserError(f"--prior: no share of {listed(lacking)}; 0 rules a class out")
        return np.array([prior[name] for name in classes])
    if len(prior) != len(classes):
        raise UserError(
            f"--prior: {len(prior)} shares for {len(classes)} classes ({listed(classes)})"
        )
    return np.array(prior)


def prior_shift(new: np.ndarray, old: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """log(new share / old share) (C,), −∞ for a class that is ruled out. ``old`` (C,): shares, or
    images of each class.

    Raises UserError for a class that had no images and is to have a share.
    """
    unseen = [name for name, was, now in zip(classes, old, new, strict=True) if now > 0 and not was]
    if unseen:
        raise UserError(
            f"--prior: there are no validation images of {listed(unseen)}, so it is not known from "
            "what share its probabilities are to be changed; give it the share 0, or leave --prior "
            "out"
        )
    shift = np.full(len(new), -np.inf)
    seen = new > 0
    shift[seen] = np.log(new[seen]) - np.log(old[seen] / old.sum())
    return shift


def corrected(
    logits: np.ndarray, temperature: float = 1.0, shift: np.ndarray | None = None
) -> np.ndarray:
    """Logarithms of the probabilities softmax(logits / temperature + shift), (N, C) float64.

    NaN for an image whose logits are not finite, or all of whose classes are ruled out.
    """
    scaled = logits.astype(np.float64) / temperature
    if shift is not None:
        scaled += shift
    scaled[~np.isfinite(scaled.max(axis=1))] = np.nan
    found: np.ndarray = log_softmax(scaled, axis=1)
    return found


def fit(
    labels: np.ndarray, logits: np.ndarray, scaled: bool = True, biased: bool = False
) -> ValidationFit:
    """The temperature of a run, from the labels (N,) and logits (N, C) of its validation images; 1
    if it is not to be ``scaled``. ``biased``: with a bias of each class."""
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    possible = ~np.isneginf(own)
    temperature, bias = 1.0, None
    if scaled:
        temperature = fit_temperature(labels[possible], logits[possible])
    if biased:
        temperature, bias = fit_bcts(labels[possible], logits[possible], temperature)
    means = np.exp(corrected(logits, temperature, bias)).mean(axis=0)
    actual = np.bincount(labels, minlength=logits.shape[1]) / max(len(labels), 1)
    gap = float(np.abs(means - actual).max())
    impossible = int((~possible).sum())
    kept = None if bias is None else tuple(map(float, bias))
    return ValidationFit(temperature, gap, len(labels), impossible, kept)


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """The temperature T in [``LOWEST``, ``HIGHEST``] with the least negative log-likelihood of
    labels (N,) under softmax(logits / T), logits (N, C).

    The likelihood is convex in 1/T, and its slope is brought to 0. Where every image is right by
    far the slope never is, and T is ``LOWEST``; where logits say less than nothing, ``HIGHEST``. T
    is 1 where they are equal in all classes, and NaN where they are not finite, or there are none.
    """
    if not len(labels) or not np.isfinite(logits.max(axis=1)).all():
        return float("nan")
    ahead = np.ascontiguousarray(logits.T, dtype=np.float64)  # (C, N): sums over classes are quick
    ahead -= ahead[labels, np.arange(len(labels))].copy()
    np.maximum(ahead, RULED_OUT, out=ahead)  # of the own class, which is 0
    if not ahead.any():
        return 1.0
    below = ahead - ahead.max(axis=0)
    powers = np.empty_like(ahead)

    def slope(log_inverse: float) -> float:
        """Σ over images and classes of probability · ahead, at 1/T = exp(``log_inverse``)."""
        np.multiply(below, np.exp(log_inverse), out=powers)
        np.exp(powers, out=powers)
        totals = powers.sum(axis=0)
        np.multiply(powers, ahead, out=powers)
        return float((powers.sum(axis=0) / totals).mean())

    least, most = -np.log(HIGHEST), -np.log(LOWEST)
    if slope(most) <= 0:
        return LOWEST
    if slope(least) >= 0:
        return HIGHEST
    return float(np.exp(-brentq(slope, least, most, xtol=1e-9, rtol=1e-9)))


def fit_bcts(
    labels: np.ndarray, logits: np.ndarray, start: float = 1.0
) -> tuple[float, np.ndarray]:
    """The temperature T in [``LOWEST``, ``HIGHEST``] and the biases b (C,) with the least negative
    log-likelihood of labels (N,) under softmax(logits / T + b), logits (N, C): bias-corrected
    temperature scaling. ``start``: a temperature to begin with.

    It is convex in (1/T, b). At its least the mean probability of each class is its share among the
    labels, whatever shares the logits stood for: what a change to another prior takes for granted.
    Biases add up to 0; a class without images tells none and has 0. NaN where the temperature is.
    """
    images, classes = logits.shape
    if not images or math.isnan(start):
        return float("nan"), np.full(classes, np.nan)
    counts = np.bincount(labels, minlength=classes)
    seen = counts > 0
    scores = logits.astype(np.float64)
    scores = np.maximum(scores - scores.max(axis=1, keepdims=True), RULED_OUT)
    own = scores[np.arange(images), labels].mean()

    # In units in which the likelihood is about as curved everywhere, which takes fewer steps.
    units = np.append(max(float(scores.clip(-20).std()), 1e-6), np.sqrt(counts[seen] / images))

    def loss(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        """NLL and its gradient, of 1/T and the biases of the classes seen."""
        parameters = scaled / units
        bias = np.zeros(classes)
        bias[seen] = parameters[1:]
        chances = parameters[0] * scores + bias
        top = chances.max(axis=1, keepdims=True)
        chances = np.exp(chances - top)
        totals = chances.sum(axis=1, keepdims=True)
        chances /= totals
        value = float((np.log(totals) + top).mean()) - parameters[0] * own
        slope = float((chances * scores).sum(axis=1).mean()) - own
        apart = chances.mean(axis=0) - counts / images
        return value - float(bias @ counts) / images, np.append(slope, apart[seen]) / units

    bounds = [(units[0] / HIGHEST, units[0] / LOWEST)] + [(None, None)] * int(seen.sum())
    found = minimize(
        loss,
        np.append(units[0] / start, np.zeros(int(seen.sum()))),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-7},
    )
    bias = np.zeros(classes)
    bias[seen] = found.x[1:] / units[1:]
    if seen.all():
        bias -= bias.mean()
    temperature = float(units[0] / found.x[0])
    return min(max(temperature, LOWEST), HIGHEST), bias
