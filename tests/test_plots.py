"""What the figures say, read off matplotlib's own objects."""

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import DIGITS, texts_of
from matplotlib.transforms import Bbox

import handwriting
import plots

BLUE, ORANGE = map(matplotlib.colors.to_rgba, (plots.BLUE, plots.ORANGE))


def digit(predicted, confidence=0.9, original=None, image=DIGITS["x_train"][0], **place):
    probabilities = np.full(10, (1 - confidence) / 9)
    probabilities[predicted] = confidence
    return handwriting.Digit(image, **place, original=original, probabilities=probabilities)


def reading(lines, path="a.png", side=40):
    """A picture with squares of ink, of so many pixels, for lines of digits."""
    digits = [
        digit(*what, left=40 + 60 * x, top=30 + 90 * y, width=side, height=side, line=y)
        for y, line in enumerate(lines)
        for x, what in enumerate(line)
    ]
    picture = np.full((900, 1700, 3), 255, np.uint8)
    for each in digits:
        picture[each.top : each.top + side, each.left : each.left + side] = 0
    return handwriting.Reading(path, digits, picture)


def frames_of(figure):
    """The frames around digits, those of a picture before those of the digits in it."""
    frames = [frame for frame in figure.findobj(plt.Rectangle) if not frame.get_fill()]
    return [frame for frame in frames if frame.get_edgecolor() in (BLUE, ORANGE)]


@pytest.mark.parametrize("count", [0, 1, 3, 250])
def test_each_test_digit_has_its_original_its_prediction_and_its_confidence(count):
    originals = DIGITS["y_train"][:count].tolist()
    shown = [digit(n % 10, 0.999, original) for n, original in enumerate(originals)]
    pages = list(plots.prediction_pages(shown, "250 of 250 mistakes, the most confident first"))
    texts = [text for page in pages for text in texts_of(page)]
    for each in shown:
        mark = " ✗" if each.is_wrong else ""
        assert f"Original {each.original}\nPredicted {each.predicted}{mark}" in texts
    assert texts.count("99.9% sure") == count
    assert len(pages) == 1 + count // 100
    for page in pages:
        places = [frame.get_center().round(3) for frame in frames_of(page)]
        columns, rows = ({place[i] for place in places} for i in (0, 1))
        assert len(places) == len(rows) * len(columns), "no place in the grid is empty"


def test_wrong_and_unsure_digits_are_marked_by_more_than_colour():
    three = [(1, 0.9, 1), (1, 0.5999, 1), (1, 0.9, 7)]
    (grid,) = plots.prediction_pages([digit(*what) for what in three])
    (page,) = plots.picture_pages([reading([three])])
    for figure, times in ((grid, 1), (page, 2)):
        titles = [text for text in texts_of(figure) if "Original" in text]
        ends = ["1\nPredicted 1", "1\nPredicted 1 ?", "7\nPredicted 1 ✗"]
        assert titles == [f"Original {end}" for end in ends]
        marks = [(frame.get_edgecolor(), frame.get_linestyle()) for frame in frames_of(figure)]
        assert marks == times * [(BLUE, "-"), *2 * [(ORANGE, "--")]]
    assert {"1", "1?", "1✗"} < set(texts_of(page))
    assert digit(1, 0.9).mark == "", "a digit of unknown class is not wrong"


@pytest.mark.parametrize("side", [10, 40])
def test_neither_the_lines_of_a_box_nor_its_label_lie_on_the_ink(side):
    axis = plt.figure(figsize=(17, 9)).add_axes((0, 0, 1, 1))
    picture = reading([[(1, 0.9), (2, 0.3)]], side=side)
    picture.digits[0].top = 0
    plots.draw_picture(axis, picture)
    axis.figure.canvas.draw()
    points = 72 / axis.figure.dpi
    for each, frame, label in zip(picture.digits, frames_of(axis.figure), axis.texts, strict=True):
        box, line = frame.get_window_extent(), frame.get_linewidth() / points / 2
        ink = axis.transData.transform([(each.left, each.top + side), (each.left + side, each.top)])
        inner = np.array([box.min + line, box.max - line])
        np.testing.assert_allclose(inner, ink, atol=0.01)
        assert not label.get_bbox_patch().get_window_extent().overlaps(Bbox(ink))


def test_each_picture_has_its_name_its_number_and_a_row_of_digits_for_each_line():
    name = "folder/" * 20 + "cost_$x$_\udcff\n.png"
    lines, nothing = reading([[(1,), (2,)], [(3,)]], name), reading([], "empty.png")
    (page,) = plots.picture_pages([lines, nothing])
    texts = texts_of(page)
    assert "12 3" in texts
    assert any(text.startswith("…") and text.endswith("cost_$x$_??.png") for text in texts)
    assert texts[texts.index("empty.png") + 1] == "no digit was found"
    below = [frame.xy for frame in frames_of(page)][3:]
    assert below[0][1] == below[1][1] < below[2][1]
    assert below[0][0] == below[2][0] < below[1][0]
    photo = page.axes[0].images[0]
    assert max(photo.get_array().shape) < 300, "it is cropped to what was read"


def test_all_pictures_are_on_some_page_whatever_their_sizes():
    many = [reading(4 * [5 * [(1,)]], "sheet.png"), *(reading([[(n % 9,)]]) for n in range(45))]
    pages = list(plots.picture_pages([*many, reading([25 * [(8,)]], "long.png")]))
    texts = [text for page in pages for text in texts_of(page)]
    assert [texts.count(name) for name in ("a.png", "sheet.png", "long.png")] == [45, 1, 1]
    assert sum(len(frames_of(page)) for page in pages) == 2 * (20 + 45 + 25)


def test_the_confusion_matrix_counts_every_pair_readably():
    pairs = np.random.default_rng(0).integers(0, 10, (5000, 2)).tolist()
    figure = plots.confusion_matrix([digit(p, original=o) for o, p in pairs])
    assert f"{sum(o == p for o, p in pairs)} of 5000 correct" in texts_of(figure)[-1]
    assert len(figure.axes[0].texts) == 100
    for text in figure.axes[0].texts:
        column, row = text.get_position()
        assert text.get_text() == str(pairs.count([row, column]))
