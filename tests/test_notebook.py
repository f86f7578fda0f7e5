"""The notebook, and the scripts in a notebook, in a real IPython kernel."""

import json
import re
import shutil
import subprocess
import types

import nbclient
import nbformat
import paper
import pytest
import sample_digits
from conftest import ROOT, SCRIPTS, user_lines
from PIL import Image

NOTEBOOK = ROOT / "colab.ipynb"
SHORT = "--epochs 1"
# What somebody may change in each file, and see.
EDITS = {
    "plots.py": "def percent(share):\n    return 'edited plots.py'",
    "safe_load.py": "def check_file(path):\n    print('edited safe_load.py')",
    "handwriting/files.py": "def find_pictures(names):\n    return names, ['edited files.py']",
}


def code_cells():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(folder, *sources):
    """Run cells in a new kernel, in a folder, and return them with their outputs."""
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, sources)])
    resources = {"metadata": {"path": str(folder)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)  # The kernel has one of its own.
        nbclient.NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources=resources, allow_errors=True
        ).execute()
    return notebook["cells"]


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


def clone(folder):
    """Copy the project, without what others may have left beside it."""
    ignored = shutil.ignore_patterns(".*", "*.keras", "*.png", "tests", "__pycache__")
    return shutil.copytree(ROOT, folder, ignore=ignored)


@pytest.fixture(scope="module")
def session(tmp_path_factory, sample_npz):
    """The whole notebook, and what people do next, in one kernel: starting one takes seconds."""
    folder = clone(tmp_path_factory.mktemp("session") / "my digits")
    picture = paper.as_bytes(paper.plain(sample_digits.load_data()[1][0][0]))
    Image.fromarray(picture).save(folder / "it's mine.png")

    def shortened(source):
        source = re.sub(r"(%run train_\w+\.py)", rf'\1 {SHORT} --data "{sample_npz}"', source)
        return re.sub(r"(%run predict\.py)", rf'\1 --data "{sample_npz}"', source)

    notebook = [shortened(source) for source in code_cells()]
    (read,) = [source for source in notebook if "Read my pictures" in source]
    script = SCRIPTS["cnn"].read_text(encoding="utf-8")
    pasted = re.sub(r'("--epochs".*default=)\d+', r"\g<1>2", script)
    pasted = pasted.replace('"--data"', f'"--data", default="{sample_npz}"')
    edit = "\n".join(
        f"open({name!r}, 'a').write('''\n{text}\n''');" for name, text in EDITS.items()
    )
    next_cells = {
        "first cell again": notebook[0],
        "own picture": read.replace('path = ""', 'path = "it\'s mine.png"'),
        "missing picture": read.replace('path = ""', 'path = "no such.png"'),
        "upload": read.replace("upload = False", "upload = True"),
        **{f"wrong {name}": f"%run {name} --wrong" for name in ("train_cnn.py", "predict.py")},
        "edit": edit,
        "edited": '%run -e predict.py "it\'s mine.png"',
        "new folder": "import os\nos.mkdir('empty')\n%cd -q empty",
        "pasted": pasted,
        "play": "model.count_params(), history.epoch, os.listdir()",
    }
    cells = execute(folder, *notebook, *next_cells.values())
    named = dict(zip(next_cells, cells[len(notebook) :], strict=True))
    return types.SimpleNamespace(notebook=cells[: len(notebook)], named=named)


def test_run_all(session):
    for cell in session.notebook:
        check_clean(cell)
        if cell["source"].startswith("%run train") or "slider" in cell["source"]:
            assert images(cell) == 1, cell["source"]
        if cell["source"].startswith("%run predict.py"):
            assert images(cell) == 1 + ("--mistakes" in cell["source"]), cell["source"]
    accuracies = [cell for cell in session.notebook if "Test accuracy: " in printed(cell)]
    assert ["train_ann" in cell["source"] for cell in accuracies] == [True, False]


def test_cells_run_again_with_other_settings(session):
    again, own, missing, upload = [*session.named.values()][:4]
    check_clean(again)
    assert printed(again).endswith("Ready.\n")
    check_clean(own)
    assert re.match(r"it's mine\.png: \d \(least sure: ", printed(own))
    assert images(own) == 1
    assert printed(missing, "stderr") == "no such.png: No such file or directory.\n"
    assert [output["output_type"] for output in missing["outputs"]] == ["stream"]
    check_clean(upload)
    assert "no upload outside of Google Colab" in printed(upload)


@pytest.mark.parametrize("script", ["train_cnn.py", "predict.py"])
def test_a_wrong_option_is_one_line_without_a_traceback(session, script):
    cell = session.named[f"wrong {script}"]
    (line,) = [line for line in printed(cell, "stderr").splitlines() if line.startswith(script)]
    assert line == f"{script}: unrecognized arguments: --wrong (see --help)"
    assert printed(cell) == ""
    assert "Traceback" not in str(cell["outputs"])


def test_edits_take_effect_in_the_next_cell(session):
    reading = session.named["edited"]
    assert "edited safe_load.py\n" in printed(reading)
    assert "(least sure: edited plots.py)\n" in printed(reading)
    assert printed(reading, "stderr") == "edited files.py\n"
    assert "edited" not in "".join(map(printed, session.notebook))


def test_a_whole_script_pasted_into_a_cell(session):
    pasted, play = session.named["pasted"], session.named["play"]
    check_clean(pasted)
    assert images(pasted) == 1
    assert "Epoch 2/2" in printed(pasted)
    assert printed(pasted).endswith("Saved mnist_cnn.keras\n")
    result = play["outputs"][0]["data"]["text/plain"]
    assert result.startswith("(27454, [0, 1], [")
    assert "mnist_cnn.keras" in result


def test_fetches_the_code_where_it_is_not_there(tmp_path):
    folder = clone(tmp_path / "repository")
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "Scripts"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    empty = tmp_path / "content"
    empty.mkdir()
    get_the_code = code_cells()[0]
    nowhere, named = (
        get_the_code.replace('repository = ""', f'repository = "{address}"')
        for address in ("file:///nowhere", folder.as_uri())
    )
    where = "import os; print(os.getcwd())"
    *failed, fetched, here, again, still_here = execute(
        empty, get_the_code, nowhere, named, where, named, where
    )
    for cell in failed:
        (error,) = [output for output in cell["outputs"] if output["output_type"] == "error"]
        assert "Fill in the address of the repository" in error["evalue"]
    for cell in (fetched, again):
        check_clean(cell)
        assert printed(cell).endswith("Ready.\n")
    assert printed(here) == printed(still_here) == f"{empty / 'digits'}\n"
    assert (empty / "digits" / "train_cnn.py").exists()


def test_the_notebook_is_stripped_and_names_no_machine():
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
    assert not re.search(r"/(home|root|work|tmp|Users)/|[A-Z]:\\\\", NOTEBOOK.read_text())
