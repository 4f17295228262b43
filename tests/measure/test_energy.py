"""Energy: counters from a made-up folder, the offline estimate, and the plain "not available"."""

from __future__ import annotations

import socket
import sys

import pytest

from shrinkkit.errors import InputError
from shrinkkit.measure import energy, measure_energy


def counter(folder, name, label, microjoules, limit=1_000_000_000):
    place = folder / name
    place.mkdir(parents=True)
    (place / "name").write_text(label + "\n")
    (place / "energy_uj").write_text(f"{microjoules}\n")
    (place / "max_energy_range_uj").write_text(f"{limit}\n")
    return place / "energy_uj"


def adding(file, microjoules):
    def work():
        file.write_text(str(int(file.read_text()) + microjoules))

    return work


def test_counters_are_read_in_joules_a_call(tmp_path):
    file = counter(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    found = measure_energy(adding(file, 3_000_000), min_seconds=0, rapl_folder=tmp_path)
    assert (found.joules, found.source, found.n_calls) == (3.0, "rapl", 1)
    assert "package-0" in found.note


def test_short_work_is_repeated_and_divided(tmp_path):
    file = counter(tmp_path, "intel-rapl:0", "package-0", 0)
    found = measure_energy(adding(file, 2_000_000), min_seconds=0.02, rapl_folder=tmp_path)
    assert found.n_calls > 1
    assert found.joules == pytest.approx(2.0)
    assert found.seconds * found.n_calls >= 0.02


def test_each_joule_counts_once(tmp_path):
    package = counter(tmp_path, "intel-rapl:0", "package-0", 0)
    cores = counter(tmp_path, "intel-rapl:0:0", "core", 0)
    memory = counter(tmp_path, "intel-rapl:0:1", "dram", 0)
    board = counter(tmp_path, "intel-rapl:1", "psys", 0)

    def work():
        for file, joules in ((package, 10), (cores, 8), (memory, 2), (board, 30)):
            file.write_text(str(joules * 1_000_000))

    assert measure_energy(work, min_seconds=0, rapl_folder=tmp_path).joules == 12.0


def test_a_counter_that_ran_over(tmp_path):
    file = counter(tmp_path, "intel-rapl:0", "package-0", 999_000_000, limit=1_000_000_000)
    found = measure_energy(lambda: file.write_text("500000"), min_seconds=0, rapl_folder=tmp_path)
    assert found.joules == pytest.approx(1.5)


def test_without_counters_the_estimate_says_so_and_stays_at_home(
    tmp_path, monkeypatch, capfd, recwarn
):
    def no_network(*arguments, **options):
        raise AssertionError("the estimate tried to reach the network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    found = measure_energy(
        lambda: sum(range(100_000)), min_seconds=0.3, rapl_folder=tmp_path / "none"
    )
    assert found.source == "estimated"
    assert found.joules > 0
    assert "not measured" in found.note
    assert str(found).endswith("(estimated)")
    assert list(tmp_path.iterdir()) == []  # no log, no csv
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_without_codecarbon_it_is_not_available(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    calls = []
    found = measure_energy(lambda: calls.append(1), min_seconds=0, rapl_folder=tmp_path)
    assert (found.joules, found.source) == (None, "not available")
    assert "pip install codecarbon" in found.note
    assert str(found) == "not available"
    assert calls == [1]  # the work is done all the same


def test_an_estimate_of_nothing_is_not_available(tmp_path, monkeypatch):
    class Broken:
        def start(self):
            pass

        stop = start

    monkeypatch.setattr(energy, "_tracker", Broken)
    found = measure_energy(lambda: None, min_seconds=0, rapl_folder=tmp_path)
    assert (found.joules, found.source) == (None, "not available")


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="fn is a int"):
        measure_energy(3)
    with pytest.raises(InputError, match="min_seconds"):
        measure_energy(print, min_seconds=-1)
