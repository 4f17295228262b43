"""Each finding of `shrinkkit doctor` in its good and its bad case, with what to do about it."""

from __future__ import annotations

import builtins
import http.server
import importlib.metadata
import socket
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from shrinkkit.cli import doctor
from shrinkkit.cli.doctor import GB, Finding
from shrinkkit.sources.assets import AssetStatus
from tests.processes import serve

Memory = namedtuple("Memory", "total available")
Disk = namedtuple("Disk", "free")


@pytest.fixture
def unreachable() -> Iterator[str]:
    """An address of this machine at which nothing answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, but nobody listens
        yield f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def refusing() -> Iterator[str]:
    """An address of this machine at which a server says no to everything."""

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, *words: object) -> None:
            pass

    with serve(Refuse) as address:
        yield address


def state(finding: Finding) -> str:
    """Return the finding's state; whatever is not ok has to say what to do."""
    assert finding.state == "ok" or finding.advice
    return finding.state


@pytest.mark.parametrize(
    ("look", "found", "expected"),
    [
        (doctor.python, (3, 9, 18), "wrong"),
        (doctor.python, (3, 10, 0), "ok"),
        (doctor.python, (3, 13, 9), "ok"),
        (doctor.python, (3, 14, 0), "wrong"),
        (doctor.cores, 1, "note"),
        (doctor.cores, 2, "ok"),
        (doctor.cores, 64, "ok"),
        (doctor.disk, 50 * GB, "ok"),
        (doctor.disk, 2 * GB, "note"),
        (doctor.disk, 0.1 * GB, "wrong"),
    ],
)
def test_python_cores_and_disk(isolated_cache: Path, look, found, expected: str) -> None:
    assert state(look(found)) == expected
    assert not isolated_cache.exists()


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.5.1", "wrong"), ("2.6.0", "ok"), ("2.13.0+cpu", "ok"), ("3.0.0.dev1+cu130", "ok")],
)
def test_torch(monkeypatch: pytest.MonkeyPatch, version: str, expected: str) -> None:
    monkeypatch.setattr("torch.__version__", version)
    assert state(doctor.torch_version()) == expected


def test_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    there = builtins.__import__

    def no_torch(name: str, *rest: object) -> object:
        if name == "torch":
            raise OSError("libtorch_cpu.so: cannot open shared object file")
        return there(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    assert state(doctor.torch_version()) == "wrong"
    assert "libtorch_cpu.so" in doctor.torch_version().found
    assert state(doctor.gpu()) == "note"


REQUIRES = [
    "one>=2.0",
    "two==1.5",
    "nowhere>=1; python_version < '3'",
    'three>=1; extra == "course"',
    'four>=1; extra == "test"',
]


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        pytest.param({"one": "2.0", "two": "1.5", "three": "1"}, ["ok", "ok"], id="all there"),
        pytest.param({"one": "2.0", "two": "1.5"}, ["ok", "note"], id="no lessons"),
        pytest.param({"one": "1.9", "two": "1.5", "three": "1"}, ["wrong", "ok"], id="too old"),
        pytest.param({"one": "2.10", "two": "1.4", "three": "1"}, ["wrong", "ok"], id="not exact"),
        pytest.param({"two": "1.5", "three": "1"}, ["wrong", "ok"], id="missing"),
        pytest.param({"one": "3.0rc1", "two": "1.5", "three": "1"}, ["ok", "ok"], id="preview"),
    ],
)
def test_packages(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], expected: list[str]
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRES)
    monkeypatch.setattr(importlib.metadata, "version", version)
    findings = list(doctor.packages())
    assert [state(finding) for finding in findings] == expected
    for finding, state_ in zip(findings, expected, strict=True):
        assert state_ == "ok" or "pip install" in finding.advice


def test_packages_of_a_shrinkkit_that_was_never_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert [state(finding) for finding in doctor.packages()] == ["wrong"]


@pytest.mark.parametrize(
    ("available", "expected"), [(8 * GB, "ok"), (2 * GB, "note"), (GB, "wrong")]
)
def test_memory(monkeypatch: pytest.MonkeyPatch, available: int, expected: str) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(16 * GB, available))
    assert state(doctor.memory()) == expected
    assert f"{available / GB:.1f} GB" in doctor.memory().found


@pytest.mark.parametrize(
    ("flags", "expected", "says"),
    [
        ({"avx2", "avx512_vnni"}, "ok", "AVX2, VNNI; without AVX-512, bf16, AMX"),
        ({"sse2"}, "note", "none known"),
    ],
    ids=["fast", "plain"],
)
def test_cpu(flags: set[str], expected: str, says: str) -> None:
    finding = doctor.cpu(flags, "x86_64")
    assert state(finding) == expected
    assert says in finding.found


@pytest.mark.parametrize(
    ("there", "found"),
    [(False, "none, and none is needed"), (True, "Tesla T4, 15.0 GB of 16.0 GB free")],
)
def test_a_gpu_is_named_and_none_is_fine(monkeypatch, there: bool, found: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (15 * GB, 16 * GB))
    assert doctor.gpu() == Finding("GPU", "ok", found)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(AssetStatus("m", True, "1.0", True, ""), "ok", id="there"),
        pytest.param(AssetStatus("m", True, "1.0", False, "reinstall"), "wrong", id="other bits"),
        pytest.param(AssetStatus("m", False, None, None, "install"), "wrong", id="not there"),
    ],
)
def test_asset(status: AssetStatus, expected: str) -> None:
    finding = doctor.asset(status)
    assert state(finding) == expected
    assert finding.advice == status.fix


def test_cache_folder_is_made_and_left_empty(isolated_cache: Path) -> None:
    assert state(doctor.cache_folder()) == "ok"
    assert list(isolated_cache.iterdir()) == []


def test_cache_folder_that_cannot_be_made(
    isolated_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolated_cache.write_text("a file where the folder should be")
    assert state(doctor.cache_folder()) == "wrong"
    monkeypatch.setenv("SHRINKKIT_CACHE", str(isolated_cache / "below"))
    assert state(doctor.cache_folder()) == "wrong"
    assert "SHRINKKIT_CACHE" in doctor.cache_folder().advice


def test_disk_is_that_of_the_cache_folder(
    isolated_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder need not exist: the disk is that of the nearest folder which does."""
    asked = []
    monkeypatch.setattr("shutil.disk_usage", lambda path: asked.append(path) or Disk(5 * GB))
    assert state(doctor.disk()) == "ok"
    assert asked == [isolated_cache.parent]


def test_a_hub_that_says_no_is_reachable(monkeypatch: pytest.MonkeyPatch, refusing: str) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", refusing)
    assert doctor.hub() == Finding("model hub", "ok", f"{refusing} answers")


def test_being_offline_is_fine(monkeypatch: pytest.MonkeyPatch, unreachable: str) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", unreachable)
    finding = doctor.hub()
    assert finding.state == "ok"
    assert "not reachable" in finding.found
    assert finding.advice.startswith("fine")


def test_a_network_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def never(*words: object, **options: object) -> None:
        released.wait(30)
        raise OSError

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(doctor, "HUB_TIMEOUT_S", 0.05)
    monkeypatch.setattr("urllib.request.urlopen", never)
    assert "not reachable" in doctor.hub().found
    released.set()


def test_a_hub_that_is_switched_off_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(doctor, "_answers", lambda address: pytest.fail("the hub was asked"))
    assert doctor.hub().state == "ok"


def test_this_machine_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "hub", lambda: pytest.fail("the hub was asked"))
    findings = doctor.examine(online=False)
    assert doctor.is_ready(findings), [finding for finding in findings if finding.state == "wrong"]
    topics = [finding.topic for finding in findings]
    assert {"Python", "torch", "memory", "smollm2-135m", "minilm-l6", "wikipedia"} <= set(topics)
    assert len(topics) == len(set(topics))
