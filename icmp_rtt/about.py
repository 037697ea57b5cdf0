# SPDX-License-Identifier: GPL-2.0-only
"""Where this build came from: the commit of its sources, and its BPF objects by hash."""

from __future__ import annotations

from icmp_rtt import carried
from icmp_rtt.kernel.objfile import ObjectFile
from icmp_rtt.loader import carried_object, carried_path

__all__ = ("provenance",)

_OBJECTS = {
    carried.OBJECT: "BPF object",
    carried.OBJECT_WITHOUT_BTF: "BPF object for kernels without BTF",
}


def provenance(given_object: str | None) -> str:
    """Lines for ``--version --verbose``: the same on every kernel but for the mark of its object.

    Args:
        given_object: the BPF object asked for with ``--object``, if any.

    Raises:
        ObjectError: there is no BPF object.
    """
    commit = carried.read(carried.COMMIT)
    recorded = commit.decode("ascii").strip() if commit else "not recorded; 'make dist' does that"
    lines = [f"source commit: {recorded}"]
    if given_object is not None:
        lines.append(f"BPF object: SHA-256 {_sha256(given_object)} ({given_object})")
    else:
        for name, what in _OBJECTS.items():
            mark = " (this kernel's)" if name == carried_object() else ""
            lines.append(f"{what}: SHA-256 {_sha256(carried_path(name))}{mark}")
    return "".join(f"{line}\n" for line in lines)


def _sha256(path: str) -> str:
    return ObjectFile.read(path).sha256
