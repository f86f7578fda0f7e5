"""Drawing with the mouse or a finger: on a canvas of matplotlib's, in a window, in a browser.

The long tests are of the real thing. They need Xvfb and xdotool, and Chromium with its driver and
Selenium; where those are missing, the tests are skipped.
"""

import base64
import contextlib
import ctypes.util
import functools
import http.server
import importlib.util
import io
import itertools
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import types

import cv2
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
import sample_digits
from conftest import ROOT, train_alone, user_lines
from matplotlib.backend_bases import KeyEvent, MouseEvent
from matplotlib.text import Text
from PIL import Image

import drawing
import predict

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
TEN_DIGITS = [("01234", 40), ("56789", 290)]  # Two lines, each with the distance to the top.


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


def recognise(images):
    """Stand in for a trained network: the nearer to a template, the more probable."""
    difference = np.float32(images)[:, np.newaxis] / 255 - templates()
    scores = np.exp(-np.square(difference).sum(axis=(2, 3)) / 10)
    return scores / scores.sum(axis=1, keepdims=True)


@pytest.fixture
def window(tmp_path):
    """The window without a screen."""
    yield drawing.Window(recognise, tmp_path / "predictions.png")
    plt.close("all")


def mouse(window, name, x, y, axes=None, button=1):
    """Send a mouse event at a point on the paper, or in the middle of other axes."""
    if axes:
        x, y = axes.bbox.min + axes.bbox.size / 2
    else:
        x, y = window.paper.transData.transform((x, y))
    window.canvas.callbacks.process(name, MouseEvent(name, window.canvas, x, y, button))


def draw(window, strokes):
    for first, *others in strokes:
        mouse(window, "button_press_event", *first)
        for point in others:
            mouse(window, "motion_notify_event", *point)
        mouse(window, "button_release_event", *(others or [first])[-1])


def press_key(window, key):
    window.canvas.callbacks.process(
        "key_press_event", KeyEvent("key_press_event", window.canvas, key)
    )


def click(window, label):
    (button,) = [button for button in window.buttons if label in button.label.get_text()]
    for name in ("button_press_event", "button_release_event"):
        mouse(window, name, 0, 0, button.ax)


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("number", [*DIGITS, "427"])
def test_events_on_an_agg_canvas(window, capsys, number):
    draw(window, strokes_of(number))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(strokes_of(number))
    assert lines[-1].startswith(f"{number} (least sure: ")
    assert [text.get_text() for text in window.number.texts] == [number]
    assert "Class of the digit drawn last" in window.details.axes[1].get_xlabel()
    assert f"Predicted {number[-1]}" in window.details.axes[1].get_title()
    # The boxes are over the digits, half a pen's width around the points.
    to_paper = window.paper.transData.inverted()
    boxes = [to_paper.transform(patch.get_extents().corners()) for patch in window.paper.patches]
    for i, (digit, box) in enumerate(zip(number, boxes, strict=True)):
        points = np.concatenate(strokes_of(digit, left=40 + i * 98))
        assert box.min(axis=0) == pytest.approx(points.min(axis=0) - drawing.PEN / 2, abs=5)
        assert box.max(axis=0) == pytest.approx(points.max(axis=0) + drawing.PEN / 2, abs=5)


def test_two_lines_of_digits(window, capsys):
    for number, top in TEN_DIGITS:
        draw(window, strokes_of(number, top))
    assert last_line(capsys).startswith("0123456789 (least sure: ")
    # Another stroke of an earlier digit makes that the one drawn last.
    window.drawing.strokes.append(strokes_of("2", 40, 40 + 2 * 98)[0])
    window.show(window.drawing)
    assert "Predicted 2" in window.details.axes[1].get_title()


def test_undo_and_clear(window, capsys):
    first, second = strokes_of("4")
    draw(window, [first, second, *strokes_of("7", left=250)])
    assert last_line(capsys).startswith("47 ")
    for undo in (
        lambda: click(window, "Undo"),
        lambda: press_key(window, "u"),
        lambda: press_key(window, "ctrl+z"),
    ):
        draw(window, strokes_of("7", left=380))
        assert last_line(capsys).startswith("477 ")
        undo()
        assert last_line(capsys).startswith("47 ")
    for clear in (lambda: click(window, "Clear"), lambda: press_key(window, "c")):
        draw(window, strokes_of("4"))
        clear()
        assert last_line(capsys) == "Draw a digit, or a whole number."
        assert window.drawing.paper.min() == 255
    press_key(window, "u")
    assert last_line(capsys) == "Draw a digit, or a whole number."
    # The paper is taken away from under the pen.
    mouse(window, "button_press_event", 100, 100)
    press_key(window, "c")
    mouse(window, "motion_notify_event", 200, 200)
    mouse(window, "button_release_event", 200, 200)
    assert window.drawing.strokes == []


def test_a_click_is_a_stroke_and_other_buttons_are_not(window, capsys):
    draw(window, [[(100, 100)]])
    assert len(window.drawing.strokes) == 1
    assert window.drawing.paper.min() == 0
    capsys.readouterr()
    mouse(window, "button_press_event", 50, 50, button=3)
    mouse(window, "motion_notify_event", 60, 60)
    mouse(window, "button_release_event", 60, 60, button=3)
    assert len(window.drawing.strokes) == 1
    assert capsys.readouterr().out == ""
    press_key(window, None)
    press_key(window, "g")  # Matplotlib's own keys are off.
    assert capsys.readouterr().out == ""


def test_saves_the_paper_and_the_figure(window, capsys, tmp_path):
    draw(window, strokes_of("427"))
    press_key(window, "s")
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"Saved {tmp_path / 'drawing.png'}",
        f"Saved {tmp_path / 'predictions.png'}",
    ]
    paper = np.asarray(Image.open(tmp_path / "drawing.png").convert("RGB"))
    assert (paper == window.drawing.paper).all()
    assert Image.open(tmp_path / "predictions.png").size == (1200, 650)
    window.output = tmp_path / "no such folder" / "predictions.png"
    press_key(window, "s")
    assert capsys.readouterr().err.startswith("Cannot save: ")
    press_key(window, "q")
    assert plt.get_fignums() == []


@pytest.mark.parametrize("strokes", [[[(100, 100)]], [[(100, 100), (104, 100)]]])
def test_where_no_digit_is_found(window, capsys, monkeypatch, strokes):
    monkeypatch.setattr(drawing.handwriting, "read_digits", lambda picture: [])
    draw(window, strokes)
    assert last_line(capsys) == "No digit was found: draw a larger one."
    assert window.paper.get_xlabel() == "No digit was found: draw a larger one."


def test_digit_cut_by_the_edge_of_the_paper(window, capsys):
    draw(window, strokes_of("4", left=drawing.WIDTH - 75))
    assert last_line(capsys).startswith("4 ")
    draw(window, strokes_of("7", left=200, top=-5))
    assert last_line(capsys).startswith("74 ")


@pytest.mark.parametrize("size", [(12, 6.5), (16, 9), (9, 9)])
@pytest.mark.parametrize("number", ["7", "427", "0123456789"])
def test_nothing_overlaps_and_the_paper_keeps_its_aspect(window, size, number):
    window.figure.set_size_inches(size)
    lines = TEN_DIGITS if len(number) == 10 else [(number, 60)]
    window.show(drawing.Drawing([s for digits, top in lines for s in strokes_of(digits, top)]))
    width, height = window.paper.bbox.size
    assert width / height == pytest.approx(drawing.WIDTH / drawing.HEIGHT)
    texts = [
        text
        for text in window.figure.findobj(Text)
        if text.get_visible()
        and text.get_text()
        and (text.axes is None or text.axes.axison or text in text.axes.texts)
    ]
    assert len(texts) > 25 + 3 * len(number)
    for text in texts:
        box = text.get_window_extent()
        assert window.figure.bbox.contains(*box.min), text
        assert window.figure.bbox.contains(*box.max), text
    for text, other in itertools.combinations(texts, 2):
        assert not text.get_window_extent().overlaps(other.get_window_extent()), (text, other)


def test_without_a_display(tmp_path):
    with pytest.raises(ValueError, match="^There is no display to draw on"):
        drawing.open_window(recognise, tmp_path / "predictions.png")
    assert plt.get_fignums() == []


def test_reply_to_a_page():
    answer = drawing.reply(strokes_of("427"), recognise)
    assert answer["text"].startswith("427 (least sure: ")
    start, _, data = answer["image"].partition(",")
    assert start == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (1200, 860)
    assert drawing.reply([], recognise) == {
        "text": "Draw a digit, or a whole number.",
        "image": None,
    }


def test_cell_outside_of_colab(capsys):
    drawing.show_canvas(recognise)
    (line,) = capsys.readouterr().out.splitlines()
    assert "python predict.py --draw" in line


@pytest.fixture(scope="session")
def reader(mnist, tmp_path_factory):
    """The path of a network that can read: one epoch of MNIST is enough."""
    return train_alone("cnn", tmp_path_factory.mktemp("reader"), "--epochs", 1).model_path


@pytest.mark.long
def test_real_network_reads_what_is_drawn(reader, capsys, tmp_path):
    window = drawing.Window(
        functools.partial(predict.predict, predict.load_model(reader)), tmp_path / "p.png"
    )
    for number in [*DIGITS, "427"]:
        draw(window, strokes_of(number))
        assert last_line(capsys).startswith(f"{number} (least sure: ")
        press_key(window, "c")
    plt.close("all")


class Desktop:
    """A screen without a monitor, and the window on it; strokes are drawn by its mouse."""

    def __init__(self, folder, reader, display):
        self.environment = {**os.environ, "DISPLAY": display, "PYTHONIOENCODING": "utf-8"}
        self.environment.pop("MPLBACKEND", None)
        self.output = open(folder / "printed.txt", "w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "predict.py", "--draw", "--model", reader],
            cwd=folder,
            env=self.environment,
            stdout=self.output,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.wait_for(1)
        self.model = drawing.Window(recognise, folder / "none.png")  # Where things are in it.
        self.model.canvas.draw()
        window = self.xdotool("search", "--sync", "--onlyvisible", "--name", "Draw digits").split()
        shell = self.xdotool("getwindowgeometry", "--shell", window[-1])
        geometry = dict(line.split("=") for line in shell.split())
        self.window, *self.box = (
            int(geometry[key]) for key in ("WINDOW", "X", "Y", "WIDTH", "HEIGHT")
        )
        time.sleep(1)

    def xdotool(self, *arguments):
        return subprocess.run(
            ["xdotool", *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            check=True,
            encoding="utf-8",
            timeout=60,
        ).stdout

    def lines(self):
        self.output.seek(0)
        return self.output.read().splitlines()

    def wait_for(self, count):
        """Wait until so many lines are printed, and return the last one."""
        end = time.monotonic() + 120
        while len(lines := self.lines()) < count:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < end, lines
            time.sleep(0.05)
        assert len(lines) == count
        return lines[-1]

    def place(self, axes, right, down):
        """A point of the screen, from shares of the width and the height of axes."""
        box = axes.get_position()
        left, top, width, height = self.box
        return (
            round(left + width * (box.x0 + right * box.width)),
            round(top + height * (1 - box.y1 + down * box.height)),
        )

    def follow(self, stroke):
        """Move the mouse along a stroke as a hand does."""
        moves = []
        for start, end in itertools.pairwise(stroke):
            for x, y in np.linspace(start, end, 4)[1:]:
                place = self.place(self.model.paper, x / drawing.WIDTH, y / drawing.HEIGHT)
                moves += ["sleep", 0.02, "mousemove", *place]
        return moves

    def begin(self, stroke):
        x, y = stroke[0]
        place = self.place(self.model.paper, x / drawing.WIDTH, y / drawing.HEIGHT)
        self.xdotool("mousemove", *place, "sleep", 0.2, "mousedown", 1, *self.follow(stroke))

    def draw(self, strokes):
        """Draw; return the line that is printed after the last stroke."""
        for stroke in strokes:
            count = len(self.lines())
            self.begin(stroke)
            self.xdotool("sleep", 0.1, "mouseup", 1)
            line = self.wait_for(count + 1)
            time.sleep(0.3)
        return line

    def do(self, *arguments, lines=1):
        """Do something that has lines printed; return the last of them."""
        count = len(self.lines())
        self.xdotool(*arguments)
        line = self.wait_for(count + lines)
        time.sleep(0.3)
        return line

    def click(self, label):
        (button,) = [button for button in self.model.buttons if label in button.label.get_text()]
        return self.do("mousemove", *self.place(button.ax, 0.5, 0.5), "sleep", 0.2, "click", 1)

    def close(self):
        """Ask the window to close, as the cross in its corner does (there is no such corner)."""
        x11 = ctypes.CDLL(ctypes.util.find_library("X11"))
        x11.XOpenDisplay.restype = ctypes.c_void_p
        screen = ctypes.c_void_p(x11.XOpenDisplay(self.environment["DISPLAY"].encode()))
        protocols, delete = (
            x11.XInternAtom(screen, name, False) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")
        )
        client_message = 33, 0, True, screen.value, self.window, protocols, 32, delete, *4 * [0]
        event = ctypes.create_string_buffer(struct.pack("iLiPLLi5l", *client_message), 192)
        x11.XSendEvent(screen, ctypes.c_ulong(self.window), False, ctypes.c_long(0), event)
        x11.XCloseDisplay(screen)


@pytest.fixture(scope="module")
def display():
    """The number of a display that Xvfb made."""
    for program in ("Xvfb", "xdotool"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    if not any(map(importlib.util.find_spec, ("_tkinter", "PySide6"))):
        pytest.skip("there is no tkinter and no PySide6")
    read_end, write_end = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), "-screen", "0", "1400x900x24", "-nolisten", "tcp"],
        pass_fds=[write_end],
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    with open(read_end) as pipe:
        number = pipe.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait()


@pytest.fixture
def desktop(tmp_path, reader, display):
    desktop = Desktop(tmp_path, reader, display)
    yield desktop
    plt.close("all")
    with contextlib.suppress(OSError):
        desktop.process.kill()
    desktop.process.communicate()
    desktop.output.close()


@pytest.mark.long
def test_window_under_xvfb(desktop, tmp_path):
    for digit in DIGITS:
        assert desktop.draw(strokes_of(digit)).startswith(f"{digit} (least sure: ")
        assert desktop.do("key", "c") == "Draw a digit, or a whole number."
    assert desktop.draw(strokes_of("427")).startswith("427 (least sure: ")
    assert desktop.do("key", "s", lines=2) == "Saved predictions.png"
    for name in ("drawing.png", "predictions.png"):
        assert matplotlib.image.imread(tmp_path / name).std() > 0.1
    assert desktop.click("Undo").startswith("42 (least sure: ")
    desktop.draw(strokes_of("1", left=400))
    assert desktop.do("key", "ctrl+z").startswith("42 (least sure: ")
    assert desktop.click("Clear") == "Draw a digit, or a whole number."
    desktop.xdotool("key", "q")
    assert desktop.process.wait(60) == 0
    assert user_lines(desktop.process.stderr.read()) == []


@pytest.mark.long
def test_window_closed_in_the_middle_of_a_stroke(desktop):
    desktop.begin(strokes_of("0")[0])
    desktop.close()
    assert desktop.process.wait(60) == 0


@pytest.mark.long
def test_ctrl_c_ends_the_window(desktop):
    for _ in range(10):  # A toolkit may swallow one that comes in the middle of a redraw.
        desktop.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            desktop.process.wait(5)
            break
    assert desktop.process.poll() == 130


# What `google.colab.kernel` does in Colab, the page does over HTTP.
STAND_IN = """
<!DOCTYPE html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<script>
  const google = {colab: {kernel: {invokeFunction: async (name, args, kwargs) => {
    const reply = await fetch(name, {method: "POST", body: JSON.stringify([args, kwargs])});
    return {data: {"application/json": await reply.json()}};
  }}}};
</script>
"""


@pytest.fixture
def colab(monkeypatch):
    """Run the cell as in Colab; return the address of a page with what it displays."""
    import IPython.display

    callbacks, shown = {}, []
    output = types.SimpleNamespace(register_callback=callbacks.__setitem__)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(output=output))
    monkeypatch.setattr(IPython.display, "display", shown.append)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            self.answer("text/html", STAND_IN + shown[0].data)

        def do_POST(self):  # noqa: N802
            args, kwargs = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = callbacks[self.path.removeprefix("/")](*args, **kwargs)
            time.sleep(server.delay)
            self.answer("application/json", json.dumps(reply.data))

        def answer(self, kind, text):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.delay = 0
    server.address = f"http://127.0.0.1:{server.server_port}/"
    server.run_cell = lambda predict: drawing.show_canvas(predict)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def browser(tmp_path):
    """Chromium without a screen, as wide as a laptop's or a phone's."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium or not shutil.which("chromedriver"):
        pytest.skip("Chromium or its driver is not installed")
    with contextlib.ExitStack() as stack:

        def start(width, height, scale):
            options = webdriver.ChromeOptions()
            options.binary_location = chromium
            flags = (
                "headless no-sandbox disable-gpu disable-quic no-first-run disable-sync "
                "disable-background-networking disable-component-update "
                f"window-size={width},{height} force-device-scale-factor={scale} "
                f"user-data-dir={tmp_path / 'profile'}"
            )
            for flag in flags.split():
                options.add_argument(f"--{flag}")
            service = webdriver.ChromeService(shutil.which("chromedriver"))
            driver = webdriver.Chrome(options, service)
            stack.callback(driver.quit)
            return driver

        yield start


def draw_in_browser(driver, kind, strokes):
    """Draw on the page's canvas by mouse or by touch."""
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    box = driver.execute_script(
        "const box = document.querySelector('canvas').getBoundingClientRect();"
        "return [box.left, box.top, box.width / arguments[0]]",
        drawing.WIDTH,
    )
    left, top, scale = box
    actions = ActionBuilder(driver, mouse=PointerInput(kind, kind), duration=5)
    for stroke in strokes:
        places = [(round(left + x * scale), round(top + y * scale)) for x, y in stroke]
        actions.pointer_action.move_to_location(*places[0])
        actions.pointer_action.pointer_down()
        for place in places[1:]:
            actions.pointer_action.move_to_location(*place)
        actions.pointer_action.pointer_up()
    actions.perform()


def wait_for_text(driver, start):
    """Wait until the page's answer begins like this."""
    from selenium.webdriver.support.wait import WebDriverWait

    def text(_):
        return driver.find_element("css selector", "#digits output").text

    WebDriverWait(driver, 60).until(lambda _: text(_).startswith(start), f"{start}: {text(None)}")


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "screen"), [("mouse", (1200, 1200, 1)), ("touch", (390, 1000, 2))]
)
def test_canvas_in_chromium(reader, colab, browser, tmp_path, kind, screen):
    colab.run_cell(functools.partial(predict.predict, predict.load_model(reader)))
    driver = browser(*screen)
    driver.get(colab.address)
    buttons = driver.find_elements("css selector", "#digits button")
    undo, clear = buttons
    for digit in DIGITS:
        draw_in_browser(driver, kind, strokes_of(digit))
        wait_for_text(driver, f"{digit} (least sure: ")
        clear.click()
        wait_for_text(driver, "Draw a digit, or a whole number.")
    # The next strokes are drawn while Python reads the first one.
    colab.delay = 1
    draw_in_browser(driver, kind, strokes_of("427"))
    wait_for_text(driver, "427 (least sure: ")
    image = driver.find_element("css selector", "#digits img")
    assert image.is_displayed()
    assert int(image.get_property("naturalWidth")) == 1200
    canvas = driver.find_element("css selector", "#digits canvas")
    assert int(canvas.get_property("width")) == drawing.WIDTH * screen[2]
    undo.click()
    wait_for_text(driver, "42 (least sure: ")
    driver.save_screenshot(tmp_path / "canvas.png")
    colab.shutdown()
    colab.server_close()
    draw_in_browser(driver, kind, strokes_of("7", left=300))
    wait_for_text(driver, "Run this cell again")
