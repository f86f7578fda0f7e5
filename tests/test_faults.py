"""Pulled plugs: killed and interrupted runs, full and read-only disks, broken networks."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from conftest import ROOT, SCRIPTS, user_lines

SHORT = ["--epochs", "1", "--batch-size", "64"]
CACHE = pathlib.Path(os.environ.get("KERAS_HOME", pathlib.Path.home() / ".keras"))
HOST = "storage.googleapis.com"
unix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals to send")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """Save a network that has learned nothing, which is all that `predict.py` needs here."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input(shape=(28, 28)), *layers])
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    return path


def start(script, *arguments, folder, before="", prefix=(), **environment):
    """Start a script as a user does, if need be after some lines of Python."""
    command = [ROOT / script]
    if before:
        run = f"runpy.run_path({str(ROOT / script)!r}, run_name='__main__')"
        command = ["-c", f"import runpy, sys\nsys.path[0] = {str(ROOT)!r}\n{before}\n{run}"]
    return subprocess.Popen(
        [*prefix, sys.executable, *map(str, command), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "agg", "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def finish(process):
    """Wait for a process; give its status, what it printed, and its lines for the user."""
    try:
        stdout, stderr = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"it hung: {process.communicate()}")
    return process.returncode, stdout, user_lines(stderr)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Python reports what it is about to do to "audit hooks", among it each file that is opened or
# renamed and each import. So a signal strikes at the same moment each time, and not by luck.
STRIKE = """
import os, sys, threading, time

def strike():
    os.write(1, f"\\nstruck at {{time.time()}}\\n".encode())
    os.kill(os.getpid(), {number})

def hook(event, arguments):
    if event == {event!r} and {text!r} in str(arguments[0]):
        times.append(event)
        if len(times) == {nth}:
            threading.Timer({delay}, strike).start() if {delay} else strike()

times = []
sys.addaudithook(hook)
"""


def strike(number, event, text, nth=1, delay=0):
    return STRIKE.format(number=int(number), event=event, text=text, nth=nth, delay=delay)


# Each partial file is opened twice: to see that it can be, and to be written.
WRITING = {
    "before_training": ("os.remove", "-model.keras"),
    "model_half_written": ("open", "-model.keras", 2, 0.01),
    "model_written": ("os.rename", "-model.keras"),
    "curves_written": ("os.rename", "-model.png"),
}


@unix
@pytest.mark.parametrize("moment", WRITING)
def test_killed_training_leaves_a_whole_model(tmp_path, sample_npz, model_path, moment):
    kind = "ann" if list(WRITING).index(moment) % 2 else "cnn"
    earlier = shutil.copy(model_path, tmp_path / "model.keras").read_bytes()
    (tmp_path / "model.png").write_bytes(b"earlier")
    output = ["--data", sample_npz, *SHORT, "--output", "model.keras"]
    process = start(
        SCRIPTS[kind],
        *output,
        folder=tmp_path,
        before=strike(signal.SIGKILL, *WRITING[moment]),
    )
    status, stdout, _ = finish(process)
    assert status == -signal.SIGKILL
    assert "Saved" not in stdout
    keras.saving.load_model(tmp_path / "model.keras")
    new = (tmp_path / "model.keras").read_bytes() != earlier
    assert new == ("curves" in moment), "the model goes first"
    assert (tmp_path / "model.png").read_bytes() == b"earlier"
    (litter,) = set(names(tmp_path)) - {"model.keras", "model.png"}
    assert re.fullmatch(r"partial-[0-9a-f]{8}-model\.(keras|png)", litter)


@unix
@pytest.mark.parametrize("delay", [1, 3])
def test_training_killed_at_any_time_leaves_a_whole_model(tmp_path, sample_npz, delay):
    (tmp_path / "mnist_cnn.keras").write_bytes(b"earlier")
    process = start("train_cnn.py", "--data", sample_npz, "--epochs", 1000, folder=tmp_path)
    time.sleep(delay)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    assert names(tmp_path) == ["mnist_cnn.keras"]
    assert (tmp_path / "mnist_cnn.keras").read_bytes() == b"earlier"


def leave_partials(folder):
    """Leave what killed runs would have, and what only looks alike; tell what must stay."""
    long_ago = time.time() - 7_200
    for name in (
        *("partial-00c0ffee-mnist_cnn.keras", "partial-0badcafe-predictions.png"),
        *("partial-solution-3.png", "partial-mnist_cnn.keras"),
    ):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (long_ago, long_ago))
    (folder / "partial-12345678-mnist_cnn.keras").write_bytes(b"being written right now")
    (folder / "partial-87654321-folder.keras").mkdir()
    os.utime(folder / "partial-87654321-folder.keras", (long_ago, long_ago))
    return [
        *("partial-12345678-mnist_cnn.keras", "partial-87654321-folder.keras"),
        *("partial-mnist_cnn.keras", "partial-solution-3.png"),
    ]


@unix
@pytest.mark.parametrize("kind", SCRIPTS)
def test_training_removes_what_killed_runs_left(tmp_path, kind):
    stay = leave_partials(tmp_path)
    before = strike(signal.SIGINT, "import", "keras")
    finish(start(SCRIPTS[kind], folder=tmp_path, before=before))
    assert names(tmp_path) == stay


def test_predict_removes_what_killed_runs_left(predict_here, tmp_path, model_path, sample_npz):
    stay = leave_partials(tmp_path)
    process = predict_here("--data", sample_npz, "--model", model_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert names(tmp_path) == sorted([*stay, "predictions.png"])


def test_trainings_at_once_do_not_disturb_each_other(tmp_path, sample_npz):
    """One of them waits with its model written, but not yet in place, until the others are done."""
    wait = """
import os, sys, time

def hook(event, arguments):
    while event == "os.rename" and not os.path.exists("others are done"):
        time.sleep(0.1)

sys.addaudithook(hook)
"""
    output = ["--data", sample_npz, *SHORT, "--output"]
    first = start("train_cnn.py", *output, "same.keras", folder=tmp_path, before=wait)
    while first.poll() is None and not list(tmp_path.glob("partial-*-same.keras")):
        time.sleep(0.01)
    others = [
        start("train_cnn.py", *output, "same.keras", "--seed", "1", folder=tmp_path),
        start("train_ann.py", *output, "other.keras", folder=tmp_path),
    ]
    for process in others:
        status, stdout, lines = finish(process)
        assert (status, lines) == (0, [])
    between = (tmp_path / "same.keras").read_bytes()
    assert first.poll() is None, "it waits"
    (tmp_path / "others are done").touch()
    status, stdout, lines = finish(first)
    assert (status, lines) == (0, [])
    assert stdout.splitlines()[-1] == "Saved same.keras"
    assert (tmp_path / "same.keras").read_bytes() != between
    (tmp_path / "others are done").unlink()
    assert names(tmp_path) == ["other.keras", "other.png", "same.keras", "same.png"]
    for name in ("same.keras", "other.keras"):
        keras.saving.load_model(tmp_path / name)


def check_interrupted(process, line):
    status, stdout, lines = finish(process)
    ended = time.time()
    struck = float(re.search(r"struck at ([\d.]+)", stdout)[1])
    assert (status, lines) == (130, [line])
    assert ended - struck < 10


INTERRUPTED = {
    "importing_tensorflow": ("import", "tensorflow.python.framework"),
    "half_a_second_later": ("import", "tensorflow.python.framework", 1, 0.5),
    "reading_the_data": ("open", "sample_digits.npz"),
    "tracing": ("open", "sample_digits.npz", 1, 1.0),
    "writing_the_model": WRITING["model_half_written"],
    "writing_the_curves": WRITING["curves_written"],
}


@unix
@pytest.mark.parametrize("moment", INTERRUPTED)
def test_ctrl_c_ends_training_in_one_line(tmp_path, sample_npz, moment):
    kind = "cnn" if list(INTERRUPTED).index(moment) % 2 else "ann"
    (tmp_path / "model.keras").write_bytes(b"earlier")
    process = start(
        SCRIPTS[kind],
        *("--data", sample_npz, *SHORT, "--output", "model.keras"),
        folder=tmp_path,
        before=strike(signal.SIGINT, *INTERRUPTED[moment]),
    )
    saved = moment == "writing_the_curves"
    state = "saved" if saved else "as it was before"
    check_interrupted(process, f"Interrupted. model.keras is {state}.")
    assert names(tmp_path) == ["model.keras"]
    assert ((tmp_path / "model.keras").read_bytes() == b"earlier") == (not saved)


@unix
@pytest.mark.parametrize("kind", SCRIPTS)
def test_ctrl_c_in_an_epoch(tmp_path, kind, sample_npz):
    output = tmp_path / f"mnist_{kind}.keras"
    output.write_bytes(b"earlier")
    process = start(SCRIPTS[kind], "--data", sample_npz, "--epochs", "100000", folder=tmp_path)
    for line in process.stdout:
        if line.startswith("Epoch 3/"):
            break
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    status, _, lines = finish(process)
    assert time.monotonic() - started < 10
    assert (status, lines) == (130, [f"Interrupted. {output.name} is as it was before."])
    assert names(tmp_path) == [output.name]
    assert output.read_bytes() == b"earlier"


@unix
@pytest.mark.parametrize(
    "moment",
    [
        ("import", "numpy"),
        ("import", "tensorflow.python.framework", 1, 0.5),
        ("os.rename", "-digits.csv"),
        ("os.rename", "-predictions.png"),
    ],
    ids=lambda moment: moment[1],
)
def test_ctrl_c_ends_predict_in_one_line(tmp_path, sample_npz, model_path, moment):
    (tmp_path / "predictions.png").write_bytes(b"earlier")
    process = start(
        *("predict.py", "--data", sample_npz, "--model", model_path, "--csv", "digits.csv"),
        folder=tmp_path,
        before=strike(signal.SIGINT, *moment),
    )
    check_interrupted(process, "Interrupted.")
    assert set(names(tmp_path)) <= {"digits.csv", "predictions.png"}
    assert (tmp_path / "predictions.png").read_bytes() == b"earlier"


@contextlib.contextmanager
def mounted(*arguments, at):
    """Mount something for a while, or skip the test where that is not allowed."""
    try:
        subprocess.run(["mount", *map(str, arguments), str(at)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing can be mounted here (it takes Linux and root)")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


@contextlib.contextmanager
def small_disk(folder):
    """Mount a disk of 4 MB."""
    folder.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", at=folder):
        yield folder


@contextlib.contextmanager
def read_only(path):
    """Write-protect a file or a folder, for root too."""
    if os.geteuid():
        mode = path.stat().st_mode
        path.chmod(mode & ~0o222)
        yield path
        path.chmod(mode)
    else:
        with mounted("--bind", path, at=path):
            subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)
            yield path


def fill(folder):
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.parametrize("kind", SCRIPTS)
def test_full_disk_keeps_the_earlier_model(tmp_path, kind, sample_npz):
    with small_disk(tmp_path / "disk") as disk:
        (disk / "model.keras").write_bytes(b"earlier")
        fill(disk)
        output = ["--output", "disk/model.keras"]
        process = start(SCRIPTS[kind], "--data", sample_npz, *SHORT, *output, folder=tmp_path)
        status, _, lines = finish(process)
        assert status == 1
        assert lines == ["Cannot write disk/model.keras: No space left on device."]
        assert (disk / "model.keras").read_bytes() == b"earlier"
        assert names(disk) == ["filler", "model.keras"]


def test_disk_that_is_full_after_the_model_keeps_the_model(tmp_path, sample_npz):
    fill_at_rename = """
import contextlib, os, sys

def hook(event, arguments):
    if event == "os.rename" and not os.path.exists("filler"):
        with contextlib.suppress(OSError), open("filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

sys.addaudithook(hook)
"""
    with small_disk(tmp_path / "disk") as disk:
        (disk / "mnist_cnn.png").write_bytes(b"earlier")
        process = start(
            "train_cnn.py", "--data", sample_npz, *SHORT, folder=disk, before=fill_at_rename
        )
        status, _, lines = finish(process)
        assert status == 1
        assert lines == ["Cannot write mnist_cnn.png: No space left on device."]
        assert names(disk) == ["filler", "mnist_cnn.keras", "mnist_cnn.png"]
        assert (disk / "mnist_cnn.png").read_bytes() == b"earlier"
        keras.saving.load_model(disk / "mnist_cnn.keras")


@pytest.mark.parametrize("name", ["predictions.png", "digits.csv"])
def test_full_disk_keeps_the_earlier_figure_and_table(
    predict_here, tmp_path, sample_npz, model_path, name
):
    with small_disk(tmp_path / "disk") as disk:
        (disk / name).write_bytes(b"earlier")
        fill(disk)
        option = "--csv" if name.endswith(".csv") else "--output"
        process = predict_here("--data", sample_npz, "--model", model_path, option, f"disk/{name}")
        assert process.returncode == 1
        assert process.stderr == f"Cannot write disk/{name}: No space left on device.\n"
        assert (disk / name).read_bytes() == b"earlier"
        assert names(disk) == sorted(["filler", name])


WITHOUT_TENSORFLOW = "import sys; sys.modules.update(keras=None, tensorflow=None)"


@pytest.mark.parametrize("script", ["train_ann.py", "train_cnn.py", "predict.py"])
def test_what_cannot_be_written_is_found_out_first(tmp_path, script, sample_npz, model_path):
    """A folder that is read-only or missing, and a file that is protected or a folder."""
    ending, options = ".keras", []
    if script == "predict.py":
        ending, options = ".png", ["--model", model_path]
    for folder in ("protected", "file", f"file/folder{ending}"):
        (tmp_path / folder).mkdir()
    file = tmp_path / "file" / f"kept{ending}"
    file.write_bytes(b"earlier")
    before = names(tmp_path / "file")
    with read_only(tmp_path / "protected"), read_only(file):
        for output in ("protected/x", "missing/x", "file/kept", "file/folder"):
            output += ending
            process = start(
                *(script, "--data", sample_npz, *options, "--output", output),
                folder=tmp_path,
                before=WITHOUT_TENSORFLOW,
            )
            status, stdout, (line,) = finish(process)
            assert (status, stdout) == (1, "")
            assert line.startswith(f"Cannot write {output}: ")
        assert file.read_bytes() == b"earlier"
    assert not names(tmp_path / "protected")
    assert names(tmp_path / "file") == before
