"""What the figures say, read off matplotlib's own objects."""

import matplotlib.colors
import numpy as np
import pytest
import sample_digits

import plots


@pytest.fixture(scope="module")
def digits():
    (images, labels), _ = sample_digits.load_data()
    return images, labels


def draw(figure):
    figure.canvas.draw()
    return figure.canvas.get_renderer()


def visible(figure):
    return [axis for axis in figure.axes if axis.get_visible()]


@pytest.mark.parametrize("count", [1, 2, 7, 25, 100])
def test_grid_has_a_title_and_a_confidence_for_each_digit(digits, count):
    images, original = digits[0][:count], digits[1][:count]
    predicted = original.copy()
    predicted[0] = (predicted[0] + 1) % 10
    confidence = np.linspace(0.3, 1, count)
    axes = visible(plots.prediction_grid(images, original, predicted, confidence, "Some digits"))
    assert len(axes) == count
    for i, axis in enumerate(axes):
        title = axis.get_title().split()
        assert title[:4] == ["Original", str(original[i]), "Predicted", str(predicted[i])]
        assert float(axis.get_xlabel().removesuffix("% sure")) == pytest.approx(
            100 * confidence[i], abs=0.1
        )
        np.testing.assert_array_equal(axis.images[0].get_array(), images[i])


def test_wrong_prediction_is_marked_by_more_than_colour(digits):
    axes = visible(plots.prediction_grid(digits[0][:2], [0, 1], [0, 7], [0.9, 0.8]))
    right, wrong = axes
    assert "✗" in wrong.get_title()
    assert "✗" not in right.get_title()
    assert wrong.title.get_weight() == "bold"
    width = [axis.spines["left"].get_linewidth() for axis in axes]
    assert width[1] >= 3 * width[0]


@pytest.mark.parametrize("count", [1, 3, 25, 100])
def test_nothing_in_the_grid_overlaps(digits, count):
    wrong = (digits[1][:count] + 1) % 10  # Bold titles with a cross are the widest.
    figure = plots.prediction_grid(
        digits[0][:count], digits[1][:count], wrong, np.ones(count), "100 of 100 mistakes"
    )
    renderer = draw(figure)
    texts = [figure._suptitle] + [
        text for axis in visible(figure) for text in (axis.title, axis.xaxis.label)
    ]
    boxes = [text.get_window_extent(renderer) for text in texts]
    boxes += [axis.get_window_extent(renderer) for axis in visible(figure)]
    page = figure.bbox
    for i, box in enumerate(boxes):
        assert page.x0 <= box.x0
        assert box.x1 <= page.x1
        assert page.y0 <= box.y0
        assert box.y1 <= page.y1
        for other in boxes[:i]:
            assert not box.padded(-0.5).overlaps(other)


def test_digits_are_square(digits):
    figure = plots.prediction_grid(digits[0][:6], *[digits[1][:6]] * 2, np.ones(6))
    draw(figure)
    for axis in visible(figure):
        box = axis.get_window_extent()
        assert box.width == pytest.approx(box.height, rel=0.02)


def test_empty_grid():
    figure = plots.prediction_grid(np.zeros((0, 28, 28)), [], [], [], "No mistakes")
    assert visible(figure) == []
    assert figure.get_suptitle() == "No mistakes"


def test_confusion_matrix_counts_every_pair():
    rng = np.random.default_rng(0)
    original = rng.integers(0, 10, 5000)
    predicted = np.where(rng.random(5000) < 0.9, original, rng.integers(0, 10, 5000))
    figure = plots.confusion_matrix(original, predicted)
    draw(figure)
    (axis,) = figure.axes
    assert len(axis.texts) == 100
    for text in axis.texts:
        column, row = text.get_position()
        count = np.sum((original == row) & (predicted == column))
        assert text.get_text() == str(count)
    assert f"{(original == predicted).sum()} of 5000 right" in axis.get_title()


def test_every_count_is_readable_on_its_cell():
    """WCAG asks for a contrast of 4.5 between text and what is behind it."""
    original = np.repeat(np.arange(10), 100)
    predicted = original.copy()
    predicted[::7] = (predicted[::7] * 3 + 1) % 10
    figure = plots.confusion_matrix(original, predicted)
    draw(figure)
    (axis,) = figure.axes
    for text in axis.texts:
        column, row = text.get_position()
        background = (1.0, 1.0, 1.0)
        for image in axis.images:
            value = image.get_array()[row, column]
            if value is not np.ma.masked:
                background = image.cmap(image.norm(value))[:3]
        assert contrast(matplotlib.colors.to_rgb(text.get_color()), background) >= 4.5


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
def test_percent(share, text):
    assert plots.percent(share) == text
