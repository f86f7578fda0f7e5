"""Train both networks with their default settings, several times, and print the evidence.

    python tests/benchmark.py --seeds 20 --against-keras-example
    python tests/benchmark.py --seeds 2 --without flags augmentation schedule

Each training is the real script in a process of its own. The first form also trains the network of
Keras's own example `mnist_convnet` by that example's recipe, with the first five seeds. The
networks take turns, so that a machine that slows down slows all of them. The second form asks what
each trick gains: on validation images, with the scripts as they are and with one trick edited out.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import runpy
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

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
    x_train = x_train[..., None].astype("float32") / 255
    model.fit(x_train, y_train, batch_size=128, epochs=15, validation_split=0.1)
    return model, x_test[..., None].astype("float32") / 255, y_test


def flagged_ones(images, labels):
    """Draw a flag on each 1 of float images, finer than the scripts do, and by other means."""
    import PIL.Image
    import PIL.ImageDraw

    random, flagged = np.random.default_rng(0), []
    for image in images[labels == 1]:
        big = PIL.Image.fromarray(np.uint8(255 * image)).resize((224, 224))
        ink = np.argwhere(np.asarray(big) > 127)
        (top, left), height = ink[0], np.ptp(ink[:, 0])
        angle, length = np.radians(random.uniform(115, 155)), height * random.uniform(0.25, 0.9)
        end = left + length * np.cos(angle), top + length * np.sin(angle)
        width = max(8, len(ink) // (height + 1))
        PIL.ImageDraw.Draw(big).line([(left, top), end], fill=255, width=width)
        middle = np.argwhere(np.asarray(big) > 127).mean(axis=0)
        rolled = np.roll(np.asarray(big), np.int32(112 - middle), axis=(0, 1))
        flagged.append(rolled.reshape(28, 8, 28, 8).mean(axis=(1, 3)) / 255)
    return np.array(flagged)


def measure_one(name, seed, trick, *options):
    """Train once in this process and folder; print what was measured as the last line, in JSON."""
    import keras

    measured = {}
    fit = keras.Sequential.fit

    def timed_fit(*args, **kwargs):
        started = time.perf_counter()
        history = fit(*args, **kwargs)
        measured["epoch"] = (time.perf_counter() - started) / len(history.epoch)
        return history

    keras.Sequential.fit = timed_fit
    if name == EXAMPLE:
        model, x_test, y_test = train_keras_example(int(seed))
    else:
        source = (ROOT / name).read_text(encoding="utf-8")
        if trick in TRICKS:
            before, after = TRICKS[trick]
            assert source.count(before) == 1, f"{trick} is not in {name} once"
            source = source.replace(before, after)
        pathlib.Path(name).write_text(source, encoding="utf-8")
        sys.argv = [name, "--seed", seed, *options]
        names = runpy.run_path(name, run_name="__main__")
        model, x_test, y_test = names["model"], names["x_test"], names["y_test"]

    def percent_correct(images, labels):
        predicted = model.predict(images, batch_size=1_000, verbose=0).argmax(axis=1)
        return 100 * float((predicted == labels).mean())

    measured["accuracy"] = percent_correct(x_test, y_test)
    if trick:
        flagged = flagged_ones(x_test.reshape(-1, 28, 28), y_test)
        measured["flagged"] = percent_correct(flagged.reshape(-1, *x_test.shape[1:]), 1)
    print(json.dumps(measured))


def measure_in_new_process(name, seed, trick):
    """Train once in an empty folder and a new process; return accuracies, and times in seconds."""
    options = []
    with tempfile.TemporaryDirectory() as folder:
        if trick:  # Then judge by validation images: the last 10,000 of the training set.
            import keras

            (x, y), _ = keras.datasets.mnist.load_data()
            parts = {"x_train": x[:-10_000], "y_train": y[:-10_000]}
            np.savez(f"{folder}/v.npz", **parts, x_test=x[-10_000:], y_test=y[-10_000:])
            options = ["--data", "v.npz"]
        started = time.perf_counter()
        process = subprocess.run(
            [sys.executable, __file__, "--one", name, str(seed), trick, *options],
            cwd=folder,
            env={**os.environ, "MPLBACKEND": "agg", "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
        )
        if process.returncode:
            sys.exit(process.stderr)
        measured = json.loads(process.stdout.splitlines()[-1])
        return {**measured, "total": time.perf_counter() - started}


def machine():
    """Name the processor, the system and the versions that the figures belong to."""
    import keras
    import numpy
    import tensorflow

    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        names = re.findall(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
        processor = names[0] if names else processor
    gpus = len(tensorflow.config.list_physical_devices("GPU"))
    return (
        f"{os.cpu_count()} cores of {processor}, {gpus} GPUs, {platform.system()}; "
        f"Python {platform.python_version()}, TensorFlow {tensorflow.__version__}, "
        f"Keras {keras.__version__}, NumPy {numpy.__version__}"
    )


def table(results):
    """Write the measurements as a Markdown table, with the 95 % margin of each mean."""
    import scipy.stats

    flagged = "flagged" in results[CNN][0]
    lines = ["| network | seeds | accuracy, mean | lowest | s/epoch | total s |"]
    lines[0] += " ones with a flag |" * flagged
    lines.append("|---" * (6 + flagged) + "|")
    for name, runs in results.items():
        accuracy = [run["accuracy"] for run in runs]
        mean = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
        margin = ""
        if len(runs) > 1:
            quantile = scipy.stats.t.ppf(0.975, len(runs) - 1)
            margin = f" ± {quantile * statistics.stdev(accuracy) / len(runs) ** 0.5:.2f}"
        lines.append(
            f"| {name} | {len(runs)} | {mean['accuracy']:.2f}{margin} % | {min(accuracy):.2f} % "
            f"| {mean['epoch']:.1f} | {mean['total']:.0f} |"
            + (f" {mean['flagged']:.1f} % |" if flagged else "")
        )
    return "\n".join(lines)


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train several times; print a table.")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each network (default: 5)")
    parser.add_argument("--against-keras-example", action="store_true")
    parser.add_argument("--without", nargs="+", choices=TRICKS, default=[], help="without a trick")
    if sys.argv[1:2] == ["--one"]:
        measure_one(*sys.argv[2:])
        return
    arguments = parser.parse_args()

    jobs = {name: (name, "as it is" if arguments.without else "") for name in (CNN, ANN)}
    for trick in arguments.without:
        jobs |= {f"{name} without {trick}": (name, trick) for name in (CNN, ANN)}
    if arguments.against_keras_example:
        jobs[EXAMPLE] = (EXAMPLE, "")
    results = {title: [] for title in jobs}
    for seed in range(arguments.seeds):
        for title, (name, trick) in jobs.items():
            if name != EXAMPLE or seed < EXAMPLE_SEEDS:
                run = measure_in_new_process(name, seed, trick)
                results[title].append(run)
                print(f"seed {seed}, {title}: {run}", file=sys.stderr)
    print(f"{table(results)}\n\nSeeds 0 to {arguments.seeds - 1}. {machine()}")
    if arguments.against_keras_example:
        seconds = {
            n: sum(run["total"] for run in runs[:EXAMPLE_SEEDS]) for n, runs in results.items()
        }
        for name in (CNN, ANN):
            print(f"{name} takes {seconds[name] / seconds[EXAMPLE]:.2f} of the example's time.")


if __name__ == "__main__":
    main()
