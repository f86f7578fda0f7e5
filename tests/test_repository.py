"""The README keeps its promises: files, options, commands, the program in it."""

import re

import numpy as np
import paper
import pytest
import sample_digits
from conftest import ROOT, SCRIPTS, probabilities_by_keras
from PIL import Image

import handwriting

README = (ROOT / "README.md").read_text(encoding="utf-8")


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
