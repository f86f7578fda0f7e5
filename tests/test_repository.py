"""The README keeps its promises: sections, options, commands, the program in it."""

import re
import shutil
import subprocess
import sys

import numpy as np
import paper
import pytest
from conftest import DIGITS, ROOT, SCRIPTS, probabilities_by_keras, run, user_lines
from PIL import Image

import handwriting

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```\w*\n(.*?)```", README, flags=re.MULTILINE | re.DOTALL)


def test_help_lists_the_readme_s_options_without_waiting_for_tensorflow(tmp_path):
    for package in ("tensorflow", "keras", "matplotlib"):
        (tmp_path / f"{package}.py").write_text("raise SystemExit('imported')")
    _, training, predicting = re.split(r"\n## Options\n|`python predict.py \[", README)
    listed = {"train_ann.py": training, "train_cnn.py": training, "predict.py": predicting}
    for script, table in listed.items():
        options = re.findall(r"^\| `(--[\w-]+)", table, flags=re.MULTILINE)
        shown = run(tmp_path, script, "--help", PYTHONPATH=str(tmp_path)).stdout
        assert {*options, "--help"} == {*re.findall(r"--[\w-]+", shown)}


@pytest.mark.long
def test_the_readme_s_commands_without_internet_work_as_they_stand(tmp_path):
    (block,) = [block for block in BLOCKS if "tests/sample_digits.py" in block]
    clone = shutil.copytree(ROOT, tmp_path / "clone", ignore=shutil.ignore_patterns(".*", "*.png"))
    printed = []
    for command in block.splitlines()[1:]:  # The first one is for pip.
        command = [sys.executable, *command.removeprefix(".venv/bin/python ").split()]
        process = subprocess.run(command, cwd=clone, capture_output=True, encoding="utf-8")
        assert process.returncode == 0, process.stderr
        assert user_lines(process.stderr) == []
        printed.append(process.stdout)
    assert "of 25 test digits are correct (small.keras)" in printed[-1]


@pytest.mark.long
def test_the_readme_s_sheet_is_read_as_it_says(tmp_path, trained_on_mnist):
    (says,) = re.findall(r"`(number\.jpg: [\d ]+ \()", README)
    assert run(tmp_path, "tests/paper.py", "number.jpg").returncode == 0
    process = run(tmp_path, "predict.py", "number.jpg", "--model", trained_on_mnist.model_path)
    assert process.stdout.startswith(says)


def test_the_readme_s_program_runs_as_it_stands(trained_cnn, tmp_path, monkeypatch, capsys):
    (program,) = [block for block in BLOCKS if "import handwriting" in block]
    (picture,) = re.findall(r'"([\w.]+\.jpg)"', program)
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained_cnn.model_path, "mnist_cnn.keras")
    sheet = np.hstack([paper.plain(digit) for digit in DIGITS["x_test"][:4]])
    Image.fromarray(paper.as_bytes(sheet)).save(picture)
    exec(program, {})
    digits = handwriting.read_picture(picture).digits
    expected = probabilities_by_keras("mnist_cnn.keras", [digit.image for digit in digits])
    assert len(digits) == 4
    assert capsys.readouterr().out.splitlines()[-1] == str(expected.argmax(axis=1))


def test_both_training_scripts_have_the_sections_that_the_readme_lists():
    listed = re.findall(r"^\| `(# %% [^`]*)` \|", README, flags=re.MULTILINE)
    for script in SCRIPTS.values():
        text = script.read_text(encoding="utf-8")
        assert re.findall("^# %% .*", text, flags=re.MULTILINE) == listed
