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

# What takes long to import is imported where it is used, so that help and a wrong command line need
# not wait for TensorFlow. Ctrl-C ends it in one line even while these load.
import sys

try:
    import argparse
    import contextlib
    import csv
    import functools
    import itertools
    import logging
    import os
    import pathlib
    import socket
    import tempfile
    import traceback
    import warnings
except KeyboardInterrupt:
    print("Interrupted.", file=sys.stderr)
    sys.exit(130)


def run(options):
    """Find digits, predict, and show what came out; return the exit status."""
    import safe_load

    if not os.path.exists(options.model):
        advice = "run python train_cnn.py first, or name another --model"
        raise ValueError(f"There is no {options.model}: {advice}.")
    checked = safe_load.check_file(options.model)
    if options.draw:
        import drawing

        load_model = functools.cache(safe_load.load_model)  # Only when there is a window.
        return drawing.open_window(
            lambda digits: predict(load_model(checked), digits), options.output
        )

    find_digits = find_in_pictures if options.pictures else find_test_digits
    readings, problems = find_digits(options)
    digits = [digit for reading in readings for digit in reading.digits]
    if not readings or options.explain and not digits:
        return 1
    if digits:
        model = safe_load.load_model(checked)
        predict(model, digits)
    if options.mistakes:
        readings = [reading for reading in readings if reading.digits[0].is_wrong]
        readings.sort(key=lambda reading: -reading.digits[0].confidence)
    import matplotlib.pyplot as plt

    if "inline" not in plt.get_backend():
        plt.rcParams["figure.dpi"] = 65  # So that windows fit on a screen.
    if options.explain:
        explain_first_digit(options, model, readings)
    else:
        show_predictions(options, readings, digits)
    return 1 if problems else 0


def find_test_digits(options):
    """Choose test digits, or take all to look for mistakes; return readings, and no problems."""
    import numpy as np

    from handwriting import Digit, Reading

    images, labels = load_test_images(options.data)
    chosen = range(len(labels))
    if not options.mistakes:
        count = min(1 if options.explain else options.count, len(labels))
        chosen = np.random.default_rng(options.seed).choice(len(labels), count, replace=False)
    return [Reading(f"test/{i}", [Digit(images[i], original=int(labels[i]))]) for i in chosen], []


def load_test_images(path):
    """Return images and labels of an `.npz` file or, where `path` is `None`, MNIST's test set."""
    import numpy as np

    if path is None:
        import keras
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)  # Otherwise, a download that stalls would wait forever.
    try:
        if path is None:
            return keras.datasets.mnist.load_data()[1]
        with np.load(path) as file:
            images, labels = file["x_test"], file["y_test"]
        fits = images.dtype == np.uint8 and images.shape == (*labels.shape, 28, 28)
        if not fits or not len(images) or not {*labels} <= {*range(10)}:
            raise ValueError("it needs uint8 images (n, 28, 28) and n labels from 0 to 9, n > 0")
        return images, labels
    except Exception as error:  # NumPy and Keras raise a dozen kinds.
        name = path or "MNIST (see README.md, Without an internet connection)"
        raise ValueError(f"Cannot load {name}: {error}") from error
    finally:
        socket.setdefaulttimeout(timeout)


def find_in_pictures(options):
    """Find the digits in the pictures that were named; return the readings and the problems."""
    import handwriting

    paths, problems = handwriting.find_pictures(options.pictures)
    if options.output.exists() and any(map(options.output.samefile, filter(os.path.exists, paths))):
        raise ValueError(f"{options.output} is one of the pictures: choose another --output.")
    readings = []
    for result in show_progress(handwriting.read_pictures(paths), len(paths), "pictures"):
        if isinstance(result, Exception):
            problems.append(result)
            continue
        readings.append(result)
        folder = pathlib.PurePath(result.path).parent.name
        for digit in result.digits if folder in set("0123456789") else ():
            digit.original = int(folder)
        notes = [result.note, None if result.digits else "no digit was found."]
        problems += [f"{result.path}: {note}" for note in notes if note]
    for problem in problems:
        say(problem, sys.stderr)
    return readings, problems


def predict(model, digits):
    """Ask a model how probable each class is, for all digits, and note it in each digit.

    Args:
        model: a Keras model, from `safe_load.load_model`.
        digits: list of `handwriting.Digit`, at least one; sets their `probabilities`.

    Raises:
        ValueError: the memory is too small for it.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    images = np.float32([digit.image for digit in digits]) / 255
    images = images.reshape(-1, *model.input_shape[1:])
    batches = [images[start : start + 100] for start in range(0, len(images), 100)]
    try:
        outputs = map(model.predict_on_batch, show_progress(batches, len(batches), "batches"))
        outputs = np.float32(np.concatenate(list(outputs)))
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise ValueError("The memory is too small for this network: train a smaller one.") from None
    if outputs.min() < -0.001 or outputs.max() > 1.001:  # They are logits; sigmoids are not.
        outputs = keras.ops.convert_to_numpy(keras.ops.softmax(outputs))
    for digit, probabilities in zip(digits, outputs, strict=True):
        digit.probabilities = probabilities


def show_predictions(options, readings, digits):
    """Print what was predicted, and write the table and the figures."""
    import plots
    from handwriting import percent

    for reading in readings if options.pictures else ():
        if reading.digits:
            least = percent(min(digit.confidence for digit in reading.digits))
            say(f"{reading.path}: {reading.number} (least sure: {least})")
    labelled = [digit for digit in digits if digit.original is not None]
    if labelled:
        correct = sum(not digit.is_wrong for digit in labelled)
        kind = "labelled" if options.pictures else "test"
        heading = f"{correct} of {len(labelled)} {kind} digits are correct"
        say(f"{heading} ({options.model}): {correct / len(labelled):.2%}.")
    others = []
    if options.mistakes:
        mistakes, readings = readings, readings[: options.count]
        heading = f"{len(readings)} of {len(mistakes)} mistakes, the most confident first"
        others = [("-confusion", plots.confusion_matrix(digits))]
    if options.pictures:
        pages = plots.picture_pages(readings)
    else:
        pages = plots.prediction_pages([reading.digits[0] for reading in readings], heading)
    if options.csv:
        write_csv(options.csv, readings)
    save_figures(options, "Predictions", pages, others)


def explain_first_digit(options, model, readings):
    """Print which class the first digit is read as, and plot what each layer makes of it."""
    import explain

    reading = next((reading for reading in readings if reading.digits), None)
    if reading is None:
        raise ValueError("There is no mistake to explain.")
    say(f"{reading.path}: {reading.digits[0]}")
    save_figures(options, "Explanation", [explain.layer_figure(model, reading.digits[0])])


def write_csv(path, readings):
    """Write a table with one row for each digit."""
    columns = "image,line,position,left,top,width,height,original,predicted,confidence"
    style = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    with whole_file(path) as partial, open(partial, "w", **style) as file:
        table = csv.DictWriter(file, columns.split(","), extrasaction="ignore")
        table.writeheader()
        for reading in readings:
            for position, digit in enumerate(reading.digits):
                row = {"image": reading.path, "position": position, "predicted": digit.predicted}
                table.writerow({**vars(digit), **row, "confidence": f"{digit.confidence:.6f}"})


def save_figures(options, title, pages, others=()):
    """Save figures as `predictions.png`, `predictions-2.png` and so on, and show the first page.

    Others come with what to add to the name. The pages of an earlier run go, and any other file
    stays. By its title, a figure is not taken for a picture to read.
    """
    import matplotlib.pyplot as plt

    from handwriting.picture import read_labels

    output, page_of = options.output, f"Page of {options.output.name!a}"
    same_stem = (path for path in output.parent.iterdir() if path.stem.startswith(output.stem))
    earlier = {path for path in same_stem if read_labels(path).get("Description") == page_of}
    numbered = ((f"-{number}" if number > 1 else "", page) for number, page in enumerate(pages, 1))
    for suffix, figure in itertools.chain(numbered, others):
        path = output.with_stem(f"{output.stem}{suffix}")
        if suffix and path.exists() and path not in earlier:
            raise ValueError(f"{path} is not a page of {output}: choose another --output.")
        labels = {"Title": title, "Description": page_of if suffix else None}
        with whole_file(path) as partial:
            figure.savefig(partial, dpi=120, metadata=labels)
        say(f"Saved {path}")
        earlier.discard(path)
        if suffix[1:].isdigit():
            plt.close(figure)  # A hundred open figures would need gigabytes.
    for path in earlier:
        path.unlink()
    if not options.no_show:
        plt.show()
    plt.close("all")


def parse_arguments(arguments=None):
    """Read the command line; a wrong one ends in one line and exit status 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message} (see --help)\n")
    models = ("mnist_cnn.keras", "mnist_ann.keras")
    model = next(filter(os.path.exists, models), models[0])
    add = parser.add_argument
    add("pictures", nargs="*", default=[], metavar="PICTURE", help="your own, or folders of them")
    add("--model", default=model, help="default: mnist_cnn.keras, else mnist_ann.keras")
    add("--count", type=int, default=25, help="how many digits to show (default: 25)")
    add("--seed", type=int, help="show the same digits each time (default: different ones)")
    add("--mistakes", action="store_true", help="only wrong predictions, most confident first")
    add("--draw", action="store_true", help="draw digits with the mouse, and have them read")
    add("--explain", action="store_true", help="show what each layer makes of one digit")
    add("--data", type=pathlib.Path, help="test images of this .npz file instead of MNIST's")
    add("--output", type=pathlib.Path, help="where the figure goes (default: see README)")
    add("--csv", type=pathlib.Path, help="also write a table of the digits shown")
    add("--no-show", action="store_true", help="do not open a window")
    options = parser.parse_intermixed_args(arguments)
    given = [name for name, value in vars(options).items() if value != parser.get_default(name)]
    given = {"pictures" if one == "pictures" else f"--{one.replace('_', '-')}" for one in given}
    excluded = {  # One of the two would do nothing.
        "--draw": "pictures --count --seed --mistakes --explain --data --csv --no-show",
        "--explain": "--count --csv",
        "--mistakes": "--seed",
        "pictures": "--count --seed --mistakes --data",
    }
    for option, others in excluded.items():
        for other in others.split():
            if {option, other} <= given:
                parser.error(f"{other} and {option} cannot be combined")
    if options.count < 1 or (options.seed or 0) < 0:
        parser.error("--count must be at least 1, and --seed at least 0")
    name = "drawing" if options.draw else "explanation" if options.explain else "predictions"
    options.output = options.output or pathlib.Path(f"{name}.png")
    for path, ending in ((options.output, ".png"), (options.csv, ".csv"), (options.data, ".npz")):
        if path and path.suffix != ending:
            parser.error(f"{path} does not end in {ending}")
    for path in filter(None, (options.output, options.csv)):
        if path.is_dir() or not os.access(f"{path.parent}/", os.W_OK):
            raise ValueError(f"Cannot write {path}: name a file in a writable folder.")
    return options


def main(arguments=None):
    """Run the command line, or the arguments given here, and return the exit status."""
    try:
        options = parse_arguments(arguments)
        with quiet_libraries():
            return run(options)
    except (ImportError, KeyboardInterrupt) as error:
        # Some packages make an ImportError of Ctrl-C.
        if "KeyboardInterrupt" in traceback.format_exc():
            say("Interrupted.", sys.stderr)
            return 130
        advice = "run .venv/bin/pip install -r requirements.txt, and .venv/bin/python predict.py"
        say(f"{error}: {advice} (see README.md, Start).", sys.stderr)
    except (OSError, ValueError) as error:
        say(error, sys.stderr)
    return 1


@contextlib.contextmanager
def quiet_libraries():
    """Keep off the screen what libraries write on standard error, but not what is written here."""
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    logging.getLogger("tensorflow").disabled = True
    sys.stderr.flush()
    with (
        open(os.dup(2), "w", buffering=1, errors="backslashreplace") as screen,
        open(os.devnull, "wb") as nowhere,
        contextlib.redirect_stderr(screen if sys.stderr is sys.__stderr__ else sys.stderr),
        warnings.catch_warnings(action="ignore"),
    ):
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(screen.fileno(), 2)


def show_progress(items, count, unit):
    """Pass items on, with a progress bar where there are several and the screen is a terminal."""
    show_bar = count > 1 and sys.stderr.isatty()
    for done, item in enumerate(items, 1):
        if show_bar:
            bar, end = "#" * (30 * done // count), "\n" if done == count else ""
            print(f"\r[{bar:30}] {done}/{count} {unit}", end=end, file=sys.stderr, flush=True)
        yield item


@contextlib.contextmanager
def whole_file(path):
    """Yield a path in a new folder to write to, then move that file here: whole, or not at all."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            yield pathlib.Path(folder, path.name)
            pathlib.Path(folder, path.name).replace(path)
    except OSError as error:
        raise ValueError(f"Cannot write {path}: {error.strerror or error}.") from error


def say(message, file=None):
    """Print a message or an exception in one line, without what this screen cannot print."""
    if isinstance(message, OSError) and message.filename is not None:
        message = f"{message.filename}: {message.strerror}."
    line = " ".join(str(message).split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    encoding = (file or sys.stdout).encoding or "utf-8"
    print(line.encode(encoding, "replace").decode(encoding), file=file)


if __name__ == "__main__":
    sys.exit(main())
