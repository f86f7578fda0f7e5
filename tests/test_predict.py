"""`predict.py` on test digits: the figure, the counts, the table, and how it fails."""

import csv
import os
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from conftest import ROOT, probabilities_by_keras

import plots

HEADER = "image,position,left,top,width,height,original,predicted,confidence"


@pytest.fixture
def predict_digits(predict_here, trained, sample_npz):
    def run_predict(*arguments):
        return predict_here("--data", sample_npz, "--model", trained.model_path, *arguments)

    return run_predict


@pytest.fixture
def expected(trained, sample_npz):
    """What Keras itself says of the test digits: original, predicted, confidence."""
    with np.load(sample_npz) as arrays:
        probabilities = probabilities_by_keras(trained.model_path, arrays["x_test"])
        return arrays["y_test"], probabilities.argmax(axis=1), probabilities.max(axis=1)


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_rows(rows, expected):
    """Every row must say of its digit what Keras says."""
    for row in rows:
        i = int(row["image"].removeprefix("test/"))
        original, predicted, confidence = (column[i] for column in expected)
        assert (row["position"], row["left"], row["height"]) == ("0", "", "")
        assert (int(row["original"]), int(row["predicted"])) == (original, predicted)
        assert float(row["confidence"]) == pytest.approx(confidence, abs=1e-5)


def test_as_a_user_runs_it(run, trained_cnn, sample_npz, tmp_path):
    """In a process of its own, TensorFlow's start-up messages must not reach the screen."""
    process = run("predict.py", "--data", sample_npz, "--model", trained_cnn.model_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.splitlines()[-1] == "Saved predictions.png"
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.png"]


def test_figure_count_and_table(predict_digits, expected, tmp_path):
    process = predict_digits("--csv", "digits.csv")
    assert (process.returncode, process.stderr) == (0, "")
    assert (tmp_path / "digits.csv").read_text(encoding="utf-8").splitlines()[0] == HEADER
    rows = read_csv(tmp_path / "digits.csv")
    assert len({row["image"] for row in rows}) == 25
    check_rows(rows, expected)
    right = sum(row["original"] == row["predicted"] for row in rows)
    assert process.stdout.startswith(f"{right} of 25 test digits read right")
    assert min(matplotlib.image.imread(tmp_path / "predictions.png").shape[:2]) > 500


def test_mistakes_are_the_wrong_ones_the_most_confident_first(
    predict_digits, expected, sample_npz, tmp_path
):
    wrong = np.flatnonzero(expected[0] != expected[1])
    assert len(wrong) > 1, "the short training leaves some"
    process = predict_digits("--mistakes", "--count", 1000, "--csv", "a.csv", "--output", "a.png")
    assert (process.returncode, process.stderr) == (0, "")
    rows = read_csv(tmp_path / "a.csv")
    check_rows(rows, expected)
    assert {row["image"] for row in rows} == {f"test/{i}" for i in wrong}
    confidence = [float(row["confidence"]) for row in rows]
    assert confidence == sorted(confidence, reverse=True)
    assert f"{360 - len(wrong)} of 360 test digits read right, {len(wrong)} wrong" in process.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "a-confusion.png", "a.png"}
    with np.load(sample_npz) as arrays:
        easy = {name: np.delete(arrays[name], wrong, axis=0) for name in ("x_test", "y_test")}
    np.savez(tmp_path / "easy.npz", **easy)
    process = predict_digits("--mistakes", "--data", "easy.npz")
    assert f"{360 - len(wrong)} test digits read right, 0 wrong" in process.stdout


def test_seed_pages_and_the_default_model(
    predict_here, trained_cnn, sample_npz, tmp_path, monkeypatch
):
    monkeypatch.setattr(plots, "DIGITS_PER_PAGE", 2)
    shown, names = [], []
    for seed in (["--seed", 1], ["--seed", 1], ["--seed", 2], []):
        name = "mnist_cnn.keras" if shown else "mnist_ann.keras"  # The CNN, else the ANN.
        (tmp_path / name).write_bytes(trained_cnn.model_path.read_bytes())
        process = predict_here("--data", sample_npz, "--count", 5, "--csv", "a.csv", *seed)
        shown.append([row["image"] for row in read_csv(tmp_path / "a.csv")])
        first, *names = process.stdout.splitlines()
        assert f"({name})" in first
    assert shown[0] == shown[1]
    assert shown[2] != shown[0] != shown[3]
    assert names == [f"Saved predictions{page}.png" for page in ("", "-2", "-3")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--count 0", "at least 1"),
        ("--count few", "invalid int value: 'few'"),
        ("--seed -1", "not be negative"),
        ("--output figure.txt", "must end in .png"),
        ("--csv mnist_cnn.keras", "must end in .csv"),
        ("--no-such-option", "unrecognized arguments: --no-such-option"),
        ("a.png --mistakes", "for test digits, not for pictures"),
        ("a.png --data x.npz", "for test digits, not for pictures"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(predict_here, capfd, arguments, says):
    with pytest.raises(SystemExit) as stop:
        predict_here(*arguments.split())
    assert stop.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert says in line
    assert "--help" in line


def test_what_is_wrong_is_one_line_and_status_1(predict_here, trained_cnn, tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.npz").write_text("not an archive")
    black = np.zeros((3, 28, 28), np.uint8)
    np.savez(tmp_path / "flat.npz", x_test=black.reshape(3, 784), y_test=np.arange(3))
    np.savez(tmp_path / "column.npz", x_test=black, y_test=np.arange(3)[:, np.newaxis])
    before = set(tmp_path.iterdir())
    model = f"--model {trained_cnn.model_path}"
    for arguments, says in {
        "": "run python train_cnn.py first",
        "--model my.keras": "my.keras: No such file",
        f"{model} --output no/x.png": "Cannot write no/x.png",
        f"{model} --output text.npz/x.png": "Cannot write text.npz/x.png",
        f"{model} --output folder.png": "Cannot write folder.png",
        f"{model} --csv no/x.csv": "Cannot write no/x.csv",
        f"{model} --data missing.npz": "Cannot load missing.npz: ",
        f"{model} --data text.npz": "Cannot load text.npz: ",
        f"{model} --data flat.npz": "it needs uint8 images (n, 28, 28)",
        f"{model} --data column.npz": "n labels",
    }.items():
        process = predict_here(*arguments.split())
        assert (process.returncode, process.stdout) == (1, "")
        (line,) = process.stderr.splitlines()
        assert says in line
    assert set(tmp_path.iterdir()) == before


def test_answers_come_before_tensorflow_is_imported(tmp_path):
    """Help, a wrong command line, a missing and a bad file do not wait for TensorFlow."""
    (tmp_path / "bad.keras").write_bytes(b"PK\x03\x04 cut short")
    code = """if True:
        import contextlib, runpy, sys
        root, *scripts = sys.argv[1:]
        for script in scripts:
            for arguments in ("--help", "--nonsense", "--model bad.keras", "--output no/x"):
                sys.argv = [script, *arguments.split()]
                with contextlib.suppress(SystemExit):
                    runpy.run_path(f"{root}/{script}", run_name="__main__")
        print({"tensorflow", "keras", "matplotlib"} & set(sys.modules))
    """
    scripts = ["train_ann.py", "train_cnn.py", "predict.py"]
    process = subprocess.run(
        [sys.executable, "-c", code, ROOT, *scripts],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert process.stdout.splitlines()[-1] == "set()", process.stderr
    assert [process.stdout.count(f"usage: {script}") for script in scripts] == [1, 1, 1]
