"""Open a `.keras` file that may come from a stranger.

A `.keras` file is a zip archive of a JSON configuration, which names Python classes for Keras to
build, and of HDF5 weights. Loading one has been a way to run an attacker's code more than once, so
this module reads the configuration as plain data and passes on to Keras only what the project's
two networks are made of: an allow-list, checked before TensorFlow is even imported.
"""

import json
import os
import stat
import zipfile
import zlib

# The dense network with its optimizer's state has 4 MB: this leaves room for wider ones.
MAX_BYTES = 64 * 2**20
ENTRIES = {"metadata.json", "config.json", "model.weights.h5"}
CLASSES = {
    ("keras", "Sequential"),
    ("keras", "DTypePolicy"),
    ("keras.layers", "InputLayer"),
    ("keras.layers", "Conv2D"),
    ("keras.layers", "MaxPooling2D"),
    ("keras.layers", "Flatten"),
    ("keras.layers", "Dense"),
    ("keras.initializers", "GlorotUniform"),
    ("keras.initializers", "Zeros"),
}


def check_file(path):
    """Check a model file without Keras, and without running anything that it holds.

    Args:
        path: path of a file, `str` or `os.PathLike`.

    Raises:
        ValueError: it is anything else than a `.keras` archive of one of the two networks; the
            message is one line for the user, and says what to do.
        OSError: the file is missing or cannot be read.
    """
    if not os.fspath(path).endswith(".keras"):
        raise ValueError(f"{path} is no model file: its name must end in .keras.")
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no regular file (a folder, a link or a device).")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"{path} is too large for a digit classifier ({status.st_size} bytes).")
    with open(path, "rb") as file:
        if file.read(8) == b"\x89HDF\r\n\x1a\n":
            raise ValueError(
                f"{path} is an HDF5 file: load it where it was made, and save it as .keras."
            )
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sorted(entry.filename for entry in entries) != sorted(ENTRIES):
                raise ValueError(f"{path} is no Keras model: it holds other files than one does.")
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise ValueError(f"{path} is too large for a digit classifier when unpacked.")
            config = json.loads(archive.read("config.json"))
            damaged = archive.testzip()
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeDecodeError,
        json.JSONDecodeError,
    ):
        damaged = True
    if damaged:
        raise ValueError(f"{path} is damaged, or no Keras model: train it again, or copy it anew.")
    if not isinstance(config, dict) or config.get("class_name") != "Sequential":
        raise ValueError(f"{path} is some other network: it is no keras.Sequential.")
    # How it was compiled is of no use here, and Keras passes over it, too (`compile=False`).
    config.pop("compile_config", None)
    for module, class_name, registered_name in named_classes(config):
        if (module, class_name) not in CLASSES or registered_name not in (None, class_name):
            raise ValueError(
                f"{path} is some other network: it has a {class_name} of {module}, which is not "
                "opened, since it could run a stranger's code."
            )


def named_classes(config):
    """Find every class that a configuration would have Keras build.

    Args:
        config: what `json.loads` made of a `config.json`.

    Yields:
        `(module, class_name, registered_name)`, each as it stands there, or `None`.
    """
    children = config.values() if isinstance(config, dict) else config
    if isinstance(config, dict) and "class_name" in config:
        yield tuple(config.get(key) for key in ("module", "class_name", "registered_name"))
    for child in children:
        if isinstance(child, dict | list):
            yield from named_classes(child)


def load_model(path):
    """Check a model file, then load it with Keras.

    Args:
        path: path of a `.keras` file, `str` or `os.PathLike`.

    Returns:
        A `keras.Sequential`, not compiled: float32 of shape `(n, 28, 28)` or `(n, 28, 28, 1)`
        in, ink bright on dark from 0 to 1; probabilities of shape `(n, 10)` out.

    Raises:
        ValueError: as in `check_file`, or Keras cannot load it, or its shapes are others.
        OSError: the file is missing or cannot be read.
    """
    check_file(path)

    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # Keras raises many kinds of errors, of many lines, for a damaged or an unknown file.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"Keras {keras.__version__} cannot load {path}: {reason[0]}") from error
    if (model.input_shape, model.output_shape) not in (
        ((None, 28, 28), (None, 10)),
        ((None, 28, 28, 1), (None, 10)),
    ):
        raise ValueError(
            f"{path} is some other network: from {model.input_shape} to {model.output_shape}, "
            "not from 28 x 28 images to 10 classes."
        )
    return model
