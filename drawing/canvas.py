"""The cell of `colab.ipynb` to draw in: the page is `canvas.html`, and Python reads its strokes."""

import base64
import io
import pathlib

from matplotlib.figure import Figure

import drawing


def show_canvas(predict):
    """Show a canvas to draw digits on in Google Colab, and read them after each stroke.

    Args:
        predict: function that takes a list of `handwriting.Digit` and sets their `probabilities`.
    """
    try:
        from google.colab import output
    except ImportError:
        print("This cell is for Google Colab: python predict.py --draw does the same in a window.")
        return
    from IPython import display

    page = pathlib.Path(__file__).with_name("canvas.html").read_text(encoding="utf-8")
    paper = f"[{drawing.WIDTH}, {drawing.HEIGHT}, {drawing.PEN}]"
    output.register_callback("read_drawing", lambda strokes: display.JSON(reply(strokes, predict)))
    display.display(display.HTML(page.replace("PAPER", paper)))


def reply(strokes, predict):
    """Read what was drawn on the canvas; return a line of text and a figure as the page's data."""
    sheet = drawing.Drawing(strokes, predict)
    figure, file = Figure(figsize=(6, 4.3)), io.BytesIO()
    sheet.draw_digits(figure)
    figure.savefig(file, dpi=200)
    image = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"text": sheet.text, "image": image if sheet.reading.digits else None}
