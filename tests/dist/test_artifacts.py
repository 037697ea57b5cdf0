# SPDX-License-Identifier: GPL-2.0-only
"""The artifacts hold the same, say where it is from, and come out the same again."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import zipfile

import pytest
from conftest import CHECKOUT, DIST

KINDS = ("*.tar.gz", "*.pyz", "*.whl", "*.deb")
OBJECTS = {
    "BPF object": "icmp_rtt/data/icmp_rtt.bpf.o",
    "BPF object for kernels without BTF": "icmp_rtt/data/icmp_rtt_nobtf.bpf.o",
}


def artifact(kind):
    """The one file of this kind in dist."""
    (path,) = DIST.glob(kind)
    return path


def content(kind):
    """Bytes by name of every file in an artifact."""
    path = artifact(kind)
    if kind == "*.deb":
        packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], check=True, stdout=-1).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            return regular_files(archive)
    if kind == "*.tar.gz":
        with tarfile.open(path) as archive:
            return regular_files(archive)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def regular_files(archive):
    """Bytes by name."""
    files = [each for each in archive if each.isfile()]
    return {each.name: archive.extractfile(each).read() for each in files}


def not_of_the_sources(folder, names):
    """What a copy of the sources leaves out: history and everything made."""
    made = {".git", ".venv", "build", "dist"} if folder == str(CHECKOUT) else set()
    return made | {name for name in names if name.endswith(".bpf.o")}


def one(files, end):
    """The one file whose name ends so."""
    (name,) = [name for name in files if name.endswith(end)]
    return files[name]


@pytest.mark.parametrize("kind", KINDS)
def test_each_holds_the_same_objects_and_commit(kind):
    """The objects are those that were built; the commit is a full one."""
    files = content(kind)
    for name in OBJECTS.values():
        assert one(files, name) == (CHECKOUT / name).read_bytes()
    assert re.fullmatch(rb"([0-9a-f]{40}(-dirty)?|unknown)\n", one(files, "data/commit"))
    assert not [name for name in files if "__pycache__" in name or name.endswith(".pyc")]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_libbpf_comes_with_its_licences(kind):
    """Where libbpf is carried, so are the licences of everything in it."""
    files = content(kind)
    assert one(files, "data/libbpf.so.1")[:4] == b"\x7fELF"
    for name in ("libbpf/LICENSE.LGPL-2.1", "libelf/COPYING-LGPLV3", "zlib/copyright"):
        assert one(files, f"licenses/{name}")
    assert any(name.endswith("LICENSE") and "GNU" in data.decode() for name, data in files.items())


def test_pyelftools_comes_with_its_licences():
    """Its own, and that of construct within it, wherever both are carried."""
    for kind in ("*.tar.gz", "*.pyz", "*.deb"):
        files = content(kind)
        assert one(files, "elftools/construct/core.py")
        ends = ("/copyright",) if kind == "*.deb" else ("pyelftools/LICENSE", "LICENSE.construct")
        text = b"".join(one(files, end) for end in ends)
        assert b"public domain" in text
        assert b"2009 Tomer Filiba" in text
        assert b"The above copyright notice and this permission notice shall be included" in text
    assert not [name for name in content("*.whl") if "elftools" in name]


def test_no_address_is_made_up():
    """Where Debian wants a maintainer's, it is one that by its domain cannot be anybody's."""
    command = ["dpkg-deb", "--field", artifact("*.deb"), "Maintainer"]
    said = subprocess.run(command, check=True, stdout=-1, text=True).stdout
    assert said.endswith(".invalid>\n")


def test_the_objects_hashes_are_said():
    """--version --verbose of the zipapp: version, commit, SHA-256 of what it carries."""
    said = subprocess.run(
        [artifact("*.pyz"), "--version", "--verbose"], check=True, stdout=-1, text=True
    ).stdout.splitlines()
    assert re.fullmatch(r"icmp-rtt \d+\.\d+\.\d+\S*", said[0])
    assert said[1] == f"source commit: {one(content('*.pyz'), 'data/commit').decode().strip()}"
    assert [line.replace(" (this kernel's)", "") for line in said[2:]] == [
        f"{what}: SHA-256 {hashlib.sha256((CHECKOUT / name).read_bytes()).hexdigest()}"
        for what, name in OBJECTS.items()
    ]


def test_zipapp_leaves_nothing_behind(tmp_path):
    """It unpacks nothing: neither where it lies, nor where temporary files go."""
    tool = shutil.copy(artifact("*.pyz"), tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
    subprocess.run([tool, "check"], env=environment, stdout=-1, stderr=-1, cwd=home)
    assert [path.name for path in tmp_path.rglob("*")] == ["icmp-rtt.pyz", "home"]


def test_completions_know_every_flag():
    """Each flag of the help is in the completions of the three shells, and in the man page."""
    files = content("*.tar.gz")
    text = subprocess.run([artifact("*.pyz"), "--help"], check=True, stdout=-1, text=True).stdout
    flags = set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE))
    assert len(flags) > 15
    for end in ("bash/icmp-rtt", "zsh/_icmp-rtt", "fish/icmp-rtt.fish", "man/icmp-rtt.1"):
        page = one(files, end).decode().replace("\\-", "-")
        missing = {flag for flag in flags if flag not in page and f"-l {flag[2:]}" not in page}
        assert not missing, end


def test_a_second_build_is_identical(tmp_path):
    """Elsewhere, without history, in another zone and locale: the same bytes."""
    first = {path.name: path.read_bytes() for kind in KINDS for path in DIST.glob(kind)}
    commit = one(content("*.pyz"), "data/commit").decode().strip()
    with tarfile.open(artifact("*.tar.gz")) as archive:
        when = archive.next().mtime
    copy = tmp_path / "elsewhere"
    shutil.copytree(CHECKOUT, copy, ignore=not_of_the_sources)
    environment = {**os.environ, "ICMP_RTT_COMMIT": commit, "SOURCE_DATE_EPOCH": str(when)}
    environment |= {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}
    venv = f"VENV={os.path.relpath(CHECKOUT / '.venv', copy)}"
    done = subprocess.run(
        ["make", "-C", copy, "dist", venv], env=environment, stdout=-1, stderr=-2, text=True
    )
    assert done.returncode == 0, done.stdout
    second = {path.name: path.read_bytes() for path in (copy / "dist").iterdir()}
    assert sorted(second) == sorted(first)
    assert [name for name in first if first[name] != second[name]] == []
