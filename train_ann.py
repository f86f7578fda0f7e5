"""Train the article's dense network (ANN) on MNIST and save it as a `.keras` file.

    python train_ann.py
    python train_ann.py --epochs 3 --output small.keras
    %run train_ann.py --epochs 3

The last form is for a notebook; the whole file pasted into a cell works, too.
"""

# %% Settings
import argparse
import os
import pathlib
import socket
import sys

parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message} (see --help)\n")
parser.add_argument("--epochs", type=int, default=30, help="passes over the training images")
parser.add_argument("--batch-size", type=int, default=256, help="images in one training step")
parser.add_argument("--learning-rate", type=float, default=0.003, help="at the start; it falls")
parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same weights")
parser.add_argument("--data", help="train on this .npz file instead of MNIST")
parser.add_argument("--output", type=pathlib.Path, default="mnist_ann.keras", help="model file")
# In a notebook cell, sys.argv belongs to the notebook.
is_script = pathlib.Path(sys.argv[0]).name == pathlib.Path(globals().get("__file__", "")).name
settings = parser.parse_args(None if is_script else [])
if min(settings.epochs, settings.batch_size, settings.learning_rate) <= 0:
    parser.error("--epochs, --batch-size and --learning-rate must be positive")
if not 0 <= settings.seed < 2**32:
    parser.error("--seed must be from 0 to 4294967295")
if settings.output.suffix != ".keras":
    parser.error("--output must end in .keras")
if settings.output.is_dir() or not os.access(f"{settings.output.parent}/", os.W_OK):
    sys.exit(f"Cannot write {settings.output}: choose a file in a folder that you can write to.")

# %% Data
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Errors only.
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers

try:
    if settings.data:
        file = np.load(settings.data)
        x_train, y_train = file["x_train"], file["y_train"]
        x_test, y_test = file["x_test"], file["y_test"]
    else:
        socket.setdefaulttimeout(10)  # Otherwise, a download that stalls would wait forever.
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    for x, y in ((x_train, y_train), (x_test, y_test)):
        if x.dtype != np.uint8 or x.shape != (*y.shape, 28, 28) or not 0 <= y.min() <= y.max() <= 9:
            raise ValueError("it needs uint8 images (n, 28, 28) and n labels from 0 to 9")
except Exception as error:
    name = settings.data or "MNIST (see README.md, Without an internet connection)"
    sys.exit(f"Cannot train on {name}: {error}")

# From 0..255 to 0..1. The last twelfth of the training images is kept to validate with.
x_train, x_test = (x.astype("float32") / 255 for x in (x_train, x_test))
x_train, x_val = np.split(x_train, [len(x_train) * 11 // 12])
y_train, y_val = np.split(y_train, [len(y_train) * 11 // 12])

# %% Model
keras.utils.set_random_seed(settings.seed)  # With the next line: the same weights, bit for bit.
tf.config.experimental.enable_op_determinism()
model = keras.Sequential(
    [
        keras.Input(shape=(28, 28)),
        layers.Flatten(),
        layers.Dense(300, activation="relu"),
        layers.Dense(200, activation="relu"),
        layers.Dense(100, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
)
model.summary()

# %% Ones with a flag
# MNIST's writers drew a 1 as a bar. Much of the world gives it a flag, and no network knows what
# its training data lacks: draw a flag on a quarter of the ones, and a foot under some of these.
random = np.random.default_rng(settings.seed)
pixels = np.moveaxis(np.indices((28, 28)), 0, -1)  # The row and column of each.


def add_stroke(image, start, angle, length, width):
    """Draw a straight stroke from a pixel; at 0 degrees it goes right, at 90 down."""
    direction = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    along = np.clip((pixels - start) @ direction, 0, length)
    distance = np.linalg.norm(pixels - start - along[..., np.newaxis] * direction, axis=-1)
    return np.maximum(image, np.clip(width / 2 + 0.5 - distance, 0, 1))


for i in random.permutation(np.flatnonzero(y_train == 1))[::4]:
    image = x_train[i].reshape(28, 28)
    top, bottom = np.argwhere(image >= image.max() / 2)[[0, -1]]
    height = 1 + np.linalg.norm(bottom - top)
    width, length = image.sum() / height, height * random.uniform(0.25, 0.9)
    image = add_stroke(image, top, random.uniform(115, 155), length, width)
    if random.random() < 1 / 3:
        foot = height * random.uniform(0.3, 0.7)
        image = add_stroke(image, bottom - (0, foot / 2), 0, foot, width)
    centre = np.average(pixels.reshape(784, 2), axis=0, weights=image.ravel())
    x_train[i].flat = np.roll(image, np.int32(np.round(14 - centre)), axis=(0, 1))

# %% Training
# Nobody writes a digit the same way twice, so no image is shown the same way twice: a 3 x 3 matrix
# moves its pixels. Small random numbers zoom (in its diagonal), slant (beside it), shift (in its
# last column, in pixels) and distort (in its last row, as when seen from the side) the digit.
strength = np.float32([[0.15, 0.3, 1.5], [0.2, 0.15, 1.5], [0.01, 0.01, 0.0]])
middle = np.float32([[1, 0, 13.5], [0, 1, 13.5], [0, 0, 1]])  # Of the image, in pixels.
generator = keras.random.SeedGenerator(settings.seed)


def augment(images, labels):
    """Zoom, slant, shift and distort each image a little, at random."""
    count = tf.shape(images)[0]
    noise = keras.random.uniform((count, 3, 3), -1, 1, seed=generator)
    matrix = middle @ (np.eye(3, dtype="float32") + strength * noise) @ np.linalg.inv(middle)
    matrix = tf.reshape(matrix, (count, 9))
    changed = tf.reshape(images, (count, 28, 28, 1))
    changed = keras.ops.image.affine_transform(changed, matrix[:, :8] / matrix[:, 8:])
    return tf.reshape(changed, tf.shape(images)), labels


batches = tf.data.Dataset.from_tensor_slices((x_train, y_train)).shuffle(len(x_train))
batches = batches.batch(settings.batch_size).map(augment).prefetch(2)
options = tf.data.Options()
options.autotune.enabled = False  # Tuning holds up the end of each epoch by up to two seconds.
batches = batches.with_options(options)
schedule = keras.optimizers.schedules.CosineDecay(
    settings.learning_rate, decay_steps=settings.epochs * len(batches)
)
model.compile(
    optimizer=keras.optimizers.Adam(schedule),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
    steps_per_execution=max(1, len(batches) // 10),  # On a CPU, this halves the time.
)
try:
    history = model.fit(
        batches,
        epochs=settings.epochs,
        shuffle=False,  # The batches are shuffled already.
        validation_data=(x_val, y_val),
        validation_batch_size=1_000,
        callbacks=[keras.callbacks.TerminateOnNaN()],
    )
except KeyboardInterrupt:
    print("\nInterrupted: nothing was saved.", file=sys.stderr)
    sys.exit(130)
if not np.isfinite(history.history["loss"][-1]):
    sys.exit("The loss grew beyond all bounds, so nothing was saved. Lower the --learning-rate.")

# %% Learning curves
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
epochs = range(1, len(history.epoch) + 1)
for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
    axis.plot(epochs, history.history[name], "o-", label="training (augmented)")
    axis.plot(epochs, history.history[f"val_{name}"], "s--", label="validation")
    axis.set(xlabel="epoch", ylabel=name)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend()
if "inline" in plt.get_backend():
    plt.show()

# %% Test
predicted = model.predict(x_test, batch_size=1_000, verbose=0).argmax(axis=1)
correct, count = np.sum(predicted == y_test), len(y_test)
accuracy = correct / count
margin = 1.96 * np.sqrt(accuracy * (1 - accuracy) / count)  # Of a 95 % confidence interval.
print(f"Test accuracy: {accuracy:.2%} ± {margin:.2%} ({correct} of {count})")

# %% Save
partial = settings.output.with_name(f"partial-{settings.output.name}")
try:
    model.save(partial)
    partial.replace(settings.output)  # Only now is an earlier model lost.
    figure.savefig(settings.output.with_suffix(".png"))
except OSError as error:
    sys.exit(f"Cannot save: {error}")
print(f"Saved {settings.output}")
