"""Train the article's convolutional network (CNN) on MNIST and save it as a `.keras` file.

    python train_cnn.py
    python train_cnn.py --epochs 3 --output small.keras
    %run train_cnn.py --epochs 3

The last form is for a notebook, where `model`, `history`, `x_test` and `y_test` are then there
to play with. The whole file pasted into a notebook cell runs with its default settings.
"""

# %% Settings
import argparse
import atexit
import contextlib
import math
import os
import pathlib
import signal
import sys
import time

parser = argparse.ArgumentParser(
    description="Train a convolutional network on MNIST and save it.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message} (see --help)\n")
parser.add_argument("--epochs", type=int, default=14, help="passes over the training images")
parser.add_argument("--batch-size", type=int, default=128, help="images in one training step")
parser.add_argument("--learning-rate", type=float, default=0.005, help="Adam's, at its highest")
parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same weights")
parser.add_argument("--data", type=pathlib.Path, help="train on this .npz file, not on MNIST")
parser.add_argument(
    "--output", type=pathlib.Path, default="mnist_cnn.keras", help="where the model goes"
)
# Only a script started by its own name has arguments: in a cell, they are the notebook's.
started_by_name = pathlib.Path(sys.argv[0]).name == pathlib.Path(globals().get("__file__", "")).name
settings = parser.parse_args(None if started_by_name else [])
if settings.epochs < 1 or settings.batch_size < 1:
    parser.error("--epochs and --batch-size must be at least 1")
if not 0 < settings.learning_rate < math.inf:
    parser.error("--learning-rate must be more than 0")
if not 0 <= settings.seed < 2**32:
    parser.error("--seed must be from 0 to 4294967295")
if settings.output.suffix != ".keras":
    parser.error("--output must end in .keras")


def end_at_once(*_):
    """End in one line on Ctrl-C: TensorFlow makes other errors of a `KeyboardInterrupt`."""
    for partial in settings.output.parent.glob(f"{partial_prefix}*"):
        partial.unlink()
    os.write(2, f"\nInterrupted. {settings.output} is {outcome}.\n".encode(errors="replace"))
    atexit._run_exitfuncs()  # TensorFlow and matplotlib remove their temporary files.
    os._exit(130)


def write_whole(path, write):
    """Write beside `path`, then replace it: a failure leaves an earlier file as it was.

    Args:
        path: the `pathlib.Path` to end with.
        write: a function of the path to write to.
    """
    partial = path.with_name(partial_prefix + path.name)
    try:
        write(partial)
        partial.replace(path)
    except OSError as error:
        sys.exit(f"Cannot write {path}: {error.strerror or error}.")
    finally:
        partial.unlink(missing_ok=True)


partial_prefix = f"partial-{os.urandom(4).hex()}-"  # No other training's.
outcome = "as it was before"
if started_by_name and not hasattr(sys, "ps1"):  # A notebook keeps its own way to interrupt.
    signal.signal(signal.SIGINT, end_at_once)
for path in (settings.output, settings.output.with_suffix(".png")):
    try:
        if path.exists():
            path.open("r+b").close()
        write_probe = path.with_name(partial_prefix + path.name)
        write_probe.touch()
        write_probe.unlink()
    except OSError as error:
        sys.exit(f"Cannot write {path}: {error.strerror}. Choose another --output.")
for leftover in settings.output.parent.glob(f"partial-{8 * '[0-9a-f]'}-*"):
    with contextlib.suppress(OSError):
        if time.time() - leftover.stat().st_mtime > 3600:  # A killed training left it.
            leftover.unlink()

# %% Data
import multiprocessing.pool

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow says only what goes wrong.
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
MNIST_CACHE = pathlib.Path(os.environ["KERAS_HOME"], "datasets", "mnist.npz")


def read_npz(path):
    """Read and check images and labels that are laid out as in MNIST's own file.

    Args:
        path: an `.npz` file with the arrays `x_train`, `y_train`, `x_test`, `y_test`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 images of shape `(n, 28, 28)`, ink bright
        on dark, and integer labels of shape `(n,)`, 0 to 9.

    Raises:
        ValueError: something else is in the file.
        Exception: the file is missing, damaged or no `.npz` (NumPy raises a dozen kinds).
    """
    with np.load(path, allow_pickle=False) as arrays:
        missing = {"x_train", "y_train", "x_test", "y_test"}.difference(arrays)
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        parts = {part: (arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")}
    for part, (images, labels) in parts.items():
        if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or len(images) == 0:
            raise ValueError(
                f"x_{part} must be uint8 of shape (n, 28, 28), not {images.dtype} {images.shape}"
            )
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
            raise ValueError(
                f"y_{part} must be integers of shape {images.shape[:1]}, "
                f"not {labels.dtype} {labels.shape}"
            )
        if labels.min() < 0 or labels.max() > 9:
            raise ValueError(f"y_{part} must be from 0 to 9, not {labels.min()} to {labels.max()}")
    if len(parts["train"][0]) < 12:
        raise ValueError("x_train must have at least 12 images, one of them to validate with")
    return parts["train"], parts["test"]


def get_mnist():
    """Load MNIST from Keras's cache, or from the network the first time; returns as `read_npz`."""
    if not os.access(os.environ["KERAS_HOME"], os.W_OK):
        return read_npz(MNIST_CACHE)  # Keras would use /tmp/.keras, which is everybody's.
    # In a thread, since Keras alone would wait for ever for a server that dawdles.
    loading = multiprocessing.pool.ThreadPool(1).apply_async(keras.datasets.mnist.load_data)
    sizes = []
    while not loading.ready():
        sizes.append(0)
        with contextlib.suppress(OSError):  # Keras removes what it cannot use.
            sizes[-1] = MNIST_CACHE.stat().st_size
        if len(sizes) > 8 and sizes[-1] == sizes[-9]:
            raise TimeoutError("nothing has come for 8 seconds")
        loading.wait(1)
    return loading.get()


try:
    (x_train, y_train), (x_test, y_test) = read_npz(settings.data) if settings.data else get_mnist()
except Exception as error:
    reason = " ".join(str(error).split()).rstrip(".")
    if not settings.data:
        reason += f". Put {MNIST_URL} (SHA-256 {MNIST_SHA256}) at {MNIST_CACHE}, or use --data"
    sys.exit(f"Cannot train on {settings.data or 'MNIST'}: {reason}.")

x_train = x_train.astype("float32")[..., np.newaxis] / 255
x_test = x_test.astype("float32")[..., np.newaxis] / 255

# The last 5,000 of MNIST's 60,000 training images check the training as it goes on.
validation_size = min(5_000, len(x_train) // 12)
x_val, y_val = x_train[-validation_size:], y_train[-validation_size:]
x_train, y_train = x_train[:-validation_size], y_train[:-validation_size]

# %% Model
keras.utils.set_random_seed(settings.seed)
tf.config.experimental.enable_op_determinism()
model = keras.Sequential(
    [
        keras.Input(shape=(28, 28, 1)),
        layers.Conv2D(32, kernel_size=(3, 3)),
        layers.MaxPooling2D(pool_size=(3, 3)),
        layers.Conv2D(16, kernel_size=(3, 3)),
        layers.MaxPooling2D(pool_size=(3, 3)),
        layers.Flatten(),
        layers.Dense(300, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
)
model.summary()

# %% Training
# Nobody writes a digit twice alike, so no training image is used twice alike, either: the 28 rows
# of `ways` are smooth ways to move an image's 784 pixels, and a random mix of them is drawn anew
# for each image. With the column and with the row: zoom, rotation and slant; all alike: a shift;
# then 25 bumps, 5 by 5 over the image: the bends of an unsteady hand (after Simard et al., 2003).
places = np.indices((28, 28), dtype="float32").reshape(2, 784)[::-1]  # Column, then row.
bumps = tf.image.resize(np.eye(25, dtype="float32").reshape(25, 5, 5, 1), (28, 28), "bicubic")
ways = np.concatenate([places - 13.5, np.ones((1, 784)), np.reshape(bumps, (25, 784))])
most_x = [0.10, 0.15, 1.0] + 25 * [1.0]  # Shift and bend by a pixel at the most.
most_y = [0.15, 0.10, 1.0] + 25 * [1.0]


def augment(images_and_labels, seed):
    """Move an image's ink in one interpolation, and make the pen a little thicker or thinner.

    Args:
        images_and_labels: float32 images of n times 784 values in any shape, and n labels.
        seed: an array of two integers; the same two give the same change.

    Returns:
        The changed images, in the same shape, and the same labels.
    """
    images, labels = images_and_labels
    count = tf.shape(images)[0]
    mix = tf.random.stateless_uniform((count, 2, 28), seed, minval=-1, maxval=1)
    moves = tf.matmul(mix * [most_x, most_y], tf.cast(ways, "float32"))
    x, y = tf.unstack(tf.clip_by_value(moves + places, 0, 26.999), axis=1)
    left, top = tf.floor(x), tf.floor(y)
    corner = tf.cast(28 * top + left, "int32") + 784 * tf.range(count)[:, tf.newaxis]
    values = tf.reshape(images, [-1])
    changed = tf.zeros_like(x)
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):  # The four pixels around (x, y).
        nearness = (1 - tf.abs(x - left - right)) * (1 - tf.abs(y - top - down))
        changed += nearness * tf.gather(values, corner + right + 28 * down)

    # Pens differ, too: each pixel moves towards the brightest or the darkest of its neighbours.
    changed = tf.reshape(changed, (-1, 28, 28, 1))
    thicker = tf.nn.max_pool2d(changed, 3, 1, "SAME") - changed
    thinner = tf.nn.max_pool2d(-changed, 3, 1, "SAME") + changed
    pen = tf.random.stateless_uniform((count, 1, 1, 1), seed + 1, minval=-0.4, maxval=0.4)
    changed += tf.where(pen > 0, pen * thicker, pen * thinner)
    return tf.reshape(changed, tf.shape(images)), labels


batches = tf.data.Dataset.from_tensor_slices((x_train, y_train))
batches = batches.shuffle(len(x_train), seed=settings.seed).batch(settings.batch_size)
seeds = tf.data.Dataset.random(settings.seed, rerandomize_each_iteration=True).batch(2)
augmented = tf.data.Dataset.zip(batches, seeds).map(augment, tf.data.AUTOTUNE).prefetch(2)

# Warm up over a tenth of the steps, then fall along a cosine to nothing.
steps = len(batches) * settings.epochs
learning_rate = keras.optimizers.schedules.CosineDecay(
    0.0, steps - steps // 10, warmup_target=settings.learning_rate, warmup_steps=steps // 10
)
model.compile(
    optimizer=keras.optimizers.Adam(learning_rate),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
    # Many steps at a time: half of an epoch would else go between the steps.
    steps_per_execution=min(50, math.ceil(len(batches) / 10)),
)
history = model.fit(
    augmented,
    epochs=settings.epochs,
    validation_data=(x_val, y_val),
    validation_batch_size=1_000,
    shuffle=False,  # The batches are shuffled already.
    callbacks=[keras.callbacks.TerminateOnNaN()],
)
if not math.isfinite(history.history["loss"][-1]):
    sys.exit("The loss grew beyond all bounds. Nothing was saved; try a smaller --learning-rate.")

# %% Learning curves
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
    epochs = range(1, len(history.epoch) + 1)
    axis.plot(epochs, history.history[name], "o-", label="training (augmented)")
    axis.plot(epochs, history.history[f"val_{name}"], "s--", label="validation")
    axis.set(xlabel="epoch", ylabel=name, xlim=(0.5, len(epochs) + 0.5))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend()
if "inline" in plt.get_backend():
    plt.show()

# %% Test
predicted = model.predict(x_test, batch_size=1_000, verbose=0).argmax(axis=1)
correct, count = int((predicted == y_test).sum()), len(y_test)
accuracy = correct / count
# Wilson's interval (1927) for a share, with the normal distribution's 97.5 % point.
z = 1.959964
middle = (accuracy + z**2 / (2 * count)) / (1 + z**2 / count)
half = z / (1 + z**2 / count) * math.sqrt(accuracy * (1 - accuracy) / count + (z / count) ** 2 / 4)
print(
    f"Test accuracy: {accuracy:.2%} ({correct} of {count}, "
    f"95% interval {middle - half:.2%} to {middle + half:.2%})"
)

# %% Save
write_whole(settings.output, model.save)
outcome = "saved"
write_whole(settings.output.with_suffix(".png"), figure.savefig)
print(f"Saved {settings.output}")
