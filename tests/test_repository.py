"""The repository keeps its promises: layout, commands, links."""

import re
import subprocess

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_top_level_holds_nothing_else():
    allowed = {
        *("README.md", "requirements.txt", "colab.ipynb", "docs", "tests"),
        *("train_ann.py", "train_cnn.py", "predict.py"),
        *("plots.py", "preprocess.py", "safe_load.py"),
    }
    try:
        command = ["git", "ls-files"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    names = {path.split("/")[0] for path in listed.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} <= allowed


def test_ci_runs_the_test_command_of_the_readme():
    commands = [line for line in README.splitlines() if "-m pytest" in line]
    assert len(commands) == 1, "CI takes the first such line"
    assert "pip install -r tests/requirements.txt" in commands[0]
    assert "grep -m 1 -- '-m pytest' README.md" in (ROOT / ".ci" / "run").read_text()


def test_links_and_pictures_of_the_readme_exist():
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link.split("#")[0]).exists(), link


def test_files_named_in_the_readme_exist():
    for name in set(re.findall(r"\b(?:tests/)?\w+\.py\b", README)):
        assert (ROOT / name).exists(), name


def shared_lines(script):
    """The lines of a training script outside its usage, its settings' defaults and its model."""
    text = (ROOT / script).read_text(encoding="utf-8")
    text = text.split('"""', 2)[2]
    before, model = text.split("# %% Model")
    after = model.split("model.summary()")[1]
    lines = (before + after).splitlines()
    return [line for line in lines if "default=" not in line and "description=" not in line]


def test_what_both_scripts_share_is_word_for_word_the_same():
    ann, cnn = shared_lines("train_ann.py"), shared_lines("train_cnn.py")
    different = [(a, c) for a, c in zip(ann, cnn, strict=True) if a != c]
    assert all(c.replace("[..., np.newaxis]", "") == a for a, c in different)
    assert len(different) == 2, "but for the CNN's axis of channels"
