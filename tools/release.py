"""Make the students' exercises from the solutions, and stamp the repository's owner/name.

    python tools/release.py                     generate notebooks/exercises
    python tools/release.py --repo me/my-fork   first make every badge and set-up cell point there
    python tools/release.py --check             change nothing; fail if something is out of date

The exercises come from nbgrader's own `generate_assignment`, configured by nbgrader_config.py, so
they are what an instructor who runs nbgrader gets. They are written to a temporary folder first and
only files that differ are replaced: releasing twice changes nothing.

The repository's name is one setting, `repo` under [tool.shrinkkit] in pyproject.toml.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETTING = re.compile(r'(?ms)(^\[tool\.shrinkkit\]\s*$.*?^repo\s*=\s*")([^"\n]*)(")')
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}")
# Where a notebook names the repository: the badge's link and the set-up cell's pip command.
STAMPS = (
    re.compile(r"(colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+(?=/)"),
    re.compile(r"(git\+https://github\.com/)[\w.-]+/[\w.-]+"),
)


class ReleaseError(Exception):
    """The release cannot be made: the message says why and what to do."""


def read(path: Path) -> str:
    """Read a text file without touching its line ends."""
    return path.read_bytes().decode("utf-8")


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def current_repo(root: Path) -> str:
    """Return the owner/name that pyproject.toml holds."""
    found = SETTING.search(read(root / "pyproject.toml"))
    if not found:
        raise ReleaseError(
            'pyproject.toml has no line `repo = "owner/name"` under [tool.shrinkkit]: add it.'
        )
    return found[2]


def stamped(root: Path, repo: str) -> dict[Path, str]:
    """Return the files whose text changes when the repository is called `repo`.

    In notebooks, badges and set-up cells of any owner; in them, the README and pyproject.toml also
    plain links to the old repository.
    """
    if not REPO.fullmatch(repo):
        raise ReleaseError(
            f"--repo must be owner/name as on GitHub, such as shrinkkit/shrinkkit; got {repo!r}."
        )
    old = current_repo(root)
    link = re.compile(rf"(github\.com/){re.escape(old)}(?![\w-])")
    notebooks = sorted(
        path
        for path in (root / "notebooks").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts
    )
    changed = {}
    for path in [root / "pyproject.toml", root / "README.md", *notebooks]:
        if not path.exists():
            continue
        text = before = read(path)
        for pattern in (*STAMPS, link):
            text = pattern.sub(rf"\g<1>{repo}", text)
        if path.name == "pyproject.toml":
            text = SETTING.sub(rf"\g<1>{repo}\g<3>", text)
        if text != before:
            changed[path] = text
    return changed


def generate(root: Path, into: Path, *, register: bool) -> None:
    """Run nbgrader's generate_assignment for every folder of notebooks/solutions.

    into: the folder that takes the place of notebooks/exercises.
    register: enter the assignments in the course's gradebook, so that they can be graded.
    Raises ReleaseError when nbgrader refuses; its log says why.
    """
    from nbgrader.converters import GenerateAssignment
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import PyFileConfigLoader

    config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
    solutions = root / config.CourseDirectory.source_directory
    config.CourseDirectory.release_directory = str(into)
    config.GenerateAssignment.no_database = not register
    config.SaveCells.enabled = register
    for folder in sorted(solutions.iterdir()):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        course = CourseDirectory(config=config)
        course.assignment_id = folder.name
        app = GenerateAssignment(coursedir=course, config=config)
        app.force = True
        try:
            app.start()
        except NbGraderException as error:
            raise ReleaseError(f"nbgrader could not generate {folder.name}: {error}") from error


def differences(made: Path, exercises: Path) -> tuple[list[Path], list[Path]]:
    """Compare the generated folder with the released one.

    Returns the relative paths that are new or changed, and those that have no source any more.
    """
    wanted = {path.relative_to(made) for path in made.rglob("*") if path.is_file()}
    there = {
        path.relative_to(exercises)
        for path in exercises.rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts
    }
    changed = [
        path
        for path in sorted(wanted)
        if not (exercises / path).exists()
        or (made / path).read_bytes() != (exercises / path).read_bytes()
    ]
    return changed, sorted(there - wanted)


def release(root: Path, repo: str | None = None, *, check: bool = False) -> list[str]:
    """Stamp and generate; return the paths that changed (or, with `check`, that would).

    repo: owner/name; None or empty keeps the one in pyproject.toml.
    Raises ReleaseError for a bad name, and for a released notebook that has lost its source.
    """
    changed = []
    for path, text in stamped(root, repo or current_repo(root)).items():
        changed.append(path.relative_to(root).as_posix())
        if not check:
            replace_file(path, text.encode("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "exercises"
        generate(root, made, register=not check)  # a check leaves no trace
        exercises = root / "notebooks" / "exercises"
        new, orphans = differences(made, exercises)
        if orphans:
            raise ReleaseError(
                "These exercises have no solution to come from; delete them or restore it: "
                + ", ".join(str(path) for path in orphans)
            )
        for path in new:
            name = (exercises / path).relative_to(root).as_posix()
            changed += [name] if name not in changed else []
            if not check:
                replace_file(exercises / path, (made / path).read_bytes())
    return changed


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repo", metavar="OWNER/NAME", help="stamp this repository's name")
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    options = parser.parse_args(arguments)
    try:
        changed = release(ROOT, options.repo, check=options.check)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    for name in changed:
        print(f"{'out of date' if options.check else 'written'}: {name}")
    if not changed:
        print("everything is up to date")
    elif options.check:
        print("run `make release`", file=sys.stderr)
    return 1 if changed and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
