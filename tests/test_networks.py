"""The networks: the saved ones are the article's, and a learner's own ones are welcome."""

import keras
import numpy as np
from conftest import SCRIPTS, probabilities_by_keras, train_here

ARTICLE = {  # The layers, the shapes of their weights, and how many parameters that makes.
    "ann": (
        "Flatten Dense Dense Dense Dense",
        [(784, 300), (300, 200), (200, 100), (100, 10)],
        316_810,
    ),
    "cnn": (
        "Conv2D MaxPooling2D Conv2D MaxPooling2D Flatten Dense Dense",
        [(3, 3, 1, 32), (3, 3, 32, 16), (64, 300), (300, 10)],
        27_454,
    ),
}


def test_layers_and_parameters_are_the_article_s(trained):
    model = keras.saving.load_model(trained.model_path)
    names = " ".join(type(layer).__name__ for layer in model.layers)
    shapes = [weights.shape for weights in model.get_weights()[::2]]
    assert (names, shapes, model.count_params()) == ARTICLE[trained.kind]


def test_forward_pass_is_recomputed_with_numpy(trained, sample_npz):
    with np.load(sample_npz) as arrays:
        images = arrays["x_test"][:40]
    weights = keras.saving.load_model(trained.model_path).get_weights()
    by_numpy = {"ann": ann_by_numpy, "cnn": cnn_by_numpy}[trained.kind](images / 255, weights)
    by_keras = probabilities_by_keras(trained.model_path, images)
    assert by_keras.shape == (40, 10)
    np.testing.assert_allclose(by_keras, by_numpy, atol=1e-4)
    assert by_keras.max(axis=1).mean() > 0.5, "an untrained network would hide a wrong layer"


def ann_by_numpy(images, weights):
    flat = images.reshape(len(images), 784)
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        flat = np.maximum(flat @ kernel + bias, 0)
    return softmax(flat @ weights[-2] + weights[-1])


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


def test_a_learner_s_changed_script_gives_a_model_that_predict_opens(
    predict_here, tmp_path, sample_npz
):
    source = SCRIPTS["cnn"].read_text(encoding="utf-8")
    before, after = source.split("layers.Flatten(),")
    new = "layers.BatchNormalization(), layers.Flatten(), layers.Dropout(0.5),"
    script = tmp_path / "my_cnn.py"
    script.write_text(before + new + after, encoding="utf-8")
    train_here(script, tmp_path, "--data", sample_npz, "--epochs", 1, "--output", "mine.keras")
    process = predict_here("--data", sample_npz, "--model", "mine.keras")
    assert process.returncode == 0, process.stderr
    assert "of 25 test digits are correct (mine.keras)" in process.stdout
