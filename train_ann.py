"""Train the article's dense network (ANN) on MNIST and save it as a `.keras` file.

    python train_ann.py --epochs 3 --output small.keras

In a notebook, use `%run train_ann.py --epochs 3`, or paste the whole file into a cell.
"""

# %% Settings
import argparse
import os
import pathlib
import signal
import socket
import sys

parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message} (see --help)\n")
parser.add_argument("--epochs", type=int, default=30, help="passes over the training images")
parser.add_argument("--batch-size", type=int, default=256, help="images in one training step")
parser.add_argument("--learning-rate", type=float, default=0.003, help="at the start; it falls")
parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same weights")
parser.add_argument("--data", default="MNIST", help="an .npz file to train on instead")
parser.add_argument("--output", type=pathlib.Path, default="mnist_ann.keras", help="model file")
is_script = pathlib.Path(sys.argv[0]).name == pathlib.Path(globals().get("__file__", "")).name
settings = parser.parse_args(None if is_script else [])  # A notebook's sys.argv is its own.
if min(settings.epochs, settings.batch_size, settings.learning_rate) <= 0:
    parser.error("--epochs, --batch-size and --learning-rate must be positive")
if not 0 <= settings.seed < 2**32:
    parser.error("--seed must be from 0 to 4294967295")
if settings.output.suffix != ".keras" or not settings.data.endswith(("MNIST", ".npz")):
    parser.error("--output must end in .keras, and --data in .npz")
picture = settings.output.with_suffix(".png")
if settings.output.is_dir() or picture.is_dir() or not os.access(f"{picture.parent}/", os.W_OK):
    sys.exit(f"Cannot write {settings.output} and {picture}: name files in a writable folder.")
if "IPython" not in sys.modules:  # Ctrl-C ends it at once; a notebook has its own way.
    signal.signal(signal.SIGINT, lambda *_: os.write(2, b"\nInterrupted.\n") and os._exit(130))

# %% Data
os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}  # "3": less chatter.
try:
    import cv2
    import keras
    import matplotlib.pyplot as plt
    import numpy as np
    import tensorflow as tf
    from keras import layers

    socket.setdefaulttimeout(10)  # Otherwise, a download that stalls would wait forever.
    if settings.data == "MNIST":
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    else:
        data = np.load(settings.data)
        x_train, y_train = data["x_train"], data["y_train"]
        x_test, y_test = data["x_test"], data["y_test"]
    for x, y in ((x_train, y_train), (x_test, y_test)):
        fits = x.dtype == np.uint8 and x.shape == (*y.shape, 28, 28) and len(x) > 1
        if not fits or not {*y} <= {*range(10)}:
            raise ValueError("it needs uint8 images (n, 28, 28) and n labels from 0 to 9, n > 1")
except ImportError as error:
    sys.exit(f"{error}: install the packages first (see README.md, Start).")
except Exception as error:
    advice = " (see README.md, Without an internet connection)" if settings.data == "MNIST" else ""
    sys.exit(f"Cannot train on {settings.data}{advice}: {error}")
finally:
    socket.setdefaulttimeout(None)

# From 0..255 to 0..1. The last twelfth of the training images is kept to validate with.
x_train, x_test = (x.astype("float32") / 255 for x in (x_train, x_test))
x_train, x_val = np.split(x_train, [len(x_train) * 11 // 12])
y_train, y_val = np.split(y_train, [len(y_train) * 11 // 12])

# %% Model
keras.utils.set_random_seed(settings.seed)
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

# %% Augmentation
# A network cannot learn what it never sees, and MNIST's ones are bars: every fourth 1 gets a flag,
# and some a foot. Of ones with a flag, the network then predicts 84 % correctly; without, 47 %.
for i in np.flatnonzero(y_train == 1)[::4]:
    image = np.uint8(255 * x_train[i]).reshape(28, 28)
    top, bottom = np.argwhere(image >= image.max() / 2)[[0, -1], ::-1]  # Each as x and y.
    height = 1 + np.linalg.norm(bottom - top)
    width = max(1, int(image.sum() / 255 / height) - 1)  # OpenCV's lines are a pixel wider.
    angle = np.radians(np.random.uniform(115, 155))  # With a flatter flag, it would be a 7.
    flag = height * np.random.uniform(0.25, 0.9) * np.array([np.cos(angle), np.sin(angle)])
    foot = np.random.choice([0, 0, height / 4]) * np.array([1, 0])  # A third have one.
    for start, end in ((top, top + flag), (bottom - foot, bottom + foot)):
        cv2.line(image, np.int32(start), np.int32(end), 255, width, cv2.LINE_AA)
    shift = np.int32(np.rint(14 - np.argwhere(image).mean(axis=0)))  # Back to the middle.
    x_train[i].flat = np.roll(image, shift, axis=(0, 1)) / 255

# Nobody writes a digit the same way twice, so no image is shown the same way twice: each corner
# moves by up to 3 pixels. The network then predicts 99.10 % of the validation images correctly;
# without, 98.16 % (tests/benchmark.py --seeds 5 --without augmentation).
corners = np.float32([[0, 0], [27, 0], [0, 27], [27, 27]])
generator = keras.random.SeedGenerator(settings.seed)


def augment(images, labels):
    """Pull the corners of each image in random directions."""
    before = tf.broadcast_to(corners, (tf.shape(images)[0], 4, 2))
    after = before + keras.random.uniform(tf.shape(before), -3, 3, seed=generator)
    changed = keras.ops.image.perspective_transform(images[..., np.newaxis], before, after)
    return changed[..., 0], labels


# %% Training
tf.config.experimental.enable_op_determinism()  # With the seed: the same weights, bit for bit.
batches = tf.data.Dataset.from_tensor_slices((x_train, y_train)).shuffle(len(x_train))
batches = batches.batch(settings.batch_size).map(augment).prefetch(2)
options = tf.data.Options()
options.autotune.enabled = False  # Tuning holds up the end of each epoch by up to two seconds.
batches = batches.with_options(options)
steps = len(batches)
schedule = keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.epochs * steps)
model.compile(
    optimizer=keras.optimizers.Adam(schedule),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
    steps_per_execution=max(1, steps // 10),  # On a CPU, this halves the time.
)
history = model.fit(
    batches,
    epochs=settings.epochs,
    shuffle=False,  # The batches are shuffled already.
    validation_data=(x_val, y_val),
    validation_batch_size=1_000,
    callbacks=[keras.callbacks.TerminateOnNaN()],
)
if not np.isfinite(history.history["loss"][-1]):
    sys.exit("Training diverged, so nothing was saved: lower the --learning-rate.")

# %% Test
predicted = model.predict(x_test, batch_size=1_000, verbose=0).argmax(axis=1)
correct, count = np.sum(predicted == y_test), len(y_test)
accuracy = correct / count
margin = 1.96 * np.sqrt(accuracy * (1 - accuracy) / count)  # Of a 95 % confidence interval.
result = f"Test accuracy: {accuracy:.2%} ± {margin:.2%} ({correct} of {count})"

# %% Learning curves
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for name, label, style in (("", "training", "C0o-"), ("val_", "validation", "C1s--")):
    error = 100 - 100 * np.array(history.history[f"{name}accuracy"])
    error = np.maximum(error, 50 / len(y_val))  # Half a mistake, since zero has no logarithm.
    axis.semilogy(range(1, len(error) + 1), error, style, label=label)
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
axis.set(title=result, xlabel="epoch", ylabel="error in %", xlim=(0.5, len(error) + 0.5))
axis.xaxis.get_major_locator().set_params(integer=True)
axis.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
axis.yaxis.set_major_formatter("{x:g}")
axis.yaxis.set_minor_formatter("")
if "inline" in plt.get_backend():
    plt.show()

# %% Save
partial = settings.output.with_name(f"partial-{settings.output.name}")
try:
    model.save(partial)
    partial.replace(settings.output)  # Only now, when it is whole, is an earlier model lost.
    figure.savefig(partial.with_suffix(".png"), metadata={"Title": "Learning curves"})
    partial.with_suffix(".png").replace(picture)
except OSError as error:
    sys.exit(f"Cannot save {settings.output} or {picture}: {error}")
if hasattr(sys.stdout, "reconfigure"):
    sys.stdout.reconfigure(errors="replace")  # A console that has no ± shows a ?.
print(f"{result}\nSaved {settings.output}")
