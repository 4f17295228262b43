"""tools/run_notebooks.py: what it runs and stores, and what it says when a cell fails."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tools.run_notebooks import LESSONS, LessonFailed, Run, chosen, clean, lessons, pages, run, save

new = nbformat.v4
WIDGET = "application/vnd.jupyter.widget-view+json"


def cleaned_outputs(*outputs: NotebookNode) -> list[NotebookNode]:
    cell = new.new_code_cell("x", outputs=list(outputs))
    return clean(new.new_notebook(cells=[cell])).cells[0].outputs


def printed(text: str, name: str = "stdout") -> NotebookNode:
    return new.new_output("stream", name=name, text=text)


def shown(data: dict[str, object], **metadata: object) -> NotebookNode:
    return new.new_output("display_data", data, metadata=metadata)


def written(folder: Path, *sources: str) -> Path:
    path = folder / "07_lesson.ipynb"
    nbformat.write(new.new_notebook(cells=[new.new_code_cell(text) for text in sources]), path)
    return path


def test_clean_keeps_only_metadata_that_stays_the_same() -> None:
    cell = new.new_code_cell("x = 1", metadata={"execution": {"a": "1"}, "tags": ["t"]})
    notebook = new.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}, "colab": {}})
    result = clean(notebook)
    assert set(result.metadata) == {"kernelspec", "language_info"}
    assert result.metadata.kernelspec.name == "python3"
    assert result.cells[0].metadata == {"tags": ["t"]}
    assert notebook.cells[0].metadata["execution"] == {"a": "1"}  # the original is left alone


def test_clean_makes_the_same_ids_again_and_in_a_fork_and_no_two_alike() -> None:
    source = '%pip install "shrinkkit @ git+https://github.com/shrinkkit/shrinkkit"'
    badge = "[![Colab](b.svg)](https://colab.research.google.com/github/shrinkkit/shrinkkit/blob/x)"
    same = [new.new_markdown_cell("same"), new.new_markdown_cell("same"), new.new_code_cell("same")]
    cells = [*same, new.new_code_cell(source), new.new_markdown_cell(badge)]
    first = clean(new.new_notebook(cells=cells))
    for cell in cells:
        cell["id"] = "another"
        cell.source = cell.source.replace("shrinkkit/shrinkkit", "me/my-fork")
    second = clean(new.new_notebook(cells=cells))
    ids = [cell["id"] for cell in first.cells]
    assert ids == [cell["id"] for cell in second.cells]
    assert len(set(ids)) == 5


def test_clean_twice_is_clean_once() -> None:
    output = printed("a\rb\n\x1b[1mbold\x1b[0m\n")
    once = clean(new.new_notebook(cells=[new.new_code_cell("x", outputs=[output])]))
    assert clean(once) == once
    nbformat.validate(once)


BAR = "\rload:   0%|    | 0/3\rload: 100%|####| 3/3 [00:01<00:00]\n"


@pytest.mark.parametrize(
    ("texts", "name", "left"),
    [
        pytest.param(["1\r2", "2\r3\n"], "stdout", ["3\n"], id="as a terminal shows it, in one"),
        pytest.param([BAR], "stderr", [], id="bar"),
        pytest.param(["\r5it [00:01, 2.8it/s]\n"], "stderr", [], id="count"),
        pytest.param(["\ra: 100%|##| 3/3\nhm\n"], "stderr", ["hm\n"], id="bar and warning"),
        pytest.param(["so: 50% of it\n"], "stderr", ["so: 50% of it\n"], id="warning"),
        pytest.param(["97%| of it\n"], "stdout", ["97%| of it\n"], id="a percentage"),
    ],
)
def test_bars_go_and_printed_text_stays(texts: list[str], name: str, left: list[str]) -> None:
    outputs = cleaned_outputs(*(printed(text, name) for text in texts))
    assert [output.text for output in outputs] == left


def test_widget_views_go_and_figures_stay() -> None:
    figure = shown(
        {"image/png": "AAAA", "text/plain": "a line"}, **{"image/png": {"alt": "a line"}}
    )
    widget = shown({WIDGET: {"model_id": "1"}, "text/plain": "IntSlider()"})
    assert cleaned_outputs(widget, figure) == [figure]


def test_lessons_run_in_order_and_pages_after_them() -> None:
    assert chosen([]) == lessons() + pages()
    assert LESSONS / "pages" / "anatomy.ipynb" in pages()
    assert not set(lessons()) & set(pages())


@pytest.mark.parametrize(
    ("word", "name"),
    [
        pytest.param("02", "02_measuring.ipynb", id="number"),
        pytest.param("02_measuring.ipynb", "02_measuring.ipynb", id="name"),
        pytest.param("anatomy", "pages/anatomy.ipynb", id="page"),
        pytest.param(str(LESSONS / "pages" / "anatomy.ipynb"), "pages/anatomy.ipynb", id="path"),
    ],
)
def test_notebooks_are_chosen_by(word: str, name: str) -> None:
    assert chosen([word]) == [LESSONS / name]


def test_what_is_not_there_cannot_be_chosen() -> None:
    with pytest.raises(SystemExit, match=r"No lesson or page is called '99'.*anatomy\.ipynb"):
        chosen(["99"])


def test_save_replaces_the_file_with_the_clean_notebook(tmp_path: Path) -> None:
    path = written(tmp_path, "x = 1")
    notebook = new.new_notebook(cells=[new.new_code_cell("x = 2", metadata={"scrolled": True})])
    save(Run(path, notebook, 0.0))
    stored = nbformat.read(path, as_version=4)
    assert stored == clean(notebook)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.slow
def test_a_lesson_runs_in_its_folder_at_its_pace(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "import os, shutil, sys; from pathlib import Path",
        "print(os.environ['SHRINKKIT_PACE'], os.environ['SHRINKKIT_RESULTS'], os.getcwd())",
        "print(Path(shutil.which('python')).parent == Path(sys.executable).parent)",
    )
    before = path.read_bytes()
    cells = run(path, pace="quick", results=tmp_path / "rows").notebook.cells
    assert cells[1].outputs[0].text.split() == ["quick", str(tmp_path / "rows"), str(tmp_path)]
    assert cells[2].outputs[0].text == "True\n"
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param("raise ValueError('no good')", "ValueError: no good", id="raises"),
        pytest.param("import time; time.sleep(60)", "longer than a cell may", id="too slow"),
        pytest.param("import os; os._exit(1)", "kernel ended", id="kernel dies"),
    ],
)
def test_a_failing_cell_is_named_and_shown(tmp_path: Path, source: str, says: str) -> None:
    path = written(tmp_path, "x = 1", source, "y = 1")
    with pytest.raises(LessonFailed, match=says) as failure:
        run(path, timeout_s=5)
    assert str(failure.value).startswith(f"07_lesson.ipynb: cell 2 of 3 failed\n    {source}\n")
