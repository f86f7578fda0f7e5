"""Pulled plugs: killed and interrupted runs, full and read-only disks, broken networks."""

import concurrent.futures
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
import threading
import time

import keras
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
    """Start a script as a user does, if need be after some lines of Python.

    Args:
        script: one of the project's scripts.
        *arguments: its command line.
        folder: the current folder.
        before: lines of Python to run before the script, in the same process.
        prefix: a command that starts the process in turn.
        **environment: what to change in the environment; `None` takes a variable out.
    """
    command = [ROOT / script]
    if before:
        run = f"runpy.run_path({str(ROOT / script)!r}, run_name='__main__')"
        command = ["-c", f"import runpy, sys\nsys.path[0] = {str(ROOT)!r}\n{before}\n{run}"]
    variables = {**os.environ, "MPLBACKEND": "agg", "PYTHONUNBUFFERED": "1", **environment}
    return subprocess.Popen(
        [*prefix, sys.executable, *map(str, command), *map(str, arguments)],
        cwd=folder,
        env={name: str(value) for name, value in variables.items() if value is not None},
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
    empty, temporary = tmp_path / "empty", tmp_path / "temporary"
    empty.mkdir()
    temporary.mkdir()
    (empty / "model.keras").write_bytes(b"earlier")
    process = start(
        SCRIPTS[kind],
        *("--data", sample_npz, *SHORT, "--output", "model.keras"),
        folder=empty,
        before=strike(signal.SIGINT, *INTERRUPTED[moment]),
        TMPDIR=temporary,
    )
    saved = moment == "writing_the_curves"
    state = "saved" if saved else "as it was before"
    check_interrupted(process, f"Interrupted. model.keras is {state}.")
    assert names(empty) == ["model.keras"]
    assert ((empty / "model.keras").read_bytes() == b"earlier") == (not saved)
    if moment != "writing_the_model":  # Keras has an empty folder there while it saves.
        assert not names(temporary)


@unix
def test_ctrl_c_in_an_epoch(tmp_path, sample_npz):
    output = tmp_path / "mnist_cnn.keras"
    output.write_bytes(b"earlier")
    process = start("train_cnn.py", "--data", sample_npz, "--epochs", "100000", folder=tmp_path)
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


MNIST_URL = f"https://{HOST}/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Make a certificate for MNIST's host, which only those trust who are told to."""
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    name = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    try:
        files = ["-keyout", path, "-out", path.with_suffix(".out")]
        subprocess.run([*command, *name, *files], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no openssl to make a certificate with")
    with path.open("ab") as file:
        file.write(path.with_suffix(".out").read_bytes())
    return path


class Proxy(socketserver.StreamRequestHandler):
    """A real proxy, but for the network behind it: it plays MNIST's host itself."""

    def handle(self):
        with contextlib.suppress(OSError):
            self.read_head(self.rfile)
            self.server.proxy_answer(self.wfile.write)
            if self.server.host_answer is None:
                return
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.server.certificate)
            with context.wrap_socket(self.connection, server_side=True) as connection:
                self.read_head(connection.makefile("rb"))
                self.server.host_answer(connection.sendall)

    @staticmethod
    def read_head(file):
        while file.readline().strip():
            pass


@contextlib.contextmanager
def proxy(certificate, proxy_answer, host_answer):
    """Run a proxy on the loopback address; give the environment that leads a script to it."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        server.daemon_threads, server.block_on_close = True, False
        server.certificate = certificate
        server.proxy_answer, server.host_answer = proxy_answer, host_answer
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield through(f"http://127.0.0.1:{server.server_address[1]}", certificate)
        server.shutdown()


def through(url, certificate):
    no_exception = {"NO_PROXY": None, "no_proxy": None}
    return {"HTTPS_PROXY": url, "https_proxy": url, "SSL_CERT_FILE": certificate, **no_exception}


def says(text, content=b""):
    return lambda send: send(text.encode().replace(b"\n", b"\r\n") + content)


def silent(send):
    time.sleep(60)


def trickling(text):
    """Send all but the last line at once, and then a byte a second."""

    def trickle(send):
        send(text.encode().replace(b"\n", b"\r\n"))
        while True:
            send(b"x")
            time.sleep(1)

    return trickle


def half_and_silence(send):
    says(HEAD, bytes(2**20))(send)
    time.sleep(60)


CONNECTED = says("HTTP/1.1 200 Connection established\n\n")
HEAD = "HTTP/1.1 200 OK\nContent-Length: 11490434\n\n"
# What the proxy answers, what the host answers, and what the user is told.
NETWORKS = {
    "nobody_listens": (None, None, "Connection refused"),
    "proxy_refuses": (says("HTTP/1.1 403 Not today\n\n"), None, "403 Not today"),
    "proxy_hangs_up": (says(""), None, "closed connection"),
    "proxy_is_none": (says("<html>\n<body>Welcome"), None, "<html>"),
    "proxy_is_silent": (silent, None, "nothing has come"),
    "proxy_trickles": (trickling("HTTP/1.1 200 "), None, "nothing has come"),
    "host_is_silent": (CONNECTED, silent, "nothing has come"),
    "host_hangs_up": (CONNECTED, says(""), "closed connection"),
    "host_is_not_trusted": (CONNECTED, says(HEAD), "certificate verify failed"),
    "not_found": (CONNECTED, says("HTTP/1.1 404 Not Found\n\n"), "404"),
    "server_error": (CONNECTED, says("HTTP/1.1 500 Oh dear\n\n"), "500"),
    "web_page": (CONNECTED, says("HTTP/1.1 200 OK\n\n<html>Log in</html>"), "corrupted"),
    "half": (CONNECTED, says(HEAD, bytes(2**20)), "got only 1048576 out of 11490434"),
    "half_of_unknown": (CONNECTED, says("HTTP/1.1 200 OK\n\n", bytes(2**20)), "corrupted"),
    "half_and_silence": (CONNECTED, half_and_silence, "nothing has come"),
    "trickle": (CONNECTED, trickling(HEAD), "nothing has come"),
    "trickling_head": (CONNECTED, trickling("HTTP/1.1 200 OK\nServer: "), "nothing has come"),
}
SCRIPTS_IN_TURN = ["train_ann.py", "predict.py", "train_cnn.py"]


def broken_network(network, script, folder, options, certificate):
    """Run a script in a broken network, every other time with a wrong file in Keras's cache."""
    proxy_answer, host_answer, _ = NETWORKS[network]
    empty, home = folder / "empty", folder / "home"
    empty.mkdir()
    (home / "datasets").mkdir(parents=True)
    if len(network) % 2:
        (home / "datasets" / "mnist.npz").write_bytes(b"wrong")
    with contextlib.ExitStack() as stack:
        if proxy_answer is None:
            refused = stack.enter_context(socket.socket())
            refused.bind(("127.0.0.1", 0))  # Nothing listens here.
            environment = through(f"http://127.0.0.1:{refused.getsockname()[1]}", certificate)
        else:
            environment = stack.enter_context(proxy(certificate, proxy_answer, host_answer))
        if network == "host_is_not_trusted":
            environment["SSL_CERT_FILE"] = None
        process = start(script, *options, folder=empty, KERAS_HOME=home, **environment)
        return process, finish(process), home, names(empty)


@pytest.fixture(scope="module")
def broken_networks(tmp_path_factory, model_path, certificate):
    """Try them all, some at a time: most of it is waiting."""
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        results = {}
        for turn, network in enumerate(NETWORKS):
            script = SCRIPTS_IN_TURN[turn % 3]
            folder = tmp_path_factory.mktemp(network)
            options = ["--model", model_path] if script == "predict.py" else []
            arguments = (network, script, folder, options, certificate)
            results[network] = executor.submit(broken_network, *arguments)
        yield results


@pytest.mark.parametrize("network", NETWORKS)
def test_broken_network_is_one_line(broken_networks, network):
    process, (status, stdout, lines), home, written = broken_networks[network].result()
    assert status == 1
    (line,) = lines
    assert line.startswith(("Cannot load MNIST: ", "Cannot train on MNIST: "))
    reason, cache = NETWORKS[network][2], str(home / "datasets" / "mnist.npz")
    for text in (reason, MNIST_URL, MNIST_SHA256, cache, "--data"):
        assert text in line
    assert "Epoch" not in stdout
    assert not written


def good_host(send):
    says(HEAD, (CACHE / "datasets" / "mnist.npz").read_bytes())(send)


@unix
@pytest.mark.parametrize("script", ["train_cnn.py", "predict.py"])
def test_good_network_mends_a_wrong_cache(tmp_path, mnist, model_path, certificate, script):
    """A download that was killed leaves half a file in Keras's cache."""
    (tmp_path / "datasets").mkdir()
    content = (CACHE / "datasets" / "mnist.npz").read_bytes()
    (tmp_path / "datasets" / "mnist.npz").write_bytes(content[:5_000_000])
    options = ["--model", model_path] if script == "predict.py" else []
    with proxy(certificate, CONNECTED, good_host) as environment:
        process = start(script, *options, folder=tmp_path, KERAS_HOME=tmp_path, **environment)
        for line in process.stdout:
            if line.startswith("Epoch 1/"):
                process.send_signal(signal.SIGINT)
                break
        status, _, lines = finish(process)
    assert (status, len(lines)) == ((0, 0) if script == "predict.py" else (130, 1))
    assert (tmp_path / "datasets" / "mnist.npz").read_bytes() == content


@pytest.mark.parametrize("script", ["train_cnn.py", "predict.py"])
def test_cache_that_cannot_be_written(tmp_path, sample_npz, model_path, script):
    """It is read where it is, and /tmp/.keras, which belongs to everybody, is not used."""
    home, work = tmp_path / "home", tmp_path / "work"
    (home / "datasets").mkdir(parents=True)
    work.mkdir()
    options = ["--model", model_path] if script == "predict.py" else SHORT
    shared = [*pathlib.Path("/tmp/.keras").rglob("*")]
    if script == "predict.py":
        with read_only(home):
            process = start(script, *options, folder=work, KERAS_HOME=home)
            status, _, (line,) = finish(process)
        assert status == 1
        assert "No such file" in line
        assert str(home / "datasets" / "mnist.npz") in line
    shutil.copy(sample_npz, home / "datasets" / "mnist.npz")
    with read_only(home):
        process = start(script, *options, folder=work, KERAS_HOME=home)
        status, _, lines = finish(process)
    assert (status, lines) == (0, [])
    assert names(home) == ["datasets"]
    assert [*pathlib.Path("/tmp/.keras").rglob("*")] == shared


def without_network():
    """Give the command that starts a process without a network, or skip the test."""
    command = ["unshare", "--net"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no process can be started without a network here (it takes Linux and root)")
    return command


def written(folder):
    """Tell all files in a folder, and when each was last written."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("work", ["train_ann", "train_cnn", "test_digits", "picture"])
def test_writes_where_it_says_alone(tmp_path, sample_npz, model_path, work):
    """A home that cannot be written, and no network: nothing is missed, and nothing left."""
    home, empty, temporary = (tmp_path / name for name in ("home", "empty", "temporary"))
    for folder in (home, empty, temporary):
        folder.mkdir()
    if work in ("train_ann", "train_cnn"):
        command = [f"{work}.py", "--data", sample_npz, *SHORT]
        expected = [f"mnist_{work[6:]}.keras", f"mnist_{work[6:]}.png"]
    else:
        source = (
            [ROOT / "docs" / "handwriting.png"] if work == "picture" else ["--data", sample_npz]
        )
        command = ["predict.py", *source, "--model", model_path, "--csv", "digits.csv"]
        expected = ["digits.csv", "predictions.png"]
    before = written(pathlib.Path("/tmp/.keras"))
    with read_only(home):
        process = start(
            *command,
            folder=empty,
            prefix=without_network(),
            **{"HOME": home, "KERAS_HOME": None, "MPLCONFIGDIR": None, "TMPDIR": temporary},
        )
        status, _, lines = finish(process)
    assert status == 0
    # Matplotlib tells that it has to make do without a cache, and what helps.
    assert all(line.startswith(("mkdir -p failed", "Matplotlib created")) for line in lines)
    assert names(empty) == expected
    assert not names(home)
    assert not names(temporary)
    assert written(pathlib.Path("/tmp/.keras")) == before
