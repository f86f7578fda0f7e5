"""`predict.py` on test digits: the figure, the counts, the table, and how it fails."""

import csv
import os
import subprocess
import sys

import keras
import matplotlib.image
import numpy as np
import pytest
from conftest import ROOT

HEADER = "image,position,left,top,width,height,original,predicted,confidence"


@pytest.fixture
def expected(trained, sample_npz):
    """What Keras itself says of the test digits: original, predicted, confidence."""
    model = keras.saving.load_model(trained.model_path)
    with np.load(sample_npz) as arrays:
        images = arrays["x_test"].astype("float32").reshape(-1, *model.input_shape[1:]) / 255
        probabilities = model.predict(images, verbose=0)
        return arrays["y_test"], probabilities.argmax(axis=1), probabilities.max(axis=1)


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_rows(rows, expected):
    """Every row must say of its digit what Keras says."""
    original, predicted, confidence = expected
    for row in rows:
        source, number = row["image"].split("/")
        assert source == "test"
        i = int(number)
        assert row["position"] == "0"
        assert [row[key] for key in ("left", "top", "width", "height")] == [""] * 4
        assert int(row["original"]) == original[i]
        assert int(row["predicted"]) == predicted[i]
        assert float(row["confidence"]) == pytest.approx(confidence[i], abs=1e-5)


def test_test_digits(run, trained, sample_npz, expected, tmp_path):
    process = run(
        "predict.py", "--data", sample_npz, "--model", trained.model_path, "--csv", "digits.csv"
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == "", "TensorFlow's messages are kept off the screen"
    assert (tmp_path / "digits.csv").read_text(encoding="utf-8").splitlines()[0] == HEADER
    rows = read_csv(tmp_path / "digits.csv")
    assert len({row["image"] for row in rows}) == 25
    check_rows(rows, expected)
    right = sum(row["original"] == row["predicted"] for row in rows)
    assert process.stdout.splitlines()[0].startswith(f"{right} of 25 test digits read right")
    assert process.stdout.splitlines()[-1] == "Saved predictions.png"
    height, width, _ = matplotlib.image.imread(tmp_path / "predictions.png").shape
    assert min(height, width) > 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.csv", "predictions.png"]


def test_seed_chooses_the_digits(predict_here, trained, sample_npz, tmp_path):
    shown = []
    for seed in (["--seed", 1], ["--seed", 1], ["--seed", 2], []):
        predict_here(
            *("--data", sample_npz, "--model", trained.model_path),
            *("--csv", "digits.csv", "--count", 5, *seed),
        )
        shown.append([row["image"] for row in read_csv(tmp_path / "digits.csv")])
    assert shown[0] == shown[1]
    assert shown[2] != shown[0] != shown[3]
    assert all(len(images) == 5 for images in shown)


def test_mistakes_are_the_wrong_ones_the_surest_first(
    predict_here, trained, sample_npz, expected, tmp_path
):
    original, predicted, confidence = expected
    wrong = np.flatnonzero(original != predicted)
    assert len(wrong) > 1, "the short training leaves some"
    process = predict_here(
        *("--mistakes", "--count", 1000, "--csv", "mistakes.csv"),
        *("--data", sample_npz, "--model", trained.model_path, "--output", "wrong.png"),
    )
    assert process.returncode == 0, process.stderr
    rows = read_csv(tmp_path / "mistakes.csv")
    check_rows(rows, expected)
    assert {int(row["image"].split("/")[1]) for row in rows} == set(wrong)
    sureness = [float(row["confidence"]) for row in rows]
    assert sureness == sorted(sureness, reverse=True)
    assert f"{360 - len(wrong)} of 360 test digits read right, {len(wrong)} wrong" in process.stdout
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["mistakes.csv", "wrong-confusion.png", "wrong.png"]


def test_many_digits_make_several_pages(predict_here, trained, sample_npz, tmp_path):
    process = predict_here("--count", 250, "--data", sample_npz, "--model", trained.model_path)
    names = [f"predictions{page}.png" for page in ("", "-2", "-3")]
    assert process.stdout.splitlines()[1:] == [f"Saved {name}" for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_no_mistakes_at_all(predict_here, trained, sample_npz, expected, tmp_path):
    original, predicted, _ = expected
    right = np.flatnonzero(original == predicted)[:10]
    with np.load(sample_npz) as arrays:
        np.savez(
            tmp_path / "easy.npz", x_test=arrays["x_test"][right], y_test=arrays["y_test"][right]
        )
    process = predict_here("--mistakes", "--data", "easy.npz", "--model", trained.model_path)
    assert process.returncode == 0, process.stderr
    assert "10 of 10 test digits read right, 0 wrong" in process.stdout
    assert (tmp_path / "predictions.png").exists()


def test_default_model_is_the_cnn_else_the_ann(predict_here, trained, sample_npz, tmp_path):
    data = trained.model_path.read_bytes()
    (tmp_path / "mnist_ann.keras").write_bytes(data)
    process = predict_here("--data", sample_npz)
    assert "(mnist_ann.keras)" in process.stdout
    (tmp_path / "mnist_cnn.keras").write_bytes(data)
    process = predict_here("--data", sample_npz)
    assert "(mnist_cnn.keras)" in process.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--count", "0"], "at least 1"),
        (["--count", "few"], "invalid int value: 'few'"),
        (["--seed", "-1"], "not be negative"),
        (["--output", "figure.txt"], "must end in .png"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_wrong_command_line_is_one_line_and_status_2(run, tmp_path, arguments, says):
    process = run("predict.py", *arguments)
    assert process.returncode == 2
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("predict.py: ")
    assert says in line
    assert "--help" in line
    assert not list(tmp_path.iterdir())


def check_failure(process, *says):
    assert process.returncode == 1
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    for text in says:
        assert text in line


def test_no_model(predict_here):
    check_failure(predict_here(), "run python train_cnn.py first", "--model")
    check_failure(predict_here("--model", "my.keras"), "my.keras", "No such file")


def test_bad_paths(predict_here, trained, sample_npz, tmp_path):
    good = ["--data", sample_npz, "--model", trained.model_path]
    (tmp_path / "folder.png").mkdir()
    check_failure(predict_here(*good, "--output", "no/x.png"), "no/x.png", "No such file")
    check_failure(predict_here(*good, "--output", "folder.png"), "folder.png", "a folder")
    check_failure(predict_here(*good, "--csv", "no/x.csv"), "no/x.csv", "No such file")
    good[1] = "missing.npz"
    check_failure(predict_here(*good), "missing.npz", "No such file")
    (tmp_path / "text.npz").write_text("no archive")
    good[1] = "text.npz"
    check_failure(predict_here(*good), "text.npz")
    np.savez(tmp_path / "flat.npz", x_test=np.zeros((3, 784), np.uint8), y_test=np.arange(3))
    good[1] = "flat.npz"
    check_failure(predict_here(*good), "flat.npz", "(n, 28, 28)")
    assert {path.name for path in tmp_path.iterdir()} == {"folder.png", "text.npz", "flat.npz"}


def test_answers_before_tensorflow_is_imported(tmp_path):
    """Help, a wrong command line, a missing and a bad file do not wait for TensorFlow."""
    (tmp_path / "bad.keras").write_bytes(b"PK\x03\x04 cut short")
    code = (
        "import sys, predict\n"
        "for arguments in (['--help'], ['--nonsense'], ['--model', 'bad.keras'], []):\n"
        "    try:\n"
        "        predict.main(arguments)\n"
        "    except SystemExit:\n"
        "        pass\n"
        "print(sorted({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert process.stdout.splitlines()[-1] == "[]", process.stderr
    assert len(process.stderr.splitlines()) == 3
