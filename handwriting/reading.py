"""What is known of a digit, and of a picture, from the paper to the plot."""

import dataclasses
import itertools
import math

import numpy as np

UNSURE = 0.6  # A confidence below this is marked.


def percent(confidence):
    """Write a confidence from 0 to 1 so that it never looks like certainty: at most "99.9%"."""
    return f"{min(999, math.floor(1000 * confidence)) / 10:.1f}%"


@dataclasses.dataclass(eq=False, repr=False)
class Digit:
    """All that is known of a digit, from the paper to the plot.

    Attributes:
        image: uint8 array of shape `(28, 28)`, ink bright on dark, as MNIST's: what a network sees.
        left, top, width, height: its box in pixels of the upright picture; `None` for a digit of
            MNIST's, which has no picture.
        line: the line of writing that it stands on, 0 for the first.
        original: the class that it really is, 0 to 9, or `None` where that is not known.
        probabilities: floats of shape `(10,)`, one for each class, as a network predicts them;
            `None` before that; the properties need them.
    """

    image: np.ndarray
    left: int | None = None
    top: int | None = None
    width: int | None = None
    height: int | None = None
    line: int = 0
    original: int | None = None
    probabilities: np.ndarray | None = None

    @property
    def predicted(self):
        """The most probable class, 0 to 9."""
        return int(self.probabilities.argmax())

    @property
    def confidence(self):
        """The probability of the predicted class, 0 to 1."""
        return float(self.probabilities.max())

    @property
    def is_unsure(self):
        """Whether the network is not confident."""
        return self.confidence < UNSURE

    @property
    def is_wrong(self):
        """Whether another class is known to be the true one."""
        return self.original is not None and self.predicted != self.original

    @property
    def mark(self):
        """A ✗ for a wrong prediction, a ? for an unsure one, else nothing."""
        return "✗" if self.is_wrong else "?" if self.is_unsure else ""

    def __str__(self):
        """Say what is known, in one line."""
        known = [] if self.original is None else [f"original {self.original}"]
        if self.probabilities is not None:
            known.append(f"predicted {self.predicted} ({percent(self.confidence)} sure)")
        if self.left is not None:
            box = f"{self.width} x {self.height} pixels at ({self.left}, {self.top})"
            known.append(f"{box}, line {self.line}")
        return ", ".join(known) or "not read yet"

    def __repr__(self):
        """Say so in lists, too."""
        return f"<Digit: {self}>"


@dataclasses.dataclass(eq=False)
class Reading:
    """What was found in one picture.

    Attributes:
        path: the path of the picture, as it was given; `test/1234` for one of MNIST's test digits.
        digits: list of `Digit`, in reading order; empty where no digit was found.
        thumbnail: uint8 array of shape `(height, width, 3)`, RGB: the upright picture, at most 800
            pixels wide and high; `None` for a test digit.
        scale: how many pixels of the thumbnail there are to one of the picture.
        outline: int array of shape `(n, 2)`, x and y in pixels of the picture: the outline of the
            page, or `None` where the page fills the picture.
        note: a sentence about what was left out, or `None`.
    """

    path: str
    digits: list
    thumbnail: np.ndarray | None = None
    scale: float = 1.0
    outline: np.ndarray | None = None
    note: str | None = None

    @property
    def lines(self):
        """The digits of each line of writing, a list of lists."""
        lines = itertools.groupby(self.digits, key=lambda digit: digit.line)
        return [list(digits) for _, digits in lines]

    @property
    def number(self):
        """The predicted classes in reading order, with a space between lines: `"561247 31"`."""
        return " ".join("".join(str(digit.predicted) for digit in line) for line in self.lines)
