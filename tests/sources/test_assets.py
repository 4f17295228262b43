"""Pinned files inside installed packages: found by metadata, refused when not the right bits."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import sys
from pathlib import Path

import pytest

from shrinkkit.errors import AssetError
from shrinkkit.sources import assets
from shrinkkit.sources.assets import (
    ASSETS,
    OWN,
    Asset,
    asset_path,
    asset_status,
    pin_file,
)
from shrinkkit.system.cache import cached_folder
from tests.processes import run_python

BODY = b"the weights of a very small model"


@pytest.fixture
def fake_asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asset:
    """An installed distribution whose module raises when it is imported."""
    site = tmp_path / "site"
    (site / "fake_weights").mkdir(parents=True)
    (site / "fake_weights" / "__init__.py").write_text("raise RuntimeError('was imported')")
    (site / "fake_weights" / "model.bin").write_bytes(BODY)
    (site / "fake_weights-1.2.dist-info").mkdir()
    (site / "fake_weights-1.2.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: fake-weights\nVersion: 1.2\n"
    )
    monkeypatch.syspath_prepend(site)
    return Asset(
        name="fake",
        package="fake-weights",
        version="1.2",
        file="fake_weights/model.bin",
        sha256=hashlib.sha256(BODY).hexdigest(),
        size_bytes=len(BODY),
        fix="shrinkkit install-assets",
    )


def test_located_without_importing(fake_asset: Asset) -> None:
    path = asset_path(fake_asset)
    assert path.read_bytes() == BODY
    assert "fake_weights" not in sys.modules


def test_missing_file_of_an_installed_package(fake_asset: Asset) -> None:
    asset_path(fake_asset).unlink()
    with pytest.raises(AssetError, match=r"model\.bin is missing.*pip uninstall -y fake-weights"):
        asset_path(fake_asset)


def test_truncated_file(fake_asset: Asset) -> None:
    os.truncate(asset_path(fake_asset), 10)
    with pytest.raises(AssetError, match=r"truncated: 10 bytes where 33 were expected.*pip uninst"):
        asset_path(fake_asset)


def test_changed_file_of_the_same_size(fake_asset: Asset) -> None:
    path = asset_path(fake_asset)  # remembered as good ...
    path.write_bytes(BODY[::-1])
    os.utime(path, (1, 1))
    with pytest.raises(AssetError, match=r"not the pinned file: its SHA-256 is [0-9a-f]{16}…"):
        asset_path(fake_asset)  # ... until it changes


def test_an_unchanged_file_is_hashed_once(
    fake_asset: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset_path(fake_asset)
    monkeypatch.setattr(assets, "sha256_of", lambda path: "hashed again")
    assert asset_path(fake_asset).is_file()


def test_status_tells_each_trouble_apart(
    fake_asset: Asset, isolated_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = dataclasses.replace(fake_asset, name="absent", package="no-such-weights")
    gone = dataclasses.replace(fake_asset, name="gone", file="fake_weights/other.bin")
    changed = dataclasses.replace(fake_asset, name="changed", sha256="0" * 64)
    table = {asset.name: asset for asset in (fake_asset, absent, gone, changed)}
    monkeypatch.setattr(assets, "ASSETS", table)

    def build(folder: Path) -> None:
        (folder / "w").write_bytes(BODY)

    kept = cached_folder(isolated_cache / "models" / "fake-123", build, source="s")
    found = {status.name: status for status in asset_status()}
    assert {name: (s.present, s.version, s.hash_ok, s.ok) for name, s in found.items()} == {
        "fake": (True, "1.2", True, True),
        "absent": (False, None, None, False),
        "gone": (False, "1.2", None, False),
        "changed": (True, "1.2", False, False),
        "fake-123 (unpacked)": (True, None, True, True),
    }
    assert found["absent"].fix == "run `shrinkkit install-assets`"
    assert "pip uninstall -y fake-weights" in found["changed"].fix
    os.truncate(kept / "w", 1)
    damaged = asset_status()[-1]
    assert (damaged.hash_ok, str(kept) in damaged.fix) == (False, True)


def test_everything_embedded_is_here(isolated_cache: Path) -> None:
    assert [s.name for s in asset_status() if s.ok] == list(ASSETS)


def test_the_pin_file_matches_the_table() -> None:
    pins = pin_file().read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==([\w.]+) \\$", pins, re.MULTILINE))
    wheels = {a.package: a.version for a in ASSETS.values() if a.package not in ("gensim", OWN)}
    assert pinned == wheels
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}$", pins, re.MULTILINE)) == len(wheels)


def test_pip_reads_the_pin_file(tmp_path: Path) -> None:
    """pip accepts the syntax and finds all pins installed already (no index is asked)."""
    pip = ["-m", "pip", "install", "--dry-run", "--no-index", "--no-deps"]
    done = run_python(*pip, "--require-hashes", "-r", pin_file())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Requirement already satisfied") == 3
