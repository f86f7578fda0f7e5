"""What each layer makes of a digit: `plots.feature_maps` and `predict.py --explain`."""

import re

import keras
import matplotlib.image
import numpy as np
import pytest
import sample_digits
from keras import layers

import plots


@pytest.fixture(scope="module")
def digit():
    return sample_digits.load_data()[0][0][0].astype("float32") / 255


def rows_of(figure):
    """Read titles and pictures off the rows of a figure, and check that nothing overlaps."""
    figure.canvas.draw()
    texts = [text for axis in figure.axes for text in (axis.title, axis._left_title)]
    texts += [text for axis in figure.axes for text in (axis.xaxis.label, *axis.texts)]
    texts += [figure._supxlabel] if figure._supxlabel else []
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    boxes += [axis.get_window_extent() for axis in figure.axes if axis.images]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert not any(box.padded(-0.5).overlaps(other) for other in boxes[:i])
    return [(axis.get_title(loc="left").split(", ")[0], cut(axis)) for axis in figure.axes[2:]]


def cut(axis):
    """Cut a row into its pictures again."""
    lines, columns = len(axis.get_yticks()) - 1, len(axis.get_xticks()) - 1
    tiles = [np.hsplit(line, columns) for line in np.vsplit(axis.images[0].get_array(), lines)]
    return np.concatenate(tiles)


def test_pictures_are_what_numpy_computes(trained, digit):
    model = keras.saving.load_model(trained.model_path)
    kernel, bias, *_ = model.get_weights()
    rows = rows_of(plots.feature_maps(model, digit, np.full(10, 0.1), 3))
    if trained.kind == "ann":
        ((title, weights),) = rows
        assert title.endswith("weights of the 32 of 300 neurons that this digit excites most")
        excited = np.argsort(-(digit.reshape(784) @ kernel + bias))[:32]
        np.testing.assert_allclose(weights, kernel.T[excited].reshape(-1, 28, 28))
        return
    assert [title.split(": ")[1] for title, _ in rows] == (
        ["32 filters", "32 maps", "32 maps", "16 maps", "16 maps"]
    )
    windows = np.lib.stride_tricks.sliding_window_view(digit, (3, 3))
    maps = np.einsum("yxij,ijf->fyx", windows, kernel[:, :, 0]) + bias[:, None, None]
    pooled = maps[:, :24, :24].reshape(32, 8, 3, 8, 3).max(axis=(2, 4))
    for i, expected in enumerate((kernel[:, :, 0].transpose(2, 0, 1), maps, pooled)):
        np.testing.assert_allclose(rows[i][1], expected, atol=1e-5)


def residual(x):
    return layers.Add()([x, layers.Conv2D(64, 3, padding="same")(x)])


NETWORKS = {
    "batch_norm": (
        [layers.Conv2D(8, 5, strides=2), layers.BatchNormalization(), layers.ReLU()],
        ["8 filters", "8 maps", "8 maps", "8 maps"],
    ),
    "augmented": (
        [
            keras.Sequential([layers.RandomRotation(0.5), layers.GaussianNoise(1)]),
            *(layers.Conv2D(10, 3), layers.Dropout(0.5), layers.GlobalAveragePooling2D()),
        ],
        ["10 filters", "10 maps", "10 maps"],
    ),
    "nested_residual": (
        [
            keras.Sequential([layers.Conv2D(64, 3), layers.AveragePooling2D(2)]),
            *(residual, layers.GlobalMaxPooling2D()),
        ],
        ["the first 32 of 64 filters", *5 * ["the first 32 of 64 maps"]],
    ),
    "long_names": ([layers.Conv2D(20, (3, 7), name="x" * 99)], ["20 filters", "20 maps"]),
    "separate_activation": (
        [layers.Flatten(), layers.Dense(20), layers.Activation("tanh")],
        ["weights of the 20 of 20 neurons that this digit excites most"],
    ),
    "lstm": ([layers.Reshape((28, 28)), layers.LSTM(4)], []),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_learners_have_changed(name, digit):
    steps, titles = NETWORKS[name]
    shape = (28, 28) if name == "lstm" else (28, 28, 1)
    x = inputs = keras.Input(shape)
    for step in [*steps, layers.Flatten(), layers.Dense(10)]:  # Logits.
        x = step(x)
    model = keras.Model(inputs, x)
    probabilities = np.eye(10)[4] * 0.3 + np.eye(10)[9] * 0.25 + 0.045
    figure = plots.feature_maps(model, digit, probabilities)
    assert [title.split(": ")[1] for title, _ in rows_of(figure)] == titles
    assert figure.axes[1].get_title() == ("Predicted 4, 34.5% sure; the runner-up is 9, 29.5%")
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    np.testing.assert_array_equal(heights, probabilities)


def test_command_line(predict_here, trained, sample_npz, tmp_path):
    shared = "--explain", "--model", trained.model_path, "--no-show"
    test_digit = predict_here(*shared, "--data", sample_npz, "--seed", 1)
    assert (test_digit.returncode, test_digit.stderr) == (0, "")
    line, saved = test_digit.stdout.splitlines()
    assert re.fullmatch(r"test/\d+: original \d, predicted \d \([\d.]+% sure\)\.", line)
    assert saved == "Saved explanation.png"
    assert min(matplotlib.image.imread(tmp_path / "explanation.png").shape[:2]) > 400

    mistake = predict_here(*shared, "--data", sample_npz, "--mistakes", "--output", "wrong.png")
    original, predicted = re.search(r"original (\d), predicted (\d)", mistake.stdout).groups()
    assert original != predicted

    with np.load(sample_npz) as arrays:
        paper = 255 - arrays["x_test"][0].repeat(8, axis=0).repeat(8, axis=1)
    matplotlib.image.imsave(tmp_path / "paper.png", paper, cmap="gray")
    picture = predict_here(*shared, "paper.png", "--output", "paper_explained.png")
    assert re.search(r"paper.png, first digit: predicted \d \(", picture.stdout)
    assert (tmp_path / "paper_explained.png").exists()
