"""Networks that learners build are opened; files made to do harm are refused, and do none."""

import importlib
import inspect
import io
import json
import os
import re
import struct
import subprocess
import tempfile
import unittest.mock
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from learners_networks import NETWORKS, end, sequential

import safe_load

resource = pytest.importorskip("resource", reason="Windows measures memory in another way")


@pytest.mark.parametrize("name", NETWORKS)
def test_opens_what_learners_build_and_predicts_as_keras_does(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model, generator = NETWORKS[name](), np.random.default_rng(0)
    shape = model.input_shape[1:] if model.built else (28, 28)
    images = generator.random((4, *shape), "float32")
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
    assert os.listdir(tmp_path) == ["model.keras"], "no copies are left"


def test_every_layer_that_keras_exports_is_allowed_or_refused_on_purpose():
    exported = dict(inspect.getmembers(layers, inspect.isclass))  # Some have several names.
    allowed = {one for name, one in exported.items() if safe_load.is_allowed("keras.layers", name)}
    refused = {name for name, one in exported.items() if one not in allowed}
    run_given_code = {"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"}
    read_files_of_words = {"IntegerLookup", "StringLookup", "TextVectorization"}
    are_abstract = {"InputSpec", "Layer", "Wrapper"}
    assert refused == exported.keys() & (run_given_code | read_files_of_words | are_abstract)


def test_no_operation_that_takes_a_function_is_allowed():
    functions = {"f", "fun", "function", "body", "body_fun", "branches", "true_fn"}
    found = set()
    for path in ("core", "image", "linalg", "math", "nn", "numpy"):
        module = importlib.import_module(f"keras.src.ops.{path}")
        for name, one in inspect.getmembers(module, inspect.isclass):
            calls = (one.__init__, one.call) if issubclass(one, keras.Operation) else ()
            if functions & {name for call in calls for name in inspect.signature(call).parameters}:
                found.add(name)
                assert not safe_load.is_allowed(module.__name__, name)
    assert found >= {"Cond", "ForiLoop", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop"}


# Files made to do harm: each attack makes the bytes of a file from the parts of a valid one.

CONFIG, WEIGHTS, KERNEL = "config.json", "model.weights.h5", "layers/dense/vars/0"


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """The parts of a valid file."""
    path = tmp_path_factory.mktemp("valid") / "model.keras"
    keras.utils.clear_session()
    sequential(layers.MaxPooling2D(4), layers.Flatten(), layers.Dense(4), end()).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts, compression=zipfile.ZIP_STORED, **others):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in {**parts, **others}.items():
            archive.writestr(name, data)
    return file.getvalue()


def with_network(change):
    """Change the description of the network: input, pooling, flatten, dense and dense."""

    def attack(parts):
        network = json.loads(parts[CONFIG])
        change(network, network["config"]["layers"])
        return packed({**parts, CONFIG: json.dumps(network)})

    return attack


def described(module, class_name, **config):
    return {"module": module, "class_name": class_name, "config": config}


def added(class_name, module="keras.layers", **config):
    return with_network(lambda _, steps: steps.insert(1, described(module, class_name, **config)))


def setting(index=3, **config):
    return with_network(lambda _, steps: steps[index]["config"].update(config))


def call_with(*arguments):
    nodes = [{"args": arguments, "kwargs": {}}]
    return with_network(lambda _, steps: steps[3].update(inbound_nodes=nodes))


def with_weights(change):
    """Change the weights, from which the first kernel has been taken."""

    def attack(parts):
        file = io.BytesIO(parts[WEIGHTS])
        with h5py.File(file, "r+") as hdf5:
            del hdf5[KERNEL]
            change(hdf5)
        return packed({**parts, WEIGHTS: file.getvalue()})

    return attack


def kernel(value):
    return with_weights(lambda hdf5: hdf5.__setitem__(KERNEL, value))


def array(shape=(49, 4), dtype="f4", **options):
    return with_weights(lambda hdf5: hdf5.create_dataset(KERNEL, shape, dtype, **options))


def virtual(hdf5):
    hdf5.create_virtual_dataset(KERNEL, h5py.VirtualLayout((49, 4), "f4"))


def layers_elsewhere(hdf5):
    hdf5.move("layers", "others")
    hdf5["layers"] = h5py.SoftLink("/others")


def many_entries(parts):
    data = packed({"x": b""})
    start = data.index(b"PK\1\2")
    entries = data[start:-22] * 1_200_000
    return data[:start] + entries + data[-22:-10] + struct.pack("<I", len(entries)) + data[-6:]


def heap_in_itself(parts):
    """Let each list of free places lead back to where it begins; HDF5 follows it forever."""
    data = bytearray(parts[WEIGHTS])
    for found in re.finditer(b"HEAP", parts[WEIGHTS]):
        size, free, start = struct.unpack_from("<QQQ", data, found.start() + 8)
        if free < size:
            struct.pack_into("<Q", data, start + free, free)
    return packed({**parts, WEIGHTS: bytes(data)})


LAMBDA = keras.saving.serialize_keras_object(
    layers.Lambda(eval("lambda x: open('MARKER', 'w').close() or x"))
)["config"]
GET_FILE = {**described("keras.utils", "function"), "config": "get_file"}
PASSWORDS = "/etc/passwd"
TENSOR = {"class_name": "__keras_tensor__", "config": {"keras_history": ["flatten", 0, 0]}}
HIDDEN = described("keras.layers", "Dense", units=TENSOR)
LONG_TEXT = described(None, "__numpy__", value=[1], dtype="U999999999")
DAMAGED, OTHER = "is damaged or was not saved by Keras", "is not among Keras's layers"
PARTS = "entries are not those that Keras writes"
ATTACKS = {
    "Lambda (CVE-2024-3660)": (OTHER, added("Lambda", **LAMBDA)),
    "class (CVE-2025-1550)": ("'Popen'", added("Popen", "subprocess", args=["touch", "MARKER"])),
    "get_file (CVE-2025-8747)": (OTHER, setting(activation=GET_FILE)),
    "StringLookup (CVE-2025-12058)": (OTHER, added("StringLookup", vocabulary=PASSWORDS)),
    "TFSMLayer (CVE-2026-1462)": (OTHER, added("TFSMLayer", filepath="MARKER")),
    "class imported for operations": (OTHER, added("backend", "keras.src.ops.numpy")),
    "class in a value": (DAMAGED, setting(units=described(None, "__slice__", start=HIDDEN))),
    "long text": (DAMAGED, setting(units=LONG_TEXT)),
    "a million tensors": ("splits a tensor", setting(indices_or_sections=10**6)),
    "call on a number": ("connects Dense to something that is not a layer", call_with(5)),
    "call on a hidden tensor": ("not a layer", call_with(5, HIDDEN)),
    "custom": ("neither a Sequential nor", with_network(lambda network, _: network.update(HIDDEN))),
    "storage elsewhere (CVE-2026-1669)": (DAMAGED, array(external=[(PASSWORDS, 0, 784)])),
    "huge array (CVE-2026-0897)": (DAMAGED, array((2**20, 2**20))),
    "chunks": (DAMAGED, array(chunks=(2**26, 4), maxshape=(None, 4))),
    "virtual array": (DAMAGED, with_weights(virtual)),
    "objects": (DAMAGED, array(dtype=h5py.string_dtype())),
    "layers elsewhere": (DAMAGED, with_weights(layers_elsewhere)),
    "path up": (PARTS, lambda parts: packed(parts, **{"../MARKER": b"x"})),
    "compressed": (PARTS, lambda parts: packed(parts, zipfile.ZIP_DEFLATED)),
    "a million entries": ("not an archive of three files", many_entries),
    "huge description": ("is too large", lambda parts: packed(parts, **{CONFIG: bytes(2**24)})),
    "HDF5": (DAMAGED, lambda parts: parts[WEIGHTS]),
    # What is wrong with these turns out when Keras builds the network.
    "link to a file": ("does not load", kernel(h5py.ExternalLink(PASSWORDS, "/x"))),
    "not numbers": ("train it with a lower", kernel(np.full((49, 4), np.nan))),
    "wide layer": ("has fewer weights than its layers", setting(units=2**30)),
    "other input": (r"turns \(32, 32, 1\) into", setting(0, batch_shape=[None, 32, 32, 1])),
    "other output": (r"turns .* into \(26,\), not", setting(4, units=26)),
    "terminal's commands": ("does not load.*future", setting(**{"\x1b[future": 1})),
}


@pytest.fixture
def write(valid, tmp_path, monkeypatch):
    """Write a file that an attack, or nothing, has changed."""
    monkeypatch.chdir(tmp_path)

    def write_file(attack=packed):
        (tmp_path / "model.keras").write_bytes(attack(valid))
        return "model.keras"

    return write_file


def peak_memory():
    processes = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN  # A child begins as its parent.
    return max(resource.getrusage(process).ru_maxrss for process in processes)


def refusal(path, kilobytes=500_000):
    """Return in one line why a file is refused, with little memory."""
    before = peak_memory()
    with pytest.raises(ValueError, match=f"^{re.escape(path)} ") as error:
        safe_load.load_model(path)
    assert peak_memory() - before < kilobytes
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < 450
    return message


@pytest.mark.parametrize("name", ATTACKS)
def test_refuses_what_is_made_to_do_harm(write, name):
    reason, attack = ATTACKS[name]
    assert re.search(reason, refusal(write(attack)))
    assert os.listdir() == ["model.keras"]


def test_such_an_attack_works_where_nothing_guards(write):
    _, attack = ATTACKS["Lambda (CVE-2024-3660)"]
    keras.saving.load_model(write(attack), compile=False, safe_mode=False)
    assert os.path.exists("MARKER")


@pytest.mark.long
def test_ends_what_hdf5_would_read_forever(write):
    reason = refusal(write(heap_in_itself), kilobytes=2_500_000)
    assert re.search("is damaged|takes more than a minute", reason)


def test_opens_a_link_to_a_model_but_neither_folders_nor_devices(write):
    os.symlink(write(), "link.keras")
    assert safe_load.load_model("link.keras").count_params() == 250
    os.mkdir("folder.keras")
    os.mkfifo("fifo.keras")
    os.symlink("/dev/zero", "device.keras")
    for name in ("folder.keras", "fifo.keras", "device.keras"):
        assert "is a folder or a device" in refusal(name)
    os.truncate(write(), 2**31)
    assert "is too large" in refusal("model.keras")
    assert "does not end in .keras" in refusal("hf://keras/model")
    with pytest.raises(FileNotFoundError):
        safe_load.check_file("https://example.org/model.keras")


@pytest.mark.long
@pytest.mark.parametrize(("units", "fits"), [(80_000, True), (90_000, False)])
def test_opens_256_mib_of_weights_however_large_the_optimizer_s_state_is(write, units, fits):
    kernel = layers.Dense(units, kernel_initializer="ones", use_bias=False)
    model = sequential(layers.Flatten(), kernel, end())
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    model.save(write())
    if fits:
        assert safe_load.load_model("model.keras").layers[1].units == units
    else:
        assert "has more than 256 MiB of weights" in refusal("model.keras")


def test_neither_a_broken_package_nor_the_time_is_called_a_damaged_file(write, monkeypatch):
    with open("h5py.py", "w") as file:
        file.write("raise ImportError('libhdf5.so is missing')")
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    with pytest.raises(ImportError, match="libhdf5.so is missing"):
        safe_load.check_file(write())
    hang = unittest.mock.Mock(side_effect=subprocess.TimeoutExpired("python", 60))
    monkeypatch.setattr(subprocess, "run", hang)
    assert "takes more than a minute to read" in refusal(write())
