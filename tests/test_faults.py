"""Pulled plugs: a full disk, Ctrl-C, no network."""

import functools
import os
import re
import signal
import socket

import keras
import pytest
from conftest import SCRIPTS, full_disk, train_here
from matplotlib.figure import Figure


def test_the_earlier_figure_survives_a_full_disk_and_ctrl_c(
    predict_here, tmp_path, sample_npz, trained_cnn, monkeypatch
):
    def interrupt(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)

    (tmp_path / "predictions.png").write_bytes(b"earlier")
    for savefig, status, says in (
        (full_disk()(Figure.savefig), 1, "Cannot write predictions.png: File too large.\n"),
        (interrupt, 130, "Interrupted.\n"),
    ):
        monkeypatch.setattr(Figure, "savefig", savefig)
        process = predict_here("--data", sample_npz, "--model", trained_cnn.model_path)
        assert (process.returncode, process.stderr) == (status, says)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("package", ["argparse", "cv2", "tensorflow"])
def test_ctrl_c_while_packages_are_imported(run, tmp_path, sample_npz, trained_cnn, package):
    code = "import signal; signal.raise_signal(signal.SIGINT)"
    (tmp_path / f"{package}.py").write_text(code)
    arguments = "--data", sample_npz, "--model", trained_cnn.model_path
    process = run("predict.py", *arguments, PYTHONPATH=str(tmp_path))
    assert (process.returncode, process.stderr) == (130, "Interrupted.\n")


def test_without_a_network_there_is_one_sentence(predict_here, tmp_path, trained_cnn, monkeypatch):
    load_data = functools.partial(keras.datasets.mnist.load_data, "not-in-the-cache.npz")
    monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # The scripts wait for ten seconds; so that the test does not, a second passes in a tenth.
    set_timeout = socket.setdefaulttimeout
    monkeypatch.setattr(
        socket, "setdefaulttimeout", lambda seconds: set_timeout(seconds and seconds / 10)
    )
    reason = r"MNIST \(see README.md, Without an internet connection\): .*(fetch failure|timed out)"
    with socket.create_server(("127.0.0.1", 0)) as proxy:  # It never answers.
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for script in SCRIPTS.values():
            with pytest.raises(SystemExit) as stop:
                train_here(script, tmp_path)
            assert re.match(f"Cannot train on {reason}", stop.value.code)
            assert socket.getdefaulttimeout() is None, "a notebook's own connections have no limit"
        process = predict_here("--model", trained_cnn.model_path)
    assert process.returncode == 1
    assert re.fullmatch(f"Cannot load {reason}.*\n", process.stderr)
    assert not list(tmp_path.iterdir())
