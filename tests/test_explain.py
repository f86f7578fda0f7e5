"""What each layer makes of a digit."""

import keras
import numpy as np
import pytest
import sample_digits
from conftest import texts_of
from keras import layers, ops
from test_plots import digit

import explain

IMAGE = sample_digits.load_data()[0][0][0]
INPUT = np.float32(IMAGE) / 255


def rows_of(model, shown):
    """Read the titles of a figure's rows, and what they show, off the figure."""
    figure = explain.layer_figure(model, shown)
    texts_of(figure)  # None of them overlap.
    return [
        (axis.get_title(loc="left").split(", ")[0], cut(axis) if axis.images else heights(axis))
        for axis in figure.axes[2:]
    ]


def cut(axis):
    """Cut a row into its pictures again."""
    lines, columns = len(axis.get_yticks()) - 1, len(axis.get_xticks()) - 1
    tiles = [np.hsplit(line, columns) for line in np.vsplit(axis.images[0].get_array(), lines)]
    return np.concatenate(tiles)


def heights(axis):
    return np.array([segment[1, 1] for segment in axis.collections[0].get_segments()])


def network(steps, shape=(28, 28, 1)):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input(shape)
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x)


def dense(units, activation=None):
    return layers.Dense(units, activation, bias_initializer="random_normal")


def test_a_convolutional_network_shows_what_numpy_computes():
    first = layers.Conv2D(40, 3, bias_initializer="random_normal")
    rest = [layers.MaxPooling2D(3), layers.Flatten(), dense(30, "relu"), dense(10)]
    model = network([first, *rest])
    kernel, bias, dense_kernel, dense_bias, last, last_bias = model.get_weights()
    windows = np.lib.stride_tricks.sliding_window_view(INPUT, (3, 3))
    maps = np.einsum("yxij,ijf->fyx", windows, kernel[:, :, 0]) + bias[:, None, None]
    pooled = maps[:, :24, :24].reshape(40, 8, 3, 8, 3).max(axis=(2, 4))
    hidden = np.maximum(0, pooled.transpose(1, 2, 0).ravel() @ dense_kernel + dense_bias)
    first = np.argsort(-maps.max(axis=(1, 2)))[:32]
    then = np.argsort(-pooled.max(axis=(1, 2)))[:32]
    titles, shown = zip(*rows_of(model, digit(3, image=IMAGE)), strict=True)
    assert [title.split(": ")[1] for title in titles] == [
        "the 32 most excited of 40 filters",
        *2 * ["the 32 most excited of 40 maps"],
        "30 activations",
        "10 activations",
    ]
    expected = [kernel[:, :, 0].transpose(2, 0, 1)[first], maps[first], pooled[then]]
    expected += [hidden, hidden @ last + last_bias]
    for values, reference in zip(shown, expected, strict=True):
        np.testing.assert_allclose(values, reference, atol=1e-4)


def test_a_dense_network_shows_every_layer_and_the_weights_beside_the_activations():
    steps = [layers.Flatten(), dense(40, "relu"), dense(20), dense(10), layers.Softmax()]
    model = network(steps, shape=(28, 28))
    kernel, bias, *_ = model.get_weights()
    activations = np.maximum(0, INPUT.ravel() @ kernel + bias)
    excited = np.argsort(-activations, kind="stable")[:32]
    (title, weights), *rows = rows_of(model, digit(3, image=IMAGE))
    assert title.endswith(": weights of the 32 most excited of 40 neurons")
    np.testing.assert_allclose(weights[:, :28], kernel.T[excited].reshape(-1, 28, 28))
    assert [values.shape for _, values in rows] == [(40,), (20,), (10,), (10,)]
    np.testing.assert_allclose(rows[0][1], activations, atol=1e-4)
    figure = explain.layer_figure(model, digit(3, image=IMAGE))
    below = [text.get_text() for text in figure.axes[2].texts]
    assert below == [f"{value:.2g}" for value in activations[excited]]


SHARED = layers.Dense(8, name="shared")
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
        ["10 filters", "10 maps", "10 activations"],
    ),
    "nested": (
        [keras.Sequential([keras.Sequential([layers.Conv2D(4, 3)]), layers.AveragePooling2D(2)])],
        ["4 filters", "4 maps", "4 maps"],
    ),
    "branches": (
        [layers.Conv2D(1, 3), lambda x: ops.concatenate([x, ops.square(x)], axis=-1)],
        ["1 filter", "1 map", "1 map", "2 maps"],
    ),
    "shared": (
        [layers.Conv2D(8, 3), SHARED, SHARED, lambda x: ops.max(x, axis=(1, 2))],
        ["8 filters", *3 * ["8 maps"], "8 activations"],
    ),
    "long_names": ([layers.Conv2D(20, (3, 7), name="x" * 99)], ["20 filters", "20 maps"]),
    "sequence": (
        [layers.Reshape((28, 28)), layers.LSTM(9, return_sequences=True), layers.LSTM(4)],
        ["1 map", "4 activations"],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_learners_have_changed(name, tmp_path):
    steps, titles = NETWORKS[name]
    model = network([*steps, layers.Flatten(), layers.Dense(10, activation="softmax")])
    model.save(tmp_path / "model.keras")
    for each in (model, keras.saving.load_model(tmp_path / "model.keras")):
        shown = digit(4, image=IMAGE)
        shown.probabilities = each(INPUT.reshape(1, 28, 28, 1), training=False).numpy()[0]
        assert [title.split(": ")[1] for title, _ in rows_of(each, shown)] == titles
