"""`predict.py` on test digits: the figure, the counts, the table, and how it fails."""

import csv
import re
import shutil
import signal
import socket
import types

import keras
import numpy as np
import pytest
from conftest import DIGITS, SCRIPTS, full_disk, probabilities_by_keras, run, train_here, user_lines
from matplotlib.figure import Figure
from PIL import Image

import handwriting
import plots
import predict


@pytest.fixture
def arguments(sample_npz, trained_cnn):
    return "--data", sample_npz, "--model", trained_cnn.model_path


@pytest.fixture
def expected(trained_cnn):
    """What Keras itself says of the test digits: original, predicted, confidence."""
    probabilities = probabilities_by_keras(trained_cnn.model_path, DIGITS["x_test"])
    return DIGITS["y_test"], probabilities.argmax(axis=1), probabilities.max(axis=1)


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_rows(rows, expected):
    columns = "image,line,position,left,top,width,height,original,predicted,confidence"
    assert ",".join(rows[0]) == columns
    for row in rows:
        image, line, position, *box, original, predicted, confidence = row.values()
        known = [column[int(image.removeprefix("test/"))] for column in expected]
        assert (line, position, box) == ("0", "0", 4 * [""])
        assert [int(original), int(predicted)] == known[:2]
        assert float(confidence) == pytest.approx(known[2], abs=1e-5)


def test_25_digits_are_predicted_and_nothing_else_is_printed(arguments, tmp_path, expected):
    """In a process of its own, TensorFlow's start-up messages must not reach the screen."""
    process = run(tmp_path, "predict.py", *arguments, "--csv", "digits.csv")
    assert (process.returncode, user_lines(process.stderr)) == (0, [])
    rows = read_csv(tmp_path / "digits.csv")
    check_rows(rows, expected)
    assert len({row["image"] for row in rows}) == 25
    correct = sum(row["original"] == row["predicted"] for row in rows)
    counted, saved = process.stdout.splitlines()
    assert counted.startswith(f"{correct} of 25 test digits are correct (")
    assert saved == "Saved predictions.png"
    assert {path.name for path in tmp_path.iterdir()} == {"digits.csv", "predictions.png"}
    assert min(Image.open(tmp_path / "predictions.png").size) > 500


def test_mistakes_are_the_wrong_ones_the_most_confident_first(
    predict_here, arguments, expected, tmp_path
):
    wrong = np.flatnonzero(expected[0] != expected[1])
    assert len(wrong) > 1, "the short training leaves some"
    options = "--mistakes", "--count", 1000, "--csv", "a.csv", "--output", "a.png"
    process = predict_here(*arguments, *options)
    assert (process.returncode, process.stderr) == (0, "")
    rows = read_csv("a.csv")
    check_rows(rows, expected)
    assert {row["image"] for row in rows} == {f"test/{i}" for i in wrong}
    confidence = [float(row["confidence"]) for row in rows]
    assert confidence == sorted(confidence, reverse=True)
    assert f"{360 - len(wrong)} of 360 test digits are correct (" in process.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "a-confusion.png", "a.png"}
    explained = predict_here(*arguments, "--mistakes", "--explain").stdout.splitlines()
    assert explained[0].startswith(f"{rows[0]['image']}: original {rows[0]['original']}, predicted")
    assert explained[1] == "Saved explanation.png"


def test_seed_and_the_default_model(predict_here, trained_cnn, sample_npz, tmp_path):
    shown = []
    for seed in (["--seed", 1], ["--seed", 1], ["--seed", 2], []):
        name = "mnist_cnn.keras" if shown else "mnist_ann.keras"  # The CNN, else the ANN.
        shutil.copy(trained_cnn.model_path, tmp_path / name)
        process = predict_here("--data", sample_npz, "--count", 5, "--csv", "a.csv", *seed)
        shown.append([row["image"] for row in read_csv("a.csv")])
        assert f"({name})" in process.stdout
    assert shown[0] == shown[1]
    assert shown[2] != shown[0] != shown[3]


def test_pages_of_an_earlier_run_go_and_files_of_others_stay(
    predict_here, arguments, tmp_path, monkeypatch
):
    def names(*options):
        predict_here(*arguments, *options)
        return {path.name for path in tmp_path.iterdir()}

    monkeypatch.setattr(plots, "DIGITS_PER_PAGE", 2)
    mine = names("--count", 2, "--output", "predictions-9.png")  # A figure, but not a page.
    mine |= {"predictions-4.png", "predictions.png"}
    (tmp_path / "predictions-4.png").write_bytes(b"mine")
    pages = {"predictions-2.png", "predictions-3.png"}
    assert names("--count", 6) == mine | pages
    with full_disk():
        assert names("--count", 2) == mine | pages
    assert names("--count", 2) == mine
    says = "predictions-4.png is not a page of predictions.png: choose another --output.\n"
    assert predict_here(*arguments, "--count", 8).stderr == says
    assert (tmp_path / "predictions-4.png").read_bytes() == b"mine"


def test_logits_become_probabilities_and_sigmoids_stay():
    for outputs, confidence in (
        ([*9 * [0], 2], 0.451),
        ([*9 * [-4], -2], 0.451),
        ([*8 * [0.1], 0.8, 0.9], 0.9),
    ):
        network = types.SimpleNamespace(
            input_shape=(None, 28, 28), predict_on_batch=lambda _, row=outputs: np.float32([row])
        )
        digit = handwriting.Digit(np.zeros((28, 28), np.uint8))
        predict.predict(network, [digit])
        assert (digit.predicted, digit.confidence) == (9, pytest.approx(confidence, abs=1e-3))


FAILURES = {  # The exit status, and what is said, in one line.
    "--count 0": (2, "at least 1"),
    "--seed -1": (2, "--seed at least 0"),
    "--csv mnist_cnn.keras": (2, "mnist_cnn.keras does not end in .csv"),
    "--data digits.csv": (2, "digits.csv does not end in .npz"),
    "--no-such-option": (2, "unrecognized arguments: --no-such-option"),
    "a.png --seed 0": (2, "--seed and pictures cannot be combined"),
    "--draw --no-show": (2, "--no-show and --draw cannot be combined"),
    "--model my.keras": (1, "There is no my.keras: run python train_cnn.py first"),
    "--output no/x.png": (1, "Cannot write no/x.png"),
    "--output folder.png": (1, "Cannot write folder.png"),
    "--data missing.npz": (1, "Cannot load missing.npz: "),
    "--data flat.npz": (1, "it needs uint8 images (n, 28, 28)"),
}


@pytest.mark.parametrize("command_line", FAILURES)
def test_what_is_wrong_is_one_line(trained_cnn, tmp_path, monkeypatch, capfd, command_line):
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained_cnn.model_path, "mnist_cnn.keras")
    (tmp_path / "folder.png").mkdir()
    np.savez("flat.npz", x_test=np.zeros((3, 784), np.uint8), y_test=np.arange(3))
    before = set(tmp_path.iterdir())
    try:
        status = predict.main(command_line.split())
    except SystemExit as stop:
        status = stop.code
    printed, (expected, says) = capfd.readouterr(), FAILURES[command_line]
    (line,) = user_lines(printed.err)
    assert (status, printed.out) == (expected, "")
    assert says in line
    assert status == 1 or "(see --help)" in line
    assert set(tmp_path.iterdir()) == before


MISSING = "raise ModuleNotFoundError('No module named it')"
ADVICE = "No module named it: run .venv/bin/pip install -r requirements.txt"
CTRL_C = "import signal; signal.raise_signal(signal.SIGINT)"
PACKAGES = [
    *((package, MISSING, 1, ADVICE) for package in ("cv2", "keras")),
    *((package, CTRL_C, 130, "Interrupted.") for package in ("argparse", "cv2", "tensorflow")),
]


@pytest.mark.parametrize(("package", "code", "status", "says"), PACKAGES)
def test_a_package_is_missing_or_ctrl_c_comes_while_it_is_imported(
    tmp_path, arguments, package, code, status, says
):
    (tmp_path / f"{package}.py").write_text(code)
    process = run(tmp_path, "predict.py", *arguments, PYTHONPATH=str(tmp_path))
    (line,) = user_lines(process.stderr)
    assert process.returncode == status
    assert line.startswith(says)


def test_a_bad_file_is_found_before_tensorflow_is_imported(tmp_path):
    (tmp_path / "bad.keras").write_bytes(b"PK\x03\x04 cut short")
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('imported')")
    process = run(tmp_path, "predict.py", "--model", "bad.keras", PYTHONPATH=str(tmp_path))
    assert process.stderr.startswith("bad.keras is damaged")


def test_the_earlier_figure_survives_a_full_disk_and_ctrl_c(
    predict_here, arguments, tmp_path, monkeypatch
):
    (tmp_path / "predictions.png").write_bytes(b"earlier")
    for savefig, status, says in (
        (full_disk()(Figure.savefig), 1, "Cannot write predictions.png: File too large.\n"),
        (lambda *_, **options: signal.raise_signal(signal.SIGINT), 130, "Interrupted.\n"),
    ):
        monkeypatch.setattr(Figure, "savefig", savefig)
        process = predict_here(*arguments)
        assert (process.returncode, process.stderr) == (status, says)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


def test_without_a_network_there_is_one_sentence(predict_here, tmp_path, trained_cnn, monkeypatch):
    load_data, timeouts = keras.datasets.mnist.load_data, []

    def download():
        timeouts.append(socket.getdefaulttimeout())
        return load_data("not-in-the-cache.npz")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", download)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # Where nothing answers.
    reason = r"MNIST \(see README.md, Without an internet connection\): .*fetch failure"
    for script in SCRIPTS.values():
        with pytest.raises(SystemExit, match=f"^Cannot train on {reason}"):
            train_here(script, tmp_path)
    process = predict_here("--model", trained_cnn.model_path)
    assert process.returncode == 1
    assert re.fullmatch(f"Cannot load {reason}.*\n", process.stderr)
    assert timeouts == [10, 10, 10], "a download that stalls ends"
    assert socket.getdefaulttimeout() is None, "a notebook's own connections have no limit"
    assert not list(tmp_path.iterdir())
