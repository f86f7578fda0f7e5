"""Drawing with the mouse or a finger: what is read, and a real window and a real browser.

The long tests need Xvfb and xdotool, and Chromium with its driver and Selenium; where those are
missing, they are skipped.
"""

import functools
import importlib.util
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT, full_disk, texts_of
from PIL import Image

import drawing
import handwriting
from drawing.window import Window

STROKES = {  # In hundredths of a digit's height.
    "2": [[(4, 23), (11, 10), (23, 3), (38, 3), (50, 11), (56, 24), (54, 38), (4, 96), (58, 96)]],
    "4": [[(34, 2), (3, 62), (58, 62)], [(44, 40), (44, 98)]],
    "7": [[(4, 4), (56, 4), (22, 98)]],
}


def strokes_of(number, top=60, left=40, height=140):
    """The strokes that write a number, as lists of points on the paper."""
    return [
        (np.multiply(stroke, height / 100) + (left + 0.7 * height * i, top)).tolist()
        for i, digit in enumerate(number)
        for stroke in STROKES[digit]
    ]


TWO_LINES = strokes_of("427", 40) + strokes_of("74", 290)


def recognise(digits):
    """Stand in for a trained network: the first digit is a 0, the next one a 1, and so on."""
    for i, digit in enumerate(digits):
        digit.probabilities = np.eye(10)[i]


def read(strokes):
    return drawing.Drawing(strokes, recognise)


def test_each_digit_is_found_where_it_was_drawn():
    sheet = read(strokes_of("427"))
    assert sheet.latest is sheet.reading.digits[-1]
    for i, digit in enumerate(sheet.reading.digits):
        points = np.concatenate(strokes_of("427"[i], left=40 + 98 * i))
        corner, size = points.min(axis=0) - drawing.PEN / 2, np.ptp(points, axis=0) + drawing.PEN
        box = digit.left, digit.top, digit.width, digit.height
        assert box == pytest.approx((*corner, *size), abs=4)
    mended = read([*strokes_of("427"), strokes_of("2", left=138)[0]])
    assert mended.latest is mended.reading.digits[1], "it is the 2 that was mended"


def test_several_lines_and_digits_cut_by_the_edge_of_the_paper_are_read():
    assert read(TWO_LINES).text == "012 34 (least sure: 99.9%)"
    strokes = strokes_of("4", left=drawing.WIDTH - 75) + strokes_of("7", left=200, top=-5)
    far_below = [(400, 300 + 20 * i) for i in range(40)]
    sheet = read([*strokes, far_below])
    assert (sheet.reading.number, sheet.unread) == ("012", [])


def test_what_is_not_read_is_marked_and_not_taken_for_the_digit_drawn_last():
    dot = [(400, 400)]
    sheet = read([*strokes_of("427"), dot])
    assert (sheet.reading.number, sheet.latest, sheet.unread) == ("012", None, [dot])
    assert sheet.text.endswith("; strokes not read: 1)")
    assert read([dot, *strokes_of("7")]).latest


def test_says_what_to_do_where_there_is_nothing_to_read_or_no_window(monkeypatch, capsys):
    assert read([]).text == "Draw a digit, or a whole number."
    monkeypatch.setattr(handwriting, "read_digits", lambda picture: [])
    assert read([[(100, 100)]]).text == "No digit was found: draw a larger one."
    drawing.show_canvas(recognise)  # Which is for Colab.
    assert "python predict.py --draw" in capsys.readouterr().out
    with pytest.raises(ValueError, match="a desktop computer and tkinter or PySide6"):
        drawing.open_window(recognise, "drawing.png")
    assert plt.get_fignums() == []


@pytest.fixture
def window(tmp_path):
    """The window without a screen."""
    return Window(recognise, tmp_path / "drawing.png")


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


def test_each_key_does_what_its_button_says(window):
    window.show(strokes_of("47"))
    for key, strokes_left, number in ("u", 2, "0"), ("ctrl+z", 1, "0"), ("c", 0, ""):
        window.do(key)
        assert (len(window.strokes), window.sheet.reading.number) == (strokes_left, number)
    window.do("q")
    assert plt.get_fignums() == []


def test_saves_whole_files_under_names_of_their_own(window, capsys, tmp_path):
    def save():
        window.do("s")
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    (tmp_path / "drawing-2-read.png").write_bytes(b"somebody else's")
    window.show(strokes_of("427"))
    first = save()
    assert set(first) == {"drawing.png", "drawing-read.png", "drawing-2-read.png"}
    assert len(handwriting.read_picture(tmp_path / "drawing.png").digits) == 3
    assert Image.open(tmp_path / "drawing-read.png").info["Title"] == "Drawing"
    again = {"drawing-3.png": first["drawing.png"], "drawing-3-read.png": first["drawing-read.png"]}
    assert save() == first | again
    message = f"Saved {tmp_path / 'drawing-3.png'} and {tmp_path / 'drawing-3-read.png'}"
    assert capsys.readouterr().out.splitlines()[-1] == window.message.get_text() == message
    with full_disk():
        assert save() == first | again
    assert window.message.get_text() == "Cannot save: File too large."


@pytest.mark.long
def test_real_window(trained_cnn, window, tmp_path):
    if not (shutil.which("Xvfb") and shutil.which("xdotool")):
        pytest.skip("Xvfb or xdotool is not installed")
    if not any(map(importlib.util.find_spec, ("_tkinter", "PySide6"))):
        pytest.skip("there is no tkinter and no PySide6")
    run = functools.partial(subprocess.Popen, stdout=subprocess.PIPE, encoding="utf-8")
    screen = run(["Xvfb", "-displayfd", "1", "-screen", "0", "1400x900x24"])
    environment = {**os.environ, "DISPLAY": f":{screen.stdout.readline().strip()}"}
    environment.pop("MPLBACKEND", None)
    command = [sys.executable, ROOT / "predict.py", "--draw", "--model", trained_cnn.model_path]
    process = run(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)

    def move(axis, point):
        x, y = axis.transData.transform(point)
        return ["mousemove", "--window", "%1", round(x), round(650 - y), "sleep", 0.05]

    def printed_after(*steps):
        """Return the line that is printed after something is done with the mouse or a key."""
        size = "windowsize", "%1", 1200, 650, "sleep", 0.5
        steps = "xdotool", "search", "--sync", "--name", "Draw digits", *size, *steps
        subprocess.run([*map(str, steps)], env=environment, check=True, timeout=60)
        assert select.select([process.stdout], [], [], 60)[0]
        return process.stdout.readline().rstrip()

    try:
        assert process.stdout.readline() == "Draw a digit, or a whole number.\n"
        for first, *others in strokes_of("427"):
            moves = [word for point in others for word in move(window.paper, point)]
            text = printed_after(*move(window.paper, first), "mousedown", 1, *moves, "mouseup", 1)
        assert re.match(r"\d{3} \(least sure: ", text)
        assert printed_after("key", "s") == "Saved drawing.png and drawing-read.png"
        strokes_drawn = read(strokes_of("427")).reading.thumbnail[..., 0] < 128
        drawn = np.asarray(Image.open(tmp_path / "drawing.png").convert("L")) < 128
        assert np.mean(drawn[strokes_drawn]) > 0.75, "it is where the mouse was"
        undo = move(window.buttons[0].ax, (0.5, 0.5))
        assert re.match(r"\d{2} \(least sure: ", printed_after(*undo, "click", 1))
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
        assert answer() == "012 34 (least sure: 99.9%)"
        assert find("img").is_displayed()
        find("button").click()
        assert answer().startswith("012 3")
        find("button:last-of-type").click()
        assert answer() == "Draw a digit, or a whole number."
        draw([[(100, 100)]])
        dot = "document.querySelector('canvas').getContext('2d').getImageData(x, x, 1, 1).data[3]"
        assert driver.execute_script(f"const x = {100 * scale}; return {dot}") == 255
        driver.execute_script("calls.shift().reject(new Error('gone'))")
        assert find("output").text == "Run this cell again: Python does not answer (gone)."
    finally:
        driver.quit()
