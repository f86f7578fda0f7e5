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

# Other packages are imported where there is work for them, so that help and mistakes on the command
# line need not wait for TensorFlow, and a package that is missing can be named.
import sys

try:
    import argparse
    import contextlib
    import csv
    import dataclasses
    import functools
    import glob
    import io
    import itertools
    import os
    import pathlib
    import socket
    import tempfile
    import warnings
except KeyboardInterrupt:
    print("Interrupted.", file=sys.stderr)
    sys.exit(130)

CSV_COLUMNS = "image,line,position,left,top,width,height,original,predicted,confidence"
# What is not combined, since one of the two would do nothing.
EXCLUDED = {
    "--draw": "pictures --count --seed --mistakes --explain --data --csv --no-show",
    "--explain": "--count --csv",
    "--mistakes": "--seed",
    "pictures": "--count --seed --mistakes --data",
}


def parse_arguments(arguments=None):
    """Read the command line; a wrong one ends in one line and exit status 2."""
    parser = argparse.ArgumentParser(
        description="Plot digits with their original and their predicted class: MNIST's test "
        "digits or, where pictures are named, every digit found in those."
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message} (see --help)\n")
    add = parser.add_argument
    add("pictures", nargs="*", metavar="PICTURE", help="your own pictures, or folders of them")
    add("--model", type=pathlib.Path, help="default: mnist_cnn.keras, else mnist_ann.keras")
    add("--count", type=int, help="how many digits to show (default: 25)")
    add("--seed", type=int, help="show the same digits each time (default: different ones)")
    add("--mistakes", action="store_true", help="only wrong predictions, most confident first")
    add("--draw", action="store_true", help="draw digits with the mouse, and have them read")
    add("--explain", action="store_true", help="show what each layer makes of one digit")
    add("--data", type=pathlib.Path, help="test images of this .npz file instead of MNIST's")
    add("--output", type=pathlib.Path, help="where the figure goes (default: predictions.png)")
    add("--csv", type=pathlib.Path, help="also write a table of the digits shown")
    add("--no-show", action="store_true", help="do not open a window")
    options = parser.parse_intermixed_args(arguments)
    given = [n for n, v in vars(options).items() if v is not False and v not in (None, [])]
    names = {n if n == "pictures" else f"--{n.replace('_', '-')}" for n in given}
    for option, others in EXCLUDED.items():
        for other in others.split():
            if {option, other} <= names:
                parser.error(f"{other} and {option} cannot be combined")
    options.count = 25 if options.count is None else options.count
    if options.count < 1:
        parser.error("--count must be at least 1")
    if options.seed is not None and options.seed < 0:
        parser.error("--seed must not be negative")
    if options.output is None:
        name = "drawing" if options.draw else "explanation" if options.explain else "predictions"
        options.output = pathlib.Path(f"{name}.png")
    if options.output.suffix != ".png":
        parser.error("--output must end in .png")
    if options.csv and options.csv.suffix != ".csv":
        parser.error("--csv must end in .csv")
    return options


def main(arguments=None):
    """Run the command line.

    Args:
        arguments: list of strings, or `None` for those that the script was started with.

    Returns:
        The exit status: 0, 1 (something could not be done) or 130 (interrupted).
    """
    try:
        options = parse_arguments(arguments)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # Not every console can print every letter.
        status = run(options)
        print(end="", flush=True)
        return status
    except BrokenPipeError:  # As with `predict.py | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ImportError, KeyboardInterrupt) as error:
        cause = error
        while cause and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__context__  # Some packages turn Ctrl-C into an ImportError.
        if cause:
            report("Interrupted.")
            return 130
        missing = isinstance(error, ModuleNotFoundError)
        problem = f"{error.name.split('.')[0]} is not installed here" if missing else error
        report(
            f"{problem}: run .venv/bin/pip install -r requirements.txt, and start "
            ".venv/bin/python predict.py, as in README.md."
        )
    except (OSError, ValueError) as error:
        report(error)
    return 1


def run(options):
    """Find digits, predict, and show what came out; return the exit status."""
    import safe_load

    for path in filter(None, (options.output, options.csv)):
        if path.is_dir() or not os.access(f"{path.parent}/", os.W_OK):
            raise ValueError(
                f"Cannot write {path}: choose a file in a folder that you can write to."
            )
    for path in ("mnist_cnn.keras", "mnist_ann.keras"):
        if options.model is None and os.path.exists(path):
            options.model = path
    if options.model is None:
        raise ValueError(
            "There is no mnist_cnn.keras or mnist_ann.keras in this folder: "
            "run python train_cnn.py first, or name a model with --model."
        )
    checked = safe_load.check_file(options.model)
    if options.draw:
        import drawing

        model = load_model(checked)
        return drawing.open_window(functools.partial(predict, model), options.output)

    find = find_in_pictures if options.pictures else find_test_digits
    readings, problems = find(options)
    digits = [digit for reading in readings for digit in reading.digits]
    model = load_model(checked) if digits else None
    predict(model, digits)
    if options.mistakes:
        wrong = [reading for reading in readings if reading.digits[0].is_wrong]
        readings = sorted(wrong, key=lambda reading: -reading.digits[0].confidence)
    if options.explain and digits:
        show_layers(options, model, readings)
    elif readings and not options.explain or options.mistakes:
        show_predictions(options, readings, digits)
    return 1 if problems else 0


def find_test_digits(options):
    """Choose test digits, or all for their mistakes; return a reading of each, and no problems."""
    import numpy as np

    from handwriting import Digit, Reading

    images, labels = load_test_images(options.data)
    chosen = range(len(labels))
    if not options.mistakes:
        count = min(1 if options.explain else options.count, len(labels))
        chosen = np.random.default_rng(options.seed).choice(len(labels), count, replace=False)
    digits = {i: Digit(images[i], original=int(labels[i])) for i in chosen}
    return [Reading(f"test/{i}", [digit]) for i, digit in digits.items()], []


def find_in_pictures(options):
    """Find the digits in the pictures that were named; return the readings and the problems."""
    import handwriting

    paths, problems = handwriting.find_pictures(options.pictures)
    for output in filter(None, (options.output, options.csv)):
        for path in filter(os.path.exists, paths if output.exists() else ()):
            if os.path.samefile(output, path):
                raise ValueError(
                    f"{output} is one of the pictures and would be overwritten: "
                    "choose another --output or --csv."
                )
    readings, notes = [], []
    with quiet_libraries() as screen:
        results = handwriting.read_pictures(paths)
        for result in with_progress(results, len(paths), "pictures", screen):
            if isinstance(result, Exception):
                problems.append(result)
                continue
            readings.append(result)
            folder = pathlib.PurePath(result.path).parent.name
            for digit in result.digits if folder in set("0123456789") else ():
                digit.original = int(folder)
            if result.note:
                notes.append(f"{result.path}: {result.note}")
            if not result.digits:
                where = "" if result.outline is None else " on the page"
                problems.append(f"{result.path}: no digit was found{where}.")
    for line in notes + problems:
        report(line)
    return readings, problems


def predict(model, digits):
    """Ask a model once for all digits how probable each class is, and note it in each digit.

    Args:
        model: a Keras model, from `safe_load.load_model`; `None` will do where there are no digits.
        digits: list of `handwriting.Digit`; sets their `probabilities`.

    Raises:
        ValueError: the memory is too small for it.
    """
    if not digits:
        return
    import numpy as np
    import tensorflow as tf

    images = np.float32([digit.image for digit in digits]) / 255
    images = images.reshape(-1, *model.input_shape[1:])
    batches = [images[start : start + 100] for start in range(0, len(images), 100)]
    batches = with_progress(batches, len(batches), "batches", sys.stderr)
    try:
        outputs = np.float32(np.concatenate([model.predict_on_batch(one) for one in batches]))
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise ValueError("The memory is too small for this network: train a smaller one.") from None
    if outputs.min() < -0.001 or outputs.max() > 1.001:  # They are logits; sigmoids are not.
        outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        outputs /= outputs.sum(axis=1, keepdims=True)
    for digit, probabilities in zip(digits, outputs, strict=True):
        digit.probabilities = probabilities


def show_predictions(options, readings, digits):
    """Print what was predicted, and write the table and the figures."""
    import plots
    from handwriting import percent

    labelled = [digit for digit in digits if digit.original is not None]
    correct = sum(not digit.is_wrong for digit in labelled)
    if options.pictures:
        for reading in readings:
            if reading.digits:
                least = percent(min(digit.confidence for digit in reading.digits))
                print(f"{printable(reading.path)}: {reading.number} (least sure: {least})")
        if labelled:
            share = f"{correct / len(labelled):.1%}"
            print(f"{correct} of {len(labelled)} labelled digits are correct ({share}).")
        readable = [dataclasses.replace(one, path=printable(one.path)) for one in readings]
        pages = plots.picture_pages(readable)
    else:
        summary = heading = f"{correct} of {len(digits)} test digits are correct"
        if options.mistakes:
            mistakes, readings = readings, readings[: options.count]
            summary += f", {len(mistakes)} are wrong"
            heading = f"{len(readings)} of {len(mistakes)} mistakes, the most confident first"
        print(f"{summary} ({options.model}).")
        pages = plots.prediction_pages([reading.digits[0] for reading in readings], heading)
    write_csv(options.csv, readings)
    figures = ((f"-{n}" if n > 1 else "", page) for n, page in enumerate(pages, 1))
    if options.mistakes:
        figures = itertools.chain(figures, [("-confusion", plots.confusion_matrix(digits))])
    save_figures(options, figures, "Predictions")


def show_layers(options, model, readings):
    """Print which class the first digit is read as, and plot what each layer makes of it."""
    import explain
    from handwriting import percent

    reading = next((reading for reading in readings if reading.digits), None)
    if reading is None:
        raise ValueError("There is no mistake to explain.")
    digit = reading.digits[0]
    name = f"{printable(reading.path)}, first digit" if options.pictures else reading.path
    truth = "" if digit.original is None else f"original {digit.original}, "
    print(f"{name}: {truth}predicted {digit.predicted} ({percent(digit.confidence)} sure).")
    save_figures(options, [("", explain.layer_figure(model, digit))], "Explanation")


def load_model(source):
    """Load a model, from `safe_load`, without TensorFlow's start-up messages."""
    import safe_load

    with quiet_libraries():
        return safe_load.load_model(source)


def load_test_images(path):
    """Return images and labels of an `.npz` file or, where `path` is `None`, MNIST's test set."""
    import numpy as np

    if path is None:
        with quiet_libraries():
            import keras
    timeout = socket.getdefaulttimeout()
    try:
        if path is None:
            socket.setdefaulttimeout(10)  # Otherwise, a download that stalls would wait forever.
            return keras.datasets.mnist.load_data()[1]
        with np.load(path) as file:
            images, labels = file["x_test"], file["y_test"]
        shapes_fit = images.shape == (*labels.shape, 28, 28)
        if images.dtype != np.uint8 or not shapes_fit or not 0 <= labels.min() <= labels.max() <= 9:
            raise ValueError("it needs uint8 images (n, 28, 28) and n labels from 0 to 9")
    except Exception as error:  # NumPy and Keras raise a dozen kinds.
        reason = " ".join(str(error).split()).rstrip(".")
        advice = "" if path else " See README.md, Without an internet connection."
        raise ValueError(f"Cannot load {path or 'MNIST'}: {reason}.{advice}") from error
    finally:
        socket.setdefaulttimeout(timeout)
    return images, labels


@contextlib.contextmanager
def quiet_libraries():
    """Keep off the screen what C++ libraries write to file descriptor 2, and yield the screen."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    with open(os.dup(2), "w") as screen, open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield screen
        finally:
            os.dup2(screen.fileno(), 2)


def with_progress(items, count, unit, screen):
    """Pass items on, with a progress bar where there are several and the screen is a terminal."""
    show_bar = count > 1 and screen.isatty()
    for done, item in enumerate(items, 1):
        if show_bar:
            bar, end = "#" * (30 * done // count), "\n" if done == count else ""
            print(f"\r[{bar:30}] {done}/{count} {unit}", end=end, file=screen, flush=True)
        yield item


def write_csv(path, readings):
    """Write a table with one row for each digit, where there is a path to write it to."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(CSV_COLUMNS.split(","))
    for reading in readings:
        for position, digit in enumerate(reading.digits):
            box = digit.left, digit.top, digit.width, digit.height
            predicted = digit.original, digit.predicted, f"{digit.confidence:.6f}"
            writer.writerow([reading.path, digit.line, position, *box, *predicted])
    if path:
        write_whole(path, table.getvalue().encode("utf-8", "surrogateescape"))


def save_figures(options, figures, title):
    """Save figures as `predictions.png`, `predictions-2.png` and so on, and show the first one.

    What an earlier run has saved beside its own first one goes; any other file stays. Not all are
    shown: a hundred open figures would need gigabytes.

    The figures come as pairs: what to add to the name, nothing for the first, and the figure. The
    title is written into each file, so that it is not taken for a picture to read.
    """
    import plots
    from handwriting.picture import read_labels

    output, source = options.output, f"Beside {printable(options.output.name)}"
    earlier = output.parent.glob(f"{glob.escape(output.stem)}-*.png")
    earlier = [path for path in earlier if read_labels(path).get("Source") == source]
    for suffix, figure in figures:
        path, labels = output.with_stem(f"{output.stem}{suffix}"), {"Title": title}
        if suffix:
            labels["Source"] = source
            while path.exists():  # It is somebody else's.
                path = path.with_stem(f"{path.stem}-new")
        content = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The font may lack letters of a file's name.
            figure.savefig(content, dpi=120, metadata=labels)
        write_whole(path, content.getvalue())
        print(f"Saved {path}")
        if suffix.removeprefix("-").isdigit():
            plots.plt.close(figure)
        if not suffix:
            for page in earlier:
                page.unlink()
    if not options.no_show and plots.plt.get_backend().lower() != "agg":
        plots.plt.show()
    plots.plt.close("all")


def write_whole(path, content):
    """Write a file in a new folder beside the path, then move it there: whole, or not at all."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            partial = pathlib.Path(folder, path.name)
            partial.write_bytes(content)
            partial.replace(path)
    except OSError as error:
        raise OSError(f"Cannot write {path}: {error.strerror or error}.") from error


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
