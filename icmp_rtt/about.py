# SPDX-License-Identifier: GPL-2.0-only
"""Where this build came from: the commit of its sources, and its BPF object by hash."""

from __future__ import annotations

from icmp_rtt import carried
from icmp_rtt.kernel.objfile import ObjectFile
from icmp_rtt.loader import object_path

__all__ = ("provenance",)


def provenance(given_object: str | None) -> str:
    """Two lines for ``--version --verbose``.

    Args:
        given_object: the BPF object asked for with ``--object``, if any.

    Raises:
        ObjectError: there is no BPF object.
    """
    commit = carried.read(carried.COMMIT)
    recorded = commit.decode("ascii").strip() if commit else "not recorded; 'make dist' does that"
    digest = ObjectFile.read(object_path(given_object)).sha256
    return f"source commit: {recorded}\nBPF object: SHA-256 {digest}\n"
