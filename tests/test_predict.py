"""`predict.py` on test digits: the figure, the counts, the table, and how it fails."""

import csv
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ENVIRONMENT, ROOT, probabilities_by_keras, user_lines
from PIL import Image

import handwriting
import plots
import predict

COLUMNS = "image,line,position,left,top,width,height,original,predicted,confidence"


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
        assert (row["line"], row["position"], row["left"], row["height"]) == ("0", "0", "", "")
        assert (int(row["original"]), int(row["predicted"])) == (original, predicted)
        assert float(row["confidence"]) == pytest.approx(confidence, abs=1e-5)


def test_as_a_user_runs_it(run, trained_cnn, sample_npz, tmp_path):
    """In a process of its own, TensorFlow's start-up messages must not reach the screen."""
    process = run("predict.py", "--data", sample_npz, "--model", trained_cnn.model_path)
    assert (process.returncode, user_lines(process.stderr)) == (0, [])
    assert process.stdout.splitlines()[-1] == "Saved predictions.png"
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.png"]


def test_only_the_digits_that_are_shown_are_predicted(predict_digits, expected, tmp_path):
    asked, plain = [], predict.predict
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "predict", lambda *args: asked.append(args[1]) or plain(*args))
        process = predict_digits("--csv", "digits.csv")
    assert (process.returncode, process.stderr) == (0, "")
    assert (tmp_path / "digits.csv").read_text(encoding="utf-8").splitlines()[0] == COLUMNS
    rows = read_csv(tmp_path / "digits.csv")
    assert len({row["image"] for row in rows}) == len(*asked) == 25
    check_rows(rows, expected)
    correct = sum(row["original"] == row["predicted"] for row in rows)
    assert process.stdout.startswith(f"{correct} of 25 test digits are correct (")
    assert min(Image.open(tmp_path / "predictions.png").size) > 500


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
    correct = 360 - len(wrong)
    assert f"{correct} of 360 test digits are correct, {len(wrong)} are wrong" in process.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "a-confusion.png", "a.png"}
    with np.load(sample_npz) as arrays:
        easy = {name: np.delete(arrays[name], wrong, axis=0) for name in ("x_test", "y_test")}
    np.savez(tmp_path / "easy.npz", **easy)
    process = predict_digits("--mistakes", "--data", "easy.npz")
    assert f"{correct} test digits are correct, 0 are wrong" in process.stdout


def test_seed_and_the_default_model(predict_here, trained_cnn, sample_npz, tmp_path):
    shown = []
    for seed in (["--seed", 1], ["--seed", 1], ["--seed", 2], []):
        name = "mnist_cnn.keras" if shown else "mnist_ann.keras"  # The CNN, else the ANN.
        (tmp_path / name).write_bytes(trained_cnn.model_path.read_bytes())
        process = predict_here("--data", sample_npz, "--count", 5, "--csv", "a.csv", *seed)
        shown.append([row["image"] for row in read_csv(tmp_path / "a.csv")])
        assert f"({name})" in process.stdout
    assert shown[0] == shown[1]
    assert shown[2] != shown[0] != shown[3]


def test_pages_of_an_earlier_run_go_and_files_of_others_stay(
    predict_here, trained_cnn, sample_npz, tmp_path, monkeypatch
):
    monkeypatch.setattr(plots, "DIGITS_PER_PAGE", 2)
    shared = "--data", sample_npz, "--model", trained_cnn.model_path, "--count"
    (tmp_path / "predictions-3.png").write_bytes(b"mine")
    predict_here(*shared, 2, "--output", "predictions-9.png")  # A figure, but not a page.
    predict_here(*shared, 6)
    names = ("predictions", "predictions-2", "predictions-3-new")
    pages = {f"{name}.png" for name in names}
    kept = {"predictions-3.png", "predictions-9.png"}
    assert {path.name for path in tmp_path.iterdir()} == pages | kept
    assert {Image.open(tmp_path / page).info["Title"] for page in pages} == {"Predictions"}
    predict_here(*shared, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.png"} | kept
    assert (tmp_path / "predictions-3.png").read_bytes() == b"mine"


class Network:
    input_shape = (None, 28, 28)

    def __init__(self, *outputs):
        self.predict_on_batch = lambda images: np.float32(outputs)


def test_logits_become_probabilities_and_sigmoids_stay():
    for outputs, confidence in (([*9 * [0], 2], 0.451), ([*8 * [0.1], 0.8, 0.9], 0.9)):
        digit = handwriting.Digit(np.zeros((28, 28), np.uint8))
        predict.predict(Network(outputs), [digit])
        assert digit.predicted == 9
        assert digit.confidence == pytest.approx(confidence, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--count 0", "at least 1"),
        ("--count few", "invalid int value: 'few'"),
        ("--seed -1", "not be negative"),
        ("--output figure.txt", "must end in .png"),
        ("--csv mnist_cnn.keras", "must end in .csv"),
        ("--no-such-option", "unrecognized arguments: --no-such-option"),
        ("--csv a.csv --explain", "--csv and --explain cannot be combined"),
        *((f"a.png {one}", "cannot") for one in ("--mistakes", "--data x.npz", "--seed 0")),
        *((f"--draw {one}", "cannot") for one in ("--count 25", "--no-show", "--seed 0", "a.png")),
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
    before = set(tmp_path.iterdir())
    model = f"--model {trained_cnn.model_path}"
    for arguments, says in {
        "": "run python train_cnn.py first",
        "--model my.keras": "my.keras: No such file",
        f"{model} --output no/x.png": "Cannot write no/x.png",
        f"{model} --output folder.png": "Cannot write folder.png",
        f"{model} --csv no/x.csv": "Cannot write no/x.csv",
        f"{model} --data missing.npz": "Cannot load missing.npz: ",
        f"{model} --data text.npz": "Cannot load text.npz: ",
        f"{model} --data flat.npz": "it needs uint8 images (n, 28, 28)",
    }.items():
        process = predict_here(*arguments.split())
        assert (process.returncode, process.stdout) == (1, "")
        (line,) = process.stderr.splitlines()
        assert says in line
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("package", ["numpy", "cv2", "PIL", "keras", "tensorflow", "matplotlib"])
def test_a_missing_package_is_named(tmp_path, trained_cnn, sample_npz, package):
    code = f"import sys; sys.modules['{package}'] = None; import predict; sys.exit(predict.main())"
    process = subprocess.run(
        [sys.executable, "-c", code, "--data", sample_npz, "--model", trained_cnn.model_path],
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert process.returncode == 1
    (line,) = user_lines(process.stderr)
    assert re.search(f"{package}(, which)? is not installed here: run ", line)


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
