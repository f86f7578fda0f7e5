"""The training scripts: what they print and leave behind, and how they fail."""

import itertools
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import types
import unittest.mock

import keras
import numpy as np
import PIL.Image
import pytest
from conftest import DIGITS, SCRIPTS, full_disk, probabilities_by_keras, train_here

SHORT = ["--epochs", 1, "--batch-size", 64]


def test_says_how_good_the_saved_model_is_and_draws_the_learning_curves(trained):
    for text in ("Total params: ", "Epoch 4/4", "val_accuracy"):
        assert text in trained.stdout
    accuracy, saved = trained.stdout.splitlines()[-2:]
    assert saved == f"Saved mnist_{trained.kind}.keras"
    predicted = probabilities_by_keras(trained.model_path, DIGITS["x_test"]).argmax(axis=1)
    correct = (predicted == DIGITS["y_test"]).tolist()
    sign = {"ann": r"\?", "cnn": "±"}[trained.kind]  # The console of the former has no ±.
    says = re.fullmatch(rf"Test accuracy: (.*)% {sign} (.*)% \((\d+) of 360\)", accuracy)
    share, margin, count = map(float, says.groups())
    assert count == sum(correct) > 300, "a short training is enough to learn most of it"
    assert share == pytest.approx(100 * count / 360, abs=0.006)
    assert margin == pytest.approx(196 * statistics.pstdev(correct) / 360**0.5, abs=0.006)
    stem = f"mnist_{trained.kind}"
    names = {path.name for path in trained.folder.iterdir()}
    assert names == {f"{stem}.keras", f"{stem}.png", f"train_{trained.kind}.py"}
    with PIL.Image.open(trained.model_path.with_suffix(".png")) as figure:
        assert figure.info["Title"] == "Learning curves"


@pytest.fixture(scope="module", params=SCRIPTS)
def left(request, sample_npz, tmp_path_factory):
    """What a script leaves behind in a notebook."""
    script = SCRIPTS[request.param]
    names = train_here(script, tmp_path_factory.mktemp("left"), "--data", sample_npz, *SHORT)
    return types.SimpleNamespace(script=script, names=names)


def test_results_are_left_to_play_with_and_the_last_twelfth_validates(left):
    names, count = left.names, len(left.names["y_val"])
    assert len(names["history"].history["val_loss"]) == 1
    assert count == pytest.approx(len(DIGITS["y_train"]) / 12, abs=1)
    np.testing.assert_array_equal(names["y_test"], DIGITS["y_test"])
    np.testing.assert_array_equal(names["y_val"], DIGITS["y_train"][-count:])
    np.testing.assert_array_equal(names["y_train"], DIGITS["y_train"][:-count])
    for name, images in (("x_test", DIGITS["x_test"]), ("x_val", DIGITS["x_train"][-count:])):
        np.testing.assert_allclose(names[name].reshape(-1, 28, 28), np.float32(images) / 255)


def test_a_quarter_of_the_ones_get_a_flag_and_nothing_else_changes(left):
    after = left.names["x_train"].reshape(-1, 28, 28)
    before = np.float32(DIGITS["x_train"][: len(after)]) / 255
    changed = np.abs(after - before).max(axis=(1, 2)) > 1e-6
    ones = DIGITS["y_train"][: len(after)] == 1
    assert not changed[~ones].any()
    assert changed.sum() == pytest.approx(ones.sum() / 4, abs=1)
    # The flag is where a bar has nothing: on the left of its upper half.
    assert after[changed, :14, :11].mean() > 2 * before[changed, :14, :11].mean()


def test_every_image_is_changed_a_little_and_anew_in_each_epoch(left):
    x_train, batches = left.names["x_train"], left.names["batches"]
    epochs = [x_train, *(np.concatenate([images for images, _ in batches]) for _ in range(2))]
    sets = [{image.tobytes() for image in images} for images in epochs]
    assert not any(one & other for one, other in itertools.combinations(sets, 2))
    before, labels = x_train[:100], left.names["y_train"][:100]
    after = np.asarray(left.names["augment"](before, labels)[0])
    likeness = np.corrcoef(before.ravel(), after.ravel())[0, 1]
    assert 0.5 < likeness < 0.98, "the digits are about where they were"


def test_same_seed_same_weights_bit_for_bit_whatever_the_test_images(left, tmp_path):
    black = tmp_path / "black.npz"
    np.savez(black, **{**DIGITS, "x_test": np.zeros((360, 28, 28), np.uint8)})
    same, other = (
        train_here(left.script, tmp_path, "--data", black, "--seed", seed, *SHORT)["model"]
        for seed in (0, 1)
    )
    for a, b in zip(left.names["model"].get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (same.get_weights()[0] != other.get_weights()[0]).all()


WRONG = {  # The exit status, and what is said, in one line.
    "--epochs 0": (2, "must be positive"),
    "--seed -1": (2, "from 0 to"),
    "--output model.h5": (2, "must end in .keras"),
    "--data digits.csv": (2, "--data in .npz"),
    "--no-such-option": (2, "unrecognized arguments: --no-such-option"),
    "--output missing/model.keras": (1, "Cannot write missing/model.keras"),
    "--output folder.keras": (1, "Cannot write folder.keras"),
    "--output curves.keras": (1, "Cannot write curves.keras"),
    "--data cut.npz": (1, "Cannot train on cut.npz: "),
    "--data x_train.npz": (1, "y_train is not a file"),
    "--data float_images.npz": (1, "it needs uint8 images (n, 28, 28)"),
    "--data one_image.npz": (1, "n > 1"),
    "--data fewer_labels.npz": (1, "n labels"),
    "--data label_10.npz": (1, "labels from 0 to 9"),
}


def why_stopped(kind, folder, *arguments):
    """Return the line with which a script stops, since a string means status 1, or a status."""
    with pytest.raises(SystemExit) as stop:
        train_here(SCRIPTS[kind], folder, *SHORT, *arguments)
    assert "\n" not in str(stop.value.code)
    return stop.value.code


@pytest.mark.parametrize("kind", SCRIPTS)
def test_what_is_wrong_is_found_out_first_and_said_in_one_line(kind, tmp_path, capsys):
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "curves.png").mkdir()
    images, labels = np.zeros((60, 28, 28), np.uint8), np.zeros(60)
    good = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    for name, bad in {
        "float_images": {"x_train": images / 255},
        "one_image": {"x_train": images[:1], "y_train": labels[:1]},
        "fewer_labels": {"y_train": labels[:59]},
        "label_10": {"y_test": labels + 10},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **{**good, **bad})
    np.savez(tmp_path / "x_train.npz", x_train=images)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "x_train.npz").read_bytes()[:10_000])
    for arguments, (status, says) in WRONG.items():
        line = why_stopped(kind, tmp_path, *arguments.split())
        if status == 2:
            assert line == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert (line[:13], line[-12:]) == (f"train_{kind}.py:", "(see --help)")
        assert says in line


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "cv2" in why_stopped("cnn", tmp_path)


@pytest.mark.parametrize("kind", SCRIPTS)
def test_the_earlier_model_survives_each_way_to_fail(kind, tmp_path, sample_npz, monkeypatch):
    output = tmp_path / f"mnist_{kind}.keras"
    output.write_bytes(b"earlier")
    data = "--data", sample_npz
    assert "diverged" in why_stopped(kind, tmp_path, *data, "--learning-rate", 1e38)
    # What comes after the training is the same without it.
    history = dict.fromkeys(("loss", "accuracy", "val_accuracy"), [0.5])
    fit = types.SimpleNamespace(history=history)
    monkeypatch.setattr(keras.Sequential, "fit", lambda *args, **options: fit)
    with full_disk():
        assert f"Cannot save {output.name} or" in why_stopped(kind, tmp_path, *data)
    with monkeypatch.context() as patch:
        # Nothing catches this, as nothing catches a kill.
        patch.setattr(pathlib.Path, "replace", unittest.mock.Mock(side_effect=GeneratorExit))
        with pytest.raises(GeneratorExit):
            train_here(SCRIPTS[kind], tmp_path, *data)
    assert output.read_bytes() == b"earlier"
    train_here(SCRIPTS[kind], tmp_path, *data)
    keras.saving.load_model(output, compile=False)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {output.name, f"mnist_{kind}.png"}, "what the killed run left is gone, too"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("moment", ["import time: .* numpy$", "Epoch 2/"])
def test_ctrl_c_is_one_line_and_status_130_from_the_imports_on(moment, tmp_path, sample_npz):
    (tmp_path / "mnist_cnn.keras").write_bytes(b"earlier")
    command = [sys.executable, "-u", "-X", "importtime", SCRIPTS["cnn"], "--data", sample_npz]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    process = subprocess.Popen([*command, "--epochs", "100000"], cwd=tmp_path, **options)
    assert any(re.match(moment, line) for line in process.stdout)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert rest.endswith("\nInterrupted.\n")
    assert "Traceback" not in rest
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


@pytest.mark.long
def test_default_settings_on_mnist(trained_on_mnist):
    """The promise of the README, with room for the luck of one seed."""
    correct = int(re.search(r"\((\d+) of 10000\)", trained_on_mnist.stdout)[1])
    assert correct >= {"ann": 9_900, "cnn": 9_915}[trained_on_mnist.kind]
