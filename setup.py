# SPDX-License-Identifier: GPL-2.0-only
"""Build the wheel: the Python package with the BPF object in it, and libbpf if that is there."""

import re
import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
OBJECT = HERE / "icmp_rtt" / "data" / "icmp_rtt.bpf.o"
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


class BuildWithObject(build_py):
    """Compiles the BPF object first, unless it is there already."""

    def run(self) -> None:
        if not OBJECT.exists():
            for tool in ("make", "clang"):
                if not shutil.which(tool):
                    raise SystemExit(
                        f"{OBJECT.name} is not built and there is no {tool} to build it: "
                        f"install clang, llvm, libbpf-dev and make, or run 'make' elsewhere first"
                    )
            subprocess.run(["make", "-C", str(HERE), "build"], check=True)
        super().run()


class WheelOfOneMachine(bdist_wheel):
    """For any Python, but for x86_64 alone: the object counts on its registers.

    With a carried libbpf, which tests/dist/libbpf builds against glibc 2.31, it is
    for every Linux with that or newer; without one, for systems like this.
    """

    def get_tag(self) -> tuple[str, str, str]:
        system = "manylinux_2_31" if LIBBPF.exists() else "linux"
        return "py3", "none", f"{system}_x86_64"


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
            "icmp-rtt = icmp_rtt.cli:main",
            "kernel_icmp_rtt.py = icmp_rtt.cli:main",
        ]
    },
    distclass=NotPure,
    cmdclass={"build_py": BuildWithObject, "bdist_wheel": WheelOfOneMachine},
    zip_safe=False,
)
