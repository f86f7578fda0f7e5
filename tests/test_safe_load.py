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
from conftest import ROOT
from keras import layers
from learners_networks import NETWORKS, end, sequential

import safe_load

CONFIG, WEIGHTS, KERNEL = "config.json", "model.weights.h5", "layers/dense/vars/0"


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


# All other classes that Keras exports as layers are allowed.
REFUSED = {
    "run given code": "FlaxLayer JaxLayer Lambda TFSMLayer TorchModuleWrapper",
    "read files of words": "IntegerLookup StringLookup TextVectorization",
    "are nothing by themselves": "InputSpec Layer Wrapper",
}


def test_every_layer_that_keras_exports_is_allowed_or_refused_on_purpose():
    exported = {name: one for name, one in vars(layers).items() if inspect.isclass(one)}
    allowed = {one for name, one in exported.items() if safe_load.is_allowed("keras.layers", name)}
    others = {name for name, one in exported.items() if one not in allowed}
    assert others == exported.keys() & set(" ".join(REFUSED.values()).split())


def test_no_operation_that_takes_a_function_is_allowed():
    functions = {"f", "fun", "function", "body", "body_fun", "branches", "true_fn"}
    found = set()
    for path in ("core", "image", "linalg", "math", "nn", "numpy"):
        module = importlib.import_module(f"keras.src.ops.{path}")
        for name, one in vars(module).items():
            if inspect.isclass(one) and issubclass(one, keras.Operation):
                calls = inspect.signature(one.__init__), inspect.signature(one.call)
                if functions & {parameter for call in calls for parameter in call.parameters}:
                    found.add(name)
                    assert not safe_load.is_allowed(module.__name__, name)
    assert found >= {"Cond", "ForiLoop", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop"}


# Files made to do harm: each attack makes the bytes of a file from the parts of a valid one, and
# from the path of a MARKER that must not appear.


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


def with_part(name, data):
    return lambda small, marker: packed({**small, name: data})


def with_config(change):
    """Change the configuration, with its layers: input, pooling, flatten, dense and dense."""

    def attack(small, marker):
        config = json.loads(small[CONFIG])
        text = json.dumps(change(config["config"]["layers"], marker) or config)
        return packed({**small, CONFIG: text.replace("MARKER", str(marker))})

    return attack


def described(module, class_name, **config):
    return {"module": module, "class_name": class_name, "config": config}


def function(module, name):
    return {**described(module, "function"), "config": name, "registered_name": name}


def code(marker):
    """Describe a `Lambda` that leaves a file behind."""
    payload = eval(f"lambda x: open({str(marker)!r}, 'w').close() or x")
    return keras.saving.serialize_keras_object(layers.Lambda(payload))


def layer(class_name, module="keras.layers", **config):
    new = described(module, class_name, **config)
    return with_config(lambda inner, marker: inner.insert(1, new))


def setting(index=3, **config):
    return with_config(lambda inner, marker: inner[index]["config"].update(config))


def call_with(*arguments):
    nodes = [{"args": arguments, "kwargs": {}}]
    return with_config(lambda inner, marker: inner[3].update(inbound_nodes=nodes))


def in_nested_network(inner, marker):
    inner[3] = described("keras", "Sequential", name="nested", layers=[inner[0], code(marker)])


def weights(change):
    """Change the weights, from which the first kernel has been taken."""

    def attack(small, marker):
        file = io.BytesIO(small[WEIGHTS])
        with h5py.File(file, "r+") as hdf5:
            del hdf5[KERNEL]
            change(hdf5)
        return packed({**small, WEIGHTS: file.getvalue()})

    return attack


def array(shape=(49, 4), dtype="f4", **options):
    return weights(lambda hdf5: hdf5.create_dataset(KERNEL, shape, dtype, **options))


def link(make):
    return weights(lambda hdf5: hdf5.__setitem__(KERNEL, make(hdf5)))


def layers_elsewhere(hdf5):
    hdf5.move("layers", "others")
    hdf5["layers"] = h5py.SoftLink("/others")


def virtual(hdf5):
    layout = h5py.VirtualLayout((49, 4), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (49, 4))
    hdf5.create_virtual_dataset(KERNEL, layout)


def heap_in_itself(small, marker):
    """Let each list of free places lead back to where it begins; HDF5 follows it forever."""
    data = bytearray(small[WEIGHTS])
    for found in re.finditer(b"HEAP", small[WEIGHTS]):
        size, free, start = struct.unpack_from("<QQQ", data, found.start() + 8)
        if free < size:
            struct.pack_into("<Q", data, start + free, free)
    return packed({**small, WEIGHTS: bytes(data)})


def many_entries(small, marker):
    data = packed({"x": b""})
    start = data.index(b"PK\1\2")
    entries = data[start:-22] * 1_200_000
    return data[:start] + entries + data[-22:-10] + struct.pack("<I", len(entries)) + data[-6:]


TENSOR = {"class_name": "__keras_tensor__", "config": {"keras_history": ["flatten", 0, 0]}}
HIDDEN = described("keras.layers", "Dense", units=TENSOR)
LONG_TEXT = described(None, "__numpy__", value=[1], dtype="U999999999")
DAMAGED, OTHER = "is damaged or was not saved by Keras", "is not among Keras's layers"
UNSAFE, PASSWORDS = function("keras.config", "enable_unsafe_deserialization"), "/etc/passwd"

CHECKED = {
    "Lambda (CVE-2024-3660)": (OTHER, with_config(lambda inner, at: inner.insert(1, code(at)))),
    "code in a nested network": (OTHER, with_config(in_nested_network)),
    "class (CVE-2025-1550)": ("'Popen'", layer("Popen", "subprocess", args=["touch", "MARKER"])),
    "get_file (CVE-2025-8747)": (OTHER, setting(activation=function("keras.utils", "get_file"))),
    "safe mode off (CVE-2025-9906)": (OTHER, layer("Lambda", function=UNSAFE)),
    "TFSMLayer (CVE-2026-1462)": (OTHER, layer("TFSMLayer", filepath="MARKER")),
    "StringLookup (CVE-2025-12058)": (OTHER, layer("StringLookup", vocabulary=PASSWORDS)),
    "class of an earlier Keras": (OTHER, layer("Lambda", None)),
    "class of Keras's insides": (OTHER, layer("Lambda", "keras.src.layers.core.lambda_layer")),
    "class imported for operations": (OTHER, layer("backend", "keras.src.ops.numpy")),
    "operation that calls": (OTHER, layer("VectorizedMap", "keras.src.ops.core")),
    "function": (OTHER, setting(activation=function("os", "system"))),
    "lambda": (OTHER, setting(activation=described("builtins", "__lambda__", value="gASV"))),
    "cell of an RNN": (OTHER, layer("RNN", cell=described("subprocess", "Popen"))),
    "type": (OTHER, setting(units={**described("os", "__typespec__"), "spec_name": "x"})),
    "precision": (OTHER, setting(dtype=described("keras.dtype_policies", "DTypePolicyMap"))),
    "class in a value": (DAMAGED, setting(units=described(None, "__slice__", start=HIDDEN))),
    "custom network": ("neither a Sequential nor", with_config(lambda inner, marker: inner[3])),
    "storage elsewhere (CVE-2026-1669)": (DAMAGED, array(external=[(PASSWORDS, 0, 784)])),
    "virtual array": (DAMAGED, weights(virtual)),
    "layers elsewhere": (DAMAGED, weights(layers_elsewhere)),
    "path up": (DAMAGED, with_part("../../MARKER", b"x")),
    "huge array (CVE-2026-0897)": (DAMAGED, array((2**20, 2**20))),
    "chunks": (DAMAGED, array(chunks=(2**26, 4), maxshape=(None, 4))),
    "objects": (DAMAGED, array(dtype=h5py.string_dtype())),
    "no layers": (DAMAGED, weights(lambda hdf5: hdf5.__delitem__("layers"))),
    "a million entries": (DAMAGED, many_entries),
    "compressed": (DAMAGED, lambda small, marker: packed(small, zipfile.ZIP_DEFLATED)),
    "large configuration": (DAMAGED, with_part(CONFIG, bytes(2**24))),
    "long text": (DAMAGED, setting(units=LONG_TEXT)),
    "call on a number": ("connects Dense to something that is not a layer", call_with(5)),
    "call on a hidden tensor": ("not a layer", call_with(5, HIDDEN)),
    "a million tensors": ("splits a tensor", setting(indices_or_sections=10**6)),
    "deep configuration": (DAMAGED, with_part(CONFIG, b"[" * 99_999)),
    "cut archive": (DAMAGED, lambda small, marker: packed(small)[:-100]),
    "HDF5": (DAMAGED, lambda small, marker: small[WEIGHTS]),
    "PNG": (DAMAGED, lambda small, marker: b"\x89PNG\r\n\x1a\n" + bytes(99)),
}
# What is wrong with these turns out when Keras builds them.
BUILT = {
    "wide layer": ("has fewer weights than its layers", setting(units=2**30)),
    "link to a file": ("does not load", link(lambda hdf5: h5py.ExternalLink(PASSWORDS, "/x"))),
    "link": ("does not load", link(lambda hdf5: h5py.SoftLink("/layers/dense_1/vars/0"))),
    "group in itself": ("does not load", link(lambda hdf5: hdf5["layers"])),
    "other shape": ("does not load", array((4, 49))),
    "not numbers": ("train it with a lower", link(lambda hdf5: np.full((49, 4), np.nan))),
    "other input": (r"turns \(32, 32, 1\) into", setting(0, batch_shape=[None, 32, 32, 1])),
    "other output": (r"turns .* into \(26,\), not", setting(4, units=26)),
    "unknown setting": ("does not load.*from_the_future", setting(from_the_future=1)),
    "terminal's commands": ("does not load", setting(**{"\x1b[2J": 1})),
}


def peak_memory():
    resource = pytest.importorskip("resource")
    processes = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN  # A child begins as its parent.
    return max(resource.getrusage(process).ru_maxrss for process in processes)


def refusal(call, path):
    """Return in one line why a file is refused, with little memory."""
    kilobytes = peak_memory()
    with pytest.raises(ValueError) as error:
        call(path)
    assert peak_memory() - kilobytes < 500_000
    message = str(error.value)
    assert message.startswith(f"{path} ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 400
    return message.removeprefix(f"{path} ")


@pytest.mark.parametrize("name", [*CHECKED, *BUILT])
def test_refuses_what_is_made_to_do_harm(small, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    reason, attack = {**CHECKED, **BUILT}[name]
    path = tmp_path / "attack.keras"
    path.write_bytes(attack(small, tmp_path / "MARKER"))
    call = safe_load.check_file if name in CHECKED else safe_load.load_model
    assert re.search(reason, refusal(call, path))
    assert os.listdir(tmp_path) == ["attack.keras"]


def test_such_an_attack_works_where_nothing_guards(small, tmp_path):
    marker, path = tmp_path / "MARKER", tmp_path / "attack.keras"
    path.write_bytes(CHECKED["Lambda (CVE-2024-3660)"][1](small, marker))
    marker.unlink(missing_ok=True)
    keras.saving.load_model(path, compile=False, safe_mode=False)
    assert marker.exists()


def test_what_predictions_do_not_depend_on_is_not_read(small, tmp_path):
    def change(inner, marker):
        inner[3].update(build_config=code(marker), compile_config=code(marker))
        inner[3].update(registered_name="evil>Dense", shared_object_id=1)
        inner[3]["config"].update(kernel_initializer=function("os", "system"))

    (tmp_path / "model.keras").write_bytes(with_config(change)(small, tmp_path / "MARKER"))
    assert safe_load.load_model(tmp_path / "model.keras").count_params() == 250
    assert os.listdir(tmp_path) == ["model.keras"]


@pytest.fixture
def small_path(small, tmp_path):
    path = tmp_path / "small.keras"
    path.write_bytes(packed(small))
    return path


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files and limits")
def test_opens_a_link_to_a_model_but_neither_folders_nor_devices(small_path, tmp_path):
    (tmp_path / "link.keras").symlink_to(small_path)
    assert safe_load.load_model(tmp_path / "link.keras").count_params() == 250
    (tmp_path / "folder.keras").mkdir()
    os.mkfifo(tmp_path / "fifo.keras")
    (tmp_path / "device.keras").symlink_to("/dev/zero")
    for name in ("folder.keras", "fifo.keras", "device.keras"):
        assert "is a folder or a device" in refusal(safe_load.check_file, tmp_path / name)
    assert "does not end in .keras" in refusal(safe_load.check_file, "hf://keras/model")
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
        reason = refusal(safe_load.check_file, tmp_path / "model.keras")
        assert "has more than 256 MiB of weights" in reason


@pytest.mark.long
def test_ends_what_hdf5_would_read_forever(small, tmp_path):
    path = tmp_path / "attack.keras"
    path.write_bytes(heap_in_itself(small, None))
    kilobytes = peak_memory()
    with pytest.raises(ValueError, match="damaged|more than a minute"):
        safe_load.check_file(path)
    assert peak_memory() - kilobytes < 2_500_000


def test_checks_without_keras_and_leaves_nothing_behind(small_path, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    code = "import sys, safe_load; model = safe_load.check_file(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-c", code, small_path]
    modules = subprocess.check_output(command, cwd=ROOT, text=True).split()
    assert "safe_load" in modules
    assert not {"keras", "tensorflow", "h5py"} & set(modules)
    assert os.listdir(tmp_path / "temporary") == []


def test_a_package_that_does_not_start_is_named_and_not_the_file(small_path, tmp_path, monkeypatch):
    (tmp_path / "h5py.py").write_text("raise ImportError('libhdf5.so is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ImportError, match="libhdf5.so is missing"):
        safe_load.check_file(small_path)


def test_a_time_limit_is_called_one(small_path, monkeypatch):
    def hang(command, timeout, **options):
        return run([sys.executable, "-c", "while True: pass"], timeout=timeout / 100, **options)

    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", hang)
    assert "takes more than a minute to read" in refusal(safe_load.check_file, small_path)
