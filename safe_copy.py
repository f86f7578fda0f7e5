"""Copy of a `.keras` file what is allowed, and nothing else.

    python safe_copy.py MODEL.keras FOLDER

`safe_load.py` runs this in a process of its own, since HDF5's library can hang or crash on a
hostile file. It leaves `config.json` and `model.weights.h5` in the folder, or prints why it does
not; where the file is damaged, it just fails.
"""

import errno
import json
import os
import shutil
import sys
import zipfile

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
    "keras": ["Functional", "Sequential"],
    "keras.layers": [name.replace("-", f"{n}D") for name in LAYERS.split() for n in (1, 2, 3)],
    "keras.src.activations.activations": ["ReLU"],
    "keras.src.models.functional": ["Functional"],
    "keras.src.ops.core": ["Cast", "ConvertToTensor", "Slice", "StopGradient"],
    "keras.src.ops.linalg": ["Norm"],
}
VALUES = ["__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"]
NUMBERS = ["bfloat", "bool", "complex", "float", "int", "uint"]
# What predictions do not depend on.
UNUSED = ("_config", "_constraint", "_initializer", "_regularizer", "build_input_shape", "seed")


class RefusedError(Exception):
    """The file is not copied; the message is for the user."""


def copy_model(path, folder):
    """Copy a model file's network and weights into a folder."""
    with open(path, "rb") as file:
        start = file.read(4)
        if start[:2] != b"PK":
            kind = "an HDF5 file" if start == b"\x89HDF" else "not a Keras model"
            raise RefusedError(f"is {kind}, whatever its name: save the model with model.save()")
        check_directory(file)
        with zipfile.ZipFile(file) as archive:
            config, weights = check_entries(archive.infolist())
            network = clean(json.loads(archive.read(config)))
            if network["class_name"] not in ALLOWED["keras"]:
                raise RefusedError("is neither a Sequential nor a Functional model: build one")
            whole = os.path.join(folder, "whole.h5")
            with archive.open(weights) as source, open(whole, "wb") as target:
                shutil.copyfileobj(source, target, 2**20)
    copy_weights(whole, os.path.join(folder, "model.weights.h5"))
    os.remove(whole)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(network, file)


def check_directory(file):
    """Check the archive's directory, at its end: zipfile would read millions of entries."""
    file.seek(-42, os.SEEK_END)
    end = file.read()
    is_plain = end[:4] != b"PK\6\7" and end[20:24] + end[40:] == b"PK\5\6\0\0"
    if not is_plain or int.from_bytes(end[32:36], "little") > 1000:
        raise ValueError("The directory is not that of three files.")


def check_entries(entries):
    """Return the archive's entries for the configuration and for the weights."""
    entries = sorted(entries, key=lambda entry: entry.filename)
    names = [entry.filename for entry in entries]
    # Compressed, which Keras does not do, a few bytes could be gigabytes.
    is_plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if names != ["config.json", "metadata.json", "model.weights.h5"] or not is_plain:
        raise ValueError("The entries are not those that Keras writes.")
    config, _, weights = entries
    if config.file_size > MAX_CONFIG:
        raise RefusedError("is too large for a digit classifier: train a smaller one")
    return config, weights


def is_allowed(module, name):
    """Whether a class is one of those that only compute."""
    return name in ALLOWED.get(module, []) or (module in OPERATIONS and name[0].isupper())


def clean(value, key=None):
    """Copy a part of the configuration, without what is not used, if it is allowed."""
    if isinstance(value, list):
        return [clean(item, key) for item in value]
    if isinstance(value, dict):
        if "class_name" in value:
            return clean_object(value)
        return {
            name: clean(item, name) for name, item in value.items() if not name.endswith(UNUSED)
        }
    if key == "indices_or_sections" and isinstance(value, int) and value > 100:
        raise RefusedError("splits a tensor into more than 100: split it into fewer")
    return value


def clean_object(value):
    """Copy the description of a model, a layer, an operation or a value, if it is allowed."""
    module, name, config = value.get("module"), value["class_name"], value["config"]
    if name in VALUES:
        # NumPy would make gigabytes of one number of the type "U1000000000".
        kind = config.get("dtype", "float").rstrip("0123456789")
        if "class_name" in json.dumps(config) or kind not in NUMBERS:
            raise ValueError("A value holds something other than numbers.")
        return {"class_name": name, "config": clean(config)}
    if (module, name) == ("keras", "DTypePolicy"):
        return clean(config["name"])
    if not is_allowed(module, name):
        raise RefusedError(
            f"uses {name!a:.60} of {module!a:.60}, which is not among Keras's layers and operations"
            " that only compute: use those instead, since others could run a stranger's code"
        )
    nodes = clean(value.get("inbound_nodes", []))
    for text in map(json.dumps, nodes):
        # Called without tensors, Keras computes at once, with numbers instead of shapes.
        if '{"class_name": "__keras_tensor__"' not in text or '{"module"' in text:
            raise RefusedError(f"connects {name} to something that is not a layer: use layers only")
    described = {"module": module, "class_name": name, "config": clean(config)}
    return {**described, "name": clean(value.get("name")), "inbound_nodes": nodes}


def copy_weights(whole, copied):
    """Copy the arrays of the layers, without the optimizer's, if they are plain numbers."""
    import h5py

    items = {}
    with h5py.File(whole) as source, h5py.File(copied, "w") as target:
        if not isinstance(source.get("layers", getlink=True), h5py.HardLink):
            raise ValueError("The layers are missing, or elsewhere.")
        source["layers"].visititems(items.__setitem__)  # This follows no links.
        arrays = {name: item for name, item in items.items() if isinstance(item, h5py.Dataset)}
        size = sum(array.nbytes for array in arrays.values())
        if size > os.path.getsize(whole):
            raise ValueError("The arrays are larger than the file.")
        if size > MAX_WEIGHTS:
            raise RefusedError("has more than 256 MiB of weights: train a smaller network")
        for name, array in arrays.items():
            is_bfloat16 = array.dtype == "V2"  # Keras stores it as two bytes, with a label.
            if array.chunks or array.external or array.is_virtual:
                raise ValueError("An array is not stored in this file, in one piece.")
            if array.dtype.kind not in "fiu" and not is_bfloat16:
                raise ValueError("An array does not hold numbers.")
            target[f"layers/{name}"] = array[()]
            if is_bfloat16:
                target[f"layers/{name}"].attrs["dtype"] = "bfloat16"


def main(path, folder):
    """Copy a model file; print why, where that is known, if it cannot be copied."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # Each takes address space.
    if sys.platform == "linux":  # HDF5 would fill the memory with a list that leads to itself.
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
    try:
        copy_model(path, folder)
    except RefusedError as error:
        print(error)
    except ImportError as error:
        print(f"cannot be opened: {error}")
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # The file leads to places that are not in it.
            raise
        print(f"cannot be copied: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
