"""What the tests share: the scripts as a user runs them, and digits to run them on."""

import contextlib
import functools
import os
import pathlib
import runpy
import shutil
import signal
import subprocess
import sys
import types

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import sample_digits
from matplotlib.axis import Tick

import predict

matplotlib.use("agg")
os.environ |= {"MPLBACKEND": "agg", "PYTHONIOENCODING": "utf-8"}
# Where a shell starts the tests in the background, Ctrl-C would be ignored, by scripts too.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = sample_digits.load_data()
SCRIPTS = {"ann": ROOT / "train_ann.py", "cnn": ROOT / "train_cnn.py"}


def run(folder, script, *arguments, **environment):
    """Run a script in a folder and a process of its own, as a user does."""
    return subprocess.run(
        [sys.executable, ROOT / script, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )


@pytest.fixture(autouse=True)
def closed_figures():
    with plt.rc_context():
        yield
    plt.close("all")


@pytest.fixture
def predict_here(tmp_path, monkeypatch, capfd):
    """Run `predict.py` in this process, where TensorFlow is imported already."""

    def run_predict(*arguments):
        monkeypatch.chdir(tmp_path)
        capfd.readouterr()
        status = predict.main([str(argument) for argument in arguments])
        printed = capfd.readouterr()
        stderr = "".join(f"{line}\n" for line in user_lines(printed.err))
        return types.SimpleNamespace(returncode=status, stdout=printed.out, stderr=stderr)

    return run_predict


def train_here(script, folder, *arguments):
    """Run a training script in this process, as `%run` does; return the names it leaves behind."""
    handler = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setattr(sys, "argv", [script.name, *map(str, arguments)])
        try:
            return runpy.run_path(str(script), run_name="__main__")
        finally:
            signal.signal(signal.SIGINT, handler)  # As a notebook's kernel does after each cell.


@contextlib.contextmanager
def full_disk():
    """Let no file grow beyond 8 KiB, so that writing fails as it does on a full disk."""
    resource = pytest.importorskip("resource")  # Which Windows lacks.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def train_alone(kind, folder, *arguments, **environment):
    """Train with a script that is alone in a folder, as it is for someone who copied it."""
    script = shutil.copy(SCRIPTS[kind], folder)
    process = run(folder, script, *arguments, **environment)
    assert process.returncode == 0, process.stderr
    assert user_lines(process.stderr) == [], "neither the script nor the packages warn"
    path = folder / f"mnist_{kind}.keras"
    return types.SimpleNamespace(kind=kind, folder=folder, model_path=path, stdout=process.stdout)


def user_lines(stderr):
    """Drop what TensorFlow's C++ code says on standard error before the scripts can set it."""
    unasked = ("WARNING: All log", "I0000", "E0000")
    return [line for line in stderr.splitlines() if line and not line.startswith(unasked)]


def probabilities_by_keras(model_path, images):
    """What Keras itself, with its own loader, makes of uint8 images."""
    model = keras.saving.load_model(model_path)
    inputs = np.float32(images).reshape(-1, *model.input_shape[1:]) / 255
    return model.predict(inputs, verbose=0)


def texts_of(figure):
    """What a figure says, after a check that no text overlaps another or leaves the figure."""
    figure.canvas.draw()
    ticks = [text for tick in figure.findobj(Tick) for text in tick.findobj(plt.Text)]
    texts = [text for text in figure.findobj(plt.Text) if text.get_text() and text.get_visible()]
    texts = [text for text in texts if text not in ticks]
    boxes = [text.get_window_extent() for text in texts]
    for i, box in enumerate(boxes):
        assert all(figure.bbox.contains(*corner) for corner in (box.min, box.max)), texts[i]
        assert not any(box.padded(-0.5).overlaps(other) for other in boxes[:i]), texts[i]
    return [text.get_text() for text in texts]


@pytest.fixture(scope="session")
def sample_npz(tmp_path_factory):
    """Write scikit-learn's digits as the file that `--data` takes."""
    path = tmp_path_factory.mktemp("data") / "sample_digits.npz"
    np.savez(path, **DIGITS)
    return path


@pytest.fixture(scope="session")
def mnist():
    """Load MNIST where Keras has it in its cache already; the tests download nothing."""
    cache = pathlib.Path(os.environ.get("KERAS_HOME", pathlib.Path.home() / ".keras"))
    if not (cache / "datasets" / "mnist.npz").exists():
        pytest.skip("MNIST is not in Keras's cache (run train_cnn.py once)")
    return keras.datasets.mnist.load_data()


@pytest.fixture(scope="session")
def train_briefly(sample_npz, tmp_path_factory):
    """Train a network for a short time on scikit-learn's digits, once for all tests."""

    @functools.cache
    def train(kind):
        encoding = {"ann": "ascii", "cnn": "utf-8"}[kind]  # Of a console without a ±, and with.
        arguments = "--data", sample_npz, "--epochs", 4, "--batch-size", 16
        folder = tmp_path_factory.mktemp(kind)
        return train_alone(kind, folder, *arguments, PYTHONIOENCODING=encoding)

    return train


@pytest.fixture(scope="session", params=SCRIPTS)
def trained(request, train_briefly):
    return train_briefly(request.param)


@pytest.fixture(scope="session")
def trained_cnn(train_briefly):
    return train_briefly("cnn")


@pytest.fixture(scope="session", params=SCRIPTS)
def trained_on_mnist(request, mnist, tmp_path_factory):
    """Each network, trained with its default settings on MNIST, as a user does."""
    return train_alone(request.param, tmp_path_factory.mktemp(f"on_mnist_{request.param}"))
