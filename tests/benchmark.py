"""Train both networks with their default settings, several times, and print the evidence.

    python tests/benchmark.py --seeds 20 --against-keras-example
    python tests/benchmark.py --seeds 5 --without flags augmentation schedule

Each training is the real script in a process of its own. The first form also trains the network of
Keras's own example `mnist_convnet` by that example's recipe, with the first five seeds. The
networks take turns, so that a machine that slows down slows all of them. The second form asks what
each trick gains: on validation images, with the scripts as they are and with one trick edited out.
"""

import argparse
import concurrent.futures
import importlib.metadata
import io
import multiprocessing
import os
import pathlib
import platform
import runpy
import sys
import tempfile
import time

import cv2
import numpy as np
import scipy.stats

ROOT = pathlib.Path(__file__).parent.parent
CNN, ANN, EXAMPLE = "train_cnn.py", "train_ann.py", "Keras's mnist_convnet"
EXAMPLE_SEEDS = 5
TRICKS = {  # What stands in the scripts, and what to write in its place.
    "flags": ("[::4]:", "[:0]:"),
    "augmentation": (".map(augment)", ""),
    "schedule": ("Adam(schedule)", "Adam(settings.learning_rate)"),
    "steps_per_execution": ("max(1, steps // 10)", "1"),
    "autotune_off": ("enabled = False", "enabled = True"),
}


def train_keras_example(seed):
    """Train the network of Keras's example `mnist_convnet` by that example's recipe."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    model = keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    x_train = x_train[..., np.newaxis].astype("float32") / 255
    model.fit(x_train, y_train, batch_size=128, epochs=15, validation_split=0.1)
    return {"model": model, "x_test": x_test.astype("float32") / 255, "y_test": y_test}


def flagged_ones(images):
    """Draw a flag on each image of a 1, finer than the scripts do, and bring it to the middle."""
    random, flagged = np.random.default_rng(0), []
    for image in images:
        large = cv2.resize(image, (224, 224), interpolation=cv2.INTER_CUBIC)
        ink = np.argwhere(large > 0.5)
        (top, left), height = ink[0], np.ptp(ink[:, 0])
        angle, length = np.radians(random.uniform(115, 155)), height * random.uniform(0.25, 0.9)
        end = left + length * np.cos(angle), top + length * np.sin(angle)
        width = max(8, len(ink) // (height + 1))
        cv2.line(large, (int(left), int(top)), np.int32(end).tolist(), 1, width)
        shift = np.int32(112 - np.argwhere(large > 0.5).mean(axis=0))
        large = np.roll(large, shift, axis=(0, 1))
        flagged.append(cv2.resize(large, (28, 28), interpolation=cv2.INTER_AREA))
    return np.clip(flagged, 0, 1)


def measure(name, seed, trick):
    """Train once in this folder, in a process of its own; return accuracies in percent.

    Where a trick is judged, the test images are the last 10,000 training images.
    """
    import keras

    sys.stdout = io.StringIO()
    if name == EXAMPLE:
        names = train_keras_example(seed)
    else:
        source = (ROOT / name).read_text(encoding="utf-8")
        sys.argv = [name, "--seed", str(seed)]
        if trick:
            (x, y), _ = keras.datasets.mnist.load_data()
            split = (x[:-10_000], y[:-10_000]), (x[-10_000:], y[-10_000:])
            keras.datasets.mnist.load_data = lambda: split
        if trick in TRICKS:
            before, after = TRICKS[trick]
            assert source.count(before) == 1, f"{trick} is not in {name} once"
            source = source.replace(before, after)
        pathlib.Path(name).write_text(source, encoding="utf-8")
        names = runpy.run_path(name, run_name="__main__")
    model, x_test, y_test = names["model"], names["x_test"], names["y_test"]

    def percent_correct(images, labels):
        images = np.reshape(images, (-1, *model.input_shape[1:]))
        predicted = model.predict(images, batch_size=1_000, verbose=0).argmax(axis=1)
        return 100 * float(np.mean(predicted == labels))

    measured = {"accuracy": percent_correct(x_test, y_test)}
    if trick:
        measured["flagged"] = percent_correct(flagged_ones(x_test[y_test == 1]), 1)
    return measured


def measure_in_new_process(*job):
    """Train once in a process and a folder of its own; measure the seconds in all, too."""
    started, context = time.perf_counter(), multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ProcessPoolExecutor(1, context, os.chdir, [folder]) as executor,
    ):
        measured = executor.submit(measure, *job).result()
    return {**measured, "seconds": time.perf_counter() - started}


def print_table(results):
    """Print the measurements in Markdown, with the 95 % margin of each mean."""
    columns = "network | seeds | accuracy, mean | lowest | seconds"
    columns += " | ones with a flag" * ("flagged" in results[CNN][0])
    print(f"| {columns} |\n|{'---|' * len(columns.split('|'))}")
    for name, runs in results.items():
        accuracy = [run["accuracy"] for run in runs]
        margin = scipy.stats.t.ppf(0.975, len(runs) - 1) * scipy.stats.sem(accuracy)
        mean = {key: np.mean([run[key] for run in runs]) for key in runs[0]}
        row = f"{name} | {len(runs)} | {mean['accuracy']:.2f} ± {margin:.2f} % | "
        row += f"{min(accuracy):.2f} % | {mean['seconds']:.0f}"
        row += f" | {mean['flagged']:.1f} %" if "flagged" in mean else ""
        print(f"| {row} |")


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train several times; print a table.")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each network (default: 5)")
    parser.add_argument("--against-keras-example", action="store_true")
    parser.add_argument("--without", nargs="+", choices=TRICKS, default=[], help="without a trick")
    arguments = parser.parse_args()

    os.environ |= {"MPLBACKEND": "agg", "TF_CPP_MIN_LOG_LEVEL": "3"}
    jobs = {name: (name, "as it is" if arguments.without else "") for name in (CNN, ANN)}
    for trick in arguments.without:
        jobs |= {f"{name} without {trick}": (name, trick) for name in (CNN, ANN)}
    if arguments.against_keras_example:
        jobs[EXAMPLE] = (EXAMPLE, "")
    results = {title: [] for title in jobs}
    for seed in range(arguments.seeds):
        for title, (name, trick) in jobs.items():
            if name != EXAMPLE or seed < EXAMPLE_SEEDS:
                results[title].append(measure_in_new_process(name, seed, trick))
                print(f"seed {seed}, {title}: {results[title][-1]}", file=sys.stderr)
    print_table(results)
    packages = ("tensorflow", "keras", "numpy")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    print(f"\n{os.cpu_count()} cores, {platform.platform()}", end=", ")
    print(f"Python {platform.python_version()}, {', '.join(versions)}")
    for name in (CNN, ANN) if EXAMPLE in results else ():
        pairs = zip(results[name], results[EXAMPLE], strict=False)  # Of the seeds that both ran.
        ours, example = np.sum([[run["seconds"] for run in pair] for pair in pairs], axis=0)
        print(f"{name} takes {ours / example:.2f} of the example's time.")


if __name__ == "__main__":
    main()
