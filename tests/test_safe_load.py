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
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from learners_networks import NETWORKS, end, sequential

import safe_load

WEIGHTS, KERNEL = "model.weights.h5", "layers/dense/vars/0"


@pytest.mark.parametrize("name", NETWORKS)
def test_opens_what_learners_build_and_predicts_as_keras_does(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
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


# Files made to do harm: each attack makes the bytes of a file from the parts of a valid one. Some
# would leave a file named MARKER.


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """The parts of a valid file."""
    path = tmp_path_factory.mktemp("valid") / "model.keras"
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


def with_network(change):
    """Change the description of the network."""

    def attack(parts):
        network = json.loads(parts["config.json"])
        change(network)
        return packed({**parts, "config.json": json.dumps(network)})

    return attack


def described(module, class_name, **config):
    return {"module": module, "class_name": class_name, "config": config}


def function(module, name):
    return {**described(module, "function"), "config": name, "registered_name": name}


def added(class_name, module="keras.layers", **config):
    new = described(module, class_name, **config)
    return with_network(lambda network: network["config"]["layers"].insert(1, new))


def setting(index=3, **config):
    """Change a layer's settings: of the input, pooling, flatten, dense or dense."""
    return with_network(lambda network: network["config"]["layers"][index]["config"].update(config))


def call_with(*arguments):
    nodes = [{"args": arguments, "kwargs": {}}]
    return with_network(lambda network: network["config"]["layers"][3].update(inbound_nodes=nodes))


def with_weights(change):
    """Change the weights, from which the first kernel has been taken."""

    def attack(parts):
        file = io.BytesIO(parts[WEIGHTS])
        with h5py.File(file, "r+") as hdf5:
            del hdf5[KERNEL]
            change(hdf5)
        return packed({**parts, WEIGHTS: file.getvalue()})

    return attack


def array(shape=(49, 4), dtype="f4", **options):
    return with_weights(lambda hdf5: hdf5.create_dataset(KERNEL, shape, dtype, **options))


def kernel(value):
    return with_weights(lambda hdf5: hdf5.__setitem__(KERNEL, value))


def layers_elsewhere(hdf5):
    hdf5.move("layers", "others")
    hdf5["layers"] = h5py.SoftLink("/others")


def virtual(hdf5):
    layout = h5py.VirtualLayout((49, 4), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (49, 4))
    hdf5.create_virtual_dataset(KERNEL, layout)


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
)
UNSAFE, PASSWORDS = function("keras.config", "enable_unsafe_deserialization"), "/etc/passwd"
TENSOR = {"class_name": "__keras_tensor__", "config": {"keras_history": ["flatten", 0, 0]}}
HIDDEN = described("keras.layers", "Dense", units=TENSOR)
LONG_TEXT = described(None, "__numpy__", value=[1], dtype="U999999999")
DAMAGED, OTHER = "is damaged or was not saved by Keras", "is not among Keras's layers"
PARTS = "entries are not those that Keras writes"
ATTACKS = {
    "Lambda (CVE-2024-3660)": (OTHER, added("Lambda", **LAMBDA["config"])),
    "class (CVE-2025-1550)": ("'Popen'", added("Popen", "subprocess", args=["touch", "MARKER"])),
    "get_file (CVE-2025-8747)": (OTHER, setting(activation=function("keras.utils", "get_file"))),
    "safe mode off (CVE-2025-9906)": (OTHER, added("Lambda", function=UNSAFE)),
    "TFSMLayer (CVE-2026-1462)": (OTHER, added("TFSMLayer", filepath="MARKER")),
    "StringLookup (CVE-2025-12058)": (OTHER, added("StringLookup", vocabulary=PASSWORDS)),
    "class imported for operations": (OTHER, added("backend", "keras.src.ops.numpy")),
    "operation that calls": (OTHER, added("VectorizedMap", "keras.src.ops.core")),
    "class in a value": (DAMAGED, setting(units=described(None, "__slice__", start=HIDDEN))),
    "long text": (DAMAGED, setting(units=LONG_TEXT)),
    "a million tensors": ("splits a tensor", setting(indices_or_sections=10**6)),
    "call on a number": ("connects Dense to something that is not a layer", call_with(5)),
    "call on a hidden tensor": ("not a layer", call_with(5, HIDDEN)),
    "custom": ("neither a Sequential nor", with_network(lambda network: network.update(HIDDEN))),
    "storage elsewhere (CVE-2026-1669)": (DAMAGED, array(external=[(PASSWORDS, 0, 784)])),
    "virtual array": (DAMAGED, with_weights(virtual)),
    "huge array (CVE-2026-0897)": (DAMAGED, array((2**20, 2**20))),
    "chunks": (DAMAGED, array(chunks=(2**26, 4), maxshape=(None, 4))),
    "objects": (DAMAGED, array(dtype=h5py.string_dtype())),
    "layers elsewhere": (DAMAGED, with_weights(layers_elsewhere)),
    "path up": (PARTS, lambda parts: packed({**parts, "../MARKER": b"x"})),
    "compressed": (PARTS, lambda parts: packed(parts, zipfile.ZIP_DEFLATED)),
    "a million entries": ("not an archive of three files", many_entries),
    "huge description": ("too large", lambda parts: packed({**parts, "config.json": bytes(2**24)})),
    "HDF5": (DAMAGED, lambda parts: parts[WEIGHTS]),
    # What is wrong with these turns out when Keras builds the network.
    "link to a file": ("does not load", kernel(h5py.ExternalLink(PASSWORDS, "/x"))),
    "not numbers": ("train it with a lower", kernel(np.full((49, 4), np.nan))),
    "wide layer": ("has fewer weights than its layers", setting(units=2**30)),
    "other input": (r"turns \(32, 32, 1\) into", setting(0, batch_shape=[None, 32, 32, 1])),
    "other output": (r"turns .* into \(26,\), not", setting(4, units=26)),
    "terminal's commands": ("does not load.*future", setting(**{"\x1b[future": 1})),
}


def peak_memory():
    resource = pytest.importorskip("resource")
    processes = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN  # A child begins as its parent.
    return max(resource.getrusage(process).ru_maxrss for process in processes)


def refusal(path, kilobytes=500_000):
    """Return in one line why a file is refused, with little memory."""
    before = peak_memory()
    with pytest.raises(ValueError) as error:
        safe_load.load_model(path)
    assert peak_memory() - before < kilobytes
    message = str(error.value)
    assert message.startswith(f"{path} ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 400
    return message.removeprefix(f"{path} ")


@pytest.mark.parametrize("name", ATTACKS)
def test_refuses_what_is_made_to_do_harm(valid, tmp_path, monkeypatch, name):
    reason, attack = ATTACKS[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "attack.keras").write_bytes(attack(valid))
    assert re.search(reason, refusal("attack.keras"))
    assert os.listdir(tmp_path) == ["attack.keras"]


def test_such_an_attack_works_where_nothing_guards(valid, tmp_path, monkeypatch):
    _, attack = ATTACKS["Lambda (CVE-2024-3660)"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "attack.keras").write_bytes(attack(valid))
    keras.saving.load_model("attack.keras", compile=False, safe_mode=False)
    assert (tmp_path / "MARKER").exists()


@pytest.mark.long
def test_ends_what_hdf5_would_read_forever(valid, tmp_path):
    (tmp_path / "attack.keras").write_bytes(heap_in_itself(valid))
    reason = refusal(tmp_path / "attack.keras", kilobytes=2_500_000)
    assert re.match("is damaged|takes more than a minute", reason)


@pytest.fixture
def valid_path(valid, tmp_path):
    path = tmp_path / "valid.keras"
    path.write_bytes(packed(valid))
    return path


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_opens_a_link_to_a_model_but_neither_folders_nor_devices(valid_path, tmp_path):
    (tmp_path / "link.keras").symlink_to(valid_path)
    assert safe_load.load_model(tmp_path / "link.keras").count_params() == 250
    (tmp_path / "folder.keras").mkdir()
    os.mkfifo(tmp_path / "fifo.keras")
    (tmp_path / "device.keras").symlink_to("/dev/zero")
    for name in ("folder.keras", "fifo.keras", "device.keras"):
        assert "is a folder or a device" in refusal(tmp_path / name)
    (tmp_path / "large.keras").touch()
    os.truncate(tmp_path / "large.keras", 2**31)
    assert "is too large" in refusal(tmp_path / "large.keras")
    assert "does not end in .keras" in refusal("hf://keras/model")
    with pytest.raises(FileNotFoundError):
        safe_load.check_file("https://example.org/model.keras")


@pytest.mark.long
@pytest.mark.parametrize(("units", "fits"), [(80_000, True), (90_000, False)])
def test_opens_256_mib_of_weights_however_large_the_optimizer_s_state_is(tmp_path, units, fits):
    kernel = layers.Dense(units, kernel_initializer="ones", use_bias=False)
    model = sequential(layers.Flatten(), kernel, end())
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    if fits:
        assert safe_load.load_model(tmp_path / "model.keras").layers[1].units == units
    else:
        assert "has more than 256 MiB of weights" in refusal(tmp_path / "model.keras")


def test_a_package_that_does_not_start_is_named_and_not_the_file(valid_path, tmp_path, monkeypatch):
    (tmp_path / "h5py.py").write_text("raise ImportError('libhdf5.so is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ImportError, match="libhdf5.so is missing"):
        safe_load.check_file(valid_path)


def test_a_time_limit_is_called_one(valid_path, monkeypatch):
    def hang(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert "takes more than a minute to read" in refusal(valid_path)
