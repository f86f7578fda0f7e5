"""`predict.py` on people's pictures: what it prints, the figure, the table, and how it fails."""

import io
import os
import pathlib
import sys

import numpy as np
import paper
import pytest
from conftest import DIGITS, probabilities_by_keras
from PIL import Image
from test_predict import read_csv

import handwriting
import predict


def save_picture(path, *digits, lines=1, **options):
    """Write the test digits with these numbers in lines on paper, and save the picture."""
    picture = paper.sheet(400 * lines, 240 + 150 * len(digits))
    for line in range(lines):
        paper.write_number(picture, DIGITS["x_test"][[*digits]], 60, 90 + 400 * line, 200)
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(paper.as_bytes(picture)).save(path, **options)


@pytest.fixture
def predict_pictures(predict_here, trained_cnn):
    def run_predict(*arguments, status=0, stderr=""):
        process = predict_here(*arguments, "--model", trained_cnn.model_path)
        assert (process.returncode, process.stderr) == (status, stderr)
        return process.stdout.splitlines()

    return run_predict


def test_lines_figure_and_table(predict_here, trained, tmp_path):
    save_picture(tmp_path / "number.png", 0, 1, 2, 3, lines=2)
    process = predict_here("number.png", "--csv", "digits.csv", "--model", trained.model_path)
    assert (process.returncode, process.stderr) == (0, "")
    digits = handwriting.read_picture("number.png").digits
    probabilities = probabilities_by_keras(trained.model_path, [digit.image for digit in digits])
    predicted = "".join(map(str, probabilities.argmax(axis=1)))
    least = handwriting.percent(probabilities.max(axis=1).min())
    line = f"number.png: {predicted[:4]} {predicted[4:]} (least sure: {least})"
    assert process.stdout.splitlines() == [line, "Saved predictions.png"]
    rows = [list(row.values()) for row in read_csv("digits.csv")]
    for i, (digit, *row) in enumerate(zip(digits, *zip(*rows, strict=True), strict=True)):
        box = digit.left, digit.top, digit.width, digit.height
        assert row[:-1] == ["number.png", *map(str, (i // 4, i, *box)), "", predicted[i]]
        assert float(row[-1]) == pytest.approx(probabilities[i].max(), abs=1e-5)
    assert len(rows) == 8


def test_a_folder_named_0_to_9_tells_the_class_of_each_digit(predict_pictures, tmp_path):
    mine = tmp_path / "mine"
    save_picture(mine / "7" / "one.png", 0)
    save_picture(mine / "7" / "several.png", 0, 1)
    save_picture(mine / "with space é 数 $x$.jpg", 0, 1)
    save_picture(mine / ".venv" / "0.png", 0)
    (mine / "7" / "notes.txt").write_text("not a picture, and not named as one")
    (mine / "again").symlink_to(mine)
    for name, labelled, others in (("mine", 3, 2), ("mine/7", 3, 0), ("mine/7/one.png", 1, 0)):
        printed = predict_pictures(name, "--csv", "digits.csv")
        rows = read_csv("digits.csv")
        assert [row["original"] for row in rows] == ["7"] * labelled + [""] * others
        folders = ["mine/7"] * labelled + ["mine"] * others
        assert [os.path.dirname(row["image"]) for row in rows] == folders
        correct = sum(row["predicted"] == "7" for row in rows[:labelled])
        says = f"{correct} of {labelled} labelled digits are correct ("
        assert any(line.startswith(says) for line in printed)


def test_the_working_folder_tells_no_class(trained_cnn, tmp_path, monkeypatch, capsys):
    save_picture(tmp_path / "7" / "phone.png", 0)
    monkeypatch.chdir(tmp_path / "7")
    assert predict.main(["phone.png", "--model", str(trained_cnn.model_path)]) == 0
    assert "labelled" not in capsys.readouterr().out


def test_its_own_figures_are_not_pictures_and_no_picture_is_overwritten(predict_pictures, tmp_path):
    for name in ("a.png", "b.png", "c[1].png"):
        save_picture(tmp_path / name, 0)
    for given in (["?.png", "c[1].png"], ["."]):  # Its figure is there the second time.
        read = [line.split(":")[0] for line in predict_pictures(*given)[:-1]]
        assert [*map(os.path.basename, read)] == ["a.png", "b.png", "c[1].png"]
    says = "predictions.png: there is no picture, or only this project's figures.\n"
    assert predict_pictures("predictions.png", status=1, stderr=says) == []
    (tmp_path / "a.png").replace(tmp_path / "predictions.png")
    (tmp_path / "link.png").symlink_to("predictions.png")
    before = (tmp_path / "predictions.png").read_bytes()
    says = "predictions.png is one of the pictures: choose another --output.\n"
    for given in ("predictions.png", "link.png"):
        assert predict_pictures(given, status=1, stderr=says) == []
    assert (tmp_path / "predictions.png").read_bytes() == before


def test_on_a_terminal_there_is_a_progress_bar(monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    assert list(predict.show_progress("abc", 3, "pictures")) == list("abc")
    assert screen.getvalue().endswith("] 3/3 pictures\n")


def test_bad_pictures_are_reported_and_the_others_still_read(predict_here, trained_cnn, tmp_path):
    photos = tmp_path / "photos"
    save_picture(photos / "good.jpg", 0, format="PNG")  # What is in it counts, not its name.
    good = Image.open(photos / "good.jpg")
    good.save(photos / "pages.tiff", save_all=True, append_images=[good.copy()])
    Image.new("RGB", (300, 300)).save(photos / "drawing.gif")
    Image.new("L", (600, 400), 240).save(photos / "blank.png")
    (tmp_path / "nothing").mkdir()
    names = "photos", "missing.png", "nothing"
    process = predict_here(*names, "--csv", "digits.csv", "--model", trained_cnn.model_path)
    assert process.returncode == 1
    kinds = "PNG, JPEG, BMP, WebP, TIFF, HEIC"
    assert sorted(process.stderr.splitlines()) == [
        "missing.png: No such file or directory.",
        "nothing: there is no picture, or only this project's figures.",
        "photos/blank.png: no digit was found.",
        f"photos/drawing.gif: this is not a picture that can be read ({kinds}).",
        "photos/pages.tiff: only the first picture in it is read.",
    ]
    read = [row["image"] for row in read_csv("digits.csv")]
    assert read == ["photos/good.jpg", "photos/pages.tiff"]


def test_an_iphones_photo_is_read_upright(monkeypatch):
    """The file holds a 7 that lies on its side, and the note to turn it once."""
    path = pathlib.Path(__file__).parent / "seven.heic"
    (digit,) = handwriting.read_picture(path).digits
    assert digit.height > 1.2 * digit.width
    monkeypatch.setattr(handwriting.picture, "pi_heif", None)
    with pytest.raises(ValueError, match="Export it as JPEG"):
        handwriting.read_picture(path)


def test_an_array_may_be_gray_rgb_rgba_or_floats():
    gray = paper.as_bytes(paper.plain(DIGITS["x_test"][0]))[..., 0]
    rgba = np.dstack([gray, gray, gray, np.full_like(gray, 255)])
    (expected,) = handwriting.read_digits(rgba[..., :3])
    for array in (gray, gray[..., np.newaxis], rgba, gray / 255, np.int64(gray)):
        (digit,) = handwriting.read_digits(array)
        np.testing.assert_array_equal(digit.image, expected.image)
    for array in (gray[0], gray[np.newaxis], np.float32(gray), gray / -255, gray[:0], "7.png"):
        with pytest.raises(ValueError, match="A picture is an array of shape"):
            handwriting.read_digits(array)
