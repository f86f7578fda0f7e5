"""Drawing with the mouse or a finger: what is read, and a real window and a real browser.

The long tests need Xvfb and xdotool, and Chromium with its driver and Selenium; where those are
missing, they are skipped.
"""

import base64
import functools
import importlib.util
import io
import itertools
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import types

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
import sample_digits
from conftest import ROOT, texts_of, train_alone
from PIL import Image

import drawing
import handwriting
from drawing.window import Window

# Points, in hundredths of a digit's height; a semicolon lifts the pen.
DIGITS = {
    "0": "30,2 44,8 54,26 58,50 54,74 44,92 30,98 16,92 6,74 2,50 6,26 16,8 30,2",
    "1": "12,22 32,2 32,98",
    "2": "4,23 11,10 23,3 38,3 50,11 56,24 54,38 4,96 58,96",
    "3": "2,18 14,5 32,3 47,12 52,29 43,44 26,50 35,50 49,58 56,72 52,86 39,97 22,99 6,92 0,86",
    "4": "34,2 3,62 58,62; 44,40 44,98",
    "5": "12,3 8,46 25,39 43,45 53,61 52,80 39,94 20,96 5,87; 12,3 54,3",
    "6": "44,2 6,60 7,82 18,95 34,98 49,89 55,73 49,57 34,48 18,51 7,64 5,73",
    "7": "4,4 56,4 22,98",
    "8": "30,49 44,42 50,26 44,10 30,3 16,10 10,26 16,42 30,49 39,50 52,61 55,77 46,91 30,97 14,91 "
    "5,77 8,61 21,50 30,49",
    "9": "54,28 47,10 30,2 13,10 6,28 13,46 30,54 47,46 54,28 46,98",
}


def strokes_of(number, top=60, left=40, height=140):
    """The strokes that write a number, as lists of points on the paper."""
    return [
        [
            (left + height * (0.7 * i + int(x) / 100), top + height * int(y) / 100)
            for x, y in (point.split(",") for point in stroke.split())
        ]
        for i, digit in enumerate(number)
        for stroke in DIGITS[digit].split(";")
    ]


TWO_LINES = strokes_of("01234", 40) + strokes_of("56789", 290)


@functools.cache
def templates():
    """Each digit in MNIST's form, made without `handwriting`."""
    images = []
    for digit in DIGITS:
        picture = np.zeros((240, 240), np.uint8)
        for stroke in strokes_of(digit, 20, 20, 200):
            cv2.polylines(picture, [np.int32(stroke)], False, 255, 20, cv2.LINE_AA)
        images.append(sample_digits.mnist_like(picture))
    return np.float32(images) / 255


def recognise(digits):
    """Stand in for a trained network: the nearer to a template, the more probable."""
    for digit in digits:
        difference = np.float32(digit.image) / 255 - templates()
        scores = np.exp(-np.square(difference).sum(axis=(1, 2)) / 10)
        digit.probabilities = scores / scores.sum()


def read(strokes):
    return drawing.Drawing(strokes, recognise)


@pytest.mark.parametrize("number", [*DIGITS, "427"])
def test_a_number_is_read_and_each_digit_found_where_it_was_drawn(number):
    sheet = read(strokes_of(number))
    assert sheet.text.startswith(f"{number} (least sure: ")
    assert sheet.latest is sheet.reading.digits[-1]
    for i, digit in enumerate(sheet.reading.digits):
        points = np.concatenate(strokes_of(number[i], left=40 + 98 * i))  # The pen is 12 wide.
        assert (digit.left, digit.top) == pytest.approx(points.min(axis=0) - 6, abs=3)
        assert (digit.width, digit.height) == pytest.approx(np.ptp(points, axis=0) + 12, abs=4)


def test_lines_stay_lines_and_a_later_stroke_counts_for_its_own_digit():
    assert read(TWO_LINES).text.startswith("01234 56789 (least sure: ")
    mended = read([*TWO_LINES, strokes_of("2", 40, 40 + 2 * 98)[0]])
    assert mended.latest.predicted == 2


def test_what_is_not_read_is_marked_and_not_taken_for_the_digit_drawn_last():
    dot = [(400, 400)]
    sheet = read([*strokes_of("427"), dot])
    assert (sheet.reading.number, sheet.latest, sheet.unread) == ("427", None, [dot])
    assert sheet.text.endswith("; strokes not read: 1)")
    assert read([dot, *strokes_of("7")]).latest.predicted == 7


def test_says_what_to_do_where_there_is_nothing_to_read(monkeypatch):
    assert read([]).text == "Draw a digit, or a whole number."
    monkeypatch.setattr(handwriting, "read_digits", lambda picture: [])
    assert read([[(100, 100)]]).text == "No digit was found: draw a larger one."


def test_digits_cut_by_the_edge_of_the_paper_are_read():
    strokes = strokes_of("4", left=drawing.WIDTH - 75) + strokes_of("7", left=200, top=-5)
    assert read(strokes).reading.number == "74"


@pytest.fixture
def window(tmp_path):
    """The window without a screen."""
    yield Window(recognise, tmp_path / "drawing.png")
    plt.close("all")


@pytest.mark.parametrize("size", [(12, 6.5), (16, 9), (9, 9)])
@pytest.mark.parametrize("strokes", [strokes_of("7"), [*TWO_LINES, [(545, 8)]]])
def test_the_window_shows_everything_at_any_size(window, size, strokes):
    window.figure.set_size_inches(size)
    window.show(strokes)
    width, height = window.paper.bbox.size
    assert width / height == pytest.approx(drawing.WIDTH / drawing.HEIGHT)
    texts = texts_of(window.figure)
    assert {window.sheet.reading.number, window.sheet.text, "Undo (u)"} < set(texts)
    assert ("not read" in texts) == bool(window.sheet.unread)


def test_saves_whole_files_under_names_of_their_own(window, capsys, monkeypatch, tmp_path):
    def saved():
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    (tmp_path / "drawing-2-read.png").write_bytes(b"somebody else's")
    window.show(strokes_of("427"))
    window.do("s")
    first = saved()
    assert set(first) == {"drawing.png", "drawing-read.png", "drawing-2-read.png"}
    assert handwriting.read_picture(tmp_path / "drawing.png").digits[0].height == pytest.approx(
        152, abs=4
    )
    assert Image.open(tmp_path / "drawing-read.png").info["Title"] == "Drawing"
    window.do("s")
    second = saved()
    assert second == first | {
        "drawing-3.png": first["drawing.png"],
        "drawing-3-read.png": first["drawing-read.png"],
    }
    message = f"Saved {tmp_path / 'drawing-3.png'} and {tmp_path / 'drawing-3-read.png'}"
    assert capsys.readouterr().out.splitlines()[-1] == window.message.get_text() == message

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plt.Figure, "savefig", full)
    window.do("s")
    assert saved() == second
    assert window.message.get_text() == "Cannot save: No space left on device."


def test_says_why_there_is_no_window(tmp_path):
    with pytest.raises(ValueError, match="a desktop computer and tkinter or PySide6"):
        drawing.open_window(recognise, tmp_path / "drawing.png")
    assert plt.get_fignums() == []


def test_cell_outside_of_colab_names_the_window(capsys):
    drawing.show_canvas(recognise)
    assert "python predict.py --draw" in capsys.readouterr().out


@pytest.mark.long
def test_real_window(mnist, window, tmp_path):
    if not (shutil.which("Xvfb") and shutil.which("xdotool")):
        pytest.skip("Xvfb or xdotool is not installed")
    if not any(map(importlib.util.find_spec, ("_tkinter", "PySide6"))):
        pytest.skip("there is no tkinter and no PySide6")
    train_alone("cnn", tmp_path, "--epochs", 1)
    run = functools.partial(subprocess.Popen, stdout=subprocess.PIPE, encoding="utf-8")
    screen = run(["Xvfb", "-displayfd", "1", "-screen", "0", "1400x900x24"])
    environment = {**os.environ, "DISPLAY": f":{screen.stdout.readline().strip()}"}
    environment.pop("MPLBACKEND", None)
    command = [sys.executable, ROOT / "predict.py", "--draw"]
    process = run(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)

    def xdotool(*arguments):
        command = ["xdotool", *map(str, arguments)]
        return subprocess.check_output(command, env=environment, encoding="utf-8", timeout=60)

    def do(*arguments):
        """Do something with the mouse or the keyboard; return the line that is printed then."""
        time.sleep(0.2)
        xdotool(*arguments)
        assert select.select([process.stdout], [], [], 60)[0]
        return process.stdout.readline().rstrip()

    def move(axis, point):
        x, y = axis.transData.transform(point) / window.figure.bbox.size
        return "mousemove", round(left + width * x), round(top + height * (1 - y)), "sleep", 0.05

    try:
        assert process.stdout.readline() == "Draw a digit, or a whole number.\n"
        time.sleep(1)
        found = xdotool("search", "--onlyvisible", "--name", "Draw digits").split()[-1]
        shell = xdotool("getwindowgeometry", "--shell", found).split()
        left, top, width, height = (int(line.partition("=")[2]) for line in shell[1:5])
        for first, *others in TWO_LINES:
            moves = itertools.chain(*(move(window.paper, point) for point in others))
            read = do(*move(window.paper, first), "mousedown", 1, *moves, "mouseup", 1)
        assert read.startswith("01234 56789 (least sure: ")
        assert do("key", "s") == "Saved drawing.png and drawing-read.png"
        undo = move(window.buttons[0].ax, (0.5, 0.5))
        assert do(*undo, "click", 1).startswith("01234 5678 (least sure: ")
        assert do("key", "ctrl+z").startswith("01234 567 (least sure: ")
        assert do("key", "c") == "Draw a digit, or a whole number."
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        screen.terminate()


# What Colab does: it takes the page's question to Python, and the answer back.
STAND_IN = """
<!DOCTYPE html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<script>
  const calls = [];
  const invokeFunction = (name, [strokes]) => new Promise((resolve, reject) => {
    calls.push({name, strokes: structuredClone(strokes), resolve, reject});
  });
  const google = {colab: {kernel: {invokeFunction}}};
</script>
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "size", "scale"), [("mouse", "1200,1200", 1), ("touch", "390,1000", 2)]
)
def test_real_browser(monkeypatch, tmp_path, kind, size, scale):
    webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("Chromium or its driver is not installed")
    callbacks, shown = {}, []
    output = types.SimpleNamespace(register_callback=callbacks.__setitem__)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(output=output))
    monkeypatch.setattr("IPython.display.display", shown.append)
    drawing.show_canvas(recognise)
    page = tmp_path / "page.html"
    page.write_text(STAND_IN + shown[0].data, encoding="utf-8")

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    flags = "headless", "no-sandbox", f"window-size={size}", f"force-device-scale-factor={scale}"
    for flag in flags:
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))

    def find(name):
        return driver.find_element("css selector", f"#digits {name}")

    def draw(strokes):
        box = find("canvas").rect
        actions = ActionBuilder(driver, mouse=PointerInput(kind, kind), duration=5)
        for stroke in strokes:
            points = np.multiply(stroke, box["width"] / drawing.WIDTH) + (box["x"], box["y"])
            first, *others = np.round(points).astype(int).tolist()
            actions.pointer_action.move_to_location(*first).pointer_down()
            for point in others:
                actions.pointer_action.move_to_location(*point)
            actions.pointer_action.pointer_up()
        actions.perform()

    def answer():
        """Have Python answer the page's first question; return the text that it then shows."""
        name, strokes = driver.execute_script("return [calls[0].name, calls[0].strokes]")
        reply = "calls.shift().resolve({data: {'application/json': arguments[0]}})"
        driver.execute_script(reply, callbacks[name](strokes).data)
        return find("output").text

    try:
        driver.get(page.as_uri())
        assert int(find("canvas").get_property("width")) == drawing.WIDTH * scale
        draw(TWO_LINES)  # While Python still reads the first stroke: the second answer is of all.
        answer()
        assert answer().startswith("01234 56789 (least sure: ")
        data = find("img").get_property("src").removeprefix("data:image/png;base64,")
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (1200, 860)
        find("button").click()
        assert answer().startswith("01234 5678 (least sure: ")
        find("button:last-of-type").click()
        assert answer() == "Draw a digit, or a whole number."
        draw([[(100, 100)]])
        dot = "document.querySelector('canvas').getContext('2d').getImageData(x, x, 1, 1).data[3]"
        assert driver.execute_script(f"const x = {100 * scale}; return {dot}") == 255
        driver.execute_script("calls.shift().reject(new Error('gone'))")
        assert find("output").text == "Run this cell again: Python does not answer (gone)."
    finally:
        driver.quit()
