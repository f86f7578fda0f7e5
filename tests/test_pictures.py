"""`predict.py` on people's pictures: what it prints, the figure, the table, and how it fails."""

import os

import keras
import paper
import pytest
import sample_digits
from conftest import probabilities_by_keras
from PIL import Image
from test_predict import read_csv

import handwriting
import plots

(_, _), (X_TEST, Y_TEST) = sample_digits.load_data()


def save_picture(path, *digits, **options):
    """Write the test digits with these numbers in a row on paper, and save the picture."""
    picture = paper.sheet(400, 240 + 150 * len(digits))
    paper.write_number(picture, X_TEST[list(digits)], 60, 90, 200)
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(paper.as_bytes(picture)).save(path, **options)


@pytest.fixture
def predict_pictures(predict_here, trained_cnn):
    def run_predict(*arguments):
        return predict_here(*arguments, "--model", trained_cnn.model_path)

    return run_predict


def test_line_figure_and_table(predict_here, trained, tmp_path):
    save_picture(tmp_path / "number.png", 0, 1, 2, 3)
    process = predict_here("number.png", "--csv", "digits.csv", "--model", trained.model_path)
    assert (process.returncode, process.stderr) == (0, "")
    digits = handwriting.read_picture(tmp_path / "number.png").digits
    probabilities = probabilities_by_keras(trained.model_path, [digit.image for digit in digits])
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    number = "".join(map(str, predicted))
    line = f"number.png: {number} (least sure: {plots.percent(confidence.min())})"
    assert process.stdout.splitlines() == [line, "Saved predictions.png"]
    rows = read_csv(tmp_path / "digits.csv")
    assert len(rows) == 4
    for i, (row, digit) in enumerate(zip(rows, digits, strict=True)):
        assert (row["image"], row["position"], row["original"]) == ("number.png", str(i), "")
        box = [int(row[key]) for key in ("left", "top", "width", "height")]
        assert box == [digit.left, digit.top, digit.width, digit.height]
        assert int(row["predicted"]) == predicted[i]
        assert float(row["confidence"]) == pytest.approx(confidence[i], abs=1e-5)


def test_folders_named_0_to_9_are_labels(predict_pictures, tmp_path):
    for i in range(4):
        save_picture(tmp_path / "mine" / str(Y_TEST[i]) / f"{i}.png", i)
    save_picture(tmp_path / "mine" / "with space é 数 $x$.jpg", 0, 1)
    (tmp_path / "mine" / "notes.txt").write_text("not a picture, and not named as one")
    (tmp_path / "mine" / "again").symlink_to(tmp_path / "mine")
    process = predict_pictures("mine", "--csv", "digits.csv")
    assert (process.returncode, process.stderr) == (0, "")
    rows = read_csv(tmp_path / "digits.csv")
    names = [f"mine/{Y_TEST[i]}/{i}.png" for i in range(4)] + 2 * ["mine/with space é 数 $x$.jpg"]
    assert [row["image"] for row in rows] == sorted(names)
    for row in rows:
        folder = row["image"].split("/")[1]
        assert row["original"] == (folder if len(folder) == 1 else "")
    right = sum(row["original"] == row["predicted"] for row in rows)
    line = f"{right} of 4 labelled pictures read right ({plots.percent(right / 4)})."
    assert line in process.stdout.splitlines()


def test_many_pictures_make_pages_a_progress_bar_and_one_batch(
    predict_pictures, tmp_path, monkeypatch
):
    for i in range(13):
        save_picture(tmp_path / "photos" / f"{i:02}.png", i)
    calls, predict = [], keras.Model.predict_on_batch
    monkeypatch.setattr(
        keras.Model, "predict_on_batch", lambda *args: calls.append(1) or predict(*args)
    )
    process = predict_pictures("photos")
    assert process.returncode == 0, process.stderr
    assert len(calls) == 1
    assert "13/13" in process.stdout
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "predictions.png",
        "predictions-2.png",
    }


def test_bad_pictures_are_reported_and_the_others_still_read(predict_pictures, tmp_path):
    photos = tmp_path / "photos"
    save_picture(photos / "good.png", 0)
    save_picture(photos / "good.jpg", 0, format="PNG")  # What is in it counts, not its name.
    (photos / "text.png").write_text("I am a text.")
    (photos / "empty.jpg").touch()
    (photos / "cut.png").write_bytes((photos / "good.png").read_bytes()[:5_000])
    (photos / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    Image.new("RGB", (300, 300)).save(photos / "drawing.gif")
    blank = Image.new("L", (600, 400), 240)
    blank.save(photos / "blank.png")
    good = Image.open(photos / "good.png")
    good.save(photos / "pages.tiff", save_all=True, append_images=[good.copy()])
    (photos / "broken.png").symlink_to("nowhere.png")
    (tmp_path / "nothing").mkdir()
    process = predict_pictures("photos", "missing.png", "nothing", "--csv", "digits.csv")
    assert process.returncode == 1
    says = {
        "photos/text.png": "not a picture that can be read (PNG, JPEG, BMP, WebP or TIFF)",
        "photos/empty.jpg": "the file is empty",
        "photos/cut.png": "cut short",
        "photos/phone.heic": "HEIC",
        "photos/drawing.gif": "not a picture that can be read",
        "photos/blank.png": "no digit was found",
        "photos/pages.tiff": "only the first picture in it is read",
        "photos/broken.png": "No such file",
        "missing.png": "No such file",
        "nothing": "no pictures in this folder",
    }
    lines = process.stderr.splitlines()
    assert len(lines) == len(says), lines
    for name, text in says.items():
        assert [line for line in lines if line.startswith(f"{name}: ") and text in line]
    read = [row["image"] for row in read_csv(tmp_path / "digits.csv")]
    assert read == ["photos/good.jpg", "photos/good.png", "photos/pages.tiff"]


def test_where_nothing_can_be_read_nothing_is_saved(predict_pictures, tmp_path):
    (tmp_path / "text.png").write_text("I am a text.")
    process = predict_pictures("text.png")
    assert (process.returncode, process.stdout) == (1, "")
    assert len(process.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text.png"]


def test_a_picture_is_never_overwritten(predict_pictures, tmp_path):
    save_picture(tmp_path / "predictions.png", 0)
    os.symlink("predictions.png", tmp_path / "link.png")
    before = (tmp_path / "predictions.png").read_bytes()
    process = predict_pictures("link.png")
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line == "predictions.png would be overwritten: choose another --output or --csv."
    assert (tmp_path / "predictions.png").read_bytes() == before
