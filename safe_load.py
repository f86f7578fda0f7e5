"""Open a `.keras` file that may come from a stranger.

The file is a zip archive of a JSON configuration, which names Python classes for Keras to build,
and of HDF5 weights, which may point to other files. Loading one has been a way to run an attacker's
code, to read files and to exhaust the memory (CVE-2025-1550 and many others). So Keras gets copies:
of the configuration, in which every class is one of those below, and of the weights. HDF5's library
can hang or crash on a hostile file, so this file, run as a script, copies them in a child process.
"""

import functools
import io
import json
import math
import os
import stat
import subprocess
import sys
import tempfile
import zipfile

MAX_BYTES, MAX_CONFIG_BYTES, MAX_LAYERS = 32 * 2**20, 2**18, 150
# The largest number in a configuration, and the most values that one operation makes of an image.
MAX_NUMBER, MAX_VALUES, MAX_TIME_STEPS = 2**16, 2**21, 28 * 28
# These compute and do nothing else. "Conv-" stands for Conv1D, Conv2D and Conv3D.
LAYERS = """
    Activation ActivityRegularization AdaptiveAveragePooling- AdaptiveMaxPooling- Add
    AdditiveAttention AlphaDropout Attention Average AveragePooling- BatchNormalization
    Bidirectional CenterCrop Concatenate Conv- Conv1DTranspose Conv2DTranspose Conv3DTranspose
    Cropping- Dense DepthwiseConv- Dot Dropout EinsumDense ELU Embedding Flatten GaussianDropout
    GaussianNoise GlobalAveragePooling- GlobalMaxPooling- GroupNormalization GroupQueryAttention
    GRU GRUCell Identity InputLayer LayerNormalization LeakyReLU LSTM LSTMCell Masking Maximum
    MaxPooling- Minimum MultiHeadAttention Multiply Normalization Permute PReLU RandomBrightness
    RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur
    RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSharpness RandomShear
    RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing RMSNormalization RNN
    SeparableConv- SimpleRNN SimpleRNNCell Softmax SpatialDropout- SpectralNormalization
    StackedRNNCells Subtract TimeDistributed UnitNormalization UpSampling- ZeroPadding-
"""
ALLOWED = {
    "keras": ["Functional", "Sequential"],
    "keras.layers": [name.replace("-", f"{n}D") for name in LAYERS.split() for n in (1, 2, 3)],
    "keras.src.activations.activations": ["ReLU"],
    "keras.src.models.functional": ["Functional"],
    # What `x + y`, `x / 2`, `keras.activations.relu(x)` and the like are in a Functional model.
    "keras.src.ops.nn": ["Elu", "Gelu", "LeakyRelu", "Relu", "Selu", "Sigmoid", "Silu", "Softmax"],
    "keras.src.ops.numpy": ["Add", "Multiply", "Negative", "Subtract", "Tanh", "TrueDivide"],
}
# What predictions do not depend on. With "unroll", Keras would take longer to trace them.
UNUSED = (
    *("_config", "_constraint", "_initializer", "_regularizer"),
    *("build_input_shape", "seed", "training", "unroll"),
)
DAMAGED = "is damaged or not as Keras writes it: copy it again, or train it again"


class RefusedModelError(ValueError):
    """A model file is not opened; the message is for the user."""


def check_file(path):
    """Check a model file without Keras, and without running anything that it holds.

    Args:
        path: path of a `.keras` file, `str` or `os.PathLike`.

    Raises:
        ValueError: it may not be opened; the message is one line for the user.
        OSError: the file is missing or cannot be read.
    """
    read_model(path)


def load_model(path):
    """Check a model file, build the network that it describes, and load its weights.

    Args:
        path: path of a `.keras` file, `str` or `os.PathLike`.

    Returns:
        A Keras model, not compiled, from images of shape `(n, 28, 28)` or `(n, 28, 28, 1)` to
        `(n, 10)` values: probabilities or logits, as its last layer makes them.

    Raises:
        ValueError: as in `check_file`, or Keras cannot build it.
        OSError: the file is missing or cannot be read.
    """
    network, weights = read_model(path)

    import keras

    try:
        model = build(json.loads(network), len(weights))
        # Where Keras fails, the file may still be open, and Windows does not delete it.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            with open(os.path.join(folder, "model.weights.h5"), "wb") as file:
                file.write(weights)
            model.load_weights(file.name)
        if not all(math.isfinite(weight.sum()) for weight in model.get_weights()):
            raise RefusedModelError("has infinite weights: train it with a lower learning rate")
    except RefusedModelError as error:
        raise RefusedModelError(f"{path} {error}.") from error
    except Exception as error:  # Keras raises many kinds, often of many lines.
        hint = f"does not load in Keras {keras.__version__} (update Keras, or train it again)"
        reason = " ".join(str(error).split("Exception encountered: ")[-1].split())[:300]
        raise RefusedModelError(f"{path} {hint}: {reason}") from error
    return model


def read_model(path):
    """Read a model file; return copies of its network, as JSON, and of its weights, as HDF5."""
    try:
        if not os.fspath(path).endswith(".keras"):
            raise RefusedModelError("does not end in .keras: save the model with that ending")
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            raise RefusedModelError("is a folder, a link or a device: name the model file itself")
        if status.st_size > MAX_BYTES:
            raise RefusedModelError("is too large for a digit classifier: train a smaller one")
        with open(path, "rb") as file:
            return copies(file.read(MAX_BYTES))
    except RefusedModelError as error:
        raise RefusedModelError(f"{path} {error}.") from error


@functools.lru_cache(maxsize=1)  # predict.py checks a file before it imports Keras to load it.
def copies(data):
    """Copy what is needed of a `.keras` file's bytes, if all of it is allowed."""
    # Each entry in a zip archive's directory begins with PK, 1 and 2; there may be a million.
    if not data.startswith(b"PK") or data.count(b"PK\1\2") > 100:
        kind = "an HDF5 file" if data.startswith(b"\x89HDF") else "not a Keras model"
        raise RefusedModelError(f"is {kind}, whatever its name: save the model with model.save()")
    try:
        config, weights = unpack(data)
        network = clean(json.loads(config))
        if network["class_name"] not in ALLOWED["keras"]:
            raise RefusedModelError("is neither a Sequential nor a Functional model: build one")
        network = json.dumps(network)
        if network.count('"module"') > MAX_LAYERS:
            raise RefusedModelError(f"has more than {MAX_LAYERS} layers: train a smaller one")
        command = [sys.executable, __file__]
        child = subprocess.run(command, input=weights, capture_output=True, timeout=20, check=True)
    except RefusedModelError:
        raise
    except Exception as error:  # zipfile, zlib, json and subprocess raise a dozen kinds.
        raise RefusedModelError(DAMAGED) from error
    return network, child.stdout


def unpack(data):
    """Unpack a `.keras` archive; return its configuration and its weights, as bytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
        names = [entry.filename for entry in entries]
        # Other kinds of compression can take gigabytes to unpack a few bytes.
        plain = all(entry.compress_type <= zipfile.ZIP_DEFLATED for entry in entries)
        if names != ["config.json", "metadata.json", "model.weights.h5"] or not plain:
            raise RefusedModelError(DAMAGED)
        sizes = [entry.file_size for entry in entries]
        if sum(sizes) > MAX_BYTES or sizes[0] > MAX_CONFIG_BYTES:
            raise RefusedModelError("is too large for a digit classifier: train a smaller one")
        return archive.read(names[0]), archive.read(names[2])


def clean(value, key="a value"):
    """Copy a part of the configuration, without what is not used, if it is allowed."""
    if isinstance(value, list):
        return [clean(item, key) for item in value]
    if isinstance(value, dict):
        if "class_name" in value:
            return clean_object(value)
        # What a newer Keras has and an older one lacks is None where it is not used.
        return {
            name: clean(item, name)
            for name, item in value.items()
            if not name.endswith(UNUSED) and (item is not None or name in ("axis", "merge_mode"))
        }
    if isinstance(value, float | int) and not abs(value) <= MAX_NUMBER:
        raise RefusedModelError(f"has {key!r:.40} = {value!r:.40}: train a smaller network")
    if isinstance(value, str) and not (len(value) < 200 and value.isprintable()):
        raise RefusedModelError(DAMAGED)
    return value


def clean_object(value):
    """Copy the description of a model, a layer or a tensor, if it is allowed."""
    module, name, config = value.get("module"), value["class_name"], value["config"]
    if name == "__keras_tensor__":
        tensor = {"shape": [], "dtype": "float32", "keras_history": clean(config["keras_history"])}
        return {"class_name": name, "config": tensor}
    if (module, name) == ("keras", "DTypePolicy"):
        return clean(config["name"])
    is_own = value.get("registered_name") in (None, name)
    if name not in ALLOWED.get(module, []) or not is_own:
        raise RefusedModelError(
            f"uses {name!r:.60} of {module!r:.60}, which is not among Keras's layers that only "
            "compute: use those instead, since others could run a stranger's code"
        )
    nodes = clean(value.get("inbound_nodes", []))
    # Called without tensors, Keras computes at once, with numbers instead of shapes.
    if any('{"class_name": "__keras_tensor__"' not in json.dumps(node) for node in nodes):
        raise RefusedModelError(f"calls {name} on something other than layers: connect it to one")
    # Forty models that each call the next one twice would be a trillion calls.
    if len(nodes) > 1 and not config.keys().isdisjoint(["layer", "layers"]):
        raise RefusedModelError(f"calls {name} more than once: use one for each call")
    described = {"module": module, "class_name": name, "config": clean(config)}
    return {**described, "name": clean(value.get("name")), "inbound_nodes": nodes}


def build(network, max_weights):
    """Build a network if its weights, and what it makes of an image, fit in memory."""
    import keras
    import tensorflow as tf

    with keras.StatelessScope():  # Until it ends, weights have a shape but take no memory.
        try:
            model = keras.saving.deserialize_keras_object(network)
            if sum(math.prod(weight.shape) for weight in model.variables) > max_weights:
                raise RefusedModelError("has fewer weights than its layers: train it again")
            shapes = model.input_shape[1:], model.output_shape[1:]
            if shapes not in [((28, 28), (10,)), ((28, 28, 1), (10,))]:
                expected = "not (28, 28) or (28, 28, 1) into (10,)"
                raise RefusedModelError(f"turns {shapes[0]} into {shapes[1]}, {expected}")
            kind = keras.layers.TimeDistributed  # Keras traces it in a Python loop.
            loops = [one.input.shape[1] for one in model._flatten_layers() if isinstance(one, kind)]
            if sum(loops) > MAX_TIME_STEPS:
                raise RefusedModelError("has TimeDistributed layers of too many steps: use fewer")
        except BaseException:
            keras.utils.clear_session()  # Otherwise, the weights would take their memory now.
            raise

    def sizes(count):
        images = tf.TensorSpec((count, *model.input_shape[1:]))
        traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(images)
        outputs = [output for step in traced.graph.get_operations() for output in step.outputs]
        return [output.shape.num_elements() or 0 for output in outputs]

    # The difference is what one more image takes, without the weights.
    if max(more - less for less, more in zip(sizes(2), sizes(3), strict=True)) > MAX_VALUES:
        raise RefusedModelError("makes too many values of an image: use smaller layers")
    return model


if __name__ == "__main__":
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # Each takes address space.
    import h5py

    if sys.platform == "linux":  # HDF5 would fill the memory with a list that leads to itself.
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
    data, copy, items = sys.stdin.buffer.read(), io.BytesIO(), []
    with h5py.File(io.BytesIO(data)) as source, h5py.File(copy, "w") as target:
        source.visititems(lambda name, item: items.append(item))  # This follows no links.
        arrays = [item for item in items if isinstance(item, h5py.Dataset)]
        if sum(array.nbytes for array in arrays) > len(data):
            sys.exit("The arrays are larger than the file.")
        for array in arrays:
            if array.chunks or array.external or array.is_virtual or array.dtype.kind not in "fiu":
                sys.exit("An array is not stored as plain numbers.")
            target[array.name] = array[()]
    sys.stdout.buffer.write(copy.getvalue())
