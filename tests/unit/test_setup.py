# SPDX-License-Identifier: GPL-2.0-only
"""setup.py with the setuptools that there are, and without what it takes to build."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from icmp_rtt.version import VERSION

CHECKOUT = Path(__file__).parents[2]
OBJECTS = ("icmp_rtt.bpf.o", "icmp_rtt_nobtf.bpf.o")
WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys({absent}))
sys.argv[:] = ["setup.py", *{words}]
runpy.run_path("setup.py", run_name="__main__")
"""


def setup(folder, *words, absent=(), path=None):
    """Run setup.py there, with some modules not to be had."""
    code = WITHOUT.format(absent=absent, words=words)
    env = {**os.environ, "PATH": os.environ["PATH"] if path is None else str(path)}
    return subprocess.run(
        (sys.executable, "-c", code), cwd=folder, env=env, capture_output=True, text=True
    )


@pytest.fixture
def sources(tmp_path):
    """As little of a checkout as setup.py looks at, with a Makefile that says it was called."""
    (tmp_path / "icmp_rtt" / "data").mkdir(parents=True)
    (tmp_path / "bpf").mkdir()
    for name in ("setup.py", "README.md", "LICENSE", "icmp_rtt/version.py", "icmp_rtt/__init__.py"):
        shutil.copy(CHECKOUT / name, tmp_path / name)
    (tmp_path / "Makefile").write_text(
        "build:\n" + "".join(f"\techo new >icmp_rtt/data/{name}\n" for name in OBJECTS)
    )
    return tmp_path


@pytest.mark.parametrize(
    "absent",
    [
        (),
        ("setuptools.command.bdist_wheel",),
        ("setuptools.command.bdist_wheel", "wheel.bdist_wheel", "wheel"),
    ],
)
def test_any_setuptools(sources, absent):
    """Debian 12's has no bdist_wheel, and a fresh environment there no package wheel."""
    done = setup(sources, "--version", absent=absent)
    assert (done.returncode, done.stdout) == (0, f"{VERSION}\n"), done.stderr


def test_objects_are_brought_up_to_date(sources, tmp_path):
    """An object that is there already may be of older sources: make decides."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "clang").symlink_to("/bin/true")
    for name in ("make", "sh"):
        (tools / name).symlink_to(shutil.which(name))
    (sources / "icmp_rtt/data" / OBJECTS[0]).write_text("old\n")
    done = setup(sources, "build_py", path=tools)
    assert done.returncode == 0, done.stderr
    for name in OBJECTS:
        (built,) = (sources / "build").glob(f"lib*/icmp_rtt/data/{name}")
        assert built.read_text() == "new\n"


@pytest.mark.parametrize("there", [(), OBJECTS[:1], OBJECTS])
def test_both_objects_or_none(sources, there):
    """Without a compiler both objects have to be there, or it is said what is not."""
    for name in there:
        (sources / "icmp_rtt/data" / name).write_text("built elsewhere\n")
    done = setup(sources, "build_py", path="/nonexistent")
    if there == OBJECTS:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1
        assert f"{OBJECTS[1]} not built, and no make and no clang" in done.stderr
