"""A folder that is made once, checked cheaply ever after, and made again when it is damaged.

Unpacking SmolLM2 from its 4-bit file takes many seconds, opening the unpacked copy 0.4 s; so the
copy is kept in the user's cache. A kept copy raises four questions, and this file answers them
once for models and texts alike:

- Is it whole? A manifest lies inside, with the size and SHA-256 of every file. Opening compares
  the sizes (microseconds; catches truncation), and the hashes of files up to 16 MB. `shrinkkit
  doctor` compares all hashes.
- Is it of the right source? The manifest names the SHA-256 of what it was made from.
- Two processes at once? A lock: the first one builds, the second waits and finds it done.
- Interrupted half-way? It is built under a temporary name and renamed at the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from shrinkkit.system.files import lock, sha256_of, write_atomically

MANIFEST = "manifest.json"
_CHEAP_BYTES = 16_000_000


def cached_folder(
    folder: str | Path,
    build: Callable[[Path], None],
    *,
    source: str,
    needed_bytes: int | None = None,
) -> Path:
    """Return `folder`, built by `build` if it is missing, damaged or made from something else.

    build: called with an empty folder, to be filled; called at most once at a time on this machine.
        Whatever it raises is passed on, and nothing is kept.
    source: what the folder is made from, such as a SHA-256; another source rebuilds it.
    needed_bytes: room that the result takes, to refuse a full disk before working.
    Raises StorageError: the disk is full, or the cache may not be written to.
    """
    folder = Path(folder).absolute()
    if is_whole(folder, source=source):
        return folder
    with lock(folder):
        if is_whole(folder, source=source):  # another process made it while we waited
            return folder
        with write_atomically(folder, needed_bytes=needed_bytes) as temporary:
            temporary.mkdir()
            build(temporary)
            _write_manifest(temporary, source)
    return folder


def is_whole(folder: str | Path, *, source: str | None = None, thorough: bool = False) -> bool:
    """Tell whether every file of the manifest is there in full, and nothing was changed.

    folder: a folder made by `cached_folder`.
    source: what it must have been made from; None accepts any.
    thorough: also compare the hashes of large files.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if source is not None and manifest["source"] != source:
            return False
        for name, expected in manifest["files"].items():
            size = (folder / name).stat().st_size
            if size != expected["size_bytes"]:
                return False
            if (thorough or size <= _CHEAP_BYTES) and (
                sha256_of(folder / name) != expected["sha256"]
            ):
                return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # no manifest, or one that is not ours: treat the folder as damaged
    return True


def _write_manifest(folder: Path, source: str) -> None:
    files = {
        part.relative_to(folder).as_posix(): {
            "size_bytes": part.stat().st_size,
            "sha256": sha256_of(part),
        }
        for part in sorted(folder.rglob("*"))
        if part.is_file()
    }
    manifest = {"source": source, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
