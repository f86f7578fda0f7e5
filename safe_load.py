"""Open a `.keras` file that may come from a stranger.

A `.keras` file is a zip archive of a JSON configuration, which names Python classes for Keras to
build, and of HDF5 weights, which may point to other files. Loading one has been a way to run an
attacker's code, to read files or to exhaust the memory again and again (CVE-2025-1550 and others),
and a damaged one can make HDF5's own library loop for ever. So the file never reaches Keras or
HDF5. This module reads it once, as plain data. What Keras gets is a configuration made anew, of the
words and numbers that are on a list of what is allowed, and arrays of numbers that fit it.
"""

import io
import json
import math
import os
import re
import reprlib
import stat
import struct
import zipfile

# The dense network with its optimizer's state has 4 MB: this leaves room for wider ones. The
# article's configurations have 6 kB, its widest layer 21,632 values an image, and its networks
# multiply less than 400,000 times an image.
MAX_BYTES = 32 * 2**20
MAX_CONFIG_BYTES, MAX_LAYERS, MAX_VALUES, MAX_STEPS = 2**18, 100, 2**16, 2**24
ENTRIES = ["config.json", "metadata.json", "model.weights.h5"]
ACTIVATIONS = [
    *("linear", "relu", "leaky_relu", "relu6", "elu", "selu", "silu", "gelu"),
    *("sigmoid", "hard_sigmoid", "tanh", "softplus", "softsign", "softmax"),
]
NAME = "[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"  # TensorFlow takes no space.
TRAIN = "train one with train_cnn.py or train_ann.py"
DAMAGED = "is damaged, or no Keras model: copy it anew, or train it again"
OTHER_FILES = f"is no Keras model, since it holds other files than one does: {TRAIN}"
OTHER_WEIGHTS = f"has weights that are stored in another way than Keras does: {TRAIN}"


class RefusedModelError(ValueError):
    """A model file is not opened; the message is for the user."""


def is_one_of(*allowed):
    """Make a function that tells whether a value is one of these, to the letter: 1.0 is not 1."""
    texts = [json.dumps(one, sort_keys=True) for one in allowed]
    return lambda value: json.dumps(value, sort_keys=True) in texts


def is_name(value):
    """Tell whether a value may be the name of a layer: it is no path, above all."""
    return isinstance(value, str) and re.fullmatch(NAME, value) is not None


def is_size(value):
    """Tell whether a value may be a number of pixels or of units."""
    return type(value) is int and 0 < value <= MAX_VALUES


def is_pair(value):
    """Tell whether a value is a height and a width."""
    return isinstance(value, list) and len(value) == 2 and all(map(is_size, value))


def is_list(value):
    """Tell whether a value may be a list of layers."""
    return isinstance(value, list) and len(value) <= MAX_LAYERS


def is_dict(value):
    """Tell whether a value may be a layer's settings."""
    return isinstance(value, dict)


# What a layer must have, and what of it Keras gets.
CHANNELS = {"data_format": is_one_of("channels_last")}
WINDOW = {"strides": is_pair, "padding": is_one_of("valid", "same"), **CHANNELS}
NEURONS = {"activation": is_one_of(*ACTIVATIONS), "use_bias": is_one_of(True, False)}
LAYERS = {
    "InputLayer": {"batch_shape": is_one_of([None, 28, 28], [None, 28, 28, 1])},
    "Conv2D": {"filters": is_size, "kernel_size": is_pair, **WINDOW, **NEURONS},
    "MaxPooling2D": {"pool_size": is_pair, **WINDOW},
    "Flatten": CHANNELS,
    "Dense": {"units": is_size, **NEURONS},
}
# What it may have besides, and what Keras takes for granted.
FLOAT32 = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}
INITIALIZER = {"module": "keras.initializers", "config": {}}
BESIDES = {
    "trainable": is_one_of(True, False),
    "dtype": is_one_of("float32", FLOAT32),
    "dilation_rate": is_one_of([1, 1]),
    "groups": is_one_of(1),
    "kernel_initializer": is_one_of({**INITIALIZER, "class_name": "GlorotUniform"}),
    "bias_initializer": is_one_of({**INITIALIZER, "class_name": "Zeros"}),
    "sparse": is_one_of(False),
    "ragged": is_one_of(False),
    "optional": is_one_of(False),
}
# How a network was compiled and built says nothing that is used here.
UNUSED = {"build_config", "build_input_shape", "compile_config", "shared_object_id"}


def check_file(path):
    """Check a model file without Keras, and without running anything that it holds.

    Args:
        path: path of a file, `str` or `os.PathLike`.

    Raises:
        RefusedModelError: it is anything else than a `.keras` archive of a network made of the
            same layers as the project's two; the message is one line for the user.
        OSError: the file is missing or cannot be read.
    """
    read_model(path)


def load_model(path):
    """Check a model file, then build the network that it describes.

    Args:
        path: path of a `.keras` file, `str` or `os.PathLike`.

    Returns:
        A `keras.Sequential`, not compiled: float32 of shape `(n, 28, 28)` or `(n, 28, 28, 1)`
        in, ink bright on dark from 0 to 1; probabilities of shape `(n, 10)` out.

    Raises:
        ValueError: as in `check_file`, or Keras cannot build it.
        OSError: the file is missing or cannot be read.
    """
    network, weights = read_model(path)

    import keras

    try:
        model = keras.saving.deserialize_keras_object(network, safe_mode=True)
        model.set_weights(weights)
    except Exception as error:
        # Keras raises many kinds of errors, of many lines, for what it does not know.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"Keras {keras.__version__} cannot load {path}: {reason[0]}") from error
    return model


def read_model(path):
    """Read a model file.

    Args:
        path: path of a file, `str` or `os.PathLike`.

    Returns:
        `(network, weights)`: the configuration for Keras, a dict, and a list of float32 arrays.

    Raises:
        RefusedModelError: as in `check_file`.
        OSError: the file is missing or cannot be read.
    """
    try:
        config, hdf5 = unpacked(read_file(path))
        network, shapes = checked_network(config)
        return network, read_weights(hdf5, shapes)
    except OSError:
        raise
    except RefusedModelError as error:
        raise RefusedModelError(f"{path} {error}.") from error
    except Exception as error:  # For damaged bytes, zipfile, json and struct raise a dozen kinds.
        raise RefusedModelError(f"{path} {DAMAGED}.") from error


def read_file(path):
    """Read a file into memory, if it is a small, regular one.

    Args:
        path: path of a file, `str` or `os.PathLike`.

    Returns:
        Its bytes.

    Raises:
        RefusedModelError: it is something else.
        OSError: the file is missing or cannot be read.
    """
    if not os.fspath(path).endswith(".keras"):
        raise RefusedModelError(f"is no model file, whose name ends in .keras: {TRAIN}")
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise RefusedModelError("is no regular file, but a folder, a link or a device: name a file")
    if status.st_size > MAX_BYTES:
        raise RefusedModelError(f"is too large for a digit classifier: {TRAIN}")
    with open(path, "rb") as file:
        return file.read(MAX_BYTES)


def unpacked(data):
    """Unpack a `.keras` archive.

    Args:
        data: bytes.

    Returns:
        `(config, hdf5)`: what its configuration says, without what says nothing, and bytes.

    Raises:
        RefusedModelError: it is no such archive, or too large. A damaged one may raise any other
            exception, too.
    """
    if data.startswith(b"\x89HDF"):
        raise RefusedModelError("is an HDF5 file: load it where it was made, and save it as .keras")
    # An archive ends with 22 bytes that tell how long its list of entries is, and, if it is huge,
    # with 20 more before them. The list is looked at before Python reads it: it may have millions.
    end = data[-22:]
    if data[-42:-38] == b"PK\6\7" or end[:4] != b"PK\5\6" or end[20:] != bytes(2):
        raise RefusedModelError(DAMAGED)
    if int.from_bytes(end[12:16], "little") > 1_000:
        raise RefusedModelError(OTHER_FILES)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if sorted(entry.filename for entry in entries) != ENTRIES:
            raise RefusedModelError(OTHER_FILES)
        if sum(entry.file_size for entry in entries) > MAX_BYTES:
            raise RefusedModelError(f"is too large for a digit classifier when unpacked: {TRAIN}")
        if archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
            raise other_network("its configuration is too long")
        # Other kinds of compression may ask for gigabytes to unpack a few bytes.
        if any(entry.compress_type > zipfile.ZIP_DEFLATED for entry in entries):
            raise RefusedModelError(DAMAGED)
        config, hdf5 = archive.read("config.json"), archive.read("model.weights.h5")
    return json.loads(config, object_hook=used), hdf5


def used(settings):
    """Drop what says nothing: in every version of Keras, what is not used is `None`."""
    return {
        name: value for name, value in settings.items() if name not in UNUSED and value is not None
    }


def other_network(difference):
    """Make the error for a network that is none of the project's."""
    return RefusedModelError(
        f"is some other network: {difference}. Since another could run a stranger's code, only "
        "networks of train_cnn.py and train_ann.py are opened: train one"
    )


def checked(settings, needed, besides=()):
    """Check the settings in a configuration.

    Args:
        settings: what stands in the configuration where a dict should be.
        needed: dict from the name of each setting that must be there to a function of its value,
            which tells whether it is allowed.
        besides: the same, for those that may be there or not.

    Returns:
        A dict of those that must be there.

    Raises:
        RefusedModelError: one is not allowed, or missing.
    """
    if not isinstance(settings, dict):
        raise other_network("it has no settings")
    allowed = {**dict(besides), **needed}
    for name, value in settings.items():
        if name not in allowed or not allowed[name](value):
            raise other_network(f"it has {reprlib.repr(name):.40} = {reprlib.repr(value):.60}")
    if missing := needed.keys() - settings.keys():
        raise other_network(f"it has no {min(missing)}")
    return {name: settings[name] for name in needed}


def description(module, *class_names):
    """Make the `needed` of `checked` for an object of one of these classes."""
    return {"module": is_one_of(module), "class_name": is_one_of(*class_names), "config": is_dict}


def checked_network(config):
    """Check that a configuration describes a network made of the same layers as the project's two.

    Args:
        config: what a `config.json` says.

    Returns:
        `(network, shapes)`: the configuration, made anew for Keras; and a dict from the name of
        each layer in the HDF5 file to the shapes of its weights.

    Raises:
        RefusedModelError: it describes something else.
    """
    network = checked(config, description("keras", "Sequential"))
    network["config"] = checked(network["config"], {"name": is_name, "layers": is_list}, BESIDES)
    layers, shapes, shape, steps = [], {}, None, 0
    for layer in network["config"]["layers"]:
        layer = checked(layer, description("keras.layers", *LAYERS))
        class_name = layer["class_name"]
        settings = checked(layer["config"], {"name": is_name, **LAYERS[class_name]}, BESIDES)
        if (shape is None) != (class_name == "InputLayer"):
            raise other_network("its first layer, and no other, must be an Input")
        window, shape = window_and_output(class_name, settings, shape)
        steps += math.prod(window) * math.prod(shape)
        if math.prod(shape) > MAX_VALUES or steps > MAX_STEPS:
            raise other_network("it is too large")
        if class_name in ("Conv2D", "Dense"):
            name, number = class_name.lower(), 0
            while name in shapes:
                number += 1
                name = f"{class_name.lower()}_{number}"
            shapes[name] = [(*window, shape[-1]), shape[-1:]][: 1 + settings["use_bias"]]
        layers.append({**layer, "config": {**settings, "dtype": "float32"}})
    if shape != (10,) or class_name != "Dense" or settings["activation"] != "softmax":
        raise other_network("it does not end in the probabilities of 10 classes")
    network["config"]["layers"] = layers
    return network, shapes


def window_and_output(class_name, settings, shape):
    """Work out the shapes of what a layer makes one value from, and of all values that it makes.

    Args:
        class_name: the layer's class, one of those in `LAYERS`.
        settings: its settings, which are known to be allowed.
        shape: tuple, the shape of one image's values that it is given; `None` for an `InputLayer`.

    Returns:
        `(window, output)`: tuples.

    Raises:
        RefusedModelError: a layer that looks at images is given something else.
    """
    if class_name == "InputLayer":
        return (), tuple(settings["batch_shape"][1:])
    if class_name == "Flatten":
        return (), (math.prod(shape),)
    if class_name == "Dense":
        return shape[-1:], (*shape[:-1], settings["units"])
    if len(shape) != 3:
        raise other_network(f"its {class_name} is not given images")
    window = settings["kernel_size" if class_name == "Conv2D" else "pool_size"]
    sides = [
        math.ceil(side / stride) if settings["padding"] == "same" else (side - size) // stride + 1
        for side, size, stride in zip(shape[:2], window, settings["strides"], strict=True)
    ]
    if min(sides) < 1:
        raise other_network(f"its {class_name} is larger than the images it is given")
    if class_name == "MaxPooling2D":
        return tuple(window), (*sides, shape[2])
    return (*window, shape[2]), (*sides, settings["filters"])


# HDF5's library would follow links, unpack bombs and loop over damaged files, so it is not used.
# These functions read what h5py writes unless it is told otherwise, version 0 of the format, and of
# that only what Keras makes: groups of groups, of float32 arrays that lie there as they are. See
# https://support.hdfgroup.org/documentation/hdf5/latest/_s_p_e_c.html
HDF5_START = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0"
HDF5_FLOAT32 = bytes.fromhex("11201f00 04000000 00002000 17080017 7f000000")
SPACE, TYPE, LAYOUT, CONTINUATION, GROUP = 0x1, 0x3, 0x8, 0x10, 0x11
MAX_PARTS = 4 * MAX_LAYERS  # Of each header and of each group.


def read_weights(data, shapes):
    """Read a network's weights out of an HDF5 file.

    Args:
        data: bytes.
        shapes: dict from the name of each layer to the shapes of its weights.

    Returns:
        A list of float32 arrays, layer by layer.

    Raises:
        RefusedModelError: they are not there, or not as Keras stores them.
    """
    import numpy as np

    weights = []
    try:
        start, root = fields("<16s48xQ", data, 0)
        if start != HDF5_START:
            raise RefusedModelError(OTHER_WEIGHTS)
        layers = members(data, members(data, root)[b"layers"])
        for name, layer_shapes in shapes.items():
            variables = members(data, members(data, layers[name.encode()])[b"vars"])
            for number, shape in enumerate(layer_shapes):
                start = start_of_array(data, variables[b"%d" % number], shape)
                array = np.frombuffer(data, "<f4", math.prod(shape), start).reshape(shape)
                if not np.isfinite(array).all():
                    raise RefusedModelError("has weights that are no numbers: train it again")
                weights.append(array)
    except (KeyError, struct.error) as error:
        raise RefusedModelError(OTHER_WEIGHTS) from error
    return weights


def fields(layout, data, start):
    """Read numbers at any start that a file may name; `struct.error` if they are not all there."""
    return struct.unpack(layout, data[start : start + struct.calcsize(layout)])


def messages(data, address):
    """Read an object's header: a dict from the number of each kind of message to its bytes."""
    count, size = fields("<2xH4xI", data, address)
    if count > MAX_PARTS:
        raise RefusedModelError(OTHER_WEIGHTS)
    found, blocks = {}, [(address + 16, size)]
    for start, length in blocks:  # More are added on the way.
        end = start + length
        while count and start < end:
            count -= 1
            kind, size = fields("<HH4x", data, start)
            found[kind] = data[start + 8 : start + 8 + size]
            start += 8 + size
            if kind == CONTINUATION:
                blocks.append(fields("<QQ", found[kind], 0))
    return found


def members(data, address):
    """List a group: a dict from names to addresses; that of a link is outside of the file."""
    tree, heap = fields("<QQ", messages(data, address)[GROUP], 0)
    (names,) = fields("<24xQ", data, heap)
    found, nodes, parts = {}, [tree], 0
    for node in nodes:  # More are added on the way.
        signature, count = fields("<4s2xH", data, node)
        parts += count
        if parts > MAX_PARTS:
            raise RefusedModelError(OTHER_WEIGHTS)
        if signature == b"TREE":
            nodes += [fields("<Q", data, node + 32 + 16 * i)[0] for i in range(count)]
        elif signature == b"SNOD":
            for i in range(count):
                name, target = fields("<QQ", data, node + 8 + 40 * i)
                name += names
                found[data[name : name + 100].split(b"\0")[0]] = target
    return found


def start_of_array(data, address, shape):
    """Find where an array's numbers begin, if it has this shape and they are in the file."""
    found = messages(data, address)
    version, rank = fields("<BB", found[SPACE], 0)
    if rank != len(shape) or fields(f"<{rank}Q", found[SPACE], 8) != shape:
        raise RefusedModelError(f"has weights that do not fit its layers: {TRAIN}")
    layout, kind, start, size = fields("<BBQQ", found[LAYOUT], 0)
    if (
        (version, layout, kind, size) != (1, 3, 1, 4 * math.prod(shape))
        or found[TYPE][:20] != HDF5_FLOAT32
        or start + size > len(data)
    ):
        raise RefusedModelError(OTHER_WEIGHTS)
    return start
