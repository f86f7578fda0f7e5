"""Draw digits with the mouse or a finger, and watch them being read.

`window` is what `python predict.py --draw` opens, and `canvas` is the cell in Google Colab. Both
collect strokes, and make a `Drawing` of them after each one.
"""

import cv2
import numpy as np

import handwriting
import plots
from drawing.canvas import show_canvas
from drawing.window import open_window

__all__ = ["HEIGHT", "PEN", "WIDTH", "Drawing", "open_window", "show_canvas"]

WIDTH, HEIGHT, PEN = 560, 520, 12  # Of the paper and of a felt-tip's stroke, in pixels.


class Drawing:
    """Strokes on paper, and what a network reads there.

    Args:
        strokes: lists of points `(x, y)`, in pixels from the paper's top left corner.
        predict: function that takes a list of `handwriting.Digit` and sets their `probabilities`.

    Attributes:
        reading: a `handwriting.Reading`; its thumbnail is the paper, black on white.
        latest: the digit that the last stroke belongs to, or `None`.
        unread: the strokes that belong to no digit.
        text: the number and how sure the network is, or what to do where there are no digits.
    """

    def __init__(self, strokes, predict):
        paper = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        for stroke in strokes:
            points = np.int32(np.round(np.multiply([*stroke, stroke[-1]], 16)))  # A dot has two.
            cv2.polylines(paper, [points], False, (0, 0, 0), PEN, cv2.LINE_AA, shift=4)
        # With a border, a digit that runs off the paper is not taken for something beside a page.
        page = cv2.copyMakeBorder(paper, *4 * [PEN], cv2.BORDER_CONSTANT, value=3 * [255])
        digits = handwriting.read_digits(page)
        for digit in digits:
            digit.left, digit.top = digit.left - PEN, digit.top - PEN
        if digits:
            predict(digits)
        self.reading = handwriting.Reading("", digits, paper)
        owners = [find_owner(stroke, digits) for stroke in strokes]
        self.latest = owners[-1] if owners else None
        self.unread = [stroke for stroke, owner in zip(strokes, owners, strict=True) if not owner]
        if digits:
            sure = handwriting.percent(min(digit.confidence for digit in digits))
            unread = f"; strokes not read: {len(self.unread)}" if self.unread else ""
            self.text = f"{self.reading.number} (least sure: {sure}{unread})"
        elif strokes:
            self.text = "No digit was found: draw a larger one."
        else:
            self.text = "Draw a digit, or a whole number."

    def draw_digits(self, figure):
        """Draw what the network saw of each digit, and ten bars for the one drawn last."""
        if not self.reading.digits:
            return
        lines = self.reading.lines
        axis = figure.add_axes((0.02, 0.38, 0.96, 0.6))
        size = plots.size_of(lines)
        zoom = min(axis.bbox.size / figure.dpi / size)
        plots.draw_digits(axis, lines, 0, 0, zoom)
        axis.set(xlim=(0, zoom * size[0]), ylim=(zoom * size[1], 0), aspect="equal")
        axis.axis("off")
        axis = figure.add_axes((0.04, 0.12, 0.92, 0.18))
        if self.latest:
            plots.draw_probabilities(axis, self.latest)
            axis.set_xlabel("Class of the digit drawn last", fontsize=11)
        else:
            axis.axis("off")
            axis.text(0.5, 0.5, "What was drawn last is not read.", size=13, ha="center")


def find_owner(stroke, digits):
    """Return the digit that a stroke belongs to, or `None` where most of it lies in no box."""
    boxes = np.array([(d.left, d.top, d.width, d.height) for d in digits]).reshape(-1, 1, 4)
    from_corner = np.clip(stroke, 0, (WIDTH, HEIGHT)) - boxes[..., :2]  # Some run off the paper.
    inside = ((from_corner >= 0) & (from_corner <= boxes[..., 2:])).all(axis=2)  # Digits, points.
    if inside.any(axis=0).mean() < 0.5:
        return None
    return digits[inside.mean(axis=1).argmax()]
