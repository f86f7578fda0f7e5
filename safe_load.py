"""Open a `.keras` file that may come from a stranger.

The file is a zip archive of a JSON configuration, which names Python classes for Keras to build,
and of HDF5 weights, which may point to other files. Loading one has let attackers run code, read
files and exhaust the memory (CVE-2025-1550 and many others). So Keras gets a copy: `safe_copy.py`,
in a process of its own, copies a network in which every class is one of a list, and plain numbers.
"""

import importlib.util
import json
import math
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import weakref

import safe_copy

DAMAGED = "is damaged or was not saved by Keras: copy it again, or train it again"


class RefusedModelError(ValueError):
    """A model file is not opened; the message is for the user."""


class CheckedModel:
    """A copy of a model file, in a folder that is deleted when it is no longer needed."""

    def __init__(self, path):
        self.path, self.folder = path, tempfile.mkdtemp(prefix="checked-model-")
        self.config = os.path.join(self.folder, "config.json")
        self.weights = os.path.join(self.folder, "model.weights.h5")
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def check_file(path):
    """Check a model file without Keras, and without running anything that it holds.

    Args:
        path: path of a `.keras` file, `str` or `os.PathLike`.

    Returns:
        A checked copy, for `load_model`.

    Raises:
        ValueError: it may not be opened; the message is one line for the user.
        OSError: the file is missing or cannot be read.
    """
    try:
        for package in ("h5py", "keras", "tensorflow"):
            if importlib.util.find_spec(package) is None:
                raise RefusedModelError(
                    f"cannot be opened without {package}, which is not installed here: run "
                    ".venv/bin/pip install -r requirements.txt, and start .venv/bin/python"
                )
        if not os.fspath(path).endswith(".keras"):
            raise RefusedModelError("does not end in .keras: save the model with that ending")
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise RefusedModelError("is a folder or a device: name the model file itself")
        if status.st_size > safe_copy.MAX_ARCHIVE:
            raise RefusedModelError("is too large for a digit classifier: train a smaller one")
        open(path, "rb").close()  # Where this fails, it says why.
        return copy_model(path)
    except RefusedModelError as error:
        raise RefusedModelError(f"{path} {error}.") from error


def copy_model(path):
    """Copy what is allowed of a model file, in a child process with a time limit."""
    checked = CheckedModel(path)
    command = [sys.executable, safe_copy.__file__, path, checked.folder]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise RefusedModelError("takes more than a minute to read: train a smaller one") from error
    if child.returncode or child.stdout:
        raise RefusedModelError(child.stdout.strip() or DAMAGED)
    return checked


def load_model(source):
    """Build the network that a model file describes, and load its weights.

    Args:
        source: what `check_file` returned, or the path of a `.keras` file, which is then checked.

    Returns:
        A Keras model, not compiled, from images of shape `(n, 28, 28)` or `(n, 28, 28, 1)` to
        `(n, 10)` values: probabilities or logits, as its last layer makes them.

    Raises:
        ValueError: as in `check_file`, or Keras cannot build it.
        OSError: the file is missing or cannot be read.
    """
    checked = source if isinstance(source, CheckedModel) else check_file(source)

    import keras

    try:
        model = build(checked)
        model.load_weights(checked.weights)
        if not all(keras.ops.all(keras.ops.isfinite(weight)) for weight in model.weights):
            raise RefusedModelError("diverged in training: train it with a lower learning rate")
    except RefusedModelError as error:
        raise RefusedModelError(f"{checked.path} {error}.") from error
    except MemoryError as error:
        hint = "is too large for this computer's memory: train a smaller one"
        raise RefusedModelError(f"{checked.path} {hint}.") from error
    except Exception as error:  # Keras raises many different exceptions, often of many lines.
        hint = f"does not load in Keras {keras.__version__} (update Keras, or train it again)"
        reason = " ".join(str(error).split("Exception encountered: ")[-1].split())[:300]
        reason = "".join(filter(str.isprintable, reason))  # It may quote the file.
        raise RefusedModelError(f"{checked.path} {hint}: {reason}") from error
    return model


def build(checked):
    """Build a network, if its weights take no more memory than those in the file."""
    import keras

    with open(checked.config) as file:
        network = json.load(file)
    with keras.StatelessScope():  # Until it ends, weights have a shape but take no memory.
        try:
            model = keras.saving.deserialize_keras_object(network)
            count = sum(math.prod(weight.shape) for weight in model.variables)
            if count > os.path.getsize(checked.weights):
                raise RefusedModelError("has fewer weights than its layers: train it again")
            shapes = model.input_shape[1:], model.output_shape[1:]
            if shapes not in [((28, 28), (10,)), ((28, 28, 1), (10,))]:
                raise RefusedModelError(
                    f"turns {shapes[0]} into {shapes[1]}, not (28, 28) or (28, 28, 1) into (10,): "
                    "change its first or its last layer"
                )
        except BaseException:
            keras.utils.clear_session()  # Otherwise, the weights would take their memory now.
            raise
    return model
