"""The saved networks are the article's, layer by layer, and compute what those layers mean."""

import json
import zipfile

import keras
import numpy as np

ARTICLE = {
    "ann": [
        ("Flatten", {}),
        ("Dense", {"units": 300, "activation": "relu"}),
        ("Dense", {"units": 200, "activation": "relu"}),
        ("Dense", {"units": 100, "activation": "relu"}),
        ("Dense", {"units": 10, "activation": "softmax"}),
    ],
    "cnn": [
        ("Conv2D", {"filters": 32, "kernel_size": [3, 3], "activation": "linear"}),
        ("MaxPooling2D", {"pool_size": [3, 3]}),
        ("Conv2D", {"filters": 16, "kernel_size": [3, 3], "activation": "linear"}),
        ("MaxPooling2D", {"pool_size": [3, 3]}),
        ("Flatten", {}),
        ("Dense", {"units": 300, "activation": "relu"}),
        ("Dense", {"units": 10, "activation": "softmax"}),
    ],
}
SHAPE_IN = {"ann": [None, 28, 28], "cnn": [None, 28, 28, 1]}
PARAMETERS = {"ann": 316_810, "cnn": 27_454}


def test_layers_are_the_article_s(trained):
    with zipfile.ZipFile(trained.model_path) as archive:
        config = json.loads(archive.read("config.json"))
    assert config["class_name"] == "Sequential"
    first, *layers = config["config"]["layers"]
    assert first["class_name"] == "InputLayer"
    assert first["config"]["batch_shape"] == SHAPE_IN[trained.kind]
    assert [layer["class_name"] for layer in layers] == [name for name, _ in ARTICLE[trained.kind]]
    for layer, (_, expected) in zip(layers, ARTICLE[trained.kind], strict=True):
        assert {key: layer["config"][key] for key in expected} == expected
    for layer in layers:
        if layer["class_name"] in ("Conv2D", "MaxPooling2D"):
            assert layer["config"]["padding"] == "valid"
            size = layer["config"].get("pool_size", [1, 1])
            assert layer["config"]["strides"] == size
        if layer["class_name"] in ("Conv2D", "Dense"):
            assert layer["config"]["use_bias"]
            assert layer["config"]["kernel_regularizer"] is None


def test_parameters(trained):
    model = keras.saving.load_model(trained.model_path)
    assert model.count_params() == PARAMETERS[trained.kind]


def test_forward_pass_is_recomputed_with_numpy(trained, sample_npz):
    with np.load(sample_npz) as arrays:
        images = arrays["x_test"][:40].astype(np.float32) / 255
    model = keras.saving.load_model(trained.model_path)
    weights = model.get_weights()
    by_numpy = {"ann": ann_by_numpy, "cnn": cnn_by_numpy}[trained.kind](images, weights)
    by_keras = model.predict(images.reshape(-1, *model.input_shape[1:]), verbose=0)
    assert by_keras.shape == (40, 10)
    np.testing.assert_allclose(by_numpy.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(by_keras, by_numpy, atol=1e-4)
    assert by_keras.max(axis=1).mean() > 0.5, "an untrained network would hide a wrong layer"


def ann_by_numpy(images, weights):
    flat = images.reshape(len(images), 784).astype(np.float64)
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        flat = np.maximum(flat @ kernel + bias, 0)
    return softmax(flat @ weights[-2] + weights[-1])


def cnn_by_numpy(images, weights):
    maps = images[..., np.newaxis].astype(np.float64)
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
