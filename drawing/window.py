"""The window of `python predict.py --draw`: paper on the left, and on the right what is read."""

import itertools
import os
import pathlib
import signal
import sys
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.widgets import Button

import drawing
import handwriting
import plots


def open_window(predict, output):
    """Open a window to draw digits in, and read them after each stroke until it is closed.

    Args:
        predict: function that takes a list of `handwriting.Digit` and sets their `probabilities`.
        output: path of the PNG that the key s saves the paper to, for example `drawing.png`; what
            is read there goes to `drawing-read.png`. Where one of the two is there, they become
            `drawing-2.png` and `drawing-2-read.png`, and so on.

    Returns:
        The exit status, 0.

    Raises:
        ValueError: no window can be opened; the message is for the user.
    """
    try:
        can_open = plt.figure().canvas.required_interactive_framework
    except ImportError:
        can_open = False
    plt.close()
    if not can_open:
        raise ValueError(
            "There is no window to draw in, which takes a desktop computer and tkinter or PySide6 "
            "(.venv/bin/pip install PySide6-Essentials): use the cell to draw in of colab.ipynb."
        )
    for count in (1, 2):  # The first call with one image is slow, and with several.
        predict([handwriting.Digit(np.zeros((28, 28), np.uint8)) for _ in range(count)])
    signal.signal(signal.SIGINT, interrupt)
    Window(predict, output)
    plt.show(block=True)
    return 0


def interrupt(*_):
    """End at Ctrl-C; the window's own loop would lose a KeyboardInterrupt in its callbacks."""
    print("Interrupted.", file=sys.stderr)
    sys.exit(130)


class Window:
    """The window; `strokes` is what is drawn, and `sheet` the `Drawing` that was read last."""

    def __init__(self, predict, output):
        self.predict, self.output = predict, output
        with plt.rc_context({"toolbar": "None"}):
            self.figure = plt.figure("Draw digits", figsize=(12, 6.5))
        self.canvas = self.figure.canvas
        self.canvas.mpl_disconnect(self.canvas.manager.key_press_handler_id)
        self.upper, lower = self.figure.subfigures(2, 1, height_ratios=[9, 1])
        self.buttons = []
        for i, label in enumerate(("Undo (u)", "Clear (c)", "Save (s)", "Quit (q)")):
            # Another colour under the mouse would redraw the window in the middle of a stroke.
            axis = lower.add_axes((0.02 + 0.09 * i, 0.25, 0.08, 0.6))
            button = Button(axis, label, color="#e8e8e8", hovercolor="#e8e8e8")
            button.on_clicked(lambda event, key=label[-2]: self.do(key))
            self.buttons.append(button)
        self.message = lower.text(0.4, 0.55, "", va="center", size=13, parse_math=False)
        self.canvas.mpl_connect("button_press_event", self.press)
        self.canvas.mpl_connect("motion_notify_event", self.move)
        self.canvas.mpl_connect("button_release_event", self.release)
        self.canvas.mpl_connect("key_press_event", lambda event: self.do(event.key))
        self.show([])

    def show(self, strokes):
        """Read strokes, and show them with what is read."""
        self.strokes, self.pen_is_down = strokes, False
        self.sheet = drawing.Drawing(strokes, self.predict)
        self.upper.clear()
        left, right = self.upper.subfigures(1, 2)
        self.paper = left.add_axes((0.04, 0.02, 0.92, 0.92))
        plots.draw_picture(self.paper, self.sheet.reading)
        for stroke in self.sheet.unread:
            corner, style = np.min(stroke, axis=0) - drawing.PEN, {"color": plots.ORANGE}
            sides = np.ptp(stroke, axis=0) + 2 * drawing.PEN
            self.paper.add_patch(plt.Rectangle(corner, *sides, fill=False, ls="--", lw=2, **style))
            self.paper.text(*np.maximum(corner, 0), "not read", va="bottom", size=11, **style)
        self.line = plt.Line2D([], [], color="black", solid_capstyle="round", animated=True)
        self.paper.add_artist(self.line)
        number, digits = right.subfigures(2, 1, height_ratios=[1, 5])
        size = min(48, 500 / max(1, len(self.sheet.reading.number)))
        number.text(0.5, 0.45, self.sheet.reading.number, size=size, ha="center", va="center")
        self.sheet.draw_digits(digits)
        self.say(self.sheet.text)

    def say(self, message, file=None):
        """Show a message below the paper, and print it."""
        self.message.set_text(message)
        self.canvas.draw()
        print(message, file=file, flush=True)

    def press(self, event):
        """Begin a stroke."""
        if event.button == 1 and event.inaxes is self.paper:
            self.pen_is_down = True
            self.strokes.append([(event.xdata, event.ydata)])
            points_per_pixel = 72 / self.figure.dpi * self.paper.bbox.width / drawing.WIDTH
            self.line.set_linewidth(drawing.PEN * points_per_pixel)

    def move(self, event):
        """Continue a stroke, without drawing the rest of the window again."""
        if self.pen_is_down:
            to_paper = self.paper.transData.inverted()
            self.strokes[-1].append(tuple(to_paper.transform((event.x, event.y))))
            self.line.set_data(*np.transpose(self.strokes[-1][-2:]))
            self.paper.draw_artist(self.line)
            self.canvas.blit(self.line.get_window_extent().padded(2 * self.line.get_linewidth()))

    def release(self, event):
        """End a stroke, and read what is on the paper now."""
        if self.pen_is_down and event.button == 1:
            self.show(self.strokes)

    def do(self, key):
        """Do what a key or a button is for."""
        match key:
            case "u" | "ctrl+z" | "cmd+z":
                self.show(self.strokes[:-1])
            case "c":
                self.show([])
            case "s":
                self.save()
            case "q":
                plt.close(self.figure)

    def save(self):
        """Save the paper and what is read there, each whole or not at all, and say so."""
        for number in itertools.count(1):
            stem = f"{self.output.stem}-{number}" if number > 1 else self.output.stem
            paper, read = self.output.with_stem(stem), self.output.with_stem(f"{stem}-read")
            if not (os.path.lexists(paper) or os.path.lexists(read)):
                break
        no_buttons = self.upper.bbox.transformed(self.figure.dpi_scale_trans.inverted())
        try:
            with tempfile.TemporaryDirectory(dir=self.output.parent) as folder:
                whole = [pathlib.Path(folder, name) for name in ("paper.png", "read.png")]
                plt.imsave(whole[0], self.sheet.reading.thumbnail)
                metadata = {"Title": "Drawing"}
                self.figure.savefig(whole[1], bbox_inches=no_buttons, metadata=metadata)
                whole[0].replace(paper)
                whole[1].replace(read)
            self.say(f"Saved {paper} and {read}")
        except OSError as error:
            self.say(f"Cannot save: {error.strerror or error}.", file=sys.stderr)
