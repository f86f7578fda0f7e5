"""Pulled plugs: an interrupted prediction, a full disk, a broken network."""

import contextlib
import functools
import pathlib
import re
import signal
import socket

import keras
import pytest
from conftest import SCRIPTS, train_here

import predict


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


def test_a_full_disk_keeps_the_earlier_figure(
    predict_here, tmp_path, sample_npz, trained_cnn, monkeypatch
):
    (tmp_path / "predictions.png").write_bytes(b"earlier")
    monkeypatch.setattr(predict, "write_whole", full_disk()(predict.write_whole))
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
        assert socket.getdefaulttimeout() is None, "the notebook's own connections are not bounded"
    process = predict_here("--model", trained_cnn.model_path)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert re.match("Cannot load MNIST: .*(URL fetch failure|timed out)", line)
    assert not list(tmp_path.iterdir())
