"""`predict.py` on people's pictures: what it prints, the figure, the table, and how it fails."""

import csv
import os
import re
import struct
import zlib

import keras
import matplotlib.image
import numpy as np
import paper
import pytest
import sample_digits
from PIL import Image

import plots
import predict
import preprocess

(_, _), (X_TEST, Y_TEST) = sample_digits.load_data()


def save_picture(path, *digits, **options):
    """Write the digits with these numbers in a row on paper, and save the picture."""
    picture = paper.sheet(400, 240 + 150 * len(digits))
    paper.write_number(picture, X_TEST[list(digits)], 60, 90, 200)
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(paper.as_bytes(picture)).save(path, **options)


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def predict_pictures(predict_here, trained):
    def run_predict(*arguments):
        return predict_here(*arguments, "--model", trained.model_path)

    return run_predict


def expected_line(path, model_path, name):
    """What Keras itself says of the digits that `preprocess` finds."""
    digits = preprocess.read_digits(preprocess.load_picture(path)[0])
    model = keras.saving.load_model(model_path)
    inputs = np.float32([digit.image for digit in digits]) / 255
    probabilities = model.predict(inputs.reshape(-1, *model.input_shape[1:]), verbose=0)
    number = "".join(map(str, probabilities.argmax(axis=1)))
    least = probabilities.max(axis=1).min()
    return f"{name}: {number} (least sure: {plots.percent(least)}", digits, probabilities


def test_one_picture(predict_pictures, trained, tmp_path):
    save_picture(tmp_path / "number.png", 0, 1, 2, 3)
    process = predict_pictures("number.png", "--csv", "digits.csv")
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    line, *saved = process.stdout.splitlines()
    start, digits, probabilities = expected_line(
        tmp_path / "number.png", trained.model_path, "number.png"
    )
    assert line.startswith(start)
    assert len(digits) == 4
    assert saved == ["Saved predictions.png"]
    assert matplotlib.image.imread(tmp_path / "predictions.png").shape[1] > 500
    rows = read_csv(tmp_path / "digits.csv")
    assert [row["position"] for row in rows] == ["0", "1", "2", "3"]
    lefts = [int(row["left"]) for row in rows]
    assert lefts == sorted(lefts)
    for row, digit, own in zip(rows, digits, probabilities, strict=True):
        assert row["image"] == "number.png"
        assert row["original"] == ""
        box = [int(row[key]) for key in ("left", "top", "width", "height")]
        assert box == [digit.left, digit.top, digit.width, digit.height]
        assert int(row["predicted"]) == own.argmax()
        assert float(row["confidence"]) == pytest.approx(own.max(), abs=1e-4)


def test_folders_labels_and_names(predict_pictures, tmp_path):
    for i in range(4):
        save_picture(tmp_path / "mine" / str(Y_TEST[i]) / f"{i}.png", i)
    save_picture(tmp_path / "mine" / "with space é 数 $x$.jpg", 0, 1)
    (tmp_path / "mine" / "notes.txt").write_text("no picture, and not named as one")
    process = predict_pictures("mine", "--csv", "digits.csv")
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    rows = read_csv(tmp_path / "digits.csv")
    names = [f"mine/{Y_TEST[i]}/{i}.png" for i in range(4)] + 2 * ["mine/with space é 数 $x$.jpg"]
    assert [row["image"] for row in rows] == sorted(names)
    for row in rows:
        folder = row["image"].split("/")[1]
        assert row["original"] == (folder if len(folder) == 1 else "")
    right = sum(row["original"] == row["predicted"] for row in rows)
    share = plots.percent(right / 4)
    assert f"{right} of 4 labelled pictures read right ({share})." in process.stdout.splitlines()
    assert sum(line.startswith("mine/") for line in process.stdout.splitlines()) == 5


def test_many_pictures_make_pages_and_one_batch(predict_pictures, tmp_path, monkeypatch):
    for i in range(30):
        save_picture(tmp_path / "photos" / f"{i:02}.png", i)
    calls = []
    original = keras.Model.predict
    monkeypatch.setattr(
        keras.Model, "predict", lambda *args, **kw: calls.append(1) or original(*args, **kw)
    )
    process = predict_pictures("photos")
    assert process.returncode == 0, process.stderr
    assert len(calls) == 1
    assert "30/30" in process.stdout, "a progress bar"
    pages = sorted(path.name for path in tmp_path.glob("predictions*.png"))
    assert pages == [f"predictions{page}.png" for page in ("-2", "-3", "")]
    for page in pages:
        height, width, _ = matplotlib.image.imread(tmp_path / page).shape
        assert max(height, width) < 2_500


def test_unsure_digits_are_marked(capsys):
    reading = predict.Reading("a.png")
    reading.predicted, reading.confidence = np.array([5, 1]), np.array([0.97, 0.5999])
    line = predict.described(reading, plots)
    assert line == "a.png: 51 (least sure: 59.9%, unsure: 51?)"


def png_header(width, height):
    """A PNG that says that it is huge, and has next to no data."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


def make_bad_pictures(folder):
    """Write one bad picture of each kind; return what must be said of each."""
    save_picture(folder / "good.png", 0)
    good = (folder / "good.png").read_bytes()
    save_picture(folder / "good.jpg", 0)
    (folder / "text.png").write_text("I am a text.")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.png").write_bytes(good[: len(good) // 2])
    (folder / "huge.png").write_bytes(png_header(60_000, 60_000))
    (folder / "large.png").write_bytes(png_header(10_000, 10_000))
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    Image.new("RGB", (300, 300)).save(folder / "drawing.gif")
    Image.new("RGB", (600, 400), "white").save(folder / "blank.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "broken.png").symlink_to("nowhere.png")
    return {
        "text.png": "no picture that can be read (PNG, JPEG, BMP, WebP or TIFF)",
        "empty.jpg": "the file is empty",
        "cut.png": "cut short",
        "huge.png": "too large",
        "large.png": "10000 x 10000 is too large",
        "phone.heic": "HEIC",
        "drawing.gif": "no picture that can be read",
        "blank.png": "no digit was found",
        "pipe.png": "no picture",
        "broken.png": "No such file",
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFO")
def test_bad_pictures_are_reported_and_the_others_are_still_done(predict_pictures, tmp_path):
    says = make_bad_pictures(tmp_path / "photos")
    process = predict_pictures("photos", "missing.png", "--csv", "digits.csv")
    assert process.returncode == 1
    lines = process.stderr.splitlines()
    assert len(lines) == len(says) + 1, lines
    for name, text in {f"photos/{name}": text for name, text in says.items()}.items():
        (line,) = [line for line in lines if name in line]
        assert text in line
    assert sum("missing.png" in line and "No such file" in line for line in lines) == 1
    read = {row["image"] for row in read_csv(tmp_path / "digits.csv")}
    assert read == {"photos/good.png", "photos/good.jpg"}
    assert (tmp_path / "predictions.png").exists()


def test_nothing_but_bad_pictures(run, trained, tmp_path):
    (tmp_path / "text.png").write_text("I am a text.")
    (tmp_path / "nothing").mkdir()
    process = run("predict.py", "text.png", "nothing", "--model", trained.model_path)
    assert process.returncode == 1
    assert process.stdout == ""
    assert sorted(process.stderr.splitlines()) == [
        "nothing: there is no picture in this folder.",
        "text.png: no picture that can be read (PNG, JPEG, BMP, WebP or TIFF).",
    ]


def test_a_blank_page_alone_is_shown(predict_pictures, tmp_path):
    Image.new("L", (600, 400), 240).save(tmp_path / "blank.png")
    process = predict_pictures("blank.png")
    assert process.returncode == 1
    assert process.stderr == "blank.png: no digit was found.\n"
    assert process.stdout == "Saved predictions.png\n"


def test_first_of_several_pages(predict_pictures, tmp_path):
    first, second = (Image.fromarray(paper.as_bytes(paper.plain(X_TEST[i]))) for i in (0, 1))
    first.save(tmp_path / "pages.tiff", save_all=True, append_images=[second])
    first.save(tmp_path / "moving.webp", save_all=True, append_images=[second], lossless=True)
    process = predict_pictures("pages.tiff", "moving.webp", "--csv", "digits.csv")
    assert process.returncode == 0
    for line, name in zip(process.stderr.splitlines(), ("pages.tiff", "moving.webp"), strict=True):
        assert line == f"{name}: only the first picture in it is read."
    assert len(read_csv(tmp_path / "digits.csv")) == 2


@pytest.mark.parametrize("name", ["png.jpg", "jpeg.png", "no_ending"])
def test_what_is_in_the_file_counts_not_its_name(predict_pictures, tmp_path, name):
    save_picture(tmp_path / name, 0, format="JPEG" if name == "jpeg.png" else "PNG")
    process = predict_pictures(name)
    assert process.returncode == 0, process.stderr
    assert re.match(rf"{name}: \d \(least sure: ", process.stdout)


def test_absurd_exif_is_passed_over(predict_pictures, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    save_picture(tmp_path / "turned.jpg", 0, exif=exif)
    save_picture(tmp_path / "damaged.jpg", 0, exif=b"Exif\0\0II*\0\xff\xff\xff\xff\x01")
    process = predict_pictures("turned.jpg", "damaged.jpg")
    assert process.returncode == 0, process.stderr


def test_a_picture_is_never_overwritten(predict_pictures, tmp_path):
    save_picture(tmp_path / "predictions.png", 0)
    before = (tmp_path / "predictions.png").read_bytes()
    process = predict_pictures("predictions.png")
    assert process.returncode == 1
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert "predictions.png" in line
    assert "--output" in line
    assert (tmp_path / "predictions.png").read_bytes() == before


@pytest.mark.parametrize("option", [["--mistakes"], ["--data", "x.npz"]])
def test_options_for_test_digits_do_not_go_with_pictures(run, option):
    process = run("predict.py", "a.png", *option)
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert "for test digits, not for pictures" in line


def test_a_folder_that_contains_itself(predict_pictures, tmp_path):
    save_picture(tmp_path / "loop" / "good.png", 0)
    (tmp_path / "loop" / "again").symlink_to(tmp_path / "loop")
    process = predict_pictures("loop")
    assert process.returncode == 0
    assert process.stdout.count("good.png") == 1


def test_a_small_number_of_digits_fits_beside_another_picture():
    pages = plots.picture_pages([1, 2, 30, 1, 7, 1, 1])
    assert pages == [[[0, 1], [2], [3], [4]], [[5, 6]]]
    pages = plots.picture_pages([1] * 30)
    assert [i for page in pages for row in page for i in row] == list(range(30))
    assert len(pages) == 3
