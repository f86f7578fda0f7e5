"""Train both networks with their default settings, several times, and print the evidence.

    python tests/benchmark.py --seeds 5
    python tests/benchmark.py --seeds 5 --against-keras-example

Each training is the real script, on MNIST, in a process of its own. The second form also trains
the network of Keras's own example `mnist_convnet` by that example's recipe, and compares the
times. The networks take turns, so that a machine that slows down slows all of them.
"""

import argparse
import functools
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

ROOT = pathlib.Path(__file__).parent.parent
CNN, ANN, EXAMPLE = "train_cnn.py", "train_ann.py", "Keras's mnist_convnet"


def train_keras_example(seed):
    """Train the network of Keras's example `mnist_convnet` by that example's recipe.

    Args:
        seed: an integer.

    Returns:
        The model, and the scaled test images and the labels: `(model, x_test, y_test)`.
    """
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


def measure_one(name, seed):
    """Train once in this process, and print what was measured as the last line, in JSON.

    Args:
        name: `CNN`, `ANN` or `EXAMPLE`.
        seed: an integer.
    """
    import keras

    measured = {}
    fit = keras.Sequential.fit

    @functools.wraps(fit)
    def timed_fit(*args, **kwargs):
        started = time.perf_counter()
        history = fit(*args, **kwargs)
        measured["training"] = time.perf_counter() - started
        measured["epochs"] = len(history.epoch)
        return history

    keras.Sequential.fit = timed_fit
    if name == EXAMPLE:
        model, x_test, y_test = train_keras_example(seed)
    else:
        sys.argv = [name, "--seed", str(seed)]
        names = runpy.run_path(str(ROOT / name), run_name="__main__")
        model, x_test, y_test = names["model"], names["x_test"], names["y_test"]
    predicted = model.predict(x_test, batch_size=1_000, verbose=0).argmax(axis=1)
    measured["accuracy"] = 100 * float((predicted == y_test).mean())
    measured["parameters"] = model.count_params()
    print(json.dumps(measured))


def measure_in_new_process(name, seed):
    """Train once in an empty folder and a new process, from the import of TensorFlow to the end.

    Args:
        name: `CNN`, `ANN` or `EXAMPLE`.
        seed: an integer.

    Returns:
        A `dict`: `accuracy` on the test set in percent; `training` (without start and test) and
        `total` in seconds; `epochs` and `parameters`, counted.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            [sys.executable, __file__, "--one", name, str(seed)],
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
    """Write the measurements as a Markdown table.

    Args:
        results: a list of what `measure_in_new_process` returned, for each network's name.

    Returns:
        A string of several lines.
    """
    lines = [
        "| network | parameters | epochs | test accuracy, mean ± sd | lowest | s/epoch | total s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        accuracy = [run["accuracy"] for run in runs]
        spread = statistics.stdev(accuracy) if len(runs) > 1 else 0
        epoch = statistics.mean(run["training"] / run["epochs"] for run in runs)
        total = statistics.mean(run["total"] for run in runs)
        lines.append(
            f"| {name} | {runs[0]['parameters']:,} | {runs[0]['epochs']} "
            f"| {statistics.mean(accuracy):.2f} ± {spread:.2f} % | {min(accuracy):.2f} % "
            f"| {epoch:.1f} | {total:.0f} |"
        )
    return "\n".join(lines)


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train several times; print a table.")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each network (default: 5)")
    parser.add_argument("--against-keras-example", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure_one(options.one[0], int(options.one[1]))
        return
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")

    import keras

    results = {CNN: [], ANN: []} | ({EXAMPLE: []} if options.against_keras_example else {})
    progress = keras.utils.Progbar(options.seeds * len(results), unit_name="training")
    for seed in range(options.seeds):
        for name, runs in results.items():
            runs.append(measure_in_new_process(name, seed))
            progress.add(1)
    print(table(results))
    print(f"\n{options.seeds} runs of each, seeds 0 to {options.seeds - 1}. {machine()}")
    if options.against_keras_example:
        seconds = {name: sum(run["total"] for run in runs) for name, runs in results.items()}
        for name in (CNN, ANN):
            print(f"{name} takes {seconds[name] / seconds[EXAMPLE]:.2f} of the example's time.")


if __name__ == "__main__":
    main()
