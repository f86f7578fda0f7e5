"""What the figures say, read off matplotlib's own objects."""

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest
import sample_digits
from conftest import texts_of
from matplotlib.transforms import Bbox

import handwriting
import plots

(IMAGES, LABELS), _ = sample_digits.load_data()


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def digit(predicted, confidence=0.9, original=None, image=IMAGES[0], **place):
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
    width = 100 + 60 * max(map(len, lines), default=0)
    picture = np.full((60 + 90 * len(lines), width, 3), 255, np.uint8)
    for each in digits:
        picture[each.top : each.top + side, each.left : each.left + side] = 0
    return handwriting.Reading(path, digits, picture)


def frames_of(figure):
    """The frames around digits, those of a picture before those of its digits."""
    styles = {plots.BLUE: "blue", plots.ORANGE: "orange"}
    colours = {matplotlib.colors.to_rgba(colour): name for colour, name in styles.items()}
    patches = [patch for patch in figure.findobj(plt.Rectangle) if not patch.get_fill()]
    frames = [(colours.get(patch.get_edgecolor()), patch) for patch in patches]
    return [(*frame, frame[1].get_linestyle()) for frame in frames if frame[0]]


@pytest.mark.parametrize("count", [1, 3, 25, 100])
def test_each_test_digit_has_its_original_its_prediction_and_its_confidence(count):
    shown = [digit(n % 10, 0.999, int(LABELS[n]), IMAGES[n]) for n in range(count)]
    (figure,) = plots.prediction_pages(shown, "100 of 100 mistakes, the most confident first")
    texts = texts_of(figure)
    for each in shown:
        mark = " ✗" if each.is_wrong else ""
        assert f"Original {each.original}\nPredicted {each.predicted}{mark}" in texts
    assert texts.count("99.9% sure") == count
    frames = [patch for _, patch, _ in frames_of(figure)]
    columns, rows = ({round(frame.get_center()[i], 3) for frame in frames} for i in (0, 1))
    assert len(frames) == count == len(rows) * len(columns), "no place in the grid is empty"
    for frame in frames:
        assert frame.get_window_extent().width == pytest.approx(frame.get_window_extent().height)


def test_more_than_a_hundred_digits_go_on_several_pages_and_none_on_an_empty_one():
    assert len(list(plots.prediction_pages(250 * [digit(1, original=1)]))) == 3
    (page,) = plots.prediction_pages([], "No mistakes")
    assert texts_of(page) == ["No mistakes"]


def test_wrong_and_unsure_digits_are_marked_by_more_than_colour():
    three = [(1, 0.9, 1), (1, 0.5999, 1), (1, 0.9, 7)]
    (grid,) = plots.prediction_pages([digit(*what) for what in three])
    (page,) = plots.picture_pages([reading([three])])
    titles = ["Original 1\nPredicted 1", "Original 1\nPredicted 1 ?", "Original 7\nPredicted 1 ✗"]
    assert [text for text in texts_of(grid) if "Original" in text] == titles
    assert [text for text in texts_of(page) if "Original" in text] == titles
    assert {"1", "1?", "1✗"} < set(texts_of(page))
    for figure, times in ((grid, 1), (page, 2)):
        colours, patches, styles = zip(*frames_of(figure), strict=True)
        assert colours == times * ("blue", "orange", "orange")
        assert styles == times * ("-", "--", "--")
        widths = [patch.get_linewidth() for patch in patches]
        assert min(widths[1:3]) >= 2 * widths[0]


@pytest.mark.parametrize("side", [10, 40])
def test_neither_the_lines_of_a_box_nor_its_label_lie_on_the_ink(side):
    axis = plt.figure(figsize=(3, 3)).add_axes((0, 0, 1, 1))
    picture = reading([[(1, 0.9), (2, 0.3)]], side=side)
    picture.digits[0].top = 0
    plots.draw_picture(axis, picture)
    axis.figure.canvas.draw()
    assert (*axis.get_xlim(), *axis.get_ylim()) == (0, 220, 150, 0)
    points = 72 / axis.figure.dpi
    frames = [frame for _, frame, _ in frames_of(axis.figure)]
    for each, frame, label in zip(picture.digits, frames, axis.texts, strict=True):
        box, line = frame.get_window_extent(), frame.get_linewidth() / points / 2
        ink = axis.transData.transform([(each.left, each.top + side), (each.left + side, each.top)])
        inner = np.array([box.min + line, box.max - line])
        np.testing.assert_allclose(inner, ink, atol=0.01)
        assert not label.get_bbox_patch().get_window_extent().overlaps(Bbox(ink))


def test_pages_say_the_number_the_name_and_where_nothing_was_found():
    name = "folder/" * 20 + "cost_$x$_\udcff\n.png"
    pages = list(
        plots.picture_pages([reading([[(1,), (2,)], [(3,)]], name), reading([], "empty.png")])
    )
    texts = [text for page in pages for text in texts_of(page)]
    assert "12 3" in texts
    assert any(text.startswith("…") and text.endswith("cost_$x$_??.png") for text in texts)
    assert texts[texts.index("empty.png") + 1] == "no digit was found"


def test_each_line_of_writing_has_a_row_of_digits_and_the_picture_is_cropped():
    picture = reading([[(1,), (2,)], [(3,)]])
    wide = np.pad(picture.thumbnail, ((0, 900), (0, 900), (0, 0)), constant_values=255)
    (figure,) = plots.picture_pages([handwriting.Reading("a.png", picture.digits, wide)])
    photo, _ = figure.axes[0].images
    assert max(photo.get_array().shape) < 300
    below = [patch for _, patch, _ in frames_of(figure)][3:]
    assert below[0].get_y() == below[1].get_y() < below[2].get_y()
    assert below[0].get_x() == below[2].get_x() < below[1].get_x()


def test_all_pictures_are_on_some_page_whatever_their_sizes():
    many = [
        reading(4 * [5 * [(1,)]], "sheet.png"),
        *(reading([[(n,)]]) for n in 5 * list(range(9))),
    ]
    pages = list(plots.picture_pages([*many, reading([25 * [(8,)]], "long.png")]))
    texts = [text for page in pages for text in texts_of(page)]
    assert [texts.count(name) for name in ("a.png", "sheet.png", "long.png")] == [45, 1, 1]
    assert sum(len(frames_of(page)) for page in pages) == 2 * (20 + 45 + 25)


def test_the_confusion_matrix_counts_every_pair_readably():
    random = np.random.default_rng(0)
    original = random.integers(0, 10, 5000)
    predicted = np.where(random.random(5000) < 0.98, original, random.integers(0, 10, 5000))
    pairs = zip(original.tolist(), predicted.tolist(), strict=True)
    figure = plots.confusion_matrix([digit(p, original=o) for o, p in pairs])
    assert f"{(original == predicted).sum()} of 5000 correct" in texts_of(figure)[-1]
    (axis,) = figure.axes
    assert len(axis.texts) == 100
    for text in axis.texts:
        column, row = text.get_position()
        count = np.sum((original == row) & (predicted == column))
        assert text.get_text() == str(count)
    for image in axis.images:
        assert image.norm(image.get_array()).max() <= 0.5, "too dark for black numbers"


def test_a_digit_whose_class_is_not_known_is_never_marked_wrong():
    sure, unsure = np.eye(10)[1], np.full(10, 0.1)
    marks = [handwriting.Digit(IMAGES[1], probabilities=share).mark for share in (sure, unsure)]
    assert marks == ["", "?"]
