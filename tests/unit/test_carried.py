# SPDX-License-Identifier: GPL-2.0-only
"""What travels with the package is found in a folder, in an archive, and missed where it is not."""

import ctypes
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from icmp_rtt import carried
from icmp_rtt.errors import RequirementError
from icmp_rtt.kernel import library as library_module
from icmp_rtt.kernel.libbpf import Libbpf

PACKAGE = Path(carried.__file__).parent
REPORT = """
from icmp_rtt import carried
print(carried.read("thing"), carried.read("nosuch"))
print(open(carried.in_memory("thing", b"more"), "rb").read())
"""


def run_from(path):
    """What REPORT prints with the package at ``path``."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT],
        cwd=path.parent,
        env={"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_from_a_folder_and_from_an_archive(tmp_path):
    """The same bytes either way; what is not there is None."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("__init__.py", "version.py", "carried.py"):
            archive.write(PACKAGE / name, f"icmp_rtt/{name}")
        archive.writestr("icmp_rtt/data/thing", b"bytes")
        archive.extractall(tmp_path / "folder")
    expected = ["b'bytes' None", "b'more'"]
    assert run_from(tmp_path / "folder") == expected
    assert run_from(tmp_path / "a.zip") == expected


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Names that libraries were opened by; those on a disk cannot be mapped there."""
    names = []

    def cdll(name, use_errno=False):
        names.append(name)
        if name and not name.startswith("/proc/self/fd/"):
            raise OSError(f"{name}: failed to map segment from shared object")
        return ctypes.PyDLL(None)

    monkeypatch.setattr(library_module.ctypes, "CDLL", cdll)
    monkeypatch.setattr(carried, "on_disk", lambda name: str(tmp_path / name))
    return names


def test_a_library_that_cannot_be_mapped_is_loaded_from_memory(opened, tmp_path):
    """The carried one, before any of the system's; that python is no libbpf is told."""
    (tmp_path / carried.LIBBPF).write_bytes(b"ELF")
    with pytest.raises(RequirementError, match="is not libbpf"):
        Libbpf()
    assert opened[0] == str(tmp_path / carried.LIBBPF)
    assert opened[1].startswith("/proc/self/fd/")


def test_without_a_carried_library_the_system_is_asked(opened):
    """As from a checkout."""
    with pytest.raises(RequirementError, match="libbpf.so.1"):
        Libbpf()
    assert opened[1] == carried.LIBBPF


def test_the_one_asked_for_comes_first(opened, tmp_path):
    """--libbpf passes over what is carried."""
    (tmp_path / carried.LIBBPF).write_bytes(b"ELF")
    with pytest.raises(RequirementError, match="/given.so"):
        Libbpf("/given.so")
    assert opened == ["/given.so"]
