"""Show what a trained model makes of digits: MNIST's test digits, or those in your own pictures.

python predict.py
python predict.py --mistakes
python predict.py --model mnist_ann.keras --count 100 --csv digits.csv
python predict.py my_digit.jpg phone_number.png photos/
%run predict.py
"""

import atexit
import os
import signal
import sys

partials = []  # Paths of files that are being written.


def end_at_once(*_):
    """End in one line on Ctrl-C: TensorFlow makes other errors of a `KeyboardInterrupt`."""
    for partial in partials:
        partial.unlink(missing_ok=True)
    os.write(screen, b"\nInterrupted.\n")
    atexit._run_exitfuncs()  # TensorFlow and matplotlib remove their temporary files.
    os._exit(130)


if __name__ == "__main__" and not hasattr(sys, "ps1"):  # A notebook has its own way to interrupt.
    screen = os.dup(2)
    signal.signal(signal.SIGINT, end_at_once)

import argparse
import concurrent.futures
import contextlib
import csv
import dataclasses
import multiprocessing.pool
import pathlib
import time
import warnings

import numpy as np

DIGITS_ON_A_PAGE = 100
PANEL_SIDE = 800  # Pixels of a picture's longer side in the figure.
# In a folder, files with these endings are taken for pictures. The last four kinds are not read,
# but reported, so that nobody believes that they were.
PICTURE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"),
    *(".heic", ".heif", ".avif", ".gif"),
)
MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
PARTIAL_PREFIX = f"partial-{os.urandom(4).hex()}-"  # Of files that are being written.
CSV_COLUMNS = "image,position,left,top,width,height,original,predicted,confidence"


def parse_arguments(arguments=None):
    """Read the command line; a wrong one ends in one line and exit status 2.

    Args:
        arguments: list of strings, or `None` for those that the script was started with.

    Returns:
        An `argparse.Namespace`, each option checked as far as it can be without any file.
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
    add("--seed", type=int, help="show the same digits each time (default: others each time)")
    add("--mistakes", action="store_true", help="only what is read wrong, the surest first")
    add("--data", type=pathlib.Path, help="test images of this .npz file, not MNIST's")
    add("--output", type=pathlib.Path, default="predictions.png", help="where the figure goes")
    add("--csv", type=pathlib.Path, help="write a table of the digits shown, too")
    add("--no-show", action="store_true", help="open no window")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count must be at least 1")
    if options.seed is not None and options.seed < 0:
        parser.error("--seed must not be negative")
    if options.output.suffix != ".png":
        parser.error("--output must end in .png")
    if options.pictures and (options.mistakes or options.data):
        parser.error("--mistakes and --data are for test digits, not for pictures")
    return options


def main(arguments=None):
    """Run the command line.

    Args:
        arguments: list of strings, or `None` for those that the script was started with.

    Returns:
        The exit status: 0, 1 (something could not be done) or 130 (interrupted).
    """
    options = parse_arguments(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # Not every console has every letter.
    try:
        return predict_pictures(options) if options.pictures else predict_test_digits(options)
    except (OSError, ValueError) as error:
        report(error)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def predict_test_digits(options):
    """Plot, count and list what the model makes of test digits.

    Args:
        options: the command line, from `parse_arguments`.

    Raises:
        ValueError: a model or data file is not what it should be; the message is for the user.
        OSError: a file cannot be read or written.
    """
    import safe_load

    model_path = options.model or default_model()
    safe_load.check_file(model_path)
    for path in filter(None, (options.output, options.csv)):
        check_writable(path)
    if options.data:
        x_test, y_test = read_test_images(options.data)
    with quiet_start():
        model = safe_load.load_model(model_path)
        if not options.data:
            x_test, y_test = download_test_images()
        # All of MNIST at once takes a second, and the mistakes need all of it.
        images = x_test.astype("float32").reshape(-1, *model.input_shape[1:]) / 255
        probabilities = model.predict(images, batch_size=1_000, verbose=0)
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    total, right = len(y_test), predicted == y_test

    if options.mistakes:
        mistakes = np.flatnonzero(~right)
        shown = mistakes[np.argsort(-confidence[mistakes], kind="stable")][: options.count]
        summary = f"{right.sum()} of {total} test digits read right, {len(mistakes)} wrong"
        heading = f"{len(shown)} of {len(mistakes)} mistakes, the most confident first"
    else:
        generator = np.random.default_rng(options.seed)
        shown = generator.choice(total, min(options.count, total), replace=False)
        summary = f"{right[shown].sum()} of {len(shown)} test digits read right"
        heading = summary
    print(f"{summary} ({model_path}).")

    if options.csv:
        rows = [
            (f"test/{i}", 0, "", "", "", "", y_test[i], predicted[i], f"{confidence[i]:.6f}")
            for i in shown
        ]
        write_whole(options.csv, lambda path: write_csv(path, rows))

    import plots

    for page in range(max(1, -(-len(shown) // DIGITS_ON_A_PAGE))):
        on_page = shown[page * DIGITS_ON_A_PAGE : (page + 1) * DIGITS_ON_A_PAGE]
        figure = plots.prediction_grid(
            x_test[on_page], y_test[on_page], predicted[on_page], confidence[on_page], heading
        )
        save(figure, page_path(options.output, page), keep=page == 0)
    if options.mistakes:
        path = options.output.with_stem(f"{options.output.stem}-confusion")
        save(plots.confusion_matrix(y_test, predicted), path, keep=True)
    show(options.no_show)
    return 0


def predict_pictures(options):
    """Plot, print and list what the model makes of every digit in people's pictures.

    Args:
        options: the command line, from `parse_arguments`.

    Returns:
        The exit status: 1 where one of the pictures could not be read, else 0.

    Raises:
        ValueError: the model file is not what it should be; the message is for the user.
        OSError: a file cannot be read or written.
    """
    import safe_load

    model_path = options.model or default_model()
    safe_load.check_file(model_path)
    for path in filter(None, (options.output, options.csv)):
        check_writable(path)
    paths, problems = find_pictures(options.pictures)
    readings = read_pictures(paths)
    problems += [reading.problem for reading in readings if reading.problem]
    for line in [*(reading.note for reading in readings if reading.note), *problems]:
        report(line)
    readings = [reading for reading in readings if reading.opened]
    if not readings:
        return 1

    import plots

    pages = plots.picture_pages([len(reading.digits) for reading in readings])
    page_paths = [page_path(options.output, page) for page in range(len(pages))]
    for path in {os.path.realpath(path) for path in paths}.intersection(
        map(os.path.realpath, [*page_paths, *filter(None, [options.csv])])
    ):
        raise ValueError(f"{path} would be overwritten: choose another --output or --csv.")

    images = [digit.image for reading in readings for digit in reading.digits]
    if images:
        with quiet_start():
            model = safe_load.load_model(model_path)
            inputs = np.float32(images).reshape(-1, *model.input_shape[1:]) / 255
            probabilities = model.predict(inputs, batch_size=1_000, verbose=0)
        ends = np.cumsum([len(reading.digits) for reading in readings])[:-1]
        for reading, own in zip(readings, np.split(probabilities, ends), strict=True):
            reading.predicted, reading.confidence = own.argmax(axis=1), own.max(axis=1)
            if len(own):
                print(described(reading, plots))
    labelled = [reading for reading in readings if reading.original is not None]
    if labelled:
        right = sum(list(reading.predicted) == [reading.original] for reading in labelled)
        share = plots.percent(right / len(labelled))
        print(f"{right} of {len(labelled)} labelled pictures read right ({share}).")
    if options.csv:
        write_whole(options.csv, lambda path: write_csv(path, picture_rows(readings)))
    for page, (rows, path) in enumerate(zip(pages, page_paths, strict=True)):
        with quiet_start():
            shown = [[panel(readings[i]) for i in row] for row in rows]
        save(plots.picture_page(shown), path, keep=page == 0)
    show(options.no_show)
    return 1 if problems else 0


@dataclasses.dataclass
class Reading:
    """What was found in one picture, and what the model makes of it.

    Attributes:
        path: the picture's path, as the user gave it.
        original: the digit that its folder is named for, or `None`.
        opened: whether it could be opened.
        digits: a list of `preprocess.Digit`, in reading order.
        note: a line for the user about what was left out, or `None`.
        problem: a line for the user about what could not be done, or `None`.
        predicted: integers of shape `(n,)`, 0 to 9, one for each digit.
        confidence: floats of shape `(n,)`, 0 to 1, one for each digit.
    """

    path: str
    original: int | None = None
    opened: bool = False
    digits: list = dataclasses.field(default_factory=list)
    note: str | None = None
    problem: str | None = None
    predicted: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    confidence: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))


def find_pictures(names):
    """List the pictures that were named, and those in the folders that were named.

    Args:
        names: list of strings, each the path of a picture or of a folder.

    Returns:
        `(paths, problems)`: lists of strings, the paths as they were given (in a folder, joined
        to it, in alphabetical order), and a line for each folder without pictures, and for each
        that cannot be looked into.
    """
    paths, problems = [], []
    for name in names:
        if not os.path.isdir(name):
            paths.append(name)
            continue
        closed = []
        inside = sorted(
            os.path.join(folder, file)
            for folder, _, files in os.walk(name, onerror=closed.append)
            for file in files
            if file.lower().endswith(PICTURE_ENDINGS) and not file.startswith(".")
        )
        paths += inside
        problems += map(one_line, closed)
        if not inside and not closed:
            problems.append(f"{name}: there is no picture in this folder.")
    return paths, problems


def read_pictures(paths):
    """Open pictures and find their digits, on all cores.

    Args:
        paths: list of strings.

    Returns:
        A list of `Reading`, one for each path, in the same order.
    """
    readings, start = [], time.monotonic()
    executor = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    with quiet_start():  # What a library says of a damaged picture is said in one line anyway.
        try:
            for reading in executor.map(read_picture, paths):
                readings.append(reading)
                show_progress(len(readings), len(paths), time.monotonic() - start)
        finally:
            executor.shutdown(cancel_futures=True)  # After Ctrl-C, the rest is not waited for.
    return readings


def read_picture(path):
    """Open one picture and find its digits.

    Args:
        path: a string.

    Returns:
        A `Reading`, without predictions.
    """
    import preprocess

    reading = Reading(path)
    folder = os.path.basename(os.path.dirname(os.path.abspath(path)))
    if folder in set("0123456789"):
        reading.original = int(folder)
    try:
        picture, note = preprocess.load_picture(path)
        reading.opened = True
        reading.note = note
        reading.digits = preprocess.read_digits(picture)
        if not reading.digits:
            reading.problem = f"{path}: no digit was found."
    except (OSError, ValueError) as error:
        reading.problem = one_line(error)
    except Exception as error:  # Whatever a hostile picture does, the others are still read.
        reading.problem = f"{path}: cannot be read ({type(error).__name__})."
    return reading


def show_progress(done, total, seconds):
    """Draw a progress bar where there is more to do than for a moment.

    It grows in a terminal and in a notebook, percent by percent; in a file or a pipe only its end
    is written.

    Args:
        done: how many pictures are done.
        total: how many there are.
        seconds: how long that took.
    """
    bar = f"Reading pictures [{'=' * (30 * done // total):30}] {done}/{total}"
    if not sys.stdout.isatty() and "ipykernel" not in sys.modules:
        if total > 10 and done == total:
            print(bar)
    elif (total > 10 or seconds > 2) and 100 * done // total > 100 * (done - 1) // total:
        print(f"\r{bar}", end="\n" if done == total else "", flush=True)


def described(reading, plots):
    """Tell in one line what was read in a picture.

    Args:
        reading: a `Reading` with one prediction or more.
        plots: the module, which knows when a digit is unsure.

    Returns:
        A string such as `"photo.jpg: 561247 (least sure: 98.1%)"`; where a digit is unsure, it
        is repeated with a question mark after each such digit.
    """
    number = "".join(map(str, reading.predicted))
    least = plots.percent(reading.confidence.min())
    marks = np.where(reading.confidence < plots.UNSURE, "?", "")
    marked = "".join(f"{digit}{mark}" for digit, mark in zip(number, marks, strict=True))
    unsure = f", unsure: {marked}" if "?" in marked else ""
    return f"{printable(reading.path)}: {number} (least sure: {least}{unsure})"


def picture_rows(readings):
    """Make the table's rows of pictures.

    Args:
        readings: list of `Reading`, with predictions.

    Returns:
        A list of tuples, their values in the order of `CSV_COLUMNS`.
    """
    rows = []
    for reading in readings:
        original = "" if reading.original is None else reading.original
        for position, digit in enumerate(reading.digits):
            box = digit.left, digit.top, digit.width, digit.height
            predicted, confidence = reading.predicted[position], reading.confidence[position]
            rows.append((reading.path, position, *box, original, predicted, f"{confidence:.6f}"))
    return rows


def panel(reading):
    """Open a picture again, small, for the figure: all of them at once would fill the memory.

    Args:
        reading: a `Reading`, with predictions.

    Returns:
        A `plots.Panel`.
    """
    import plots
    import preprocess

    picture, _ = preprocess.load_picture(reading.path)
    scale = min(1, PANEL_SIDE / max(picture.shape))
    return plots.Panel(
        name=printable(reading.path),
        picture=preprocess.resized(picture, scale),
        boxes=[
            [scale * length for length in (digit.left, digit.top, digit.width, digit.height)]
            for digit in reading.digits
        ],
        images=[digit.image for digit in reading.digits],
        predicted=reading.predicted,
        confidence=reading.confidence,
        original=reading.original,
    )


def default_model():
    """Find the model in the current folder that the training scripts left there.

    Returns:
        The path of `mnist_cnn.keras`, else of `mnist_ann.keras`.

    Raises:
        ValueError: neither is there.
    """
    for path in (pathlib.Path("mnist_cnn.keras"), pathlib.Path("mnist_ann.keras")):
        if path.exists():
            return path
    raise ValueError(
        "There is no mnist_cnn.keras or mnist_ann.keras in this folder: "
        "run python train_cnn.py first, or name a model with --model."
    )


def read_test_images(path):
    """Read and check the test images and labels of a file that is laid out as MNIST's own.

    Args:
        path: an `.npz` file with the arrays `x_test` and `y_test`.

    Returns:
        uint8 images of shape `(n, 28, 28)`, ink bright on dark, and integer labels of shape
        `(n,)`, 0 to 9.

    Raises:
        ValueError: the file is missing, damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x_test, y_test = arrays["x_test"], arrays["y_test"]
    except Exception as error:  # NumPy raises a dozen kinds for damaged files.
        raise ValueError(f"Cannot read {path}: {error}.") from error
    if x_test.dtype != np.uint8 or x_test.shape[1:] != (28, 28) or len(x_test) == 0:
        raise ValueError(f"Cannot use {path}: x_test must be uint8 of shape (n, 28, 28).")
    if y_test.dtype.kind not in "iu" or y_test.shape != x_test.shape[:1]:
        raise ValueError(f"Cannot use {path}: y_test must be integers, one for each image.")
    if y_test.min() < 0 or y_test.max() > 9:
        raise ValueError(f"Cannot use {path}: y_test must be from 0 to 9.")
    return x_test, y_test


def download_test_images():
    """Get MNIST's test images from Keras's cache, or from the network the first time.

    Returns:
        As `read_test_images`, with n = 10,000.

    Raises:
        ValueError: they are not in the cache, and cannot be downloaded.
    """
    import keras

    cache = pathlib.Path(os.environ["KERAS_HOME"], "datasets", "mnist.npz")
    try:
        if not os.access(os.environ["KERAS_HOME"], os.W_OK):
            return read_test_images(cache)  # Keras would use /tmp/.keras, which is everybody's.
        # In a thread, since Keras alone would wait for ever for a server that dawdles.
        loading = multiprocessing.pool.ThreadPool(1).apply_async(keras.datasets.mnist.load_data)
        sizes = []
        while not loading.ready():
            sizes.append(0)
            with contextlib.suppress(OSError):  # Keras removes what it cannot use.
                sizes[-1] = cache.stat().st_size
            if len(sizes) > 8 and sizes[-1] == sizes[-9]:
                raise TimeoutError("nothing has come for 8 seconds")
            loading.wait(1)
        return loading.get()[1]
    except Exception as error:
        raise ValueError(
            f"Cannot load MNIST: {str(error).rstrip('.')}. Put {MNIST_URL} "
            f"(SHA-256 {MNIST_SHA256}) at {cache}, or use --data."
        ) from error


@contextlib.contextmanager
def quiet_start():
    """Keep TensorFlow's messages about CPU instructions and CUDA off the screen.

    They come from C++ before any setting is read, straight to file descriptor 2. What really goes
    wrong is raised as an exception, and that is not held back.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras"))
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    screen = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)
        os.close(nowhere)


def check_writable(path):
    """Find out before the work that a file cannot be written after it.

    Args:
        path: the `pathlib.Path` that is to be written.

    Raises:
        OSError: its folder is missing or read-only, or it is a folder itself.
    """
    if path.is_dir():
        raise IsADirectoryError(f"Cannot write {path}: it is a folder.")
    try:
        if path.exists():
            path.open("r+b").close()
        write_probe = path.with_name(PARTIAL_PREFIX + path.name)
        write_probe.touch()
        write_probe.unlink()
    except OSError as error:
        raise OSError(f"Cannot write {path}: {error.strerror}.") from error
    for leftover in path.parent.glob(f"partial-{8 * '[0-9a-f]'}-*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > 3600:  # A killed run left it.
                leftover.unlink()


def write_whole(path, write):
    """Write beside `path`, then replace it: a failure leaves an earlier file as it was.

    Args:
        path: the `pathlib.Path` to end with.
        write: a function of the path to write to.

    Raises:
        OSError: it cannot be written, because the disk is full, say.
    """
    partial = path.with_name(PARTIAL_PREFIX + path.name)
    partials.append(partial)
    try:
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise OSError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)


def write_csv(path, rows):
    """Write the table of digits.

    Args:
        path: the file to write.
        rows: one tuple for each digit, its values in the order of `CSV_COLUMNS`.
    """
    # A name that is no text is written back byte for byte.
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([CSV_COLUMNS.split(","), *rows])


def page_path(output, page):
    """Name the file of a page: `predictions.png`, `predictions-2.png` and so on.

    Args:
        output: the `pathlib.Path` of the first page.
        page: 0 for the first page.
    """
    return output.with_stem(f"{output.stem}-{page + 1}") if page else output


def save(figure, path, keep):
    """Save a figure.

    Args:
        figure: a matplotlib `Figure`.
        path: the `pathlib.Path` to write.
        keep: whether `show` shows it; others are closed, since a hundred pages need gigabytes.

    Raises:
        OSError: it cannot be written.
    """
    import plots

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Letters of a file's name that the font does not have.
        write_whole(path, lambda partial: figure.savefig(partial, dpi=120))
    print(f"Saved {path}")
    if not keep:
        plots.plt.close(figure)


def show(figures_stay_closed):
    """Show the figures inline in a notebook, or in windows where there is a display.

    Args:
        figures_stay_closed: show nothing, and leave no figure behind in a notebook.
    """
    import plots

    if not figures_stay_closed and plots.plt.get_backend().lower() != "agg":
        plots.plt.show()
    plots.plt.close("all")


def printable(text):
    """Replace what cannot be printed in one line, in a file's name, say."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def one_line(error):
    """Tell an error to the user in one line.

    Args:
        error: an `Exception`.

    Returns:
        A string without line breaks.
    """
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return " ".join(str(error).split())


def report(problem):
    """Print a line for the user on standard error.

    Args:
        problem: a string or an `Exception`.
    """
    line = one_line(problem) if isinstance(problem, Exception) else problem
    print(printable(line), file=sys.stderr)


if __name__ == "__main__":
    for module in ("plots", "preprocess", "safe_load"):
        sys.modules.pop(module, None)  # A notebook's next %run takes up what was edited.
    sys.exit(main())
