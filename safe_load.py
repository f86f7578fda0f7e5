"""Open a `.keras` file that may come from a stranger.

A `.keras` file is a zip archive of a JSON configuration, which names Python classes for Keras to
build, and of HDF5 weights, which may point to other files. Loading one has been a way to run an
attacker's code, to read files or to exhaust the memory again and again (CVE-2025-1550 and others).
So this module first reads both as plain data, and passes on to Keras only what the project's two
networks are made of: every layer, setting and weight is on a list of what is allowed, or the file
is not opened.
"""

import io
import json
import math
import os
import re
import stat
import zipfile
import zlib

# The dense network with its optimizer's state has 4 MB: this leaves room for wider ones. The
# article's configurations have 6 kB, and its widest layer 21,632 values an image.
MAX_BYTES = 64 * 2**20
MAX_CONFIG_BYTES, MAX_LAYERS, MAX_VALUES = 2**18, 100, 2**17
ENTRIES = ["config.json", "metadata.json", "model.weights.h5"]
ACTIVATIONS = [
    *("linear", "relu", "leaky_relu", "relu6", "elu", "selu", "silu", "gelu"),
    *("sigmoid", "hard_sigmoid", "tanh", "softplus", "softsign", "softmax"),
]
DAMAGED = "is damaged, or no Keras model: train it again, or copy it anew"
OTHER = "is some other network"


class RefusedModelError(ValueError):
    """A model file is not opened; the message is for the user."""


def is_one_of(*allowed):
    """Make a function that tells whether a value is one of these."""
    return lambda value: any(type(value) is type(one) and value == one for one in allowed)


def is_name(value):
    """Tell whether a value may be the name of a layer: it is no path, above all."""
    return isinstance(value, str) and re.fullmatch(r"\w[\w .-]{0,99}", value) is not None


def is_integer(value):
    """Tell whether a value is an integer."""
    return type(value) is int


def is_size(value):
    """Tell whether a value may be a number of pixels or of units."""
    return is_integer(value) and 0 < value <= MAX_VALUES


def is_layers(value):
    """Tell whether a value is a list of something that has a class."""
    return (
        isinstance(value, list)
        and len(value) <= MAX_LAYERS
        and all(isinstance(layer, dict) and "class_name" in layer for layer in value)
    )


def is_pair(value):
    """Tell whether a value is a height and a width."""
    return isinstance(value, list) and len(value) == 2 and all(map(is_size, value))


def is_object(module, class_name, **settings):
    """Make a function that tells whether a value describes an object of a class, and no more."""
    return lambda value: misdescribed(value, module, class_name, settings) is None


def is_float32(value):
    """Tell whether a value says that a layer computes in float32."""
    return value == "float32" or IS_FLOAT32_POLICY(value)


def misfit(settings, allowed):
    """Find a setting that is not allowed, or that is missing.

    Args:
        settings: what stands in a configuration where a dict should be.
        allowed: dict from each allowed name to a function of a value, which tells whether it is
            allowed.

    Returns:
        A string that tells what is wrong, or `None`.
    """
    if not isinstance(settings, dict):
        return "no settings"
    for name, value in settings.items():
        if name not in allowed or not allowed[name](value):
            return f"{name!r:.40} = {value!r:.60}"
    missing = allowed.keys() - settings.keys() - OPTIONAL
    return f"no {min(missing)}" if missing else None


def misdescribed(value, module, class_name, settings, **around):
    """Find what is wrong with the description of an object.

    Args:
        value: what stands in a configuration where the description should be.
        module: the module's name that it must have.
        class_name: the class's name that it must have.
        settings: as `allowed` in `misfit`, for its settings.
        **around: the same, for what may stand beside its settings.

    Returns:
        A string that tells what is wrong, or `None`.
    """
    around |= {
        "module": is_one_of(module),
        "class_name": is_one_of(class_name),
        "registered_name": is_one_of(None),
        "shared_object_id": is_integer,
        "config": lambda value: True,  # This is looked at next.
    }
    return misfit(value, around) or misfit(value["config"], settings)


IS_FLOAT32_POLICY = is_object("keras", "DTypePolicy", name=is_one_of("float32"))
# Not every version of Keras 3 writes these.
OPTIONAL = {
    *("activity_regularizer", "quantization_config", "input_axes", "output_axes"),
    *("shared_object_id", "build_config", "build_input_shape", "compile_config"),
    *("ragged", "optional"),
}
EVERY_LAYER = {"name": is_name, "trainable": is_one_of(True, False), "dtype": is_float32}
WITH_WEIGHTS = {
    "activation": is_one_of(*ACTIVATIONS),
    "use_bias": is_one_of(True, False),
    "kernel_initializer": is_object(
        "keras.initializers",
        "GlorotUniform",
        seed=is_one_of(None),
        input_axes=is_one_of(None),
        output_axes=is_one_of(None),
    ),
    "bias_initializer": is_object("keras.initializers", "Zeros"),
    "kernel_regularizer": is_one_of(None),
    "bias_regularizer": is_one_of(None),
    "activity_regularizer": is_one_of(None),
    "kernel_constraint": is_one_of(None),
    "bias_constraint": is_one_of(None),
}
WITH_WINDOW = {
    "strides": is_pair,
    "padding": is_one_of("valid", "same"),
    "data_format": is_one_of("channels_last"),
}
is_image_batch = is_one_of([None, 28, 28], [None, 28, 28, 1])
SEQUENTIAL = {**EVERY_LAYER, "layers": is_layers, "build_input_shape": is_image_batch}
SETTINGS = {
    "InputLayer": {
        "name": is_name,
        "dtype": is_float32,
        "batch_shape": is_image_batch,
        "sparse": is_one_of(False),
        "ragged": is_one_of(False),
        "optional": is_one_of(False),
    },
    "Conv2D": {
        **(EVERY_LAYER | WITH_WEIGHTS | WITH_WINDOW),
        "filters": is_size,
        "kernel_size": is_pair,
        "dilation_rate": is_one_of([1, 1]),
        "groups": is_one_of(1),
    },
    "MaxPooling2D": {**(EVERY_LAYER | WITH_WINDOW), "pool_size": is_pair},
    "Flatten": {**EVERY_LAYER, "data_format": is_one_of("channels_last")},
    "Dense": {
        **(EVERY_LAYER | WITH_WEIGHTS),
        "units": is_size,
        "quantization_config": is_one_of(None),
    },
}


def check_file(path):
    """Check a model file without Keras, and without running anything that it holds.

    Args:
        path: path of a file, `str` or `os.PathLike`.

    Raises:
        RefusedModelError: it is anything else than a `.keras` archive of a network made of the
            same layers as the project's two; the message is one line for the user.
        OSError: the file is missing or cannot be read.
    """
    try:
        config, weights = read_entries(path)
        check_weights(weights, weight_shapes(config))
    except RefusedModelError as error:
        raise RefusedModelError(f"{path} {error}.") from error


def read_entries(path):
    """Read what a `.keras` file holds.

    Args:
        path: path of a file, `str` or `os.PathLike`.

    Returns:
        `(config, weights)`: what `json.loads` made of its configuration, and its HDF5 file, bytes.

    Raises:
        RefusedModelError: it is no such file, or too large.
        OSError: the file is missing or cannot be read.
    """
    if not os.fspath(path).endswith(".keras"):
        raise RefusedModelError("is no model file: its name must end in .keras")
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise RefusedModelError("is no regular file, but a folder, a link or a device")
    if status.st_size > MAX_BYTES:
        raise RefusedModelError(f"is too large for a digit classifier ({status.st_size} bytes)")
    with open(path, "rb") as file:
        if file.read(8) == b"\x89HDF\r\n\x1a\n":
            raise RefusedModelError(
                "is an HDF5 file: load it where it was made, and save it as .keras"
            )
        file.seek(max(0, status.st_size - 42))
        tail = file.read(42)
    # An archive ends with 22 bytes that tell how long its list of entries is, and, if it is huge,
    # with 20 more before them. The list is looked at before Python reads it: it may have millions.
    end = tail[-22:]
    if tail[:4] == b"PK\6\7" or end[:4] != b"PK\5\6" or end[20:] != bytes(2):
        raise RefusedModelError(DAMAGED)
    if int.from_bytes(end[12:16], "little") > 1_000:
        raise RefusedModelError("is no Keras model: it holds other files than one does")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sorted(entry.filename for entry in entries) != ENTRIES:
                raise RefusedModelError("is no Keras model: it holds other files than one does")
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise RefusedModelError("is too large for a digit classifier when unpacked")
            if archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
                raise RefusedModelError(f"{OTHER}: its configuration is too long")
            # Other kinds of compression may ask for gigabytes to unpack a few bytes.
            if any(entry.compress_type > zipfile.ZIP_DEFLATED for entry in entries):
                raise RefusedModelError(DAMAGED)
            contents = {name: archive.read(name) for name in ENTRIES}
        json.loads(contents["metadata.json"])
        return json.loads(contents["config.json"]), contents["model.weights.h5"]
    except RefusedModelError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise RefusedModelError(DAMAGED) from error


def weight_shapes(config):
    """Check that a configuration describes a network made of the same layers as the project's two.

    Args:
        config: what `json.loads` made of a `config.json`.

    Returns:
        A dict from the name of each weight in the HDF5 file to its shape.

    Raises:
        RefusedModelError: it describes something else.
    """
    if not isinstance(config, dict) or config.get("class_name") != "Sequential":
        raise RefusedModelError(f"{OTHER}: it is no keras.Sequential")
    refuse_where(
        misdescribed(
            *(config, "keras", "Sequential", SEQUENTIAL),
            build_config=lambda value: misfit(value, {"input_shape": is_image_batch}) is None,
            # How it was compiled is of no use here, and Keras passes over it, too.
            compile_config=lambda value: True,
        )
    )
    shapes, counts, shape = {}, {}, None
    for layer in config["config"]["layers"]:
        class_name = layer["class_name"]
        if not isinstance(class_name, str) or class_name not in SETTINGS:
            refuse_where(f"a layer {class_name!r:.40}")
        if (shape is None) != (class_name == "InputLayer"):
            raise RefusedModelError(f"{OTHER}: its first layer, and no other, must be an Input")
        refuse_where(
            misdescribed(
                *(layer, "keras.layers", class_name, SETTINGS[class_name]),
                build_config=is_one_of({"input_shape": [None, *(shape or ())]}),
            )
        )
        settings = layer["config"]
        kernel, shape = kernel_and_output(class_name, settings, shape)
        if not 0 < math.prod(shape) <= MAX_VALUES:
            raise RefusedModelError(f"{OTHER}: its {class_name} is too large")
        if kernel:
            number = counts[class_name] = counts.get(class_name, -1) + 1
            place = f"/layers/{class_name.lower()}{f'_{number}' if number else ''}/vars"
            shapes[f"{place}/0"] = kernel
            if settings["use_bias"]:
                shapes[f"{place}/1"] = kernel[-1:]
    if 4 * sum(map(math.prod, shapes.values())) > MAX_BYTES:
        raise RefusedModelError(f"{OTHER}: it is too large")
    if shape != (10,) or class_name != "Dense" or settings["activation"] != "softmax":
        raise RefusedModelError(f"{OTHER}: it does not end in the probabilities of 10 classes")
    return shapes


def refuse_where(wrong):
    """Refuse a configuration where something is wrong with it.

    Args:
        wrong: a string that tells what is wrong, or `None`.

    Raises:
        RefusedModelError: something is wrong.
    """
    if wrong:
        raise RefusedModelError(
            f"{OTHER}: it has {wrong}, which is not opened, since it could run a stranger's code"
        )


def kernel_and_output(class_name, settings, shape):
    """Work out the shapes of a layer's kernel and of its output, as Keras does.

    Args:
        class_name: the layer's class, one of those in `SETTINGS`.
        settings: its settings, which are known to be allowed.
        shape: tuple, the shape of one image's values that it is given; `None` for an `InputLayer`.

    Returns:
        `(kernel, output)`: tuples, the first `None` where there is no kernel.

    Raises:
        RefusedModelError: a layer that looks at images is given something else.
    """
    if class_name == "InputLayer":
        return None, tuple(settings["batch_shape"][1:])
    if class_name == "Flatten":
        return None, (math.prod(shape),)
    if class_name == "Dense":
        return (shape[-1], settings["units"]), (*shape[:-1], settings["units"])
    if len(shape) != 3:
        raise RefusedModelError(f"{OTHER}: its {class_name} is not given images")
    window = settings["kernel_size" if class_name == "Conv2D" else "pool_size"]
    sides = [
        math.ceil(side / stride) if settings["padding"] == "same" else (side - size) // stride + 1
        for side, size, stride in zip(shape[:2], window, settings["strides"], strict=True)
    ]
    if min(sides) < 1:
        raise RefusedModelError(f"{OTHER}: its {class_name} is larger than the images it is given")
    if class_name == "MaxPooling2D":
        return None, (*sides, shape[2])
    return (*window, shape[2], settings["filters"]), (*sides, settings["filters"])


def check_weights(weights, shapes):
    """Check that an HDF5 file holds a network's weights, and nothing but plain numbers.

    Args:
        weights: bytes.
        shapes: dict from the name of each weight to its shape, from `weight_shapes`.

    Raises:
        RefusedModelError: it does not, or it points outside of itself.
    """
    import h5py
    import numpy as np

    try:
        with h5py.File(io.BytesIO(weights), "r") as file:
            found = arrays_in(file)
            for name, shape in shapes.items():
                if name not in found or found[name].shape != shape or found[name].dtype != "<f4":
                    raise RefusedModelError("has weights that do not fit its layers")
                if not np.isfinite(found[name][()]).all():
                    raise RefusedModelError("has weights that are no numbers: train it again")
    except RefusedModelError:
        raise
    except Exception as error:  # For a damaged file, h5py raises a dozen kinds.
        raise RefusedModelError(DAMAGED) from error


def arrays_in(file):
    """List all that an HDF5 file holds, if that is plain arrays of numbers.

    Args:
        file: an `h5py.File`.

    Returns:
        A dict from names to `h5py.Dataset`.

    Raises:
        RefusedModelError: it holds something else, or declares more than it holds.
    """
    import h5py

    found, groups = {}, [file]
    for group in groups:  # More are added on the way; a group in itself would add them for ever.
        if len(groups) + len(found) + len(group) > 10 * MAX_LAYERS:
            raise RefusedModelError("has weights in too many parts")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise RefusedModelError("has weights that point to another place")
            item = group[name]
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                layout = item.id.get_create_plist().get_layout()
                if item.external or item.is_virtual:
                    raise RefusedModelError("has weights that point to another file")
                if layout == h5py.h5d.CHUNKED or item.id.get_storage_size() != item.nbytes:
                    raise RefusedModelError("has weights that declare more than they hold")
                if item.dtype.kind not in "iuf" or len(item.attrs):
                    raise RefusedModelError("has weights of an unknown kind")
                found[item.name] = item
            else:
                raise RefusedModelError("has weights of an unknown kind")
    return found


def load_model(path):
    """Check a model file, then load it with Keras.

    Args:
        path: path of a `.keras` file, `str` or `os.PathLike`.

    Returns:
        A `keras.Sequential`, not compiled: float32 of shape `(n, 28, 28)` or `(n, 28, 28, 1)`
        in, ink bright on dark from 0 to 1; probabilities of shape `(n, 10)` out.

    Raises:
        ValueError: as in `check_file`, or Keras cannot load it.
        OSError: the file is missing or cannot be read.
    """
    check_file(path)

    import keras

    try:
        # Keras would take a relative path such as `hf://…` for an address.
        return keras.saving.load_model(os.path.abspath(path), compile=False, safe_mode=True)
    except Exception as error:
        # Keras raises many kinds of errors, of many lines, for what it does not know.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"Keras {keras.__version__} cannot load {path}: {reason[0]}") from error
