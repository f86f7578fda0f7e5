"""Open a `.keras` file that may come from a stranger.

The file is a zip archive of a JSON configuration, which names Python classes for Keras to build,
and of HDF5 weights, which may point to other files. Loading one has let attackers run code, read
files and exhaust the memory (CVE-2025-1550 and many others). So Keras gets a copy: a network in
which every class is one of a list, and weights that are plain numbers (`safe_copy.py`).
"""

import contextlib
import errno
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import zipfile

import safe_copy


class RefusedModelError(ValueError):
    """A model file is not opened; the message is for the user."""


class CheckedModel:
    """What is allowed of a model file; its weights are in a folder that is deleted with it."""

    def __init__(self, path):
        self.path, self.network = path, None
        self.folder = tempfile.TemporaryDirectory(prefix="checked-model-")
        self.weights = os.path.join(self.folder.name, "checked.weights.h5")


def check_file(path):
    """Check a model file without Keras, and without running anything that it holds.

    Args:
        path: path of a `.keras` file, `str` or `os.PathLike`.

    Returns:
        A checked copy, for `load_model`.

    Raises:
        ValueError: it may not be opened; the message is one line for the user.
        OSError: the file is missing or cannot be read.
        ImportError: a package is missing.
    """
    checked = CheckedModel(path)
    with naming(path, "is damaged or was not saved by Keras (copy it again, or train it again)"):
        if not os.fspath(path).endswith(".keras"):
            raise RefusedModelError("does not end in .keras: save the model with that ending")
        if os.path.exists(path) and not os.path.isfile(path):
            raise RefusedModelError("is a folder or a device: name the model file itself")
        with open(path, "rb") as file:
            copy_model(file, checked)
    return checked


def load_model(source):
    """Build the network that a model file describes, and load its weights.

    Args:
        source: what `check_file` returned, or the path of a `.keras` file, which is then checked.

    Returns:
        A Keras model, not compiled, from images of shape `(n, 28, 28)` or `(n, 28, 28, 1)` to
        `(n, 10)` values: probabilities or logits, as its last layer makes them.

    Raises:
        ValueError, OSError, ImportError: as in `check_file`, or Keras cannot build it.
    """
    checked = source if isinstance(source, CheckedModel) else check_file(source)

    import keras

    problem = f"does not load in Keras {keras.__version__} (update Keras, or train it again)"
    with naming(checked.path, problem):
        model = build(checked)
        shapes = model.input_shape[1:], model.output_shape[1:]
        if shapes not in [((28, 28), (10,)), ((28, 28, 1), (10,))]:
            raise RefusedModelError(
                f"turns {shapes[0]} into {shapes[1]}, not (28, 28) or (28, 28, 1) into (10,): "
                "change its first or its last layer"
            )
        model.load_weights(checked.weights)
        if not all(keras.ops.all(keras.ops.isfinite(weight)) for weight in model.weights):
            raise RefusedModelError("diverged in training: train it with a lower learning rate")
    return model


def build(checked):
    """Build a network, if its weights take no more memory than those in the file."""
    import keras

    with keras.StatelessScope():  # Until it ends, weights have a shape but take no memory.
        try:
            model = keras.saving.deserialize_keras_object(checked.network)
            count = sum(math.prod(weight.shape) for weight in model.variables)
            if count > os.path.getsize(checked.weights):
                raise RefusedModelError("has fewer weights than its layers: train it again")
        except BaseException:
            keras.utils.clear_session()  # Otherwise, the weights would take their memory now.
            raise
    return model


@contextlib.contextmanager
def naming(path, problem):
    """Say in one line which file is refused, and why; `problem` is what most errors mean."""
    try:
        yield
    except RefusedModelError as error:
        raise RefusedModelError(f"{path} {error}.") from error
    except Exception as error:  # Keras, zipfile and json raise many different exceptions.
        is_disk = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
        if is_disk or isinstance(error, ImportError):  # The file is not to blame.
            raise
        reason = str(error).split("Exception encountered: ")[-1] or type(error).__name__
        reason = " ".join("".join(filter(str.isprintable, reason)).split())
        raise RefusedModelError(f"{path} {problem}: {reason:.300}") from error


# The optimizer's state, in the same file as the weights, may take a few times their size.
MAX_WEIGHTS, MAX_ARCHIVE, MAX_CONFIG = 256 * 2**20, 5 * 256 * 2**20, 2 * 2**20
# These compute and do nothing else. "Conv-" stands for Conv1D, Conv2D and Conv3D.
LAYERS = """
    Activation ActivityRegularization AdaptiveAveragePooling- AdaptiveMaxPooling- Add
    AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average AveragePooling-
    BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate
    ContrastLimitedAdaptiveHistogramEqualization Conv- Conv-Transpose ConvLSTM- Cropping- CutMix
    Dense DepthwiseConv- Discretization Dot Dropout EinsumDense ELU Embedding Equalization Flatten
    GaussianDropout GaussianNoise GlobalAveragePooling- GlobalMaxPooling- GroupNormalization
    GroupQueryAttention GRU GRUCell HashedCrossing Hashing Identity InputLayer LayerNormalization
    LeakyReLU LSTM LSTMCell Masking Maximum MaxNumBoundingBoxes MaxPooling- MelSpectrogram Minimum
    MixUp MultiHeadAttention Multiply Normalization Permute Pipeline PReLU RandAugment
    RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
    RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue
    RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation
    RandomSharpness RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape
    Resizing ReversibleEmbedding RMSNormalization RNN SeparableConv- SimpleRNN SimpleRNNCell Softmax
    Solarization SpatialDropout- SpectralNormalization StackedRNNCells STFTSpectrogram Subtract
    TimeDistributed UnitNormalization UpSampling- ZeroPadding-
"""
# What `x / 255`, `keras.ops.max(x)` and the like are in a Functional model: all classes of these
# modules take tensors and numbers, but never a function.
OPERATIONS = [f"keras.src.ops.{name}" for name in ("image", "math", "nn", "numpy")]
ALLOWED = {
    "keras": ["DTypePolicy", "Functional", "Sequential"],
    "keras.layers": [name.replace("-", f"{n}D") for name in LAYERS.split() for n in (1, 2, 3)],
    "keras.src.activations.activations": ["ReLU"],
    "keras.src.models.functional": ["Functional"],
    "keras.src.ops.core": ["Cast", "ConvertToTensor", "Slice", "StopGradient"],
    "keras.src.ops.linalg": ["Norm"],
}
VALUES = {"__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"}
NUMBERS = {"bfloat", "bool", "complex", "float", "int", "uint"}
# What predictions do not depend on.
UNUSED = r".*_(config|constraint|initializer|regularizer)|build_input_shape|registered_name|seed"


def copy_model(file, checked):
    """Copy the network and the weights of a model file that is open."""
    size = file.seek(0, os.SEEK_END)
    if size > MAX_ARCHIVE:
        raise RefusedModelError("is too large for a digit classifier: train a smaller one")
    file.seek(max(0, size - 42))
    end = file.read()
    # zipfile would read a directory, which is at the end, of millions of entries.
    is_plain = end[:4] != b"PK\6\7" and end[20:24] + end[40:] == b"PK\5\6\0\0"
    if not is_plain or int.from_bytes(end[32:36], "little") > 1000:
        raise ValueError("It is not an archive of three files.")
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        is_packed = any(entry.compress_type for entry in entries.values())
        if {*entries} != {"config.json", "metadata.json", "model.weights.h5"} or is_packed:
            raise ValueError("Its entries are not those that Keras writes.")
        if entries["config.json"].file_size > MAX_CONFIG:
            raise ValueError("Its configuration is too large.")
        checked.network = clean(json.loads(archive.read("config.json")))
        whole = archive.extract("model.weights.h5", checked.folder.name)
    if checked.network["class_name"] not in ("Functional", "Sequential"):
        raise RefusedModelError("is neither a Sequential nor a Functional model: build one")
    command = [sys.executable, safe_copy.__file__, whole, checked.weights]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise RefusedModelError("takes more than a minute to read: train a smaller one") from error
    if child.stdout:
        raise ImportError(child.stdout.strip())
    if child.returncode:
        raise ValueError("Its weights cannot be read.")
    if os.path.getsize(checked.weights) > MAX_WEIGHTS:
        raise RefusedModelError("has more than 256 MiB of weights: train a smaller network")
    os.remove(whole)


def is_allowed(module, name):
    """Whether a class is one of those that only compute."""
    return name in ALLOWED.get(module, []) or (module in OPERATIONS and name[0].isupper())


def clean(value):
    """Copy a part of the configuration, without what is not used, if it is allowed."""
    if isinstance(value, list):
        return [clean(item) for item in value]
    if not isinstance(value, dict):
        return value
    module, name = value.get("module"), value.get("class_name")
    if name in VALUES:
        # NumPy would make gigabytes of one number of the type "U1000000000".
        kind = value["config"].get("dtype", "float").rstrip("0123456789")
        if "class_name" in json.dumps(value["config"]) or kind not in NUMBERS:
            raise ValueError("A value holds something other than numbers.")
    elif "class_name" in value and not is_allowed(module, name):
        raise RefusedModelError(
            f"uses {name!a:.60} of {module!a:.60}, which is not among Keras's layers and operations"
            " that only compute: use those instead, since others could run a stranger's code"
        )
    copy = {key: clean(item) for key, item in value.items() if not re.fullmatch(UNUSED, key)}
    for node in copy.get("inbound_nodes", []):
        # Called without tensors, Keras computes at once, with numbers instead of shapes.
        names = {*re.findall(r'"class_name": "(\w+)"', json.dumps(node))}
        if "__keras_tensor__" not in names or names - VALUES:
            raise RefusedModelError(f"connects {name} to something that is not a layer: use layers")
    sections = copy.get("indices_or_sections")
    if isinstance(sections, int) and sections > 100:
        raise RefusedModelError("splits a tensor into more than 100: split it into fewer")
    return copy
