"""Networks that learners build are opened; files made to do harm are refused, and do none."""

import importlib
import inspect
import io
import json
import os
import re
import struct
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from learners_networks import NETWORKS, end, sequential

import safe_copy
import safe_load

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
KERNEL = "layers/dense/vars/0"
MIB = 2**20
unix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files, signals and limits")


@pytest.mark.parametrize("name", NETWORKS)
def test_opens_what_learners_build_and_predicts_as_keras_does(tmp_path, name):
    model = NETWORKS[name]()
    generator = np.random.default_rng(0)
    images = generator.random((4, 28, 28, 1), "float32")
    if not model.built or len(model.input_shape) == 3:
        images = images[..., 0]
    model(images)
    for variable in model.weights:  # Otherwise, many are 0 or 1 and could be mixed up.
        variable.assign(generator.uniform(0.1, 0.5, variable.shape))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    opened = safe_load.load_model(safe_load.check_file(tmp_path / "model.keras"))
    expected = keras.saving.load_model(tmp_path / "model.keras")
    assert not opened.compiled
    assert [layer.name for layer in opened.layers] == [layer.name for layer in expected.layers]
    results = [network(images, training=False) for network in (opened, expected)]
    np.testing.assert_array_equal(*results)


# All other classes that Keras exports as layers, or has as operations, are allowed.
REFUSED = {
    "run given code": {"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"},
    "call given functions": {
        *("AssociativeScan", "Cond", "ForiLoop", "JVP", "Map", "Scan", "Switch", "VectorizedMap"),
        "WhileLoop",
    },
    "read files of words": {"IntegerLookup", "StringLookup", "TextVectorization"},
    "are nothing by themselves": {"InputSpec", "Layer", "Wrapper"},
    "make any number of tensors": {"Unstack"},
}
MODULES = ["keras.layers", *(f"keras.src.ops.{name}" for name in safe_copy.OPERATIONS)]


@pytest.mark.parametrize("name", MODULES)
def test_every_layer_and_operation_is_allowed_or_refused_on_purpose(name):
    module = importlib.import_module(name)
    classes = {key: one for key, one in vars(module).items() if inspect.isclass(one)}
    if name != "keras.layers":  # It exports what other modules define, under several names.
        classes = {key: one for key, one in classes.items() if one.__module__ == name}
    allowed = {classes.get(key) for key in safe_copy.ALLOWED[name]}
    others = {key for key, one in classes.items() if one not in allowed}
    assert others == classes.keys() & set().union(*REFUSED.values())


# Files made to do harm. Each attack makes the bytes of a file from the parts of a valid one, and
# from the path of a MARKER that must not appear; with it stands a part of the message.
DAMAGED, OTHERS = "is damaged or was not saved by Keras", "layers and operations that only compute"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The parts of a valid file."""
    path = tmp_path_factory.mktemp("small") / "small.keras"
    keras.utils.clear_session()
    sequential(layers.MaxPooling2D(4), layers.Flatten(), layers.Dense(4), end()).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return file.getvalue()


def with_config(change):
    """Change the configuration; `inner` are its layers: input, pooling, flatten, dense, dense."""

    def attack(small, marker):
        config = json.loads(small[CONFIG])
        text = json.dumps(change(config, config["config"]["layers"]) or config)
        return packed({**small, CONFIG: text.replace("MARKER", str(marker))})

    return attack


def described(module, class_name, config=None, **others):
    return {"module": module, "class_name": class_name, "config": config or {}, **others}


def with_layer(class_name, module="keras.layers", **settings):
    added = described(module, class_name, settings)
    return with_config(lambda config, inner: inner.insert(1, added))


def with_setting(**settings):
    return with_config(lambda config, inner: inner[3]["config"].update(settings))


def beside_setting(**settings):
    return with_config(lambda config, inner: inner[3].update(settings))


def function(module, name):
    return described(module, "function", name, registered_name=name)


def with_code(place):
    """Put a `Lambda` somewhere that leaves a file behind."""

    def attack(small, marker):
        payload = eval(f"lambda x: open({str(marker)!r}, 'w').close() or x")
        code = keras.saving.serialize_keras_object(layers.Lambda(payload))
        change = with_config(lambda config, inner: inner.insert(1, place(code, inner[0])))
        return change(small, marker)

    return attack


def saved(make):
    """Save a network that Keras itself makes."""

    def attack(small, marker):
        path = marker.with_name("attack.keras")
        make().save(path)
        return path.read_bytes()

    return attack


def diverged():
    model = sequential(layers.Flatten(), end())
    model.set_weights([np.full((784, 10), np.nan), np.zeros(10)])
    return model


def with_weights(change):
    """Change the weights, from which the first kernel has been taken."""

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


def layers_elsewhere(weights):
    weights.move("layers", "others")
    weights["layers"] = h5py.SoftLink("/others")


def virtual(weights):
    layout = h5py.VirtualLayout((49, 4), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (49, 4))
    weights.create_virtual_dataset(KERNEL, layout)


def with_entry(name, data=b"x", compression=zipfile.ZIP_STORED):
    return lambda small, marker: packed({**small, name: data}, compression)


def tree_in_itself(small, marker):
    data = bytearray(small[WEIGHTS])
    for found in re.finditer(b"TREE", small[WEIGHTS]):
        struct.pack_into("<Q", data, found.start() + 32, found.start())
    return packed({**small, WEIGHTS: bytes(data)})


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


ATTACKS = {
    # Code.
    "Lambda (CVE-2024-3660)": (with_code(lambda code, first: code), f"uses 'Lambda'.*{OTHERS}"),
    "code in a wrapper": (
        with_code(
            lambda code, first: described("keras.layers", "TimeDistributed", {"layer": code})
        ),
        OTHERS,
    ),
    "code in a nested network": (
        with_code(
            lambda code, first: described(
                "keras", "Sequential", {"name": "n", "layers": [first, code]}
            )
        ),
        OTHERS,
    ),
    "function of another module (CVE-2025-1550)": (
        with_layer(
            "Lambda", function=function("os", "system"), arguments={"command": "touch MARKER"}
        ),
        OTHERS,
    ),
    "safe mode off (CVE-2025-9906)": (
        with_layer("Lambda", function=function("keras.config", "enable_unsafe_deserialization")),
        OTHERS,
    ),
    "class of another module": (
        with_layer("Popen", "subprocess", args=["touch", "MARKER"]),
        OTHERS,
    ),
    "class of Keras's insides": (with_layer("Dense", "keras.src.layers.core.dense"), OTHERS),
    "custom layer": (with_layer("MyLayer", "__main__"), "'MyLayer' of '__main__'"),
    "registered name": (beside_setting(registered_name="evil>Dense"), OTHERS),
    "activation by a function": (
        with_setting(activation=function("os", "system")),
        "'function' of 'os'",
    ),
    "activation by a lambda": (
        with_setting(activation=described("builtins", "__lambda__", {"value": "gASV"})),
        OTHERS,
    ),
    "cell of an RNN": (with_layer("RNN", cell=described("subprocess", "Popen")), OTHERS),
    "type specification": (
        with_setting(units=described("os", "__typespec__", ["x"], spec_name="x")),
        OTHERS,
    ),
    "operation that takes a function": (with_layer("VectorizedMap", "keras.src.ops.core"), OTHERS),
    "custom network": (with_config(lambda config, inner: inner[3]), "neither a Sequential nor"),
    # Files.
    "get_file (CVE-2025-8747)": (
        with_layer(
            "Lambda", function=function("keras.utils", "get_file"), arguments={"fname": "MARKER"}
        ),
        OTHERS,
    ),
    "TFSMLayer (CVE-2026-1462)": (with_layer("TFSMLayer", filepath="MARKER"), OTHERS),
    "StringLookup (CVE-2025-12058)": (with_layer("StringLookup", vocabulary="/etc/passwd"), OTHERS),
    "external storage (CVE-2026-1669)": (dataset(external=[("/etc/passwd", 0, 784)]), DAMAGED),
    "virtual array": (with_weights(virtual), DAMAGED),
    "layers elsewhere": (with_weights(layers_elsewhere), DAMAGED),
    "path up": (with_entry("../../MARKER"), DAMAGED),
    "assets": (with_entry("assets/vocabulary.txt"), DAMAGED),
    # Memory.
    "huge shape (CVE-2026-0897)": (dataset((2**20, 2**20)), DAMAGED),
    "chunks": (dataset((2**10, 2**15), chunks=(64, 64), compression="gzip"), DAMAGED),
    "objects": (dataset(dtype=h5py.string_dtype()), DAMAGED),
    "tree in itself": (tree_in_itself, DAMAGED),
    "600,000 entries": (many_entries, DAMAGED),
    "large settings": (with_entry(CONFIG, bytes(2**24)), "is too large"),
    "compressed": (lambda small, marker: packed(small, zipfile.ZIP_LZMA), DAMAGED),
    "array of long texts": (
        with_setting(units=described(None, "__numpy__", {"value": [1], "dtype": "U999999999"})),
        DAMAGED,
    ),
    "computed at once": (
        beside_setting(inbound_nodes=[{"args": [5], "kwargs": {}}]),
        "connects Dense to something that is not a layer",
    ),
    "computed at once, beside a tensor in a layer": (
        beside_setting(
            inbound_nodes=[
                {
                    "args": [
                        5,
                        described(
                            "keras.layers",
                            "Dense",
                            {"units": {"class_name": "__keras_tensor__", "config": {}}},
                        ),
                    ],
                    "kwargs": {},
                }
            ]
        ),
        "connects Dense to something that is not a layer",
    ),
    "a million tensors": (
        with_layer("Split", "keras.src.ops.numpy", indices_or_sections=10**6),
        "splits a tensor",
    ),
    # Damage.
    "deep settings": (lambda small, marker: packed({**small, CONFIG: b"[" * 99_999}), DAMAGED),
    "empty settings": (lambda small, marker: packed({**small, CONFIG: b""}), DAMAGED),
    "class that is a list": (with_layer(["Dense"]), OTHERS),
    "control characters": (with_setting(name="\x1b[2J"), DAMAGED),
    "entry twice": (twice, DAMAGED),
    "entry missing": (lambda small, marker: packed({CONFIG: small[CONFIG]}), DAMAGED),
    "cut weights": (
        lambda small, marker: packed({**small, WEIGHTS: small[WEIGHTS][:2000]}),
        DAMAGED,
    ),
    "cut archive": (lambda small, marker: packed(small)[:-100], DAMAGED),
    "flipped bytes": (lambda small, marker: packed(small).replace(b"Dense", b"Dance"), DAMAGED),
    "PNG": (lambda small, marker: b"\x89PNG\r\n\x1a\n" + bytes(99), "is not a Keras model"),
    "HDF5": (lambda small, marker: small[WEIGHTS], "is an HDF5 file.*model.save"),
    "empty file": (lambda small, marker: b"", "is not a Keras model"),
}
# What is wrong with these turns out when Keras builds them.
LATER_ATTACKS = {
    "wide layers": (with_setting(units=2**30), "has fewer weights than its layers"),
    "external link": (
        link(lambda weights: h5py.ExternalLink("/etc/passwd", "/x")),
        "does not load",
    ),
    "soft link": (link(lambda weights: h5py.SoftLink("/layers/dense_1/vars/0")), "does not load"),
    "group in itself": (link(lambda weights: weights["layers"]), "does not load"),
    "missing weights": (with_weights(lambda weights: None), "does not load"),
    "other shape": (dataset((4, 49)), "does not load"),
    "weights that are not numbers": (saved(diverged), "lower learning rate"),
    "other input": (saved(lambda: sequential(layers.Flatten(), end(), shape=(32, 32, 3))), "turns"),
    "other output": (saved(lambda: sequential(layers.Flatten(), layers.Dense(26))), "turns"),
    "unknown setting": (with_setting(from_the_future=1), "does not load.*from_the_future"),
    "units not a number": (with_setting(units=float("nan")), "does not load"),
}


def memory():
    resource = pytest.importorskip("resource")
    kilobytes = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return max(kilobytes)


def refusal(call, path):
    """Return in one line why a file is refused, with little memory."""
    before = memory()
    with pytest.raises(ValueError) as error:
        call(path)
    assert memory() - before < 500_000
    message = str(error.value)
    assert message.startswith(f"{path} ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 400
    return message.removeprefix(f"{path} ")


@pytest.mark.parametrize("name", [*ATTACKS, *LATER_ATTACKS])
def test_refuses_what_is_made_to_do_harm(small, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    attack, reason = {**ATTACKS, **LATER_ATTACKS}[name]
    path = tmp_path / "attack.keras"
    path.write_bytes(attack(small, tmp_path / "MARKER"))
    call = safe_load.check_file if name in ATTACKS else safe_load.load_model
    assert re.search(reason, refusal(call, path))
    assert os.listdir(tmp_path) == ["attack.keras"]


def test_such_an_attack_works_where_nothing_guards(small, tmp_path):
    marker, path = tmp_path / "MARKER", tmp_path / "attack.keras"
    path.write_bytes(ATTACKS["Lambda (CVE-2024-3660)"][0](small, marker))
    marker.unlink(missing_ok=True)
    keras.saving.load_model(path, compile=False, safe_mode=False)
    assert marker.exists()


@unix
def test_opens_a_link_but_neither_folders_nor_devices(small, tmp_path):
    (tmp_path / "small.keras").write_bytes(packed(small))
    (tmp_path / "link.keras").symlink_to("small.keras")
    assert safe_load.load_model(tmp_path / "link.keras").count_params() == 250
    (tmp_path / "folder.keras").mkdir()
    os.mkfifo(tmp_path / "fifo.keras")
    (tmp_path / "device.keras").symlink_to("/dev/zero")
    for name in ("folder.keras", "fifo.keras", "device.keras"):
        assert "is a folder or a device" in refusal(safe_load.check_file, tmp_path / name)
    (tmp_path / "model.h5").write_bytes(packed(small))
    for name in (tmp_path / "model.h5", "hf://keras/model"):
        assert "does not end in .keras" in refusal(safe_load.check_file, name)
    for name in ("nowhere.keras", "https://example.org/model.keras"):
        with pytest.raises(FileNotFoundError):
            safe_load.check_file(name)


@pytest.mark.long
def test_opens_256_mib_of_weights_beside_those_of_the_optimizer(tmp_path):
    path = tmp_path / "model.keras"
    for units, fits in [(80_000, True), (90_000, False)]:
        kernel = layers.Dense(units, kernel_initializer="ones", use_bias=False)
        model = sequential(layers.Flatten(), kernel, end())
        model.compile("adam")
        model.optimizer.build(model.trainable_variables)
        model.save(path)
        assert os.path.getsize(path) > 3 * 4 * model.count_params()
        if fits:
            assert safe_load.load_model(path).count_params() == model.count_params()
        else:
            assert "has more than 256 MiB of weights" in refusal(safe_load.check_file, path)


def run_python(code, *arguments):
    folder = os.path.dirname(safe_load.__file__)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_checks_without_keras_and_leaves_nothing_behind(small, tmp_path, monkeypatch):
    path, folder = tmp_path / "small.keras", tmp_path / "temporary"
    path.write_bytes(packed(small))
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    process = run_python(
        "import os, sys, safe_load; model = safe_load.check_file(sys.argv[1])\n"
        "print(*os.listdir(sys.argv[2])); print(*sys.modules)",
        *(path, folder),
    )
    copies, modules = process.stdout.splitlines()
    assert copies.startswith("checked-model-")
    assert not {"keras", "tensorflow", "h5py"} & set(modules.split())
    assert os.listdir(folder) == []


@pytest.mark.parametrize("package", ["h5py", "keras", "tensorflow"])
def test_a_missing_package_is_named_and_not_the_file(small, tmp_path, package, monkeypatch):
    path = tmp_path / "small.keras"
    path.write_bytes(packed(small))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else True)
    assert refusal(safe_load.check_file, path) == (
        f"cannot be opened without {package}, which is not installed here: run "
        ".venv/bin/pip install -r requirements.txt, and start .venv/bin/python."
    )


def test_a_package_that_does_not_start_is_named(small, tmp_path, monkeypatch):
    path = tmp_path / "small.keras"
    path.write_bytes(packed(small))
    (tmp_path / "h5py.py").write_text("raise ImportError('libhdf5.so is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert refusal(safe_load.check_file, path) == "cannot be opened: libhdf5.so is missing."


def test_a_time_limit_is_called_one(small, tmp_path, monkeypatch):
    def hang(command, timeout, **options):
        return run([sys.executable, "-c", "while True: pass"], timeout=timeout / 100, **options)

    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", hang)
    path = tmp_path / "model.keras"
    path.write_bytes(packed(small))
    assert "takes more than a minute to read" in refusal(safe_load.check_file, path)


@pytest.mark.long
def test_ends_weights_that_hdf5_reads_forever(small, tmp_path):
    data = bytearray(small[WEIGHTS])
    for found in re.finditer(b"HEAP", small[WEIGHTS]):  # Each list of free places begins anew.
        size, free, start = struct.unpack_from("<QQQ", data, found.start() + 8)
        if free < size:
            struct.pack_into("<Q", data, start + free, free)
    path = tmp_path / "model.keras"
    path.write_bytes(packed({**small, WEIGHTS: bytes(data)}))
    assert re.search("damaged|more than a minute", refusal(safe_load.check_file, path))
