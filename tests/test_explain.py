"""The article's networks, layer by layer, as NumPy computes them, and what is shown of others."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import DIGITS, probabilities_by_keras, texts_of
from keras import layers
from learners_networks import NETWORKS, end, sequential
from test_plots import BLUE, ORANGE

import explain
import handwriting

ARTICLE = {
    "ann": ("Flatten Dense Dense Dense Dense", 316_810),
    "cnn": ("Conv2D MaxPooling2D Conv2D MaxPooling2D Flatten Dense Dense", 27_454),
}


def ann_by_numpy(images, weights):
    """What each layer makes of images, 0 to 1."""
    values = [images.reshape(len(images), -1)]
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        values.append(np.maximum(values[-1] @ kernel + bias, 0))
    return [*values[1:], softmax(values[-1] @ weights[-2] + weights[-1])]


def cnn_by_numpy(images, weights):
    maps = [images[..., np.newaxis]]
    for kernel, bias in (weights[0:2], weights[2:4]):
        windows = np.lib.stride_tricks.sliding_window_view(maps[-1], (3, 3), axis=(1, 2))
        maps.append(np.einsum("nyxcij,ijcf->nyxf", windows, kernel) + bias)
        side = maps[-1].shape[1] // 3
        squares = maps[-1][:, : 3 * side, : 3 * side].reshape(len(images), side, 3, side, 3, -1)
        maps.append(squares.max(axis=(2, 4)))
    return [*maps[1:], *ann_by_numpy(maps[-1].reshape(len(images), -1), weights[4:])]


def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def rows_of(model, image):
    """Read what the rows are said to show, and the values that they do show, off a figure."""
    digit = handwriting.Digit(image)
    inputs = np.float32(image).reshape(1, *model.input_shape[1:]) / 255
    digit.probabilities = keras.ops.convert_to_numpy(model(inputs, training=False))[0]
    figure = explain.layer_figure(model, digit)
    texts_of(figure)  # None of them overlap.
    titles = [axis.get_title(loc="left").split(": ")[1].split(", ")[0] for axis in figure.axes[2:]]
    return titles, [pictures(axis) if axis.images else bars(axis) for axis in figure.axes[2:]]


def pictures(axis):
    """Cut a row into its pictures again."""
    (image,) = axis.images
    values = np.float32(np.ma.filled(image.get_array(), 0))
    red, blue = image.to_rgba(values)[..., 0], image.to_rgba(values)[..., 2]
    assert (np.sign(values) * (blue - red) > -0.01).all(), "blue is above zero, orange below"
    lines = np.vsplit(values, len(axis.get_yticks()) - 1)
    return np.concatenate([np.hsplit(line, len(axis.get_xticks()) - 1) for line in lines])


def bars(axis):
    values = np.array([segment[1, 1] for segment in axis.collections[0].get_segments()])
    expected = np.where(values[:, None] < 0, ORANGE, BLUE)
    np.testing.assert_array_equal(axis.collections[0].get_colors(), expected)
    return values


def test_the_networks_are_the_article_s_and_each_layer_is_shown(trained):
    model = keras.saving.load_model(trained.model_path)
    names = " ".join(type(layer).__name__ for layer in model.layers)
    assert (names, model.count_params()) == ARTICLE[trained.kind]
    images, weights = DIGITS["x_test"][:40], model.get_weights()
    compute = {"ann": ann_by_numpy, "cnn": cnn_by_numpy}[trained.kind]
    *expected, probabilities = compute(images / 255, weights)
    by_keras = probabilities_by_keras(trained.model_path, images)
    np.testing.assert_allclose(by_keras, probabilities, atol=1e-4)
    assert by_keras.max(axis=1).mean() > 0.5, "an untrained network would hide a wrong layer"

    titles, (first, *shown) = rows_of(model, images[0])
    for values, reference in zip(shown, expected, strict=True):
        np.testing.assert_allclose(values, np.moveaxis(reference[0], -1, 0), atol=1e-4)
    if trained.kind == "cnn":
        assert titles[0] == "32 filters"
        np.testing.assert_array_equal(first, weights[0][:, :, 0].transpose(2, 0, 1))
    else:
        excited = np.argsort(-shown[0])[:32]
        assert titles[0] == "weights of the 32 most excited of 300 neurons"
        np.testing.assert_array_equal(first[:, :28], weights[0].T[excited].reshape(-1, 28, 28))
        beside = [text.get_text() for text in plt.gcf().axes[2].texts]
        assert beside == [f"{value:.2g}" for value in shown[0][excited]]


def test_of_many_maps_those_are_shown_that_the_digit_excites_most():
    model = sequential(layers.Conv2D(40, 3, name="x" * 99), layers.GlobalMaxPooling2D(), end())
    titles, (filters, maps, highest) = rows_of(model, DIGITS["x_test"][0])
    assert titles[:2] == [f"the 32 most excited of 40 {name}" for name in ("filters", "maps")]
    np.testing.assert_allclose(maps.max(axis=(1, 2)), np.sort(highest)[:-33:-1], atol=1e-6)
    assert filters.shape == (32, 3, 3)


ROWS = {
    "dropout and activations": [
        "6 filters",
        *4 * ["6 maps"],
        *3 * ["9 activations"],
        "10 activations",
    ],
    "residual": ["4 filters", *7 * ["4 maps"], "8 maps", "8 activations"],
    "nested": [*2 * ["1 filter", "1 map"], "weights of 10 neurons"],
    "rows": [*5 * ["1 map"], "4 activations"],
    "mixed precision": ["4 filters", "4 maps", "4 maps", "8 activations"],
}


@pytest.mark.parametrize("name", ROWS)
def test_networks_that_learners_build_show_each_layer_that_changes_something(name):
    keras.utils.set_random_seed(0)
    assert rows_of(NETWORKS[name](), DIGITS["x_test"][0])[0] == ROWS[name]
