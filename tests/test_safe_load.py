"""Only whole `.keras` files of the project's two networks are opened."""

import json
import os
import zipfile

import keras
import numpy as np
import pytest

import safe_load


def rewrite(source, target, change_config=None, **entries):
    """Copy a model archive with a changed configuration or with further entries."""
    with zipfile.ZipFile(source) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    if change_config:
        config = json.loads(content["config.json"])
        change_config(config)
        content["config.json"] = json.dumps(config)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**content, **entries}.items():
            archive.writestr(name, data)
    return target


def refused(path, *says):
    for check in (safe_load.check_file, safe_load.load_model):
        with pytest.raises(ValueError) as error:
            check(path)
        message = str(error.value)
        assert str(path) in message
        assert "\n" not in message
        for text in says:
            assert text in message


def test_opens_what_the_scripts_save(trained, sample_npz):
    model = safe_load.load_model(trained.model_path)
    assert isinstance(model, keras.Sequential)
    assert not model.compiled
    expected = keras.saving.load_model(trained.model_path).get_weights()
    for a, b in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_damaged_files(trained, tmp_path):
    data = trained.model_path.read_bytes()
    for name, content in {
        "cut": data[: len(data) // 2],
        "empty": b"",
        "text": b"not a zip archive",
        "flipped": data[:9000] + bytes(b ^ 255 for b in data[9000:9100]) + data[9100:],
    }.items():
        path = tmp_path / f"{name}.keras"
        path.write_bytes(content)
        refused(path, "damaged")


def test_hdf5_file_under_a_keras_name(trained, tmp_path):
    model = keras.saving.load_model(trained.model_path)
    model.save_weights(tmp_path / "model.weights.h5")
    path = (tmp_path / "model.weights.h5").rename(tmp_path / "model.keras")
    refused(path, "HDF5")


def test_what_is_no_regular_file(trained, tmp_path):
    (tmp_path / "folder.keras").mkdir()
    refused(tmp_path / "folder.keras", "regular")
    refused("https://example.org/model", ".keras")
    with pytest.raises(FileNotFoundError):
        safe_load.load_model(tmp_path / "missing.keras")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo.keras")
        refused(tmp_path / "fifo.keras", "regular")
        (tmp_path / "link.keras").symlink_to(trained.model_path)
        refused(tmp_path / "link.keras", "regular")


def test_too_large(trained, tmp_path):
    path = tmp_path / "large.keras"
    with open(path, "wb") as file:
        file.truncate(safe_load.MAX_BYTES + 1)
    refused(path, "too large")
    zeros = bytes(safe_load.MAX_BYTES)
    path = rewrite(trained.model_path, tmp_path / "bomb.keras", **{"model.weights.h5": zeros})
    assert path.stat().st_size < 1_000_000
    refused(path, "too large", "unpacked")


def test_other_entries(trained, tmp_path):
    for name in ("assets/../../evil.txt", "/etc/evil", "assets/vocabulary.txt"):
        path = rewrite(trained.model_path, tmp_path / "more.keras", **{name: b"x"})
        refused(path, "other files")


def add_lambda(config):
    config["config"]["layers"].append(
        {"module": "keras.layers", "class_name": "Lambda", "config": {}, "registered_name": None}
    )


def use_os_system(config):
    dense = config["config"]["layers"][-1]
    dense["config"]["kernel_initializer"] = {
        "module": "os",
        "class_name": "system",
        "config": {},
        "registered_name": None,
    }


def use_registered_name(config):
    config["config"]["layers"][-1]["registered_name"] = "evil>Dense"


@pytest.mark.parametrize("change", [add_lambda, use_os_system, use_registered_name])
def test_other_classes_are_not_opened(trained, tmp_path, change):
    path = rewrite(trained.model_path, tmp_path / "other.keras", change)
    refused(path, "some other network", "stranger's code")


def test_how_it_was_compiled_does_not_matter(trained, tmp_path):
    def compile_otherwise(config):
        config["compile_config"] = {"module": "os", "class_name": "system", "config": {}}

    path = rewrite(trained.model_path, tmp_path / "compiled.keras", compile_otherwise)
    assert safe_load.load_model(path).count_params() > 0


def test_other_shapes(tmp_path):
    for shape, units in (((32, 32, 1), 10), ((28, 28, 1), 26), ((28, 28, 3), 10)):
        layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(units)]
        keras.Sequential(layers).save(tmp_path / "other.keras")
        with pytest.raises(ValueError, match="some other network"):
            safe_load.load_model(tmp_path / "other.keras")


def test_functional_network(tmp_path):
    image = keras.Input((28, 28))
    keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(image))).save(
        tmp_path / "functional.keras"
    )
    refused(tmp_path / "functional.keras", "some other network")


def test_weights_that_do_not_fit(trained, tmp_path):
    def widen(config):
        dense, last = config["config"]["layers"][-2:]
        dense["config"]["units"] += 1
        last["build_config"]["input_shape"][-1] += 1

    path = rewrite(trained.model_path, tmp_path / "wide.keras", widen)
    refused(path, "weights that do not fit its layers")


def test_configuration_that_is_no_configuration(trained, tmp_path):
    for config in (b"[]", b"null", b'"Sequential"', b"{", b"\xff"):
        path = rewrite(trained.model_path, tmp_path / "odd.keras", **{"config.json": config})
        with pytest.raises(ValueError) as error:
            safe_load.check_file(path)
        assert str(path) in str(error.value)
