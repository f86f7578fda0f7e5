"""The training scripts: what they print and leave behind, and how they fail."""

import ast
import re
import runpy
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT, SCRIPTS, user_lines
from scipy import stats

SHORT = ["--epochs", "1", "--batch-size", "64"]


def test_prints_accuracy_with_wilson_interval_and_model_last(trained):
    accuracy, saved = trained.stdout.splitlines()[-2:]
    assert saved == f"Saved mnist_{trained.kind}.keras"
    match = re.fullmatch(
        r"Test accuracy: ([\d.]+)% \((\d+) of (\d+), 95% interval ([\d.]+)% to ([\d.]+)%\)",
        accuracy,
    )
    share, correct, count, low, high = map(float, match.groups())
    assert count == 360
    assert share == pytest.approx(100 * correct / count, abs=0.005)
    expected = stats.binomtest(int(correct), int(count)).proportion_ci(0.95, method="wilson")
    assert low == pytest.approx(100 * expected.low, abs=0.006)
    assert high == pytest.approx(100 * expected.high, abs=0.006)
    assert share > 80, "six epochs are enough to learn most of it"


def test_accuracy_printed_is_that_of_the_saved_model(trained, sample_npz):
    model = keras.saving.load_model(trained.model_path)
    with np.load(sample_npz) as arrays:
        images = arrays["x_test"].astype("float32").reshape(-1, *model.input_shape[1:]) / 255
        correct = (model.predict(images, verbose=0).argmax(axis=1) == arrays["y_test"]).sum()
    assert f"({correct} of 360," in trained.stdout


def test_shows_summary_and_progress(trained):
    assert "Total params: " in trained.stdout
    assert "Epoch 6/6" in trained.stdout
    assert "val_accuracy" in trained.stdout


def test_leaves_the_model_and_its_learning_curves_alone(trained):
    names = sorted(path.name for path in trained.folder.iterdir())
    stem = f"mnist_{trained.kind}"
    assert names == [f"{stem}.keras", f"{stem}.png", f"train_{trained.kind}.py"]


@pytest.fixture(params=["ann", "cnn"])
def in_process(request, sample_npz, tmp_path, monkeypatch):
    """Run a script as `%run` does, and return the names that it leaves behind."""

    def run_in_process(*arguments):
        script = SCRIPTS[request.param]
        command = [script.name, "--data", str(sample_npz), *SHORT, *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)  # Leave Ctrl-C to pytest.
        monkeypatch.chdir(tmp_path)
        return runpy.run_path(str(script), run_name="__main__")

    return run_in_process


def test_same_seed_same_weights_bit_for_bit(in_process):
    first, second, other = (in_process("--seed", seed)["model"].get_weights() for seed in (7, 7, 8))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != c).any() for a, c in zip(first, other, strict=True))


def test_leaves_its_results_to_play_with(in_process, sample_npz):
    names = in_process()
    assert len(names["history"].history["val_loss"]) == 1
    with np.load(sample_npz) as arrays:
        np.testing.assert_array_equal(names["y_test"], arrays["y_test"])
        np.testing.assert_allclose(names["x_test"].reshape(-1, 28, 28) * 255, arrays["x_test"])
    assert names["x_test"].dtype == np.float32
    assert names["model"].predict(names["x_test"], verbose=0).shape == (360, 10)


def test_last_training_images_are_the_validation_split(in_process, sample_npz):
    names = in_process()
    with np.load(sample_npz) as arrays:
        x_train, y_train = arrays["x_train"], arrays["y_train"]
    split = len(x_train) - len(x_train) // 12
    np.testing.assert_allclose(names["x_train"].reshape(-1, 28, 28) * 255, x_train[:split])
    np.testing.assert_allclose(names["x_val"].reshape(-1, 28, 28) * 255, x_train[split:])
    np.testing.assert_array_equal(names["y_val"], y_train[split:])


def test_augmentation_changes_images_a_little_and_anew_each_epoch(in_process):
    names = in_process()
    x_train = names["x_train"]
    originals = {image.tobytes() for image in x_train}
    epochs = [np.concatenate([images for images, _ in names["augmented"]]) for _ in range(2)]
    for images in epochs:
        assert images.shape == x_train.shape
        assert images.dtype == np.float32
        assert images.min() >= 0
        assert images.max() <= 1
        assert sum(image.tobytes() in originals for image in images) == 0
        assert images.mean() == pytest.approx(x_train.mean(), rel=0.05)
    # One image, twice with the same seed and once with another.
    one = x_train[:1]
    batch = (one, names["y_train"][:1])
    first, again, other = (
        np.asarray(names["augment"](batch, seed)[0]) for seed in np.array([[1, 2], [1, 2], [1, 3]])
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    overlap = (first * one).sum() / np.sqrt((one**2).sum() * (first**2).sum())
    assert overlap > 0.5, "the digit must still be about where it was"
    # The order differs from epoch to epoch, so compare each epoch's set of images.
    sets = [{image.tobytes() for image in images} for images in epochs]
    assert not sets[0] & sets[1]


@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--epochs", "0"], "at least 1"),
        (["--epochs", "-3"], "at least 1"),
        (["--epochs", "many"], "invalid int value: 'many'"),
        (["--batch-size", "0"], "at least 1"),
        (["--learning-rate", "nan"], "more than 0"),
        (["--learning-rate", "0"], "more than 0"),
        (["--seed", "-1"], "from 0 to"),
        (["--output", "model.h5"], "must end in .keras"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["stray"], "unrecognized arguments: stray"),
    ],
)
def test_wrong_command_line_is_one_line_and_status_2(run, tmp_path, kind, arguments, says):
    process = run(SCRIPTS[kind], *arguments)
    assert process.returncode == 2
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"train_{kind}.py: ")
    assert says in line
    assert "--help" in line
    assert not list(tmp_path.iterdir())


def good_arrays():
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (60, 28, 28), np.uint8),
        "y_train": np.arange(60, dtype=np.uint8) % 10,
        "x_test": rng.integers(0, 256, (10, 28, 28), np.uint8),
        "y_test": np.arange(10, dtype=np.uint8),
    }


BAD_ARRAYS = {
    "lacks_y_test": (lambda a: a.pop("y_test"), "lacks y_test"),
    "float_images": (lambda a: a.update(x_train=a["x_train"] / 255), "x_train must be uint8"),
    "flat_images": (
        lambda a: a.update(x_test=a["x_test"].reshape(10, 784)),
        "x_test must be uint8 of shape (n, 28, 28), not uint8 (10, 784)",
    ),
    "colour_images": (lambda a: a.update(x_train=np.zeros((60, 28, 28, 3), np.uint8)), "x_train"),
    "scalar": (lambda a: a.update(x_train=np.uint8(3)), "x_train"),
    "no_images": (lambda a: a.update(x_train=a["x_train"][:0]), "x_train"),
    "too_few_images": (
        lambda a: a.update(x_train=a["x_train"][:5], y_train=np.arange(5)),
        "at least 12",
    ),
    "fewer_labels": (lambda a: a.update(y_train=a["y_train"][:59]), "(60,), not uint8 (59,)"),
    "float_labels": (lambda a: a.update(y_test=a["y_test"] / 1), "integers"),
    "label_10": (lambda a: a.update(y_test=a["y_test"] + 1), "from 0 to 9, not 1 to 10"),
    "label_negative": (lambda a: a.update(y_train=np.arange(60) % 10 - 1), "-1 to 8"),
    "objects": (lambda a: a.update(y_test=np.array([{}] * 10)), "allow_pickle"),
}


def damaged_files(folder):
    """Write files that are no `.npz` with MNIST's arrays, and tell what the message must say."""
    whole = folder / "whole.npz"
    np.savez_compressed(whole, **good_arrays())
    content = whole.read_bytes()
    for name, data in {
        "cut": content[: len(content) // 2],
        "flipped": content[:2000] + bytes(200) + content[2200:],
        "empty": b"",
        "text": b"x_train,y_train\n",
        "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }.items():
        path = folder / f"{name}.npz"
        path.write_bytes(data)
        yield path, ""
    np.save(folder / "array.npy", np.zeros((60, 28, 28), np.uint8))
    yield folder / "array.npy", ""
    yield folder / "missing.npz", "No such file"
    yield folder, "Is a directory"
    for name, (spoil, says) in BAD_ARRAYS.items():
        arrays = good_arrays()
        spoil(arrays)
        np.savez(folder / f"{name}.npz", **arrays)
        yield folder / f"{name}.npz", says


def test_bad_data_is_one_line_and_status_1(in_process, tmp_path, capsys):
    folder = tmp_path / "bad data"
    folder.mkdir()
    for path, says in damaged_files(folder):
        with pytest.raises(SystemExit) as stop:
            in_process("--data", path)
        # A string given to sys.exit is printed on standard error, and the status is 1.
        assert isinstance(stop.value.code, str), path
        assert str(path) in stop.value.code
        assert says in stop.value.code
        assert "\n" not in stop.value.code
    assert "Epoch" not in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["bad data"]


def test_bad_data_from_the_command_line(run, tmp_path):
    process = run("train_ann.py", "--data", "missing.npz")
    assert process.returncode == 1
    (line,) = user_lines(process.stderr)
    assert line.startswith("Cannot train on missing.npz: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", SCRIPTS)
def test_diverged_training_keeps_the_earlier_model(run, tmp_path, kind, sample_npz):
    output = tmp_path / f"mnist_{kind}.keras"
    output.write_bytes(b"earlier")
    process = run(
        SCRIPTS[kind], "--data", sample_npz, "--learning-rate", "1e38", "--batch-size", "16"
    )
    assert process.returncode == 1
    (line,) = user_lines(process.stderr)
    assert "smaller --learning-rate" in line
    assert [path.name for path in tmp_path.iterdir()] == [output.name]
    assert output.read_bytes() == b"earlier"


def test_scripts_stand_alone():
    for path in SCRIPTS.values():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
        assert not imported & {file.stem for file in ROOT.glob("*.py")}
        assert "# %% " in path.read_text(encoding="utf-8")


def test_default_settings_on_mnist(trained_on_mnist):
    """The promise of the README, with room for the luck of one seed."""
    at_least = {"ann": 0.990, "cnn": 0.992}[trained_on_mnist.kind]
    correct, count = map(int, re.search(r"\((\d+) of (\d+),", trained_on_mnist.stdout).groups())
    assert count == 10_000
    assert correct / count >= at_least
