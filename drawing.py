"""Draw digits with the mouse or a finger, and watch them being read.

`open_window` is the window of `python predict.py --draw`, and `show_canvas` is the cell in Google
Colab. Both collect strokes in a `Drawing`, and read it as a photo is read, by `handwriting`.
"""

import base64
import dataclasses
import io
import math
import sys

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.widgets import Button

import handwriting
import plots

WIDTH, HEIGHT, PEN = 560, 520, 12  # Of the paper and of a felt-tip's stroke, in pixels.


class Drawing:
    """Strokes on a paper.

    Args:
        strokes: lists of points `(x, y)`, in pixels from the paper's top left corner.

    Attributes:
        strokes: the same, the latest one last.
        paper: uint8 array of shape `(HEIGHT, WIDTH, 3)`, black on white.
    """

    def __init__(self, strokes=()):
        self.strokes = []
        self.paper = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        for stroke in strokes:
            self.strokes.append([])
            for point in stroke:
                self.draw_to(point)

    def begin_stroke(self, point):
        """Put the pen down, which makes a dot."""
        self.strokes.append([])
        self.draw_to(point)

    def draw_to(self, point):
        """Draw a straight line from where the pen is."""
        stroke = self.strokes[-1]
        stroke.append(point)
        ends = np.int32(np.round(np.multiply([stroke[-2:][0], point], 16)))  # Unit: 1/16 pixel.
        cv2.line(self.paper, *ends, (0, 0, 0), PEN, cv2.LINE_AA, shift=4)


class Answer:
    """What a network reads in a drawing.

    Args:
        drawing: a `Drawing`.
        predict: function that takes n uint8 arrays of shape `(28, 28)`, ink bright on dark, and
            returns floats of shape `(n, 10)`, how probable each class is.

    Attributes:
        number: the digits in reading order, a string.
        text: the same, and how sure the network is; or what to do where there are no digits.
        probabilities: floats of shape `(n, 10)`, how probable each class is for each digit.
        latest: the index of the digit that was drawn last, where there are digits.
        panel: a `plots.Panel` of the paper and the digits on it.
    """

    def __init__(self, drawing, predict):
        # With a border, a digit that runs off the paper is not taken for something beside a page.
        page = cv2.copyMakeBorder(drawing.paper, *4 * [PEN], cv2.BORDER_CONSTANT, value=3 * [255])
        digits = [
            dataclasses.replace(digit, left=digit.left - PEN, top=digit.top - PEN)
            for digit in handwriting.read_digits(page)
        ]
        images = [digit.image for digit in digits]
        self.probabilities = predict(images) if digits else np.zeros((0, 10))
        predicted, confidence = self.probabilities.argmax(axis=1), self.probabilities.max(axis=1)
        reading = handwriting.Reading("", digits, drawing.paper, scale=1)
        self.panel = plots.Panel("", reading, predicted, confidence)
        self.number = "".join(map(str, predicted))
        if digits:
            self.latest = drawn_last(digits, drawing.strokes[-1])
            self.text = f"{self.number} (least sure: {plots.percent(confidence.min())})"
        elif drawing.strokes:
            self.text = "No digit was found: draw a larger one."
        else:
            self.text = "Draw a digit, or a whole number."

    def draw(self, figure):
        """Draw what the network saw of each digit, and ten bars for the one drawn last."""
        if not self.number:
            return
        # One axis for all digits: one for each would take three times as long.
        axis = figure.add_axes((0, 0.38, 1, 0.62))
        width, height = axis.bbox.size / figure.dpi  # In inches, like all that follows.
        count = len(self.number)

        def size_in(columns):
            return min(1.5, 0.8 * width / columns, 0.65 * height / math.ceil(count / columns))

        columns = max(range(1, count + 1), key=size_in)
        size, row_height = size_in(columns), height / math.ceil(count / columns)
        for i, digit in enumerate(self.panel.reading.digits):
            row, column = divmod(i, columns)
            x = width / 2 + 1.2 * size * (column - (min(count, columns) - 1) / 2)
            y = height - row_height * (row + 0.5)
            sides = x - size / 2, x + size / 2, y - size / 2, y + size / 2
            axis.imshow(digit.image, "gray", extent=sides, interpolation="nearest")
            mark, sure = plots.mark_of(self.panel, i), plots.percent(self.panel.confidence[i])
            style = {"ha": "center", "color": plots.ORANGE if mark else "black"}
            above, below = y + 0.54 * size, y - 0.54 * size
            axis.text(
                x, above, f"{self.number[i]} {mark}".strip(), size=min(16, 15 * size), **style
            )
            sure += " unsure" if mark else " sure"
            axis.text(x, below, sure, size=min(11, 9 * size), va="top", **style)
        axis.set(xlim=(0, width), ylim=(0, height))
        axis.axis("off")
        axis = figure.add_axes((0.04, 0.12, 0.92, 0.2))
        plots.draw_probabilities(axis, self.probabilities[self.latest])
        axis.set_xlabel("Class of the digit drawn last", fontsize=11)


def drawn_last(digits, stroke):
    """Return which of the digits a stroke belongs to: the one whose box it hardly leaves."""
    outside = []
    for digit in digits:
        start = np.array([digit.left, digit.top])
        in_box = np.clip(stroke, start, start + [digit.width, digit.height])
        outside.append(np.abs(stroke - in_box).sum())
    return int(np.argmin(outside))


class Window:
    """A window with paper on its left half, and on its right half what is read on it.

    Args:
        predict: function, as for `Answer`.
        output: path of the figure that is saved; the paper goes to `drawing.png` beside it.
    """

    def __init__(self, predict, output):
        self.predict, self.output = predict, output
        with plt.rc_context({"toolbar": "None"}):
            self.figure = plt.figure("Draw digits", figsize=(12, 6.5))
        self.canvas = self.figure.canvas
        self.canvas.mpl_disconnect(self.canvas.manager.key_press_handler_id)
        right = self.figure.subfigures(1, 2)[1]
        self.number, self.details = right.subfigures(2, 1, height_ratios=[1, 4])
        self.paper = self.figure.add_axes((0.02, 0.12, 0.46, 0.85))
        self.buttons = []
        for left, label, action in ((0.02, "Undo (u)", self.undo), (0.13, "Clear (c)", self.clear)):
            # Another colour under the mouse would redraw the window in the middle of a stroke.
            axis = self.figure.add_axes((left, 0.03, 0.1, 0.06))
            button = Button(axis, label, color="#e8e8e8", hovercolor="#e8e8e8")
            button.label.set_size(13)
            button.on_clicked(action)
            self.buttons.append(button)
        self.figure.text(0.48, 0.06, "Keys: s saves, q quits", ha="right", va="center", size=11)
        for name, handler in {
            "button_press_event": self.press,
            "motion_notify_event": self.move,
            "button_release_event": self.release,
            "key_press_event": self.press_key,
        }.items():
            self.canvas.mpl_connect(name, handler)
        self.show(Drawing())

    def run(self):
        """Wait until the window is closed; return the exit status."""
        plt.show(block=True)
        return 0

    def show(self, drawing):
        """Read a drawing, and show it with the answer."""
        self.drawing, self.pen_is_down = drawing, False
        answer = Answer(drawing, self.predict)
        self.paper.clear()
        plots.draw_picture(self.paper, answer.panel)
        self.paper.set_xlabel("" if answer.number else answer.text, color="black", fontsize=13)
        self.line = self.paper.add_artist(
            plt.Line2D([], [], color="black", solid_capstyle="round", animated=True)
        )
        self.number.clear()
        size = min(48, 600 / max(1, len(answer.number)))
        self.number.text(0.5, 0.45, answer.number, size=size, ha="center", va="center")
        self.details.clear()
        answer.draw(self.details)
        self.canvas.draw()
        print(answer.text, flush=True)

    def press(self, event):
        """Begin a stroke."""
        if event.button == 1 and event.inaxes is self.paper:
            self.pen_is_down = True
            self.drawing.begin_stroke((event.xdata, event.ydata))
            points_per_pixel = 72 / self.figure.dpi * self.paper.bbox.width / WIDTH
            self.line.set_linewidth(PEN * points_per_pixel)

    def move(self, event):
        """Continue a stroke, without drawing the rest of the window again."""
        if self.pen_is_down:
            to_paper = self.paper.transData.inverted()
            self.drawing.draw_to(tuple(to_paper.transform((event.x, event.y))))
            self.line.set_data(*np.transpose(self.drawing.strokes[-1][-2:]))
            self.paper.draw_artist(self.line)
            self.canvas.blit(self.line.get_window_extent().padded(2 * self.line.get_linewidth()))

    def release(self, event):
        """End a stroke, and read what is on the paper now."""
        if self.pen_is_down and event.button == 1:
            self.show(self.drawing)

    def press_key(self, event):
        """Do what the key is for."""
        match event.key:
            case "u" | "ctrl+z" | "cmd+z":
                self.undo()
            case "c":
                self.clear()
            case "s":
                self.save()
            case "q":
                plt.close(self.figure)

    def undo(self, event=None):
        """Take back the latest stroke."""
        self.show(Drawing(self.drawing.strokes[:-1]))

    def clear(self, event=None):
        """Take a new sheet of paper."""
        self.show(Drawing())

    def save(self):
        """Save the paper and the figure."""
        path = self.output.with_name("drawing.png")
        try:
            plt.imsave(path, self.drawing.paper)
            self.figure.savefig(self.output)
            print(f"Saved {path}\nSaved {self.output}", flush=True)
        except OSError as error:
            print(f"Cannot save: {error}.", file=sys.stderr, flush=True)
        self.canvas.draw()  # `savefig` has left another size behind.


def open_window(predict, output):
    """Open a window to draw digits in, and read them after each stroke until it is closed.

    Args:
        predict: function that takes n uint8 arrays of shape `(28, 28)`, ink bright on dark, and
            returns floats of shape `(n, 10)`, how probable each class is.
        output: path of the figure that the key s saves; the paper goes to `drawing.png` beside it.

    Returns:
        The exit status, 0.

    Raises:
        ValueError: there is no display to open it on; the message is for the user.
    """
    try:
        interactive = plt.figure().canvas.required_interactive_framework
    except ImportError:
        interactive = None
    plt.close()
    if not interactive:
        raise ValueError(
            "There is no display to draw on, or no tkinter or PySide6 to open a window with: run "
            "this on a desktop computer, or use the cell to draw in of colab.ipynb."
        )
    for count in (1, 2):  # Keras is slow at its first image, and at its first several.
        predict(np.zeros((count, 28, 28), np.uint8))
    return Window(predict, output).run()


def show_canvas(predict):
    """Show a canvas to draw digits on in Google Colab, and read them after each stroke.

    Args:
        predict: function that takes n uint8 arrays of shape `(28, 28)`, ink bright on dark, and
            returns floats of shape `(n, 10)`, how probable each class is.
    """
    try:
        from google.colab import output
    except ImportError:
        print("This cell is for Google Colab: python predict.py --draw does the same in a window.")
        return
    from IPython import display

    output.register_callback("read_drawing", lambda strokes: display.JSON(reply(strokes, predict)))
    display.display(display.HTML(CANVAS.replace("SIZES", f"{[WIDTH, HEIGHT, PEN]}")))


def reply(strokes, predict):
    """Read what was drawn on the canvas; return a line of text and a figure as the page's data."""
    answer = Answer(Drawing(strokes), predict)
    figure, file = Figure(figsize=(6, 4.3)), io.BytesIO()
    answer.draw(figure)
    figure.savefig(file, dpi=200)
    image = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"text": answer.text, "image": image if answer.number else None}


CANVAS = """
<style>
  #digits { max-width: 560px; padding: 12px; font: 16px sans-serif;
            color: black; background: white; color-scheme: light }
  #digits canvas { display: block; width: 100%; outline: 1px solid gray; cursor: crosshair;
                   touch-action: none }
  #digits button { margin: 12px 6px 12px 0; padding: 8px 20px; font: inherit }
  #digits output { display: block; font-size: 28px }
  #digits img { width: 100% }
</style>
<div id="digits">
  <canvas></canvas>
  <button>Undo</button><button>Clear</button>
  <output>Draw a digit, or a whole number.</output>
  <img alt="What the network saw, and how probable each class is" hidden>
</div>
<script>
(() => {
  const [width, height, pen] = SIZES;
  const element = name => document.querySelector(`#digits ${name}`);
  const canvas = element("canvas"), output = element("output"), image = element("img");
  const context = canvas.getContext("2d");
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  context.scale(devicePixelRatio, devicePixelRatio);
  context.lineWidth = pen;
  context.lineCap = context.lineJoin = "round";
  let strokes = [], pointer = null, changed = false, reading = false;

  function draw() {
    context.clearRect(0, 0, width, height);
    for (const stroke of strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      for (const point of stroke) context.lineTo(...point);
      context.stroke();
    }
  }

  function change(newStrokes) {
    strokes = newStrokes;
    pointer = null;
    draw();
    changed = true;
    if (!reading) read();
  }

  async function read() {
    reading = true;
    while (changed) {  // What is drawn while Python reads is read next.
      changed = false;
      try {
        const reply = await google.colab.kernel.invokeFunction("read_drawing", [strokes], {});
        const answer = reply.data["application/json"];
        output.textContent = answer.text;
        image.hidden = !answer.image;
        if (answer.image) image.src = answer.image;
      } catch (error) {
        output.textContent = `Run this cell again: Python does not answer (${error.message}).`;
      }
    }
    reading = false;
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    const scale = width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  canvas.onpointerdown = event => {
    if (pointer !== null || event.button !== 0) return;
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    strokes.push([place(event)]);
    draw();
  };
  canvas.onpointermove = event => {
    if (event.pointerId !== pointer) return;
    strokes.at(-1).push(place(event));
    draw();
  };
  canvas.onpointerup = canvas.onpointercancel = event => {
    if (event.pointerId === pointer) change(strokes);
  };
  element("button:first-of-type").onclick = () => change(strokes.slice(0, -1));
  element("button:last-of-type").onclick = () => change([]);
})();
</script>
"""
