"""The notebook, and the scripts in a notebook, in a real IPython kernel."""

import json
import pathlib
import re
import shutil
import subprocess

import nbclient
import nbformat
import paper
import pytest
import sample_digits
from conftest import ROOT, SCRIPTS, user_lines
from PIL import Image

NOTEBOOK = ROOT / "colab.ipynb"
MODULES = ("predict.py", "plots.py", "preprocess.py", "safe_load.py")
SHORT = "--epochs 6 --batch-size 16"


@pytest.fixture
def folder(tmp_path):
    """A clone's folder: the scripts, without what others may have left beside them."""
    folder = tmp_path / "my digits"
    folder.mkdir()
    for path in [*SCRIPTS.values(), *(ROOT / name for name in MODULES)]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def execute(folder, monkeypatch):
    """Run cells in a new kernel, in the clone's folder, and return them with their outputs."""
    monkeypatch.delenv("MPLBACKEND", raising=False)  # The kernel has one of its own.

    def execute_cells(*sources, folder=folder, allow_errors=False):
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        nbclient.NotebookClient(
            nbformat.v4.new_notebook(cells=cells),
            timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            allow_errors=allow_errors,
        ).execute()
        return cells

    return execute_cells


def printed(cell, name="stdout"):
    return "".join(
        output["text"]
        for output in cell["outputs"]
        if output["output_type"] == "stream" and output["name"] == name
    )


def images(cell):
    return sum("image/png" in output.get("data", {}) for output in cell["outputs"])


def check_clean(cell):
    assert not [output for output in cell["outputs"] if output["output_type"] == "error"]
    assert user_lines(printed(cell, "stderr")) == [], cell["source"]
    assert "Warning" not in printed(cell)


def code_cells():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def shortened(source, sample_npz):
    """Put short settings and scikit-learn's digits in."""
    source = re.sub(r"(%run train_\w+\.py)", rf'\1 {SHORT} --data "{sample_npz}"', source)
    return re.sub(r"(%run predict\.py)", rf'\1 --data "{sample_npz}"', source)


def test_run_all_twice(execute, folder, sample_npz):
    first = [shortened(source, sample_npz) for source in code_cells()]
    picture = paper.as_bytes(paper.plain(sample_digits.load_data()[1][0][0]))
    Image.fromarray(picture).save(folder / "it's mine.png")
    second = [*first[:-1], re.sub('path = ""', 'path = "it\'s mine.png"', first[-1])]
    assert second[-1] != first[-1]

    missing = first[-1].replace('path = ""', 'path = "no such.png"')
    upload = first[-1].replace("upload = False", "upload = True")

    *cells, missing, upload = execute(*first, *second, missing, upload)
    expected = {
        "Get the code": 0,
        "%run train_ann.py": 1,
        "%run predict.py": 1,
        "%run train_cnn.py": 1,
        "--mistakes": 2,
        "One test digit": 1,
        "Read my pictures": 0,
    }
    for cell in cells:
        check_clean(cell)
        count = [number for text, number in expected.items() if text in cell["source"]][-1]
        assert images(cell) == count + ("mine" in cell["source"]), cell["source"]
    for run in (cells[: len(first)], cells[len(first) :]):
        accuracies = [cell for cell in run if "Test accuracy: " in printed(cell)]
        assert ["train_ann" in cell["source"] for cell in accuracies] == [True, False]
        assert "6 epochs; accuracy on the validation images" in printed(run[-2])
    assert printed(cells[len(first) - 1]) == "No picture was given.\n"
    assert re.match(r"it's mine\.png: \d \(least sure: ", printed(cells[-1]))
    assert printed(missing, "stderr") == "no such.png: No such file or directory.\n"
    assert [output["output_type"] for output in missing["outputs"]] == ["stream"]
    check_clean(upload)
    assert "no upload outside of Google Colab" in printed(upload)


def test_fetches_the_code_where_it_is_not_there(execute, folder, tmp_path):
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "Scripts"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    empty = tmp_path / "content"
    empty.mkdir()
    get_the_code, *_ = code_cells()
    named = get_the_code.replace('repository = ""', f'repository = "{folder.as_uri()}"')
    where = "import os; print(os.getcwd())"

    cells = execute(named, where, named, where, folder=empty)
    for cell in cells:
        check_clean(cell)
    assert [printed(cell) for cell in cells] == ["Ready.\n", f"{empty / 'digits'}\n"] * 2
    assert (empty / "digits" / "train_cnn.py").exists()
    # After a restart of the runtime, the clone is found again.
    _, here = execute(named, where, folder=empty)
    assert printed(here) == f"{empty / 'digits'}\n"

    shutil.rmtree(empty / "digits")
    nowhere = get_the_code.replace('repository = ""', 'repository = "file:///nowhere"')
    for source in (get_the_code, nowhere):
        cell, alive = execute(source, "print(6 * 7)", folder=empty, allow_errors=True)
        (error,) = [output for output in cell["outputs"] if output["output_type"] == "error"]
        assert "Fill in the address of the repository" in error["evalue"]
        assert printed(alive) == "42\n"


@pytest.mark.parametrize("kind", SCRIPTS)
def test_whole_script_pasted_into_a_cell(execute, tmp_path, kind, sample_npz):
    source = SCRIPTS[kind].read_text(encoding="utf-8")
    short = re.sub(r'("--epochs".*default=)\d+', r"\g<1>2", source)
    short = re.sub('("--data", type=pathlib.Path)', rf'\1, default="{sample_npz}"', short)
    assert len(short) > len(source)
    empty = tmp_path / "empty"
    empty.mkdir()
    script, play = execute(short, "model.count_params(), history.epoch", folder=empty)
    check_clean(script)
    assert images(script) == 1
    assert "Epoch 2/2" in printed(script)
    assert printed(script).endswith(f"Saved mnist_{kind}.keras\n")
    parameters = {"ann": 316_810, "cnn": 27_454}[kind]
    assert play["outputs"][0]["data"]["text/plain"] == f"({parameters}, [0, 1])"
    assert (empty / f"mnist_{kind}.keras").exists()


@pytest.mark.parametrize("script", ["train_ann.py", "train_cnn.py", "predict.py"])
def test_wrong_option_is_one_line_and_the_kernel_lives(execute, script):
    wrong, alive = execute(f"%run {script} --no-such-option", "print(6 * 7)", allow_errors=True)
    (line,) = [line for line in printed(wrong, "stderr").splitlines() if line.startswith(script)]
    assert line == f"{script}: unrecognized arguments: --no-such-option (see --help)"
    assert printed(wrong) == ""
    assert not any("Traceback" in str(output) for output in wrong["outputs"])
    assert printed(alive) == "42\n"


def test_edits_take_effect(execute, folder, sample_npz):
    picture = paper.as_bytes(paper.plain(sample_digits.load_data()[1][0][0]))
    Image.fromarray(picture).save(folder / "digit.png")
    edit = "\n".join(
        f"with open('{name}', 'a') as file: file.write('\\nprint(\"edited {name}\")\\n')"
        for name in ("train_ann.py", "plots.py", "preprocess.py", "safe_load.py")
    )
    train = f'%run train_ann.py {SHORT} --data "{sample_npz}"'
    before, after = [train, "%run predict.py digit.png"], [train, "%run predict.py digit.png"]
    cells = execute(*before, edit, *after)
    for cell in cells:
        check_clean(cell)
    assert "edited" not in printed(cells[0]) + printed(cells[1])
    assert printed(cells[3]).endswith("edited train_ann.py\n")
    edited = {line for line in printed(cells[4]).splitlines() if line.startswith("edited")}
    assert edited == {f"edited {name}" for name in ("plots.py", "preprocess.py", "safe_load.py")}


def test_notebook_is_stripped_and_names_no_machine():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert notebook["metadata"] == {
        "colab": {"provenance": [], "toc_visible": True},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|work|tmp|Users)/|[A-Z]:\\\\", text)
    assert str(pathlib.Path.home()) not in text
