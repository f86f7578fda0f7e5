"""Pulled plugs: killed and interrupted runs, full disks, broken networks."""

import contextlib
import functools
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import time

import keras
import pytest
from conftest import ENVIRONMENT, SCRIPTS, train_here, user_lines
from matplotlib.figure import Figure

unix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals and limits")


def start_until(text, *arguments, folder):
    """Train in a process of its own, and return that as soon as it prints a line like this."""
    process = subprocess.Popen(
        [sys.executable, SCRIPTS["cnn"], *map(str, arguments)],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert any(line.startswith(text) for line in process.stdout), process.stderr.read()
    return process


@unix
def test_ctrl_c_ends_training_in_one_line_with_status_130(tmp_path, sample_npz):
    (tmp_path / "mnist_cnn.keras").write_bytes(b"earlier")
    arguments = ["--data", sample_npz, "--epochs", 100_000]
    process = start_until("Epoch 3/", *arguments, folder=tmp_path)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert user_lines(stderr) == ["Interrupted: nothing was saved."]
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


class Killed(BaseException):
    """Nothing catches it, just as nothing catches a kill."""


def killed(path, target):
    raise Killed


@pytest.mark.parametrize("kind", SCRIPTS)
def test_killed_before_the_new_model_is_whole_the_earlier_one_stays(
    tmp_path, sample_npz, untrained, kind, monkeypatch
):
    output = tmp_path / f"mnist_{kind}.keras"
    output.write_bytes(b"earlier")
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "replace", killed)
        with pytest.raises(Killed):
            train_here(SCRIPTS[kind], tmp_path, "--data", sample_npz)
    assert output.read_bytes() == b"earlier"
    train_here(SCRIPTS[kind], tmp_path, "--data", sample_npz)
    keras.saving.load_model(output, compile=False)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {output.name, f"mnist_{kind}.png"}, "what the killed run left is gone, too"


@unix
@pytest.mark.long
def test_killed_at_random_moments_leaves_a_whole_model(tmp_path, sample_npz):
    output = tmp_path / "mnist_cnn.keras"
    output.write_bytes(b"earlier")
    for _ in range(4):
        process = start_until("Test acc", "--data", sample_npz, "--epochs", 1, folder=tmp_path)
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        process.communicate()
        if output.read_bytes() != b"earlier":
            keras.saving.load_model(output)


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


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_full_disk_keeps_the_earlier_model(tmp_path, sample_npz, untrained, kind):
    output = tmp_path / f"mnist_{kind}.keras"
    output.write_bytes(b"earlier")
    with full_disk(), pytest.raises(SystemExit) as stop:
        train_here(SCRIPTS[kind], tmp_path, "--data", sample_npz)
    assert stop.value.code.startswith("Cannot save: ")
    assert output.read_bytes() == b"earlier"


def test_a_full_disk_keeps_the_earlier_figure(
    predict_here, tmp_path, sample_npz, trained_cnn, monkeypatch
):
    (tmp_path / "predictions.png").write_bytes(b"earlier")
    monkeypatch.setattr(Figure, "savefig", full_disk()(Figure.savefig))
    process = predict_here("--data", sample_npz, "--model", trained_cnn.model_path)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("Cannot write predictions.png: ")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


def test_ctrl_c_ends_predict_in_one_line_with_status_130(
    predict_here, tmp_path, sample_npz, trained_cnn, monkeypatch
):
    (tmp_path / "predictions.png").write_bytes(b"earlier")
    monkeypatch.setattr(pathlib.Path, "replace", lambda *_: signal.raise_signal(signal.SIGINT))
    process = predict_here("--data", sample_npz, "--model", trained_cnn.model_path)
    assert (process.returncode, process.stderr) == (130, "Interrupted.\n")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


@unix
@pytest.mark.parametrize("package", ["argparse", "cv2", "tensorflow"])
def test_ctrl_c_while_packages_are_imported(run, tmp_path, sample_npz, trained_cnn, package):
    code = "import signal; signal.raise_signal(signal.SIGINT)"
    (tmp_path / f"{package}.py").write_text(code)
    arguments = "--data", sample_npz, "--model", trained_cnn.model_path
    process = run("predict.py", *arguments, PYTHONPATH=str(tmp_path))
    assert (process.returncode, process.stderr) == (130, "Interrupted.\n")


@pytest.fixture(params=["refused", "silent"])
def broken_network(request, monkeypatch):
    """Lead the download of MNIST, which is not in the cache now, to a broken proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    load_data = functools.partial(keras.datasets.mnist.load_data, "not-in-the-cache.npz")
    monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
    # The scripts wait for ten seconds; so that the test does not, a second passes in a tenth.
    set_timeout = socket.setdefaulttimeout
    monkeypatch.setattr(
        socket, "setdefaulttimeout", lambda seconds: set_timeout(seconds and seconds / 10)
    )
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        if request.param == "silent":
            proxy.listen()  # Nobody answers, and without a timeout, the client waits forever.
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        yield
    set_timeout(None)


def test_without_a_network_there_is_one_sentence(
    broken_network, predict_here, tmp_path, trained_cnn
):
    for script in SCRIPTS.values():
        with pytest.raises(SystemExit) as stop:
            train_here(script, tmp_path)
        assert stop.value.code.startswith(
            "Cannot train on MNIST (see README.md, Without an internet"
        )
        assert re.search("URL fetch failure|timed out", stop.value.code)
    process = predict_here("--model", trained_cnn.model_path)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert re.match(r"Cannot load MNIST \(.*\): .*(URL fetch failure|timed out)", line)
    assert not list(tmp_path.iterdir())
