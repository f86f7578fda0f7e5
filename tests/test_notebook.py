"""The notebook, and the scripts in a notebook, in a real IPython kernel."""

import re
import shutil
import subprocess
import types

import nbclient
import nbformat
import paper
import pytest
from conftest import DIGITS, ROOT, SCRIPTS, user_lines
from PIL import Image

NOTEBOOK = nbformat.read(ROOT / "colab.ipynb", as_version=4)
CODE = [cell["source"] for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
# What somebody may change in a file, and see.
EDITS = {
    "handwriting/__init__.py": "def percent(confidence):\n    return 'edited'",
    "plots.py": "def picture_pages(readings):\n    print('edited plots.py')\n    return []",
}
HAS_PICTURE = """%run (?!-e predict)|"+Train|# @title (One|Inside|Read my pictures.*it's mine)"""


def execute(folder, *sources):
    """Run cells in a new kernel, in a folder, and return what each one prints and shows."""
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, sources)])
    resources = {"metadata": {"path": str(folder)}}
    options = {"timeout": 600, "kernel_name": "python3", "allow_errors": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)  # The kernel has one of its own.
        nbclient.NotebookClient(notebook, resources=resources, **options).execute()
    return [summary(cell["source"], cell["outputs"]) for cell in notebook["cells"]]


def summary(source, outputs):
    """What a cell prints, the errors that it ends with, and how many pictures it shows."""
    printed = {"stdout": "", "stderr": ""}
    for output in outputs:
        if output["output_type"] == "stream":
            printed[output["name"]] += output["text"]
    error = "".join(output.get("evalue", "") for output in outputs)
    images = sum("image/png" in output.get("data", {}) for output in outputs)
    return types.SimpleNamespace(source=source, error=error, images=images, **printed)


def clone(folder):
    """Copy the project, without what others may have left beside it."""
    ignored = shutil.ignore_patterns(".*", "*.keras", "*.png", "tests", "__pycache__")
    return shutil.copytree(ROOT, folder, ignore=ignored)


def test_run_all_and_what_people_do_next(tmp_path, sample_npz):
    """All in one kernel: starting one takes seconds."""
    folder = clone(tmp_path / "my digits")
    picture = paper.as_bytes(paper.plain(DIGITS["x_test"][0]))
    Image.fromarray(picture).save(folder / "it's mine.png")
    short = rf'\1 --data "{sample_npz}"'
    notebook = [re.sub(r"(%run train_\w+\.py)", rf"{short} --epochs 1", code) for code in CODE]
    notebook = [re.sub(r"(%run predict\.py)", short, code) for code in notebook]
    (read,) = [code for code in notebook if "Read my pictures" in code]
    script = SCRIPTS["cnn"].read_text(encoding="utf-8")
    script = re.sub(r'("--epochs".*default=)\d+', r"\g<1>2", script)
    script = script.replace("layers.Flatten(),", "layers.BatchNormalization(), layers.Flatten(),")
    missing = read.replace('path = ""', 'path = "no such.png"')
    mine = read.replace('path = ""', 'path = "it\'s mine.png"')
    upload = read.replace("upload = False", "upload = True")
    edit = "\n".join(f"open({name!r}, 'a').write({text!r});" for name, text in EDITS.items())
    pasted = script.replace('default="MNIST"', f'default="{sample_npz}"')
    wrong = {  # And what is said on standard error.
        missing: "^no such.png: No such file or directory.\n$",
        "%run train_cnn.py --wrong": (
            r"train_cnn\.py: unrecognized arguments: --wrong \(see --help\)\n"
        ),
    }
    then = {  # And what is printed.
        notebook[0]: r"Ready\.\n",
        mine: r"it's mine\.png: \d \(least sure: ",
        upload: "There is no upload outside of Google Colab",
        edit: "",
        '%run -e predict.py "it\'s mine.png"': r"\(least sure: edited\)\n.*edited plots\.py\n",
        "import os\nos.mkdir('empty')\n%cd -q empty": "",
        pasted: r"Epoch 2/2[^$]*\nSaved mnist_cnn\.keras\n$",
        # With 64 parameters more of the batch normalization.
        "print(model.count_params(), history.epoch, len(x_test), len(y_test))": (
            r"^27518 \[0, 1\] 360 360\n$"
        ),
        f'%run -e ../predict.py --data "{sample_npz}"': (
            r"of 25 test digits are correct \(mnist_cnn\.keras\)"
        ),
    }
    cells = execute(folder, *notebook, *wrong, *then)
    trained = [cell.source[:14] for cell in cells if "Test accuracy: " in cell.stdout]
    assert trained == ["%run train_ann", "%run train_cnn", '"""Train the a']
    for cell in cells:
        if cell.source in wrong:
            assert re.search(wrong[cell.source], cell.stderr)
            assert "Traceback" not in cell.stderr
            assert cell.source != missing or (cell.stdout, cell.error) == ("", "")
        else:
            assert cell.error == ""
            assert user_lines(cell.stderr) == [], cell.source
            assert "Warning" not in cell.stdout
            assert re.search(then.get(cell.source, ""), cell.stdout)
            if re.match(HAS_PICTURE, cell.source, re.DOTALL):
                assert cell.images == 1 + ("--mistakes" in cell.source), cell.source


def test_fetches_the_code_where_it_is_not_there(tmp_path):
    folder = clone(tmp_path / "repository")
    for command in ("init --quiet", "add .", "commit --quiet --message Scripts"):
        git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *command.split()]
        subprocess.run(git, cwd=folder, check=True)
    nowhere, named = (
        CODE[0].replace('repository = ""', f'repository = "{address}"')
        for address in ("file:///nowhere", folder.as_uri())
    )
    (content := tmp_path / "content").mkdir()
    *failed, fetched, again = execute(content, CODE[0], nowhere, named, named)
    for cell in failed:
        assert "Fill in the address of the repository" in cell.error
    for cell in (fetched, again):
        assert (cell.error, cell.stderr) == ("", "")
        assert cell.stdout.endswith("Ready.\n")
    assert [path.name for path in content.iterdir()] == ["digits"]
    assert (content / "digits" / "train_cnn.py").exists()
