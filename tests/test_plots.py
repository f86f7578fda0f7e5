"""What the figures say, read off matplotlib's own objects."""

import matplotlib.colors
import numpy as np
import pytest
import sample_digits

import handwriting
import plots

(IMAGES, LABELS), _ = sample_digits.load_data()


def grid(count, predicted=None, confidence=None, heading=None):
    predicted = LABELS[:count] if predicted is None else predicted
    confidence = np.ones(count) if confidence is None else confidence
    digits = IMAGES[:count], LABELS[:count], predicted, confidence
    figure = plots.prediction_grid(*digits, heading)
    figure.canvas.draw()
    return figure, [axis for axis in figure.axes if axis.get_visible()]


def test_each_digit_has_its_original_its_prediction_and_its_confidence():
    confidence = np.linspace(0.3, 1, 7)
    predicted = np.where(np.arange(7) < 4, LABELS[:7], 5)
    _, axes = grid(7, predicted=predicted, confidence=confidence)
    assert len(axes) == 7
    for i, axis in enumerate(axes):
        wrong = predicted[i] != LABELS[i]  # Which more than the colour must say.
        title = f"Original {LABELS[i]}\nPredicted {predicted[i]}{' ✗' if wrong else ''}"
        assert axis.get_title() == title
        assert axis.spines["left"].get_linewidth() == (4 if wrong else 1)
        shown = float(axis.get_xlabel().removesuffix("% sure"))
        assert shown == pytest.approx(100 * confidence[i], abs=0.1)
        np.testing.assert_array_equal(axis.images[0].get_array(), IMAGES[i])


@pytest.mark.parametrize("count", [1, 3, 25, 100])
def test_nothing_in_the_grid_overlaps_and_digits_are_square(count):
    wrong = (LABELS[:count] + 1) % 10  # Bold titles with a cross are the widest.
    figure, axes = grid(count, predicted=wrong, heading="100 of 100 mistakes")
    texts = [figure._suptitle, *(text for axis in axes for text in (axis.title, axis.xaxis.label))]
    boxes = [item.get_window_extent() for item in (*texts, *axes)]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert not any(box.padded(-0.5).overlaps(other) for other in boxes[:i])
    for box in boxes[len(texts) :]:
        assert box.width == pytest.approx(box.height, rel=0.02)


def test_there_is_a_page_where_there_is_nothing():
    none = np.zeros(0, int)
    (page,) = plots.prediction_pages(np.zeros((0, 28, 28)), none, none, none, "No mistakes")
    assert not any(axis.get_visible() for axis in page.axes)


def panel(count, confidence=0.9, original=None):
    """A picture in which so many digits were read, each as a 1."""
    digit = handwriting.Digit(IMAGES[1], 20, 30, 20, 40)
    reading = handwriting.Reading("a.png", count * [digit], np.zeros((100, 300, 3), np.uint8), 1)
    return plots.Panel("a.png", reading, np.ones(count, int), np.full(count, confidence), original)


def test_all_pictures_are_on_some_page():
    pages = list(plots.picture_pages([panel(30), *9 * [panel(1)]]))
    assert len(pages) > 1
    assert sum(len(page.axes) for page in pages) == 31 + 9 * 2


def test_wrong_and_unsure_digits_in_pictures_are_marked_by_more_than_colour():
    panels = [panel(1), panel(1, confidence=0.5999), panel(1, original=7)]
    (figure,) = plots.picture_pages(panels)
    pictures, digits = figure.axes[::2], figure.axes[1::2]
    assert [axis.texts[0].get_text() for axis in pictures] == ["1", "1?", "1✗"]
    assert [axis.patches[0].get_linestyle() for axis in pictures] == ["-", "--", "--"]
    assert [axis.get_title() for axis in digits] == ["1", "1 ?", "Original 7\nPredicted 1 ✗"]
    assert [axis.get_xlabel() for axis in digits] == ["90.0% sure", "59.9% unsure", "90.0% sure"]


def test_the_confusion_matrix_counts_every_pair_readably():
    random = np.random.default_rng(0)
    original = random.integers(0, 10, 5000)
    predicted = np.where(random.random(5000) < 0.98, original, random.integers(0, 10, 5000))
    figure = plots.confusion_matrix(original, predicted)
    figure.canvas.draw()
    (axis,) = figure.axes
    assert len(axis.texts) == 100
    for text in axis.texts:
        column, row = text.get_position()
        count = np.sum((original == row) & (predicted == column))
        assert text.get_text() == str(count)
        behind = [(image, image.get_array()[row, column]) for image in axis.images]
        behind = [image.cmap(image.norm(n))[:3] for image, n in behind if n is not np.ma.masked]
        assert len(behind) == (count > 0)
        # WCAG asks for a contrast of 4.5 between text and what is behind it.
        assert contrast(matplotlib.colors.to_rgb(text.get_color()), [*behind, (1, 1, 1)][0]) >= 4.5
    assert f"{(original == predicted).sum()} of 5000 right" in axis.get_title()


def contrast(a, b):
    low, high = sorted(map(luminance, (a, b)))
    return (high + 0.05) / (low + 0.05)


def luminance(rgb):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0%"), (0.5, "50.0%"), (0.97349, "97.3%"), (0.99999, "99.9%"), (1, "100%")],
)
def test_a_percentage_never_rounds_up_to_certainty(share, text):
    assert plots.percent(share) == text
