"""Only whole `.keras` files of the project's two networks are opened, and they run nothing."""

import copy
import io
import json
import os
import pathlib
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

CONFIG, METADATA, WEIGHTS = safe_load.ENTRIES
# Run by itself, without any package: the attack files must not need one to be refused.
MEASURE = """
import json, re, sys, time
import numpy, safe_load

def most_kilobytes():
    # What resource.getrusage says is the parent's, if that had more.
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1])

at_first = most_kilobytes()
for path in sys.argv[1:]:
    start, error = time.perf_counter(), None
    try:
        safe_load.check_file(path)
    except (OSError, ValueError) as raised:
        error = str(raised)
    seconds = time.perf_counter() - start
    print(json.dumps([path, error, seconds, most_kilobytes() - at_first]), flush=True)
assert not {"h5py", "keras", "tensorflow"} & sys.modules.keys()
"""


def small_network():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.MaxPooling2D(4),
            layers.Conv2D(2, 3),
            layers.Flatten(),
            layers.Dense(4, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A valid file's contents, of a network that Keras builds in a moment."""
    path = tmp_path_factory.mktemp("small") / "small.keras"
    model = small_network()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(contents, compression=zipfile.ZIP_STORED):
    """Make an archive with a right checksum of each entry, whatever is in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return file.getvalue()


def with_config(contents, change):
    config = json.loads(contents[CONFIG])
    change(config)
    return packed({**contents, CONFIG: json.dumps(config)})


def with_weights(contents, change, **options):
    file = io.BytesIO(contents[WEIGHTS])
    with h5py.File(file, "r+", **options) as weights:
        change(weights)
    return packed({**contents, WEIGHTS: file.getvalue()})


# Attacks by the configuration: each takes it and the path of a file that must not appear.


def last(config):
    return config["config"]["layers"][-1]


def described(module, class_name, config=None, **others):
    return {
        "module": module,
        "class_name": class_name,
        "config": config or {},
        "registered_name": None,
        **others,
    }


def add_layer(module, class_name, settings=None, **others):
    def change(config, marker):
        filled = json.loads(json.dumps(settings or {}).replace("MARKER", marker.name))
        config["config"]["layers"].insert(-1, described(module, class_name, filled, **others))

    return change


def set_last(name, value):
    return lambda config, marker: last(config)["config"].update({name: value})


def set_beside(name, value):
    return lambda config, marker: last(config).update({name: value})


def set_network(name, value):
    return lambda config, marker: config["config"].update({name: value})


def function(module, name):
    return described(module, "function", name, registered_name=name)


def lambda_of(module, name, **arguments):
    settings = {"name": "x", "function": function(module, name), "arguments": arguments}
    return add_layer("keras.layers", "Lambda", settings)


def code_of_lambda(marker):
    """Serialize a function that leaves a file behind, as Keras does it for a `Lambda`."""
    payload = eval(f"lambda x: open({str(marker)!r}, 'w').close() or x")
    return keras.saving.serialize_keras_object(layers.Lambda(payload))


def add_code(config, marker):
    config["config"]["layers"].insert(3, code_of_lambda(marker))


def enable_then_add_code(config, marker):
    lambda_of("keras.config", "enable_unsafe_deserialization")(config, marker)
    add_code(config, marker)


def wrap_code(config, marker):
    settings = {"name": "x", "layer": code_of_lambda(marker)}
    config["config"]["layers"].insert(-1, described("keras.layers", "TimeDistributed", settings))


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"config": value}
    return value


CONFIG_ATTACKS = {
    "CVE-2025-1550 function of another module": lambda_of("os", "system", command="touch MARKER"),
    "CVE-2025-1550 class of another module": add_layer(
        "subprocess", "Popen", {"args": ["touch", "MARKER"]}
    ),
    "CVE-2025-8747 get_file": lambda_of(
        "keras.utils", "get_file", origin="file:///etc/hostname", fname="MARKER", cache_dir="."
    ),
    "CVE-2025-9906 safe mode turned off first": enable_then_add_code,
    "CVE-2026-1462 TFSMLayer": add_layer(
        "keras.layers", "TFSMLayer", {"filepath": "MARKER", "call_endpoint": "serve"}
    ),
    "CVE-2026-12479 path as a layer's name": set_last("name", "../../../MARKER"),
    "CVE-2026-12479 path as a network's name": set_network("name", "/tmp/MARKER"),
    "CVE-2026-12481 Lambda": add_code,
    "CVE-2026-12481 Lambda in a wrapper": wrap_code,
    "TorchModuleWrapper": add_layer("keras.layers", "TorchModuleWrapper", {"module": "MARKER"}),
    "StringLookup": add_layer("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}),
    "registered name": set_beside("registered_name", "evil>Dense"),
    "module outside Keras": set_beside("module", "os"),
    "module inside Keras": set_beside("module", "keras.src.layers"),
    "no module": lambda config, marker: last(config).pop("module"),
    "class that is no name": set_beside("class_name", ["Dense"]),
    "inbound nodes": set_beside("inbound_nodes", [{"args": ["MARKER"], "kwargs": {}}]),
    "initializer": set_last("kernel_initializer", function("os", "system")),
    "regularizer": set_last("kernel_regularizer", described("keras.regularizers", "L2")),
    "constraint": set_last("bias_constraint", function("os", "system")),
    "activation": set_last("activation", function("keras.utils", "get_file")),
    "activation by name": set_last("activation", "os.system"),
    "dtype": set_last("dtype", described("keras", "QuantizedDTypePolicy", {"mode": "int8"})),
    "quantization": set_last("quantization_config", described("os", "system")),
    "unknown setting": set_last("lora_rank", 4),
    "huge units": set_last("units", 2**40),
    "units of thousands of digits": set_last("units", 10**4_000),
    "negative units": set_last("units", -10),
    "units not a number": set_last("units", float("nan")),
    "fractional units": set_last("units", 10.0),
    "fractional pixels": lambda config, marker: config["config"]["layers"][0]["config"].update(
        batch_shape=[None, 28.0, 28, 1]
    ),
    "true for one pixel": lambda config, marker: config["config"]["layers"][0]["config"].update(
        batch_shape=[None, 28, 28, True]
    ),
    "true units": set_last("units", True),
    "no units": lambda config, marker: last(config)["config"].pop("units"),
    "settings that are a list": set_beside("config", []),
    "settings nested deeply": set_last("kernel_initializer", nested(400)),
    "layers that are no list": set_network("layers", {"0": {}}),
    "layers that are no layers": set_network("layers", [[], "Dense", None]),
    "no layers": set_network("layers", []),
    "endless layers": lambda config, marker: config["config"].update(
        layers=config["config"]["layers"][:1] + config["config"]["layers"][3:4] * 200
    ),
    "huge layers": lambda config, marker: [
        layer["config"].update(filters=60_000, strides=[1, 1], padding="same")
        for layer in config["config"]["layers"]
        if layer["class_name"] == "Conv2D"
    ],
    "slow layers": lambda config, marker: config["config"]["layers"].__setitem__(
        slice(1, 2), _slow_layers()
    ),
    "wide layers": lambda config, marker: [
        layer["config"].update(
            {
                name: [1, 1]
                for name in ("pool_size", "kernel_size", "strides")
                if name in layer["config"]
            }
            | ({"filters": 100} if layer["class_name"] == "Conv2D" else {})
        )
        for layer in config["config"]["layers"]
    ],
    "two inputs": lambda config, marker: config["config"]["layers"].insert(
        1, config["config"]["layers"][0]
    ),
    "no input": lambda config, marker: config["config"]["layers"].pop(0),
    "functional network": lambda config, marker: config.update(class_name="Functional"),
    "network of another module": lambda config, marker: config.update(module="os"),
}


def _slow_layers():
    pool = {"pool_size": [28, 28], "strides": [1, 1], "padding": "same"}
    names = (f"pool_{i}" for i in range(60))
    return [
        described(
            "keras.layers",
            "MaxPooling2D",
            {"name": name, "data_format": "channels_last", **pool},
        )
        for name in names
    ]


# Attacks by the text of the configuration.

TEXT_ATTACKS = {
    "empty text": b"",
    "null": b"null",
    "list": b"[]",
    "string": b'"Sequential"',
    "cut text": b'{"module": "keras"',
    "no text": b"\xff\xfe\xfd",
    "lists nested deeply": b"[" * 100_000,
    "objects nested deeply": b'{"config":' * 25_000,
    "number of a million digits": b"9" * 250_000,
    "long text": b" " * 2**19,
}


# Attacks by the weights.

PLACE = "layers/dense/vars/0"


SHAPE = 50, 4


def replace_weights(make):
    def change(weights):
        del weights[PLACE]
        make(weights)

    return change


def virtual(weights):
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[:] = h5py.VirtualSource("fifo.keras", "x", SHAPE)
    weights.create_virtual_dataset(PLACE, layout)


def committed(weights):
    weights["type"] = np.dtype("f4")
    weights.create_dataset(PLACE, SHAPE, weights["type"], np.ones(SHAPE))


def dataset(dtype="f4", shape=SHAPE, **options):
    return replace_weights(lambda weights: weights.create_dataset(PLACE, shape, dtype, **options))


def link(make):
    return replace_weights(lambda weights: weights.__setitem__(PLACE, make(weights)))


WEIGHT_ATTACKS = {
    "CVE-2026-0897 huge shape": dataset(shape=(2**20, 2**20)),
    "CVE-2026-0897 huge compressed shape": dataset(
        shape=(2**20, 2**20), chunks=(64, 64), compression="gzip"
    ),
    "CVE-2026-1669 external storage": dataset(external=[("fifo.keras", 0, 4 * 50 * 4)]),
    "CVE-2026-1669 external storage in /etc": dataset(external=[("/etc/passwd", 0, 4 * 50 * 4)]),
    "external link": link(lambda weights: h5py.ExternalLink("fifo.keras", "/x")),
    "external link beside": lambda weights: weights.__setitem__(
        "layers/x", h5py.ExternalLink("fifo.keras", "/x")
    ),
    "soft link": link(lambda weights: h5py.SoftLink("/layers/dense_1/vars/0")),
    "soft link to itself": link(lambda weights: h5py.SoftLink(PLACE)),
    "hard link to a group around it": link(lambda weights: weights["layers"]),
    "virtual dataset": replace_weights(virtual),
    "chunks": dataset(chunks=(1, 1)),
    "compression": dataset(chunks=(50, 4), compression="gzip"),
    "other shape": dataset(shape=(4, 50)),
    "one dimension more": dataset(shape=(50, 4, 1)),
    "no dimensions": dataset(shape=()),
    "no shape": dataset(shape=None, data=h5py.Empty("f4")),
    "float64": dataset("f8"),
    "big endian": dataset(">f4"),
    "integers": dataset("i4"),
    "compound": dataset(np.dtype([("x", "f4")])),
    "strings": dataset(h5py.string_dtype()),
    "variable length": dataset(h5py.vlen_dtype("f4")),
    "references": dataset(h5py.ref_dtype),
    "committed type": replace_weights(committed),
    "unwritten": dataset(),
    "missing": replace_weights(lambda weights: None),
    "missing layers": lambda weights: weights.__delitem__("layers"),
    "not a number": lambda weights: weights[PLACE].write_direct(np.full((50, 4), np.nan, "f4")),
    "infinite": lambda weights: weights[PLACE].write_direct(np.full((50, 4), np.inf, "f4")),
    "far too many layers": lambda weights: [
        weights.create_group(f"layers/other_{i}") for i in range(5_000)
    ],
}


def hdf5_patched(signature, offset, number):
    """Write an address into every part of the file that begins with a signature."""

    def change(data):
        data = bytearray(data)
        for found in re.finditer(signature, data):
            at = found.start()
            value = at if number is None else number
            data[at + offset : at + offset + 8] = value.to_bytes(8, "little")
        return bytes(data)

    return change


def new_form(data):
    file = io.BytesIO()
    with h5py.File(io.BytesIO(data)) as old, h5py.File(file, "w", libver="latest") as new:
        old.copy("layers", new)
    return file.getvalue()


def wrapped_hdf5(data):
    return bytes(512) + data


HDF5_ATTACKS = {
    "tree in itself": hdf5_patched(b"TREE", 32, None),
    "tree beyond the file": hdf5_patched(b"TREE", 32, 2**64 - 1),
    "names beyond the file": hdf5_patched(b"HEAP", 24, 2**64 - 1),
    "endless tree": hdf5_patched(b"TREE\0\0", 0, int.from_bytes(b"TREE\0\1\xff\xff", "little")),
    "endless list": hdf5_patched(b"SNOD", 0, int.from_bytes(b"SNOD\1\0\xff\xff", "little")),
    "root beyond the file": lambda data: data[:64] + b"\xff" * 8 + data[72:],
    "root in itself": lambda data: data[:64] + bytes(8) + data[72:],
    "fewer numbers than the shape has": lambda data: re.sub(
        rb"(\x03\x01.{8})" + struct.pack("<Q", 4 * 50 * 4),
        rb"\1" + struct.pack("<Q", 4),
        data,
        flags=re.DOTALL,
    ),
    "other version of HDF5": lambda data: patched(data, 8, b"\2"),
    "new form of HDF5": new_form,
    "user block": wrapped_hdf5,
    "cut weights": lambda data: data[: len(data) // 2],
    "empty weights": lambda data: b"",
    "text for weights": lambda data: b"weights",
}


# Attacks by the archive.


def central(data, name):
    """Find an entry of an archive in the list at its end."""
    return data.index(name.encode(), data.index(b"PK\1\2")) - 46


def patched(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def with_entry(name):
    return lambda contents: packed({**contents, name: b"x"})


def twice(contents):
    file = io.BytesIO(packed(contents))
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(CONFIG, b"{}")
    return file.getvalue()


def bomb(name, size):
    return lambda contents: packed({**contents, name: bytes(size)}, zipfile.ZIP_DEFLATED)


def many_entries(contents):
    """Make a list of as many entries as there is room for, each of them the same."""
    data = packed({"x": b""})
    start = data.index(b"PK\1\2")
    entries = data[start:-22] * 600_000
    return data[:start] + entries + patched(data[-22:], 12, struct.pack("<I", len(entries)))


def patch_entry(offset, new):
    """Change the list of entries, not what is in front of each entry."""

    def change(contents):
        data = packed(contents)
        return patched(data, central(data, CONFIG) + offset, new)

    return change


def far_away(contents):
    """Let the list say that an entry begins where no file can have a place, by ZIP64's means."""
    data = packed({**contents, CONFIG: contents[CONFIG]})
    at = central(data, CONFIG)
    extra = struct.pack("<HHQ", 1, 8, 2**63 + 1)
    data = patched(data, at + 42, b"\xff" * 4)
    data = patched(data, at + 30, struct.pack("<H", len(extra)))
    data = data[: at + 46 + len(CONFIG)] + extra + data[at + 46 + len(CONFIG) :]
    size = struct.unpack("<I", data[-10:-6])[0] + len(extra)
    return patched(data, len(data) - 10, struct.pack("<I", size))


ARCHIVE_ATTACKS = {
    "path up": with_entry("assets/../../evil.txt"),
    "absolute path": with_entry("/etc/evil"),
    "path of Windows": with_entry("..\\..\\evil.txt"),
    "assets": with_entry("assets/vocabulary.txt"),
    "path in place of an entry": lambda contents: packed(
        {name.replace(METADATA, f"../{METADATA}"): data for name, data in contents.items()}
    ),
    "same entry twice": twice,
    "entry missing": lambda contents: packed({CONFIG: contents[CONFIG]}),
    "no entry": lambda contents: packed({}),
    "600,000 entries": many_entries,
    "bomb of weights": bomb(WEIGHTS, 2**28),
    "bomb of a configuration": bomb(CONFIG, 2**28),
    "bomb of metadata": bomb(METADATA, 2**28),
    "bomb as large as may be": bomb(WEIGHTS, safe_load.MAX_BYTES - 20_000),
    "bomb within bzip2": lambda contents: packed(contents, zipfile.ZIP_BZIP2),
    "bomb within lzma": lambda contents: packed(contents, zipfile.ZIP_LZMA),
    "unknown compression": patch_entry(10, b"\x63\0"),
    "encrypted": patch_entry(8, b"\1\0"),
    "wrong checksum": patch_entry(16, bytes(4)),
    "smaller than it is": patch_entry(24, struct.pack("<I", 10)),
    "larger than it is": patch_entry(20, struct.pack("<II", 9_999, 9_999)),
    "other name in the list": lambda contents: packed(contents).replace(
        CONFIG.encode(), b"evil__.json", 1
    ),
    "entry that begins within another": patch_entry(42, bytes(4)),
    "entry beyond the file": patch_entry(42, b"\xff\xff\xff\x7f"),
    "entry beyond any file": far_away,
    "list beyond the file": lambda contents: packed(contents)[:-6] + b"\xff\xff\xff\x7f\0\0",
    "comment": lambda contents: packed(contents)[:-2] + b"\4\0evil",
    "cut archive": lambda contents: packed(contents)[:-100],
    "flipped bytes": lambda contents: patched(packed(contents), 9_000, b"\x55" * 100),
    "empty": lambda contents: b"",
    "text": lambda contents: b"not a zip archive",
    "HDF5": lambda contents: contents[WEIGHTS],
    "too large": lambda contents: bytes(safe_load.MAX_BYTES + 1),
}


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    """All attacks that are files, each named by what it does, and `MARKER` where nothing is."""
    folder = tmp_path_factory.mktemp("attacks")
    marker = folder / "MARKER"
    files = {
        **{
            name: with_config(small, lambda config, change=change: change(config, marker))
            for name, change in CONFIG_ATTACKS.items()
        },
        **{name: packed({**small, CONFIG: text}) for name, text in TEXT_ATTACKS.items()},
        **{name: with_weights(small, change) for name, change in WEIGHT_ATTACKS.items()},
        **{
            name: packed({**small, WEIGHTS: change(small[WEIGHTS])})
            for name, change in HDF5_ATTACKS.items()
        },
        **{name: change(small) for name, change in ARCHIVE_ATTACKS.items()},
    }
    for name, data in files.items():
        (folder / file_name(name)).write_bytes(data)
    save_legacy_hdf5(folder / "legacy.h5", marker)
    (folder / "legacy.h5").rename(folder / file_name("CVE-2025-9905 Lambda in HDF5"))
    (folder / "folder.keras").mkdir()
    (folder / "model.h5").write_bytes(packed(small))
    (folder / "small.keras").write_bytes(packed(small))
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "fifo.keras")
        (folder / "link.keras").symlink_to("small.keras")
        (folder / "loop.keras").symlink_to("loop.keras")
        (folder / "device.keras").symlink_to("/dev/zero")
    return folder


def file_name(attack):
    return re.sub(r"[^\w.-]", "_", attack) + ".keras"


def save_legacy_hdf5(path, marker):
    """Save a network that runs code when it is loaded, in the form that Keras 2 had."""
    source = code_of_lambda(marker)
    model = keras.Sequential(
        [keras.Input((5, 5, 2)), layers.Lambda.from_config(source["config"], safe_mode=False)]
    )
    model.save(path)
    marker.unlink(missing_ok=True)


ATTACKS = [
    *CONFIG_ATTACKS,
    *TEXT_ATTACKS,
    *WEIGHT_ATTACKS,
    *HDF5_ATTACKS,
    *ARCHIVE_ATTACKS,
    "CVE-2025-9905 Lambda in HDF5",
]
ODD_PATHS = {
    "folder.keras": "no regular file",
    "model.h5": "ends in .keras",
    "nowhere.keras": "No such file",
    "fifo.keras": "no regular file",
    "link.keras": "no regular file",
    "loop.keras": "no regular file",
    "device.keras": "no regular file",
    "https://example.org/model.keras": "No such file",
    "https://example.org/model": "ends in .keras",
    "hf://keras/model": "ends in .keras",
}


@pytest.fixture(scope="module")
def verdicts(folder):
    """What `check_file` says to each attack, in a process of its own.

    With each go the seconds that it took, and the kB that the process needed more until then.
    """
    if not os.path.exists("/proc/self/status"):
        pytest.skip("this system does not tell how much memory a process needed")
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(file_name, ATTACKS), *ODD_PATHS],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(safe_load.__file__).parent)},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    lines = map(json.loads, process.stdout.splitlines())
    return {path: verdict for path, *verdict in lines}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_refused(folder, verdicts, attack, monkeypatch):
    path = file_name(attack)
    message, seconds, kilobytes = verdicts[path]
    assert message is not None, "it was opened"
    assert message.startswith(f"{path} ")
    assert message.endswith(".")
    assert message.isprintable()
    assert len(message) < 300
    assert seconds < 10, "this is no measure, but keeps out what takes for ever"
    assert kilobytes < 200_000
    monkeypatch.chdir(folder)
    with pytest.raises(safe_load.RefusedModelError, match=re.escape(message)):
        safe_load.load_model(path)
    assert not (folder / "MARKER").exists()


@pytest.mark.parametrize("path", ODD_PATHS)
def test_what_is_no_regular_file(verdicts, path):
    message, seconds, _ = verdicts[path]
    assert ODD_PATHS[path] in message
    assert path in message
    assert "\n" not in message
    assert seconds < 10


def test_messages_say_why(verdicts):
    for attack, reason in {
        "CVE-2026-12481 Lambda": "'class_name' = 'Lambda'",
        "CVE-2025-1550 class of another module": "'module' = 'subprocess'",
        "registered name": "'registered_name' = 'evil>Dense'",
        "initializer": "could run a stranger's code",
        "path up": "other files",
        "bomb of weights": "too large for a digit classifier when unpacked",
        "too large": "too large for a digit classifier",
        "long text": "too long",
        "huge layers": "too large",
        "slow layers": "too large",
        "wide layers": "too large",
        "fractional pixels": "'batch_shape' = [None, 28.0",
        "true for one pixel": "'batch_shape' = [None, 28, 28, True]",
        "no units": "it has no units",
        "no input": "must be an Input",
        "HDF5": "load it where it was made",
        "CVE-2025-9905 Lambda in HDF5": "HDF5",
        "CVE-2026-0897 huge shape": "weights that do not fit",
        "CVE-2026-1669 external storage": "stored in another way",
        "not a number": "no numbers",
        "flipped bytes": "damaged",
        "cut archive": "damaged",
    }.items():
        assert reason in verdicts[file_name(attack)][0]
    assert "train_cnn.py" in verdicts[file_name("activation")][0]


@pytest.mark.parametrize("name", ["code.keras", "legacy.h5"])
def test_code_runs_where_nothing_guards_it(small, tmp_path, name):
    marker = tmp_path / "MARKER"
    if name == "legacy.h5":
        save_legacy_hdf5(tmp_path / name, marker)
    else:
        data = with_config(small, lambda config: add_code(config, marker))
        (tmp_path / name).write_bytes(data)
    assert not marker.exists()
    keras.saving.load_model(tmp_path / name, compile=False, safe_mode=False)
    assert marker.exists(), "the attack does nothing, so that it is no wonder if nothing happens"


def test_command_line_refuses_before_tensorflow(small, tmp_path, run):
    evil = tmp_path / "evil.keras"
    evil.write_bytes(with_config(small, lambda config: add_code(config, tmp_path / "MARKER")))
    # These are found first, and nobody gets past them.
    for package in ("tensorflow", "keras", "h5py"):
        (tmp_path / f"{package}.py").write_text("raise SystemExit('imported')")
    process = run("predict.py", "--model", "evil.keras", PYTHONPATH=str(tmp_path))
    assert process.returncode == 1
    assert process.stdout == ""
    assert re.fullmatch(r"evil\.keras is some other network: .*'Lambda'.*\n", process.stderr)
    assert not (tmp_path / "MARKER").exists()
    assert not (tmp_path / "predictions.png").exists()


def harmless_config(small):
    def change(config):
        evil = described("os", "system", "touch MARKER")
        config["compile_config"] = evil
        config["build_config"] = evil
        last(config)["build_config"] = evil
        last(config)["config"]["not_in_use"] = None

    return with_config(small, change)


def free_list_in_itself(data):
    """Make HDF5's own library loop for ever: each list of free places goes on where it began."""
    data = bytearray(data)
    for found in re.finditer(b"HEAP", bytes(data)):
        size, free, start = struct.unpack_from("<QQQ", data, found.start() + 8)
        if free < size:
            struct.pack_into("<Q", data, start + free, free)
    return bytes(data)


HARMLESS = {
    "settings that are not used": harmless_config,
    "metadata that is none": lambda small: packed({**small, METADATA: b"[" * 100_000}),
    "packed anew": lambda small: packed(small, zipfile.ZIP_DEFLATED),
    "other weights": lambda small: with_weights(
        small,
        lambda weights: weights.__setitem__(
            "optimizer/vars/x", h5py.ExternalLink("fifo.keras", "/x")
        ),
    ),
    "group in itself": lambda small: with_weights(
        small, lambda weights: weights.__setitem__("optimizer/loop", weights["optimizer"])
    ),
    "free list in itself": lambda small: packed(
        {**small, WEIGHTS: free_list_in_itself(small[WEIGHTS])}
    ),
    "class named twice": lambda small: packed(
        {**small, CONFIG: small[CONFIG].replace(b'"config"', b'"config": "os.system", "config"')}
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_not_read_does_no_harm(small, tmp_path, name):
    path = tmp_path / "harmless.keras"
    path.write_bytes(HARMLESS[name](small))
    model = safe_load.load_model(path)
    with h5py.File(io.BytesIO(small[WEIGHTS])) as weights:
        expected = [
            weights[f"layers/{layer}/vars/{number}"][()]
            for layer in ("conv2d", "dense", "dense_1")
            for number in "01"
        ]
    for array, right in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(array, right)


def test_opens_what_the_scripts_save(trained):
    model = safe_load.load_model(trained.model_path)
    assert isinstance(model, keras.Sequential)
    assert not model.compiled
    original = keras.saving.load_model(trained.model_path)
    images = np.random.default_rng(0).random((20, *model.input_shape[1:]), "float32")
    np.testing.assert_array_equal(
        model.predict(images, verbose=0), original.predict(images, verbose=0)
    )


def variants():
    image, flat = keras.Input((28, 28, 1)), keras.Input((28, 28))
    end = layers.Dense(10, activation="softmax")
    dense = [layers.Dense(8 + i, activation="tanh") for i in range(12)]
    convolution = layers.Conv2D(64, (5, 3), strides=2, padding="same", activation="relu")
    return {
        "wide": [flat, layers.Flatten(), layers.Dense(1_500, activation="relu"), end],
        "narrow": [flat, layers.Flatten(), layers.Dense(1), end],
        "many layers": [flat, layers.Flatten(), *dense, end],
        "no bias": [flat, layers.Flatten(), layers.Dense(30, use_bias=False), end],
        "named": [flat, layers.Flatten(name="my_flat"), layers.Dense(9, name="a-b.c"), end],
        "convolutions": [image, convolution, layers.MaxPooling2D(2, padding="same"),
                         layers.Conv2D(64, 3), layers.Flatten(), end],
    }  # fmt: skip


@pytest.mark.parametrize("name", variants())
def test_opens_networks_of_other_widths(tmp_path, name):
    model = keras.Sequential(variants()[name])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    images = np.random.default_rng(0).random((4, *model.input_shape[1:]), "float32")
    model.fit(images, np.arange(4), verbose=0)
    model.save(tmp_path / "variant.keras")
    opened = safe_load.load_model(tmp_path / "variant.keras")
    assert [layer.name for layer in opened.layers] == [layer.name for layer in model.layers]
    np.testing.assert_array_equal(
        opened.predict(images, verbose=0), model.predict(images, verbose=0)
    )


@pytest.mark.parametrize(
    ("shape", "last_layer"),
    [
        ((32, 32, 1), layers.Dense(10, activation="softmax")),
        ((28, 28, 3), layers.Dense(10, activation="softmax")),
        ((28, 28, 1), layers.Dense(26, activation="softmax")),
        ((28, 28, 1), layers.Dense(10)),
    ],
)
def test_other_shapes(tmp_path, shape, last_layer):
    keras.Sequential([keras.Input(shape), layers.Flatten(), last_layer]).save(tmp_path / "x.keras")
    with pytest.raises(ValueError, match="some other network"):
        safe_load.load_model(tmp_path / "x.keras")


# Fuzzing: whatever is changed, a file is opened or refused in one line.


def opened_or_refused(path, data):
    path.write_bytes(data)
    start, message = time.perf_counter(), None
    try:
        safe_load.load_model(path)
    except ValueError as error:
        message = str(error)
    assert message is None or (str(path) in message and "\n" not in message)
    assert time.perf_counter() - start < 10


def fuzzed(examples):
    return hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def changes_of_bytes(largest):
    """What to write where: bits, and numbers that are often limits."""
    places = strategies.integers(0, largest)
    number = strategies.sampled_from([0, 1, 2, 8, 255, 2**15, 2**16 - 1, 2**31, 2**63, 2**64 - 1])
    written = strategies.one_of(
        strategies.binary(min_size=1, max_size=1),
        strategies.builds(lambda value: value.to_bytes(8, "little"), number),
        strategies.builds(lambda value: value.to_bytes(8, "little"), places),
    )
    return strategies.lists(strategies.tuples(places, written), min_size=1, max_size=4)


def apply_changes(data, changes):
    for place, new in changes:
        data = patched(data, place, new)
    return data


@fuzzed(300)
@hypothesis.given(data=strategies.data())
def test_fuzz_archive(small, tmp_path_factory, data):
    archive = packed({**small, WEIGHTS: small[WEIGHTS]})
    # Half of the changes go to the list of entries, which is short.
    start = data.draw(strategies.sampled_from([0, archive.index(b"PK\1\2")]))
    changed = apply_changes(archive[start:], data.draw(changes_of_bytes(len(archive) - start - 1)))
    changed = (archive[:start] + changed)[: data.draw(strategies.integers(-50, 0)) or None]
    opened_or_refused(tmp_path_factory.getbasetemp() / "archive.keras", changed)


def places_in(value, path=()):
    """List the paths to all that a configuration holds."""
    yield path
    if isinstance(value, dict):
        items = value.items()
    else:
        items = enumerate(value if isinstance(value, list) else ())
    for key, inner in items:
        yield from places_in(inner, (*path, key))


WORDS = [*safe_load.LAYERS, "", "same", "relu", "os.system", "Lambda", "../x", "layers"]
ANY_JSON = strategies.recursive(
    strategies.one_of(
        strategies.none(),
        strategies.booleans(),
        strategies.integers(),
        strategies.floats(),
        strategies.sampled_from(WORDS),
        strategies.text(max_size=9),
    ),
    lambda inner: strategies.one_of(
        strategies.lists(inner, max_size=3),
        strategies.dictionaries(strategies.sampled_from(WORDS), inner, max_size=3),
    ),
    max_leaves=5,
)


def inside(value, path):
    for step in path:
        value = value[step]
    return value


@fuzzed(300)
@hypothesis.given(data=strategies.data())
def test_fuzz_configuration(small, tmp_path_factory, data):
    config = json.loads(small[CONFIG])
    for _ in range(data.draw(strategies.integers(1, 3))):
        places = list(places_in(config))
        *path, key = data.draw(strategies.sampled_from(places[1:]))
        around = inside(config, path)
        match data.draw(strategies.sampled_from(["replace", "delete", "copy"])):
            case "replace":
                around[key] = data.draw(ANY_JSON)
            case "delete" if path:
                del around[key]
            case _:
                copied = inside(config, data.draw(strategies.sampled_from(places)))
                around[key] = copy.deepcopy(copied)
    changed = packed({**small, CONFIG: json.dumps(config)})
    opened_or_refused(tmp_path_factory.getbasetemp() / "config.keras", changed)


@pytest.fixture(scope="module")
def structure(small):
    """Where the HDF5 file has anything but the arrays' numbers and zeros."""
    places = {place for place, byte in enumerate(small[WEIGHTS]) if byte}
    with h5py.File(io.BytesIO(small[WEIGHTS])) as weights:

        def leave_out(name, item):
            if isinstance(item, h5py.Dataset) and item.id.get_offset():
                start = item.id.get_offset()
                places.difference_update(range(start, start + item.nbytes))

        weights.visititems(leave_out)
    return sorted(places)


@fuzzed(300)
@hypothesis.given(data=strategies.data())
def test_fuzz_weights(small, structure, tmp_path_factory, data):
    changes = data.draw(changes_of_bytes(len(structure) - 1))
    changed = apply_changes(small[WEIGHTS], [(structure[i], new) for i, new in changes])
    archive = packed({**small, WEIGHTS: changed})
    opened_or_refused(tmp_path_factory.getbasetemp() / "weights.keras", archive)
