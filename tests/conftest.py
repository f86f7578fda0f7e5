"""What the tests share: the scripts as a user runs them, and digits to run them on."""

import os
import pathlib
import subprocess
import sys
import types

import keras
import matplotlib
import numpy as np
import pytest
import sample_digits

import predict

matplotlib.use("agg")

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = {"ann": ROOT / "train_ann.py", "cnn": ROOT / "train_cnn.py"}


@pytest.fixture
def run(tmp_path):
    """Run one of the scripts in an empty folder, as a user does."""

    def run_script(script, *arguments, folder=tmp_path, **environment):
        return subprocess.run(
            [sys.executable, ROOT / script, *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "MPLBACKEND": "agg", "PYTHONIOENCODING": "utf-8", **environment},
            capture_output=True,
            encoding="utf-8",
            timeout=600,
        )

    return run_script


@pytest.fixture
def predict_here(tmp_path, monkeypatch, capfd):
    """Run `predict.py` in this process, where TensorFlow is imported already."""

    def run_predict(*arguments):
        monkeypatch.chdir(tmp_path)
        capfd.readouterr()
        status = predict.main([str(argument) for argument in arguments])
        printed = capfd.readouterr()
        return types.SimpleNamespace(returncode=status, stdout=printed.out, stderr=printed.err)

    return run_predict


def user_lines(stderr):
    """Drop what TensorFlow's C++ code says on standard error before any setting is read."""
    lines = stderr.splitlines()
    return [line for line in lines if line and not line.startswith(("WARNING: All log", "I0000"))]


@pytest.fixture(scope="session")
def sample_npz(tmp_path_factory):
    """Write scikit-learn's digits as the file that `--data` takes."""
    path = tmp_path_factory.mktemp("data") / "sample_digits.npz"
    (x_train, y_train), (x_test, y_test) = sample_digits.load_data()
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


@pytest.fixture(scope="session")
def mnist():
    """Load MNIST where Keras has it in its cache already; the tests download nothing."""
    cache = pathlib.Path(os.environ.get("KERAS_HOME", pathlib.Path.home() / ".keras"))
    if not (cache / "datasets" / "mnist.npz").exists():
        pytest.skip("MNIST is not in Keras's cache (run train_cnn.py once)")
    return keras.datasets.mnist.load_data()


def train_alone(kind, folder, *arguments):
    """Train with a script that is alone in a folder, as it is for someone who copied it."""
    script = folder / f"train_{kind}.py"
    script.write_bytes(SCRIPTS[kind].read_bytes())
    process = subprocess.run(
        [sys.executable, script.name, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=1_200,
    )
    assert process.returncode == 0, process.stderr
    assert user_lines(process.stderr) == [], "neither the script nor the packages warn"
    return types.SimpleNamespace(
        kind=kind,
        folder=folder,
        model_path=folder / f"mnist_{kind}.keras",
        stdout=process.stdout,
    )


@pytest.fixture(scope="session", params=["ann", "cnn"])
def trained(request, sample_npz, tmp_path_factory):
    """Train each network for a short time on scikit-learn's digits."""
    folder = tmp_path_factory.mktemp(f"trained_{request.param}")
    arguments = ["--data", sample_npz, "--epochs", 6, "--batch-size", 16]
    return train_alone(request.param, folder, *arguments)


@pytest.fixture(scope="session", params=["ann", "cnn"])
def trained_on_mnist(request, mnist, tmp_path_factory):
    """Train each network with its default settings on MNIST, as a user does."""
    folder = tmp_path_factory.mktemp(f"trained_on_mnist_{request.param}")
    return train_alone(request.param, folder)
