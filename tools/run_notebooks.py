"""Execute lessons and pages from top to bottom, and save them clean.

    python tools/run_notebooks.py                        all of them, at full pace, nothing saved
    python tools/run_notebooks.py --save                 ... and the outputs written back
    python tools/run_notebooks.py --pace quick 00 03     some lessons, by number or by file
    python tools/run_notebooks.py anatomy                a page, by name

Lessons have a number and an order; pages, in notebooks/pages, explain one thing that lessons link
to. Each gets a fresh kernel and runs in the folder it lies in, as JupyterLab does it. A saved
notebook holds what a reader should see and what a diff should show, nothing else: see `clean`.
It replaces the old one in one step, and only if every cell ran.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from shrinkkit.system.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "notebooks"
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"}
KEPT_CELL_METADATA = ("deletable", "editable", "nbgrader", "tags")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
REPOSITORY = re.compile(r"(github(?:\.com)?)/[\w.-]+/[\w.-]+")
PROGRESS_BAR = re.compile(r"^[^\n]*\d+%\|[^\n]*(\n|$)|^[^\n]*\d+it \[[^\n]*(\n|$)", re.MULTILINE)


class LessonFailed(Exception):
    """A lesson did not run to its end; the message says where and why."""


@dataclass(frozen=True)
class Run:
    """One lesson, executed: its notebook with outputs, and the seconds it took."""

    path: Path
    notebook: NotebookNode
    seconds: float


def lessons() -> list[Path]:
    """Return the lessons in reading order."""
    return sorted(LESSONS.glob("[0-9][0-9]_*.ipynb"))


def pages() -> list[Path]:
    """Return the pages that stand beside the lessons, by name."""
    return sorted((LESSONS / "pages").glob("*.ipynb"))


def run(
    path: Path, *, pace: str = "full", timeout_s: int = 600, results: Path | None = None
) -> Run:
    """Execute one lesson in a fresh kernel.

    path: the notebook; it is read, never written.
    pace: what SHRINKKIT_PACE is for the kernel, "full" or "quick".
    timeout_s: seconds that one cell may take.
    results: where the lesson records its rows instead of data/results.
    Raises LessonFailed: a cell raised, took too long, or ended the kernel.
    """
    notebook = nbformat.read(path, as_version=4)
    here = str(Path(sys.executable).parent)  # for `!shrinkkit`, as tools/lab.py does
    environment = os.environ | {
        "PATH": os.pathsep.join([here, os.environ.get("PATH", os.defpath)]),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "SHRINKKIT_PACE": pace,
    }
    if results is not None:
        environment["SHRINKKIT_RESULTS"] = str(results)
    running = 0

    def starts(cell: NotebookNode, cell_index: int) -> None:
        nonlocal running
        running = cell_index

    client = NotebookClient(
        notebook,
        timeout=timeout_s,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        on_cell_start=starts,
    )
    start = time.perf_counter()
    try:
        client.execute(env=environment)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise LessonFailed(_explain(path, notebook.cells, running, error)) from None
    return Run(path, notebook, time.perf_counter() - start)


def _explain(path: Path, cells: list[NotebookNode], index: int, error: Exception) -> str:
    """Return which cell failed, what it says and what happened."""
    raised = [one for one in cells[index].get("outputs", []) if one.output_type == "error"]
    if isinstance(error, CellExecutionError) and raised:
        why = ANSI.sub("", "\n".join(raised[-1].traceback))
    elif isinstance(error, CellTimeoutError):
        why = "It took longer than a cell may."
    else:
        why = f"The kernel ended while this cell ran ({error}). Was there enough memory?"
    source = "\n".join(f"    {line}" for line in cells[index].source.splitlines())
    return f"{path.name}: cell {index + 1} of {len(cells)} failed\n{source}\n{why}"


def clean(notebook: NotebookNode) -> NotebookNode:
    """Return a copy that holds what a reader sees and nothing that differs from run to run.

    - Metadata: the kernel's name and the language; of the cells, tags and nbgrader's.
    - Cell ids made from the cells' contents, so that the same lesson has the same ids, in a fork
      (whose badges and set-up cells name another repository) too.
    - No widget views (without a kernel they read "model not found"; a static figure stands
      beside each), no progress bars, and printed text as one piece.
    """
    notebook = nbformat.from_dict(notebook)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": LANGUAGE})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: set[str] = set()
    for cell in notebook.cells:
        cell["id"] = _cell_id(cell, seen)
        cell.metadata = {
            key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata
        }
        if cell.cell_type == "code":
            cell.outputs = _clean_outputs(cell.outputs)
    return notebook


def _cell_id(cell: NotebookNode, seen: set[str]) -> str:
    source = REPOSITORY.sub(r"\1", cell.source)
    repeat = 0
    while True:
        text = f"{cell.cell_type}\n{source}\n{repeat}"
        cell_id = hashlib.sha256(text.encode()).hexdigest()[:8]
        if cell_id not in seen:
            seen.add(cell_id)
            return cell_id
        repeat += 1


def _clean_outputs(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                kept[-1].text += output.text
            else:
                kept.append(nbformat.from_dict(output))
        elif WIDGET_VIEW not in output.get("data", {}):
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = _settled(output.text, progress=output.name == "stderr")
    return [output for output in kept if output.output_type != "stream" or output.text.strip()]


def _settled(text: str, progress: bool) -> str:
    """Return printed text as a terminal shows it at the end: a carriage return starts over."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in ANSI.sub("", text).split("\n")]
    text = "\n".join(lines)
    return PROGRESS_BAR.sub("", text).lstrip("\n") if progress else text


def save(run: Run) -> None:
    """Write an executed lesson back to its file, clean, in one step."""
    with write_atomically(run.path) as temporary:
        temporary.write_text(nbformat.writes(clean(run.notebook)) + "\n", encoding="utf-8")


def chosen(words: Sequence[str]) -> list[Path]:
    """Return what is named by number, by name, or by path; everything when nothing is named."""
    everything = lessons() + pages()
    if not words:
        return everything
    paths = []
    for word in words:
        found = [Path(word)] if Path(word).is_file() else []
        found = found or [path for path in everything if path.name.startswith(Path(word).name)]
        if not found:
            names = ", ".join(path.name for path in everything)
            sys.exit(f"No lesson or page is called {word!r}. There are: {names}")
        paths += [path.resolve() for path in found]
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", help="number, name or path; default: all")
    parser.add_argument("--pace", choices=("full", "quick"), default="full")
    parser.add_argument("--save", action="store_true", help="write the outputs back, clean")
    parser.add_argument("--timeout", type=int, default=600, help="seconds that one cell may take")
    options = parser.parse_args()
    total, failed = 0.0, []
    for path in chosen(options.notebooks):
        print(f"{path.name:44}", end="", flush=True)
        try:
            done = run(path, pace=options.pace, timeout_s=options.timeout)
        except LessonFailed as error:
            print(f"  FAILED\n{error}\n", flush=True)
            failed.append(path.name)
            continue
        if options.save:
            save(done)
        total += done.seconds
        print(f"{done.seconds:8.1f} s{'   saved' if options.save else ''}", flush=True)
    print(f"{'total, ' + options.pace + ' pace':44}{total:8.1f} s")
    if failed:
        sys.exit(f"{len(failed)} failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
