"""The README keeps its promises: files, options, commands, the program in it."""

import re
import shutil
import subprocess
import sys

import numpy as np
import paper
import pytest
import sample_digits
from conftest import ROOT, SCRIPTS, probabilities_by_keras, user_lines
from PIL import Image

import handwriting

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```\w*\n(.*?)```", README, flags=re.MULTILINE | re.DOTALL)


def test_files_and_links_named_in_the_readme_exist():
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)", README)
    scripts = re.findall(r"\b(?:\w+/)?\w+\.py\b", README)
    assert links
    assert scripts
    for name in {*links, *scripts}:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("script", ["train_ann.py", "train_cnn.py", "predict.py"])
def test_the_readme_lists_the_options_of_every_script(run, script):
    options = README.split("\n## Options\n")[1].split("\n## ")[0]
    training, predicting = options.split("`python predict.py", 1)
    listed = predicting if script == "predict.py" else training
    listed = re.findall(r"^\| `(--[\w-]+)", listed, flags=re.MULTILINE)
    offered = re.findall(r"--[\w-]+", run(script, "--help").stdout)
    assert {*listed, "--help"} == {*offered}


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
def test_the_readme_s_sheet_is_read_as_it_says(run, trained_on_mnist):
    (says,) = re.findall(r"`(number\.jpg: [\d ]+ \()", README)
    assert run("tests/paper.py", "number.jpg").returncode == 0
    process = run("predict.py", "number.jpg", "--model", trained_on_mnist.model_path)
    assert process.stdout.startswith(says)


def test_the_readme_s_program_runs_as_it_stands(trained_cnn, tmp_path, monkeypatch, capsys):
    (program,) = [block for block in BLOCKS if "import handwriting" in block]
    (picture,) = re.findall(r'"([\w.]+\.jpg)"', program)
    (_, _), (x_test, _) = sample_digits.load_data()
    sheet = paper.sheet(400, 840)
    paper.write_number(sheet, x_test[:4], 60, 90, 200)
    Image.fromarray(paper.as_bytes(sheet)).save(tmp_path / picture)
    (tmp_path / "mnist_cnn.keras").write_bytes(trained_cnn.model_path.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    digits = handwriting.read_picture(picture).digits
    expected = probabilities_by_keras("mnist_cnn.keras", [digit.image for digit in digits])
    assert len(digits) == 4
    assert capsys.readouterr().out.splitlines()[-1] == str(np.argmax(expected, axis=1))


def test_both_training_scripts_have_the_same_sections_and_differ_in_few_lines():
    texts = [path.read_text(encoding="utf-8") for path in SCRIPTS.values()]
    sections = [re.split("^(# %% .*)", text, flags=re.MULTILINE) for text in texts]
    assert sections[0][1::2] == sections[1][1::2]
    titles = re.findall(r"^\| `(# %% [^`]*)` \|", README, flags=re.MULTILINE)
    assert titles == sections[0][1::2]
    settings = r"default=|astype|newaxis|\[\.\.\., 0\]|perspective_transform|\d pixels|-\d, \d"
    for title, ann, cnn in zip(sections[0][1::2], *(text[2::2] for text in sections), strict=True):
        differ = {*ann.splitlines()} ^ {*cnn.splitlines()}
        if title != "# %% Model":
            assert all(re.search(settings, line) for line in differ), differ


@pytest.mark.parametrize(
    "arguments",
    [
        ["tests/sample_digits.py", "nowhere/digits.npz"],
        ["tests/paper.py", "nowhere/number.jpg"],
        ["tests/paper.py", "--scenes", "1", "--model", "nowhere.keras"],
    ],
)
def test_a_missing_folder_or_model_is_named_in_one_sentence(run, arguments):
    process = run(*arguments)
    assert process.returncode in (1, 2)
    assert "nowhere" in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr
