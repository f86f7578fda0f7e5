"""The saved networks are the article's."""

import keras
import numpy as np
from conftest import DIGITS, probabilities_by_keras

ARTICLE = {
    "ann": ("Flatten Dense Dense Dense Dense", 316_810),
    "cnn": ("Conv2D MaxPooling2D Conv2D MaxPooling2D Flatten Dense Dense", 27_454),
}


def test_the_layers_are_the_article_s_as_numpy_computes_them(trained):
    model = keras.saving.load_model(trained.model_path)
    names = " ".join(type(layer).__name__ for layer in model.layers)
    assert (names, model.count_params()) == ARTICLE[trained.kind]
    images = DIGITS["x_test"][:40]
    compute = {"ann": ann_by_numpy, "cnn": cnn_by_numpy}[trained.kind]
    by_numpy = compute(images / 255, model.get_weights())
    by_keras = probabilities_by_keras(trained.model_path, images)
    np.testing.assert_allclose(by_keras, by_numpy, atol=1e-4)
    assert by_keras.max(axis=1).mean() > 0.5, "an untrained network would hide a wrong layer"


def ann_by_numpy(images, weights):
    flat = images.reshape(len(images), 784)
    for kernel, bias in (weights[0:2], weights[2:4], weights[4:6]):
        flat = np.maximum(flat @ kernel + bias, 0)
    return softmax(flat @ weights[6] + weights[7])


def cnn_by_numpy(images, weights):
    maps = images[..., np.newaxis]
    for kernel, bias in (weights[0:2], weights[2:4]):
        windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), axis=(1, 2))
        maps = np.einsum("nyxcij,ijcf->nyxf", windows, kernel) + bias
        side = maps.shape[1] // 3
        maps = maps[:, : 3 * side, : 3 * side].reshape(len(maps), side, 3, side, 3, -1)
        maps = maps.max(axis=(2, 4))
    flat = np.maximum(maps.reshape(len(maps), -1) @ weights[4] + weights[5], 0)
    return softmax(flat @ weights[6] + weights[7])


def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
