"""The repository keeps its promises: layout, commands, links, snippets."""

import re
import subprocess

import numpy as np
import paper
import pytest
import sample_digits
from conftest import ROOT, SCRIPTS, probabilities_by_keras
from PIL import Image

import handwriting

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_top_level_holds_nothing_else():
    allowed = {
        *("README.md", "requirements.txt", "colab.ipynb", "docs", "tests", "handwriting"),
        *("train_ann.py", "train_cnn.py", "predict.py"),
        *("plots.py", "drawing.py", "safe_load.py"),
    }
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    names = {path.split("/")[0] for path in listed.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} <= allowed


def test_ci_runs_the_test_command_of_the_readme():
    commands = [line for line in README.splitlines() if "-m pytest" in line]
    assert "pip install -r tests/requirements.txt" in commands[0], "CI takes the first such line"
    assert "grep -m 1 -- '-m pytest' README.md" in (ROOT / ".ci" / "run").read_text()


def test_files_and_links_named_in_the_readme_exist():
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)", README)
    scripts = re.findall(r"\b(?:tests/)?\w+\.py\b", README)
    assert links
    assert scripts
    for name in {*links, *scripts}:
        assert (ROOT / name.split("#")[0]).exists(), name


@pytest.mark.parametrize("script", ["train_ann.py", "train_cnn.py", "predict.py"])
def test_the_readme_lists_the_options_of_every_script(run, script):
    options = re.split("^## Options$", README, flags=re.MULTILINE)[1]
    training, predicting = options.split("`python predict.py", 1)
    listed = predicting.split("\n## ")[0] if script == "predict.py" else training
    listed = set(re.findall(r"^\| `(--[\w-]+)", listed, flags=re.MULTILINE))
    offered = set(re.findall(r"--[\w-]+", run(script, "--help").stdout)) - {"--help"}
    assert listed == offered


def test_the_readme_s_program_runs_as_it_stands(trained_cnn, tmp_path, monkeypatch, capsys):
    (program,) = re.findall("```python\n(.*?)```", README, flags=re.DOTALL)
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


def shared_lines(kind):
    """The lines of a training script outside its usage, its settings and its model."""
    text = SCRIPTS[kind].read_text(encoding="utf-8")
    before, model = text.split('"""', 2)[2].split("# %% Model")
    return [*before.splitlines(), *model.split("model.summary()")[1].splitlines()]


def test_both_training_scripts_differ_only_in_settings():
    ann, cnn = (set(shared_lines(kind)) for kind in SCRIPTS)
    only = ann ^ cnn
    settings = r"default=|strength = |optimizer=|# In dense layers|astype\(\"float32\"\)"
    assert all(re.search(settings, line) for line in only), only
    titles = [re.findall("^# %% .*", path.read_text(), re.MULTILINE) for path in SCRIPTS.values()]
    assert titles[0] == titles[1]
    assert len(titles[0]) >= 7
