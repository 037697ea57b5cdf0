# SPDX-License-Identifier: GPL-2.0-only
"""Build the wheel: the Python package with the BPF objects in it, and libbpf if that is there.

Works with the setuptools of Debian 11 and newer; where that has no bdist_wheel and
there is no package wheel either, pip installs without making a wheel.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel  # since 70.1
except ImportError:
    try:
        from wheel.bdist_wheel import bdist_wheel
    except ImportError:
        bdist_wheel = None

HERE = Path(__file__).resolve().parent
OBJECTS = [HERE / "icmp_rtt" / "data" / name for name in ("icmp_rtt.bpf.o", "icmp_rtt_nobtf.bpf.o")]
LIBBPF = HERE / "icmp_rtt" / "data" / "libbpf.so.1"
# Both are there where tests/dist/stage put them.
CARRIED_LICENCES = [
    str(path.relative_to(HERE)) for path in sorted(HERE.glob("licenses/**/*")) if path.is_file()
]


def version() -> str:
    """The version, read as text: nothing of the package needs to be importable here."""
    text = (HERE / "icmp_rtt" / "version.py").read_text(encoding="utf-8")
    found = re.search(r'^VERSION = "(.+)"$', text, re.MULTILINE)
    if not found:
        raise SystemExit("icmp_rtt/version.py: no line 'VERSION = \"...\"'")
    return found.group(1)


class BuildWithObjects(build_py):
    """Brings the BPF objects up to date first, where there are their sources and a compiler."""

    def run(self) -> None:
        tools = [tool for tool in ("make", "clang") if not shutil.which(tool)]
        lacking = [*tools, *(() if (HERE / "bpf").is_dir() else ("bpf",))]
        if not lacking:
            subprocess.run(["make", "-C", str(HERE), "build"], check=True)
        elif missing := [path.name for path in OBJECTS if not path.exists()]:
            raise SystemExit(
                f"{' and '.join(missing)} not built, and no {' and no '.join(lacking)} to build"
                " from: install clang, llvm, libbpf-dev and make, or run 'make' elsewhere first"
            )
        super().run()


def wheel_of_one_machine() -> dict[str, type]:
    """The command that makes the wheel, where there is any.

    For any Python, but for x86_64 alone: the object counts on its registers. With a
    carried libbpf, which tests/dist/libbpf builds against glibc 2.31, it is for every
    Linux with that or newer; without one, for systems like this.
    """
    if bdist_wheel is None:
        return {}

    class WheelOfOneMachine(bdist_wheel):
        def get_tag(self) -> tuple[str, str, str]:
            system = "manylinux_2_31" if LIBBPF.exists() else "linux"
            return "py3", "none", f"{system}_x86_64"

    return {"bdist_wheel": WheelOfOneMachine}


class NotPure(Distribution):
    """Not of Python alone, though there is no extension module to build."""

    def has_ext_modules(self) -> bool:
        return True


setup(
    name="icmp-rtt",
    version=version(),
    description="Where a ping's time goes inside the kernel, and where it stops",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="icmp-rtt developers",
    license="GPL-2.0-only",
    license_files=["LICENSE", *CARRIED_LICENCES],
    python_requires=">=3.9",
    install_requires=["pyelftools>=0.27"],
    packages=find_packages(include=["icmp_rtt", "icmp_rtt.*"]),
    package_data={"icmp_rtt": ["data/*", "py.typed"]},
    entry_points={
        "console_scripts": [
            "icmp-rtt = icmp_rtt.__main__:main",
            "kernel_icmp_rtt.py = icmp_rtt.__main__:main",
        ]
    },
    distclass=NotPure,
    cmdclass={"build_py": BuildWithObjects, **wheel_of_one_machine()},
    zip_safe=False,
)
