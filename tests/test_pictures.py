"""`predict.py` on people's pictures: what it prints, the figure, the table, and how it fails."""

import io
import os
import pathlib
import sys

import numpy as np
import paper
import pytest
import sample_digits
from conftest import probabilities_by_keras
from PIL import Image
from test_predict import read_csv

import handwriting
import predict

(_, _), (X_TEST, Y_TEST) = sample_digits.load_data()


def save_picture(path, *digits, lines=1, **options):
    """Write the test digits with these numbers in lines on paper, and save the picture."""
    picture = paper.sheet(400 * lines, 240 + 150 * len(digits))
    for line in range(lines):
        paper.write_number(picture, X_TEST[list(digits)], 60, 90 + 400 * line, 200)
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(paper.as_bytes(picture)).save(path, **options)


@pytest.fixture
def predict_pictures(predict_here, trained_cnn):
    def run_predict(*arguments):
        return predict_here(*arguments, "--model", trained_cnn.model_path)

    return run_predict


def test_lines_figure_and_table(predict_here, trained, tmp_path):
    save_picture(tmp_path / "number.png", 0, 1, 2, 3, lines=2)
    process = predict_here("number.png", "--csv", "digits.csv", "--model", trained.model_path)
    assert (process.returncode, process.stderr) == (0, "")
    digits = handwriting.read_picture(tmp_path / "number.png").digits
    probabilities = probabilities_by_keras(trained.model_path, [digit.image for digit in digits])
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    number = "{}{}{}{} {}{}{}{}".format(*predicted)
    line = f"number.png: {number} (least sure: {handwriting.percent(confidence.min())})"
    assert process.stdout.splitlines() == [line, "Saved predictions.png"]
    rows = read_csv(tmp_path / "digits.csv")
    assert len(rows) == 8
    for i, (row, digit) in enumerate(zip(rows, digits, strict=True)):
        assert (row["image"], row["line"], row["position"]) == ("number.png", str(i // 4), str(i))
        box = [int(row[key]) for key in ("left", "top", "width", "height")]
        assert box == [digit.left, digit.top, digit.width, digit.height]
        assert (row["original"], int(row["predicted"])) == ("", predicted[i])
        assert float(row["confidence"]) == pytest.approx(confidence[i], abs=1e-5)


def test_a_folder_named_0_to_9_tells_the_class_of_each_digit(predict_pictures, tmp_path):
    save_picture(tmp_path / "mine" / "7" / "one.png", 0)
    save_picture(tmp_path / "mine" / "7" / "several.png", 0, 1)
    save_picture(tmp_path / "mine" / "with space é 数 $x$.jpg", 0, 1)
    (tmp_path / "mine" / "7" / "notes.txt").write_text("not a picture, and not named as one")
    save_picture(tmp_path / "mine" / ".venv" / "0.png", 0)
    (tmp_path / "mine" / "again").symlink_to(tmp_path / "mine")
    for name, paths in {
        "mine": [*3 * ["mine/7"], *2 * ["mine"]],
        "mine/7": 3 * ["mine/7"],
        "mine/7/one.png": ["mine/7"],
    }.items():
        process = predict_pictures(name, "--csv", "digits.csv")
        assert (process.returncode, process.stderr) == (0, "")
        rows = read_csv(tmp_path / "digits.csv")
        assert [os.path.dirname(row["image"]) for row in rows] == paths
        labelled = [row for row in rows if "7/" in row["image"]]
        assert {row["original"] for row in labelled} == {"7"}
        assert {row["original"] for row in rows if row not in labelled} <= {""}
        correct = sum(row["predicted"] == "7" for row in labelled)
        assert f"{correct} of {len(labelled)} labelled digits are correct" in process.stdout


def test_the_working_folder_tells_no_class(trained_cnn, tmp_path, monkeypatch, capsys):
    save_picture(tmp_path / "7" / "phone.png", 0)
    monkeypatch.chdir(tmp_path / "7")
    assert predict.main(["phone.png", "--model", str(trained_cnn.model_path)]) == 0
    assert "labelled" not in capsys.readouterr().out


def test_its_own_figures_are_not_pictures(predict_pictures, tmp_path):
    save_picture(tmp_path / "number.png", 0, 1)
    first, second = (predict_pictures(".").stdout for _ in range(2))
    assert first == second
    before = (tmp_path / "predictions.png").read_bytes()
    process = predict_pictures("predictions.png")
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == (
        "predictions.png: there is no picture, or only this project's figures.\n"
    )
    assert (tmp_path / "predictions.png").read_bytes() == before


@pytest.mark.parametrize("given", ["predictions.png", "link.png"])
def test_no_picture_is_ever_overwritten(predict_pictures, tmp_path, given):
    save_picture(tmp_path / "predictions.png", 0)
    (tmp_path / "link.png").symlink_to("predictions.png")
    before = (tmp_path / "predictions.png").read_bytes()
    process = predict_pictures(given)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == "predictions.png is one of the pictures: choose another --output.\n"
    assert (tmp_path / "predictions.png").read_bytes() == before


def test_a_pattern_is_expanded_and_a_progress_bar_needs_a_terminal(
    predict_pictures, tmp_path, monkeypatch
):
    for name in ("a.png", "b.png", "c[1].png"):
        save_picture(tmp_path / name, 0)
    process = predict_pictures("?.png", "c[1].png")
    assert (process.returncode, process.stderr) == (0, ""), "no bar in a pipe"
    names = [line.split(":")[0] for line in process.stdout.splitlines()]
    assert names[:3] == ["a.png", "b.png", "c[1].png"]
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    assert list(predict.show_progress("abc", 3, "pictures")) == list("abc")
    assert screen.getvalue().endswith("] 3/3 pictures\n")


def test_bad_pictures_are_reported_and_the_others_still_read(predict_pictures, tmp_path):
    photos = tmp_path / "photos"
    save_picture(photos / "good.png", 0)
    save_picture(photos / "good.jpg", 0, format="PNG")  # What is in it counts, not its name.
    (photos / "text.png").write_text("I am a text.")
    (photos / "empty.jpg").touch()
    (photos / "cut.png").write_bytes((photos / "good.png").read_bytes()[:5_000])
    Image.new("RGB", (300, 300)).save(photos / "drawing.gif")
    Image.new("L", (600, 400), 240).save(photos / "blank.png")
    good = Image.open(photos / "good.png")
    good.save(photos / "pages.tiff", save_all=True, append_images=[good.copy()])
    (tmp_path / "nothing").mkdir()
    process = predict_pictures("photos", "missing.png", "nothing", "--csv", "digits.csv")
    assert process.returncode == 1
    says = {
        "photos/text.png": "not a picture that can be read (PNG, JPEG, BMP, WebP, TIFF, HEIC)",
        "photos/empty.jpg": "not a picture that can be read",
        "photos/cut.png": "cut short",
        "photos/drawing.gif": "not a picture that can be read",
        "photos/blank.png": "no digit was found",
        "photos/pages.tiff": "only the first picture in it is read",
        "missing.png": "No such file",
        "nothing": "there is no picture",
    }
    lines = process.stderr.splitlines()
    assert len(lines) == len(says), lines
    for name, text in says.items():
        assert [line for line in lines if line.startswith(f"{name}: ") and text in line]
    read = [row["image"] for row in read_csv(tmp_path / "digits.csv")]
    assert read == ["photos/good.jpg", "photos/good.png", "photos/pages.tiff"]


def test_an_iphones_photo_is_read_upright(tmp_path, monkeypatch):
    """The file holds a 7 that lies on its side, and the note to turn it once."""
    path = pathlib.Path(__file__).parent / "seven.heic"
    (digit,) = handwriting.read_picture(path).digits
    assert digit.height > 1.2 * digit.width
    monkeypatch.setattr(handwriting.picture, "pi_heif", None)
    with pytest.raises(ValueError, match="Export it as JPEG"):
        handwriting.read_picture(path)


def test_an_array_may_be_gray_rgb_rgba_or_floats():
    picture = paper.sheet(200, 200, 3 * [0.9])
    paper.write(picture, X_TEST[0], 50, 50, 100, 3 * [0.1])
    gray = paper.as_bytes(picture)[..., 0]
    (expected,) = handwriting.read_digits(np.stack(3 * [gray], axis=2))
    opaque = np.full_like(gray, 255)
    rgba = np.stack([*3 * [gray], opaque], axis=2)
    for array in (gray, gray[..., np.newaxis], rgba, gray / 255, np.int64(gray)):
        (digit,) = handwriting.read_digits(array)
        np.testing.assert_array_equal(digit.image, expected.image)
    for array in (gray[0], gray[np.newaxis], np.float32(gray), gray / -255, gray[:0], "7.png"):
        with pytest.raises(ValueError, match="A picture is an array of shape"):
            handwriting.read_digits(array)
