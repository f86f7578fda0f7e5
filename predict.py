"""Show what a trained model makes of digits: MNIST's test digits, or those in your own pictures.

    python predict.py
    python predict.py --mistakes
    python predict.py --explain
    python predict.py --model mnist_ann.keras --count 100 --csv digits.csv
    python predict.py my_digit.jpg phone_number.png photos/
    python predict.py --draw
    %run predict.py

The last form is for a notebook.
"""

import argparse
import contextlib
import csv
import functools
import os
import pathlib
import socket
import sys
import warnings

import numpy as np

import safe_load

CSV_COLUMNS = "image,position,left,top,width,height,original,predicted,confidence"


def parse_arguments(arguments=None):
    """Read the command line; a wrong one ends in one line and exit status 2.

    Args:
        arguments: list of strings, or `None` for those that the script was started with.

    Returns:
        An `argparse.Namespace`.
    """
    parser = argparse.ArgumentParser(
        description="Plot digits with their original and their predicted class: MNIST's test "
        "digits or, where pictures are named, every digit found in those."
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message} (see --help)\n")
    add = parser.add_argument
    add("pictures", nargs="*", metavar="PICTURE", help="your own pictures, or folders of them")
    add("--model", type=pathlib.Path, help="default: mnist_cnn.keras, else mnist_ann.keras")
    add("--count", type=int, default=25, help="how many digits to show (default: 25)")
    add("--seed", type=int, help="show the same digits each time (default: different ones)")
    add("--mistakes", action="store_true", help="only wrong predictions, most confident first")
    add("--draw", action="store_true", help="draw digits with the mouse, and have them read")
    add("--explain", action="store_true", help="show what each layer makes of one digit")
    add("--data", type=pathlib.Path, help="test images of this .npz file instead of MNIST's")
    add("--output", type=pathlib.Path, help="default: predictions.png, or explanation.png")
    add("--csv", type=pathlib.Path, help="also write a table of the digits shown")
    add("--no-show", action="store_true", help="do not open a window")
    options = parser.parse_args(arguments)
    if options.output is None:
        options.output = pathlib.Path("explanation.png" if options.explain else "predictions.png")
    if options.count < 1:
        parser.error("--count must be at least 1")
    if options.seed is not None and options.seed < 0:
        parser.error("--seed must not be negative")
    if options.output.suffix != ".png":
        parser.error("--output must end in .png")
    if options.csv and options.csv.suffix != ".csv":
        parser.error("--csv must end in .csv")
    if options.pictures and (options.mistakes or options.data):
        parser.error("--mistakes and --data are for test digits, not for pictures")
    others = (options.pictures, options.mistakes, options.explain, options.data, options.csv)
    if options.draw and any(others):
        parser.error("--draw goes only with --model and --output")
    if options.explain and options.csv:
        parser.error("--csv lists many digits, --explain shows one: use one of them")
    return options


def main(arguments=None):
    """Run the command line.

    Args:
        arguments: list of strings, or `None` for those that the script was started with.

    Returns:
        The exit status: 0, 1 (something could not be done) or 130 (interrupted).
    """
    options = parse_arguments(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # Not every console can print every letter.
    try:
        for path in filter(None, (options.output, options.csv)):
            if path.is_dir() or not os.access(f"{path.parent}/", os.W_OK):
                raise ValueError(
                    f"Cannot write {path}: choose a file in a folder that you can write to."
                )
        for path in (pathlib.Path("mnist_cnn.keras"), pathlib.Path("mnist_ann.keras")):
            if options.model is None and path.exists():
                options.model = path
        if options.model is None:
            raise ValueError(
                "There is no mnist_cnn.keras or mnist_ann.keras in this folder: "
                "run python train_cnn.py first, or name a model with --model."
            )
        safe_load.check_file(options.model)
        if options.draw:
            import drawing

            return drawing.open_window(
                functools.partial(predict, load_model(options.model)), options.output
            )
        return predict_pictures(options) if options.pictures else predict_test_digits(options)
    except (OSError, ValueError) as error:
        report(error)
        return 1
    except KeyboardInterrupt:
        report("Interrupted.")
        return 130


def predict_test_digits(options):
    """Plot, count and list what the model makes of test digits; return the exit status."""
    x_test, y_test = load_test_images(options.data)
    model = load_model(options.model)
    probabilities = predict(model, x_test)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = predicted == y_test
    if options.mistakes:
        mistakes = np.flatnonzero(~right)
        shown = mistakes[np.argsort(-confidence[mistakes], kind="stable")][: options.count]
        summary = f"{right.sum()} of {len(right)} test digits read right, {len(mistakes)} wrong"
        heading = f"{len(shown)} of {len(mistakes)} mistakes, the most confident first"
    else:
        generator = np.random.default_rng(options.seed)
        shown = generator.choice(len(right), min(options.count, len(right)), replace=False)
        heading = summary = f"{right[shown].sum()} of {len(shown)} test digits read right"
    if options.explain:
        if not len(shown):
            raise ValueError("There is no mistake to explain.")
        first = shown[0]
        digit = x_test[first], probabilities[first], y_test[first]
        return explain(options, model, f"test/{first}", *digit)
    print(f"{summary} ({options.model}).")
    write_csv(
        options,
        [
            (f"test/{i}", 0, *4 * [None], y_test[i], predicted[i], f"{confidence[i]:.6f}")
            for i in shown
        ],
    )

    import plots

    digits = x_test[shown], y_test[shown], predicted[shown], confidence[shown]
    save_pages(options, plots.prediction_pages(*digits, heading))
    if options.mistakes:
        save_pages(options, [plots.confusion_matrix(y_test, predicted)], "-confusion")
    show(options)
    return 0


def predict_pictures(options):
    """Plot, print and list what the model makes of people's pictures; return the exit status."""
    readings, problems = read_pictures(options)
    images = [digit.image for reading in readings for digit in reading.digits]
    if not readings or options.explain and not images:
        return 1
    model = load_model(options.model) if images else None
    probabilities = predict(model, images) if images else np.zeros((0, 10))

    import plots

    ends = np.cumsum([len(reading.digits) for reading in readings])
    panels = [
        plots.Panel(
            printable(reading.path), reading, own.argmax(axis=1), own.max(axis=1), label_of(reading)
        )
        for reading, own in zip(readings, np.split(probabilities, ends[:-1]), strict=True)
    ]
    print_panels(panels)
    write_csv(
        options,
        [
            (
                *(panel.reading.path, position),
                *(digit.left, digit.top, digit.width, digit.height),
                *(panel.original, panel.predicted[position], f"{panel.confidence[position]:.6f}"),
            )
            for panel in panels
            for position, digit in enumerate(panel.reading.digits)
        ],
    )
    if options.explain:
        first = next(panel for panel in panels if panel.reading.digits)
        digit = images[0], probabilities[0], first.original
        explain(options, model, f"{first.name}, first digit", *digit)
    else:
        save_pages(options, plots.picture_pages(panels))
        show(options)
    return 1 if problems else 0


def read_pictures(options):
    """Find the digits in the pictures that were named; return the readings and the problems."""
    import handwriting

    options.pictures, problems = handwriting.find_pictures(options.pictures)
    results = handwriting.read_pictures(options.pictures)
    if len(options.pictures) > 10:
        results = with_progress(results, len(options.pictures))
    readings, notes = [], []
    with quiet_libraries():
        for result in results:
            if isinstance(result, Exception):
                problems.append(result)
                continue
            readings.append(result)
            if result.note:
                notes.append(f"{result.path}: {result.note}")
            if not result.digits:
                where = "" if result.outline is None else " on the page"
                problems.append(f"{result.path}: no digit was found{where}.")
    for line in notes + problems:
        report(line)
    return readings, problems


def with_progress(results, count):
    """Yield results, and advance a progress bar with each."""
    import keras

    progress = keras.utils.Progbar(count, unit_name="picture")
    for result in results:
        progress.add(1)
        yield result


def label_of(reading):
    """Return the class of a picture in a folder named 0 to 9, else `None`."""
    folder = os.path.basename(os.path.dirname(os.path.abspath(reading.path)))
    return int(folder) if folder in set("0123456789") else None


def print_panels(panels):
    """Print what each picture is read as, and how many with a known class are read right."""
    import plots

    for panel in panels:
        if len(panel.predicted):
            number = "".join(map(str, panel.predicted))
            least = plots.percent(min(panel.confidence))
            print(f"{panel.name}: {number} (least sure: {least})")
    known = [panel for panel in panels if panel.original is not None]
    if known:
        right = sum(list(panel.predicted) == [panel.original] for panel in known)
        share = plots.percent(right / len(known))
        print(f"{right} of {len(known)} labelled pictures read right ({share}).")


def explain(options, model, name, image, probabilities, original):
    """Print which class one digit is read as, plot what each layer makes of it, and return 0."""
    import plots

    truth = "" if original is None else f"original {original}, "
    sure = plots.percent(probabilities.max())
    print(f"{name}: {truth}predicted {probabilities.argmax()} ({sure} sure).")
    figure = plots.feature_maps(model, image / 255, probabilities, original)
    save_pages(options, [figure])
    show(options)
    return 0


def load_model(path):
    """Load a model, from `safe_load`, without TensorFlow's start-up messages."""
    with quiet_libraries():
        return safe_load.load_model(path)


def predict(model, images):
    """Predict how probable each class is.

    Args:
        model: a Keras model, from `safe_load.load_model`.
        images: n uint8 arrays of shape `(28, 28)`, ink bright on dark; n is at least 1.

    Returns:
        Floats of shape `(n, 10)`, 0 to 1, that add up to 1 for each image.
    """
    inputs = np.float32(images).reshape(-1, *model.input_shape[1:]) / 255
    if len(inputs) <= 100:  # For these few, model.predict would take most of its time to start.
        outputs = model.predict_on_batch(inputs)
    else:
        outputs = model.predict(inputs, batch_size=100, verbose=0)
    if outputs.min() < 0 or abs(outputs.sum(axis=1) - 1).max() > 0.01:  # They are logits.
        outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        outputs /= outputs.sum(axis=1, keepdims=True)
    return outputs


def load_test_images(path):
    """Return `x_test` and `y_test` of an `.npz` file, or MNIST's where `path` is `None`.

    Raises:
        ValueError: they cannot be loaded; the message is for the user.
    """
    try:
        if path is None:
            with quiet_libraries():
                import keras
            socket.setdefaulttimeout(10)  # Otherwise, a download that stalls would wait forever.
            return keras.datasets.mnist.load_data()[1]
        with np.load(path) as file:
            x_test, y_test = file["x_test"], file["y_test"]
        shapes_fit = x_test.shape == (*y_test.shape, 28, 28)
        if x_test.dtype != np.uint8 or not shapes_fit or not 0 <= y_test.min() <= y_test.max() <= 9:
            raise ValueError("it needs uint8 images (n, 28, 28) and n labels from 0 to 9")
    except Exception as error:  # NumPy and Keras raise a dozen kinds.
        reason = " ".join(str(error).split()).rstrip(".")
        advice = "" if path else " See README.md, Without an internet connection."
        raise ValueError(f"Cannot load {path or 'MNIST'}: {reason}.{advice}") from error
    return x_test, y_test.astype(int)


@contextlib.contextmanager
def quiet_libraries():
    """Keep off the screen what C++ libraries write straight to file descriptor 2."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    screen = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)


def write_csv(options, rows):
    """Write a table with one row for each digit, where `--csv` asks for it."""

    def write(partial):
        with open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file).writerows([CSV_COLUMNS.split(","), *rows])

    if options.csv:
        write_whole(options, options.csv, write)


def save_pages(options, figures, suffix=""):
    """Save figures as `predictions.png`, `predictions-2.png` and so on; leave the first one open.

    More are not shown: a hundred open ones would need gigabytes.
    """
    import plots

    for page, figure in enumerate(figures):
        number = f"-{page + 1}" if page else ""
        path = options.output.with_stem(f"{options.output.stem}{suffix}{number}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The font may lack letters of a file's name.
            write_whole(options, path, functools.partial(figure.savefig, dpi=120))
        print(f"Saved {path}")
        if page:
            plots.plt.close(figure)


def write_whole(options, path, write):
    """Have `write` write a file beside a path, then move it there, but never over a picture.

    Raises:
        ValueError: the path is one of the pictures.
        OSError: it cannot be written; an earlier file stays as it was.
    """
    if any(os.path.realpath(path) == os.path.realpath(picture) for picture in options.pictures):
        raise ValueError(f"{path} would be overwritten: choose another --output or --csv.")
    partial = path.with_name(f"partial-{path.name}")
    try:
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise OSError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)


def show(options):
    """Show the figures inline in a notebook, or in windows where there is a display."""
    import plots

    if not options.no_show and plots.plt.get_backend().lower() != "agg":
        plots.plt.show()
    plots.plt.close("all")


def printable(text):
    """Replace what cannot be printed in one line, for example in the name of a file."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def report(problem):
    """Print a line for the user on standard error; `problem` is a string or an exception."""
    if isinstance(problem, OSError) and problem.filename is not None:
        problem = f"{problem.filename}: {problem.strerror}."
    print(printable(" ".join(str(problem).split())), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
