"""Networks that learners build are opened; files made to do harm are refused, and do none."""

import copy
import io
import json
import os
import re
import struct
import subprocess
import sys
import time
import zipfile

import h5py
import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies
from keras import layers

import safe_load

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
KERNEL = "layers/dense/vars/0"


# Networks that learners build.


def sequential(*inner, shape=(28, 28, 1)):
    return keras.Sequential([keras.Input(shape), *inner])


def functional(call, shape=(28, 28, 1)):
    image = keras.Input(shape)
    return keras.Model(image, call(image))


def end():
    return layers.Dense(10, activation="softmax")


def residual(image):
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same")(x)])
    pool = layers.MaxPooling2D(3)  # Used twice.
    x = layers.Concatenate()([pool(x), pool(layers.Conv2D(4, 3, padding="same")(x))])
    return end()(layers.GlobalAveragePooling2D()(x))


def operators(image):
    x = layers.Flatten()(1.0 - image * 2.0)
    y = layers.Dense(6)(x)
    y = keras.activations.relu(y + layers.Dense(6)(x)) / 2.0
    return keras.activations.softmax(layers.Dense(10)(keras.ops.tanh(y)))


def nested(image):
    augment = keras.Sequential([layers.RandomRotation(0.1), layers.RandomZoom(0.1, seed=3)])
    inner = functional(lambda x: layers.MaxPooling2D(4)(layers.Conv2D(3, 3)(x)))
    return end()(layers.Flatten()(inner(augment(image))))


def attention(image):
    x = layers.Dense(8)(layers.Reshape((49, 16))(image))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    x = layers.Attention()([x, x])
    return end()(layers.GlobalAveragePooling1D()(x))


def merged(image):
    x = layers.Flatten()(image)
    pair = layers.Dense(5)(x), layers.Dense(5)(x)
    kinds = layers.Average, layers.Maximum, layers.Minimum, layers.Subtract, layers.Multiply
    return end()(layers.Concatenate()([kind()(pair) for kind in kinds]))


NETWORKS = {
    "dropout and batch normalisation": lambda: sequential(
        layers.Conv2D(6, 3, kernel_initializer="he_normal", kernel_regularizer="l2"),
        *(layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(3), layers.Dropout(0.5)),
        *(layers.Flatten(), layers.Dense(9, "relu", kernel_constraint="max_norm"), end()),
    ),
    "activations": lambda: sequential(
        *(layers.Flatten(), layers.Dense(9, activation=keras.activations.relu), layers.PReLU()),
        *(layers.Activation("gelu"), layers.ELU(), layers.LeakyReLU(), layers.Dense(9, "swish")),
        *(layers.Dense(9, activation=layers.LeakyReLU()), layers.Dense(10), layers.Softmax()),
        shape=(28, 28),
    ),
    "logits": lambda: sequential(layers.Flatten(), layers.Dense(10), shape=(28, 28)),
    "no Input, own names": lambda: keras.Sequential(
        [layers.Rescaling(2.0, offset=-1), layers.Flatten(name="my_flat"), end()], name="my_net"
    ),
    "augmentation": lambda: sequential(
        *(layers.RandomTranslation(0.1, 0.1), layers.RandomContrast(0.1), layers.RandomFlip()),
        *(layers.GaussianNoise(0.1), layers.Resizing(14, 14), layers.AveragePooling2D(2)),
        *(layers.Flatten(), end()),
    ),
    "separable": lambda: sequential(
        *(layers.ZeroPadding2D(1), layers.SeparableConv2D(4, 3), layers.DepthwiseConv2D(3)),
        *(layers.GroupNormalization(2), layers.SpatialDropout2D(0.2), layers.Conv2D(4, 3, 2)),
        *(layers.GlobalMaxPooling2D(), layers.UnitNormalization(), end()),
    ),
    "transposed": lambda: sequential(
        *(layers.MaxPooling2D(4), layers.Conv2DTranspose(3, 3, 2), layers.UpSampling2D(2)),
        *(layers.Cropping2D(3), layers.Conv2D(2, 3, dilation_rate=2), layers.Flatten(), end()),
    ),
    "rows": lambda: sequential(
        layers.Normalization(mean=[0.1] * 28, variance=[0.3] * 28),
        layers.Bidirectional(layers.LSTM(6, return_sequences=True, dropout=0.1)),
        *(layers.TimeDistributed(layers.Dense(5)), layers.Conv1D(5, 3, padding="causal")),
        *(layers.GRU(5, return_sequences=True), layers.SimpleRNN(4, unroll=True), end()),
        shape=(28, 28),
    ),
    "mixed precision": lambda: sequential(
        *(layers.Conv2D(4, 5, 3, dtype="mixed_bfloat16"), layers.Flatten()), end()
    ),
    "wide": lambda: sequential(
        *(layers.Flatten(), layers.Dense(1_500), layers.Dense(300), end()), shape=(28, 28)
    ),
    "residual": lambda: functional(residual),
    "operators": lambda: functional(operators),
    "nested": lambda: functional(nested),
    "attention": lambda: functional(attention),
    "merged": lambda: functional(merged, (28, 28)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_opens_what_learners_build(tmp_path, name):
    model = NETWORKS[name]()
    generator = np.random.default_rng(0)
    images = generator.random((4, 28, 28, 1), "float32")
    if not model.built or len(model.input_shape) == 3:
        images = images[..., 0]
    model(images)
    for variable in model.weights:  # Otherwise, many are 0 or 1 and could be mixed up.
        variable.assign(generator.uniform(0.1, 0.5, variable.shape))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    safe_load.check_file(tmp_path / "model.keras")
    opened = safe_load.load_model(tmp_path / "model.keras")
    expected = keras.saving.load_model(tmp_path / "model.keras")
    assert not opened.compiled
    assert [layer.name for layer in opened.layers] == [layer.name for layer in expected.layers]
    results = [network(images, training=False) for network in (opened, expected)]
    np.testing.assert_array_equal(*results)


# Attacks: each makes the bytes of a file from those of a valid one, and from the path of a MARKER
# that must not appear.


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The contents of a valid file."""
    path = tmp_path_factory.mktemp("small") / "small.keras"
    keras.utils.clear_session()
    model = sequential(layers.MaxPooling2D(4), layers.Flatten(), layers.Dense(4), end())
    model.compile("adam", "sparse_categorical_crossentropy")
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(contents, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return file.getvalue()


def described(module, class_name, config=None, **others):
    return {"module": module, "class_name": class_name, "config": config or {}, **others}


def function(module, name):
    return described(module, "function", name, registered_name=name)


def code_of_lambda(marker):
    """Serialize a function that leaves a file behind, as Keras does it for a `Lambda`."""
    payload = eval(f"lambda x: open({str(marker)!r}, 'w').close() or x")
    return keras.saving.serialize_keras_object(layers.Lambda(payload))


def with_config(change):
    def attack(small, marker):
        config = json.loads(small[CONFIG])
        inner = config["config"]["layers"]
        text = json.dumps(change(config, inner, marker) or config)
        return packed({**small, CONFIG: text.replace("MARKER", str(marker))})

    return attack


def with_layer(class_name, module="keras.layers", at=1, **settings):
    """Put a layer behind the input."""
    added = described(module, class_name, settings)
    return with_config(lambda config, inner, marker: inner.insert(at, copy.deepcopy(added)))


def with_layers(*added):
    """Put layers of these classes and settings in place of all between the first and the last."""
    new = [described("keras.layers", name, dict(settings)) for name, settings in added]
    return with_config(lambda config, inner, marker: inner.__setitem__(slice(1, -1), new))


def saved(make):
    """Save a network that Keras itself makes."""

    def attack(small, marker):
        path = marker.with_name("attack.keras")
        make().save(path)
        return path.read_bytes()

    return attack


def all_to_all(image):
    x = layers.UpSampling1D(80)(layers.Reshape((784, 1))(image))
    return layers.Dense(10)(layers.GlobalAveragePooling1D()(layers.Attention()([x, x])))


def endless_steps():
    return sequential(
        *(layers.Reshape((784, 1)), layers.UpSampling1D(80), layers.TimeDistributed(layers.ReLU())),
        *(layers.GlobalAveragePooling1D(), end()),
    )


def diverged():
    model = sequential(layers.Flatten(), end())
    model.set_weights([np.full((784, 10), np.nan), np.zeros(10)])
    return model


def with_setting(**settings):
    """Change the settings of the first dense layer."""
    return with_config(lambda config, inner, marker: inner[3]["config"].update(settings))


def beside_setting(**settings):
    return with_config(lambda config, inner, marker: inner[3].update(settings))


def lambda_of(module, name, **arguments):
    return with_layer("Lambda", function=function(module, name), arguments=arguments)


def wrapped_code(config, inner, marker):
    settings = {"layer": code_of_lambda(marker)}
    inner.insert(1, described("keras.layers", "TimeDistributed", settings))


def nested_code(config, inner, marker):
    model = {"name": "nested", "layers": [inner[0], code_of_lambda(marker)]}
    inner.insert(1, described("keras", "Sequential", model))


def deep(config, inner, marker):
    value = {}
    for _ in range(700):
        value = {"value": value}
    inner[3]["config"]["activation"] = value


def called_twice(image):
    """Forty such models in each other would be 2 ** 40 calls."""
    inner = functional(layers.ReLU())
    return end()(layers.Flatten()(inner(inner(image))))


CONFIG_ATTACKS = {
    "code in a Lambda (CVE-2024-3660)": with_config(
        lambda config, inner, marker: inner.insert(1, code_of_lambda(marker))
    ),
    "code in a wrapper": with_config(wrapped_code),
    "code in a nested network": with_config(nested_code),
    "function of another module (CVE-2025-1550)": lambda_of("os", "system", command="touch MARKER"),
    "get_file (CVE-2025-8747)": lambda_of(
        "keras.utils", "get_file", origin="file:///etc/hostname", fname="MARKER"
    ),
    "safe mode off (CVE-2025-9906)": lambda_of("keras.config", "enable_unsafe_deserialization"),
    "class of another module": with_layer("Popen", "subprocess", args=["touch", "MARKER"]),
    "class of Keras's insides": with_layer("Dense", "keras.src.layers.core.dense", units=3),
    "class that is a list": with_layer(["Dense"]),
    "custom layer": with_layer("MyLayer", "__main__"),
    "TFSMLayer (CVE-2026-1462)": with_layer("TFSMLayer", filepath="MARKER"),
    "StringLookup (CVE-2025-12058)": with_layer("StringLookup", vocabulary="/etc/passwd"),
    "TorchModuleWrapper": with_layer("TorchModuleWrapper", module="MARKER"),
    "registered name": beside_setting(registered_name="evil>Dense"),
    "activation by a function": with_setting(activation=function("os", "system")),
    "activation by Keras's function": with_setting(activation=function("keras.utils", "get_file")),
    "activation by a lambda": with_setting(
        activation=described("builtins", "__lambda__", {"value": "gASVMARKER"})
    ),
    "cell of an RNN": with_layer("RNN", cell=described("subprocess", "Popen", {"args": "id"})),
    "array": with_setting(units=described(None, "__numpy__", {"value": [1], "dtype": "O"})),
    "type specification": with_setting(units=described("os", "__typespec__", ["x"], spec_name="x")),
    "units of 2 ** 40": with_setting(units=2**40),
    "units of thousands of digits": with_setting(units=10**4_000),
    "units not a number": with_setting(units=float("nan")),
    "endless repetitions": with_layer("RepeatVector", n=10**9),
    "huge padding": with_layer("ZeroPadding2D", padding=[[10**6, 10**6], [0, 0]]),
    "huge input": with_config(
        lambda config, inner, marker: inner[0]["config"].update(batch_shape=[None, 10**6, 10**6])
    ),
    "deep settings": with_config(deep),
    "no network": with_config(lambda config, inner, marker: inner[3]),
    "200 layers": with_config(lambda config, inner, marker: inner.extend(inner[3:4] * 200)),
    "network called twice": saved(lambda: functional(called_twice)),
    "call on a number": beside_setting(inbound_nodes=[{"args": [], "kwargs": {"inputs": 5}}]),
    "control characters": with_setting(name="\x1b[2J"),
    **{
        f"configuration {text[:9]!r} ...": lambda small, marker, text=text: packed(
            {**small, CONFIG: text}
        )
        for text in (b"", b"null", b'{"module": "keras"', b"\xff\xfe", b"[" * 99_999, b" " * 2**19)
    },
}
# What these would need, or give, turns out when Keras builds them; each with a part of the message.
SIZE_ATTACKS = {
    "wide layers": (with_layers(*[("Dense", {"units": 60_000})] * 4), "fewer weights"),
    "enlarged": (
        with_layers(
            *[("UpSampling2D", {"size": [100, 100]})] * 2,
            ("GlobalMaxPooling2D", {"keepdims": False}),
        ),
        "too many values",
    ),
    "far apart": (
        with_layers(
            ("DepthwiseConv2D", {"kernel_size": 3, "dilation_rate": 9_000, "padding": "same"}),
            ("Flatten", {}),
            ("Dense", {"units": 4}),
        ),
        "too many values|fewer weights",
    ),
    "attention of all to all": (saved(lambda: functional(all_to_all)), "too many values"),
    "endless steps": (saved(endless_steps), "too many steps"),
    "weights that are not numbers": (saved(diverged), "lower learning rate"),
    "other input": (saved(lambda: sequential(layers.Flatten(), end(), shape=(32, 32, 3))), "turns"),
    "other output": (saved(lambda: sequential(layers.Flatten(), layers.Dense(26))), "turns"),
    "units that do not fit": (with_setting(units=5), "does not load"),
    "unknown setting": (with_setting(from_the_future=1), "does not load.*from_the_future"),
    "no settings": (beside_setting(config=None), "does not load"),
}


def with_weights(change):
    def attack(small, marker):
        file = io.BytesIO(small[WEIGHTS])
        with h5py.File(file, "r+") as weights:
            del weights[KERNEL]
            change(weights)
        return packed({**small, WEIGHTS: file.getvalue()})

    return attack


def dataset(shape=(49, 4), dtype="f4", **options):
    return with_weights(lambda weights: weights.create_dataset(KERNEL, shape, dtype, **options))


def link(make):
    return with_weights(lambda weights: weights.__setitem__(KERNEL, make(weights)))


def virtual(weights):
    layout = h5py.VirtualLayout((49, 4), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (49, 4))
    weights.create_virtual_dataset(KERNEL, layout)


def with_hdf5(change):
    return lambda small, marker: packed({**small, WEIGHTS: change(small[WEIGHTS])})


def tree_in_itself(data):
    for found in re.finditer(b"TREE", data):
        at = found.start()
        data = data[: at + 32] + struct.pack("<Q", at) + data[at + 40 :]
    return data


WEIGHT_ATTACKS = {
    "external storage (CVE-2026-1669)": dataset(external=[("/etc/passwd", 0, 784)]),
    "virtual array": with_weights(virtual),
    "chunks": dataset(chunks=(1, 1)),
    "compression": dataset((2**10, 2**15), chunks=(64, 64), compression="gzip"),
    "huge shape (CVE-2026-0897)": dataset((2**20, 2**20)),
    "strings": dataset(dtype=h5py.string_dtype()),
    "references": dataset(dtype=h5py.ref_dtype),
    "cut": with_hdf5(lambda data: data[: len(data) // 2]),
    "empty": with_hdf5(lambda data: b""),
    "text": with_hdf5(lambda data: b"weights"),
    "tree in itself": with_hdf5(tree_in_itself),
}
# These are not copied, so that a layer lacks weights.
LINK_ATTACKS = {
    name: (attack, "does not load")
    for name, attack in {
        "external link": link(lambda weights: h5py.ExternalLink("/etc/passwd", "/x")),
        "soft link": link(lambda weights: h5py.SoftLink("/layers/dense_1/vars/0")),
        "soft link to itself": link(lambda weights: h5py.SoftLink(f"/{KERNEL}")),
        "group in itself": link(lambda weights: weights["layers"]),
        "missing weights": with_weights(lambda weights: None),
        "other shape": dataset((4, 49)),
    }.items()
}


def many_entries(small, marker):
    data = packed({"x": b""})
    start = data.index(b"PK\1\2")
    entries = data[start:-22] * 600_000
    return data[:start] + entries + data[-22:-10] + struct.pack("<I", len(entries)) + data[-6:]


def twice(small, marker):
    file = io.BytesIO(packed(small))
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(CONFIG, b"{}")
    return file.getvalue()


def with_entry(name, data=b"x", compression=zipfile.ZIP_STORED):
    return lambda small, marker: packed({**small, name: data}, compression)


ARCHIVE_ATTACKS = {
    "path up": with_entry("../../MARKER"),
    "assets": with_entry("assets/vocabulary.txt"),
    "entry twice": twice,
    "entry missing": lambda small, marker: packed({CONFIG: small[CONFIG]}),
    "600,000 entries": many_entries,
    "bomb of weights": with_entry(WEIGHTS, bytes(2**28), zipfile.ZIP_DEFLATED),
    "bomb of metadata": with_entry(METADATA, bytes(2**28), zipfile.ZIP_DEFLATED),
    "bomb by lzma": lambda small, marker: packed(small, zipfile.ZIP_LZMA),
    "cut archive": lambda small, marker: packed(small)[:-100],
    "flipped bytes": lambda small, marker: packed(small).replace(b"Dense", b"Dance"),
    "PNG": lambda small, marker: b"\x89PNG\r\n\x1a\n" + bytes(99),
    "HDF5": lambda small, marker: small[WEIGHTS],
    "empty file": lambda small, marker: b"",
    "large file": lambda small, marker: bytes(safe_load.MAX_BYTES + 1),
}
ATTACKS = {**CONFIG_ATTACKS, **WEIGHT_ATTACKS, **ARCHIVE_ATTACKS}
LATER_ATTACKS = {**SIZE_ATTACKS, **LINK_ATTACKS}


def refusal(call, path):
    """Return in one line why a file is refused, quickly and with little memory."""
    resource = pytest.importorskip("resource")
    start, kilobytes = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError) as error:
        call(path)
    assert time.perf_counter() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - kilobytes < 500_000
    message = str(error.value)
    assert message.startswith(f"{path} ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 400
    return message.removeprefix(f"{path} ")


@pytest.mark.parametrize("name", ATTACKS)
def test_refuses_before_keras(small, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "attack.keras"
    path.write_bytes(ATTACKS[name](small, tmp_path / "MARKER"))
    assert refusal(safe_load.check_file, path) == refusal(safe_load.load_model, path)
    assert os.listdir(tmp_path) == ["attack.keras"]


@pytest.mark.parametrize("name", LATER_ATTACKS)
def test_refuses_what_keras_cannot_hold(small, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    attack, reason = LATER_ATTACKS[name]
    path = tmp_path / "attack.keras"
    path.write_bytes(attack(small, tmp_path / "MARKER"))
    assert re.search(reason, refusal(safe_load.load_model, path))
    assert os.listdir(tmp_path) == ["attack.keras"]


def test_attack_works_where_nothing_guards(small, tmp_path):
    marker, path = tmp_path / "MARKER", tmp_path / "attack.keras"
    path.write_bytes(CONFIG_ATTACKS["code in a Lambda (CVE-2024-3660)"](small, marker))
    marker.unlink(missing_ok=True)
    keras.saving.load_model(path, compile=False, safe_mode=False)
    assert marker.exists()


@pytest.mark.parametrize(
    ("attack", "reason"),
    {
        "code in a Lambda (CVE-2024-3660)": "'Lambda' of 'keras.layers'.*Keras's layers",
        "custom layer": "'MyLayer' of '__main__'",
        "activation by a function": "'function' of 'os'",
        "units of 2 ** 40": "'units' = 1099511627776",
        "HDF5": "HDF5 file.*model.save",
        "PNG": "not a Keras model",
        "cut archive": "damaged.*again",
        "large file": "too large",
        "network called twice": "more than once",
        "call on a number": "on something other than layers",
    }.items(),
)
def test_says_why(small, tmp_path, attack, reason):
    path = tmp_path / "model.keras"
    path.write_bytes(ATTACKS[attack](small, tmp_path / "MARKER"))
    assert re.search(reason, refusal(safe_load.check_file, path))


def test_refuses_what_is_not_a_regular_file(small, tmp_path):
    (tmp_path / "small.keras").write_bytes(packed(small))
    (tmp_path / "model.h5").write_bytes(packed(small))
    (tmp_path / "folder.keras").mkdir()
    os.mkfifo(tmp_path / "fifo.keras")
    (tmp_path / "link.keras").symlink_to("small.keras")
    (tmp_path / "device.keras").symlink_to("/dev/zero")
    for name in ("folder.keras", "fifo.keras", "link.keras", "device.keras"):
        assert "a folder, a link or a device" in refusal(safe_load.check_file, tmp_path / name)
    assert "does not end in .keras" in refusal(safe_load.check_file, tmp_path / "model.h5")
    assert "does not end in .keras" in refusal(safe_load.check_file, "hf://keras/model")
    for name in ("nowhere.keras", "https://example.org/model.keras"):
        with pytest.raises(FileNotFoundError):
            safe_load.check_file(name)


def test_checks_without_keras(small, tmp_path):
    path = tmp_path / "small.keras"
    path.write_bytes(packed(small, zipfile.ZIP_DEFLATED))
    code = "import sys, safe_load; safe_load.check_file(sys.argv[1]); print(*sys.modules)"
    folder = os.path.dirname(safe_load.__file__)
    process = subprocess.run(
        [sys.executable, "-c", code, path], cwd=folder, capture_output=True, text=True, check=True
    )
    assert not {"keras", "tensorflow", "h5py"} & set(process.stdout.split())


def test_weights_that_never_end(small, tmp_path, monkeypatch):
    def hang(command, timeout, **options):
        return run([sys.executable, "-c", "while True: pass"], timeout=timeout / 100, **options)

    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", hang)
    safe_load.copies.cache_clear()
    path = tmp_path / "model.keras"
    path.write_bytes(packed(small))
    assert "damaged" in refusal(safe_load.check_file, path)


@pytest.mark.long
def test_weights_that_hdf5_reads_forever(small, tmp_path):
    """Let each list of free places lead back to where it begins."""
    data = bytearray(small[WEIGHTS])
    for found in re.finditer(b"HEAP", small[WEIGHTS]):
        size, free, start = struct.unpack_from("<QQQ", data, found.start() + 8)
        if free < size:
            struct.pack_into("<Q", data, start + free, free)
    path = tmp_path / "model.keras"
    path.write_bytes(packed({**small, WEIGHTS: bytes(data)}))
    with pytest.raises(ValueError, match="damaged"):
        safe_load.check_file(path)


def test_opens_what_a_newer_keras_saved(small, tmp_path):
    def change(config, inner, marker):
        inner[3]["config"].update(new=None, quantization_config={"mode": "new"})
        inner[3]["config"]["kernel_initializer"] = described("keras.initializers", "New")
        config["compile_config"] = inner[3]["build_config"] = described("os", "system", "id")

    path = tmp_path / "newer.keras"
    path.write_bytes(with_config(change)(small, tmp_path / "MARKER"))
    assert safe_load.load_model(path).count_params() == 49 * 4 + 4 + 4 * 10 + 10


# Fuzzing: whatever is changed, a file is opened, or refused in one line.


def opened_or_refused(folder, data):
    path = folder.getbasetemp() / "fuzzed.keras"
    path.write_bytes(data)
    start, message = time.perf_counter(), f"{path} "
    try:
        safe_load.load_model(path)
    except ValueError as error:
        message = str(error)
    assert message.startswith(f"{path} ")
    assert message.isprintable()
    assert time.perf_counter() - start < 15


fuzzed = hypothesis.settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.mark.long
@pytest.mark.parametrize("part", ["archive", CONFIG, WEIGHTS])
@fuzzed
@hypothesis.given(data=strategies.data())
def test_fuzz_bytes(small, tmp_path_factory, part, data):
    changed = bytearray(packed(small) if part == "archive" else small[part])
    number = strategies.sampled_from([0, 1, 2, 8, 255, 2**15, 2**31, 2**63, 2**64 - 1])
    # Zeros are left alone: most of them are room that nothing reads.
    places = [place for place, byte in enumerate(changed[:-8]) if byte]
    for place in data.draw(strategies.lists(strategies.sampled_from(places), max_size=4)):
        size = data.draw(strategies.sampled_from([1, 1, 8]))
        changed[place : place + size] = data.draw(number).to_bytes(8, "little")[:size]
    whole = bytes(changed) if part == "archive" else packed({**small, part: bytes(changed)})
    opened_or_refused(tmp_path_factory, whole)


def places_in(value, path=()):
    """List the paths to all that a configuration holds."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items if isinstance(value, dict | list) else ():
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places_in(inner, (*path, key))


WORDS = ["Dense", "LSTM", "Bidirectional", "Lambda", "Sequential", "UpSampling2D", "os", "keras"]
ANY_JSON = strategies.recursive(
    strategies.none()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(max_size=5)
    | strategies.booleans()
    | strategies.sampled_from(WORDS),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.sampled_from(WORDS), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.long
@fuzzed
@hypothesis.given(data=strategies.data())
def test_fuzz_configuration(small, tmp_path_factory, data):
    config = json.loads(small[CONFIG])
    for _ in range(data.draw(strategies.integers(1, 3))):
        *path, key = data.draw(strategies.sampled_from(list(places_in(config))))
        around = config
        for step in path:
            around = around[step]
        around[key] = data.draw(ANY_JSON)
    opened_or_refused(tmp_path_factory, packed({**small, CONFIG: json.dumps(config)}))
