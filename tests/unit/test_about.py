# SPDX-License-Identifier: GPL-2.0-only
"""What --version --verbose says: both objects, and which of them a run would take."""

import pytest

from icmp_rtt import carried, loader
from icmp_rtt.about import provenance
from icmp_rtt.errors import ObjectError
from icmp_rtt.kernel.objfile import ObjectFile

HASHES = [
    ObjectFile.read(carried.on_disk(name)).sha256
    for name in (carried.OBJECT, carried.OBJECT_WITHOUT_BTF)
]


@pytest.mark.parametrize("has_btf", [True, False])
def test_the_mark_is_at_the_object_that_a_run_takes(monkeypatch, has_btf):
    """On a kernel with BTF and on one without; the hashes are the same on both."""
    monkeypatch.setattr(loader, "has_own_btf", lambda: has_btf)
    _, *said = provenance(None).splitlines()
    assert len(said) == 2
    for line, what, sha256 in zip(said, ("", " for kernels without BTF"), HASHES):
        taken = ObjectFile.read(loader.object_path(None)).sha256 == sha256
        assert line == f"BPF object{what}: SHA-256 {sha256}" + " (this kernel's)" * taken
    assert sum(line.endswith("(this kernel's)") for line in said) == 1


def test_the_one_asked_for_is_the_only_one():
    """--object: no other would be taken, on whatever kernel."""
    path = carried.on_disk(carried.OBJECT_WITHOUT_BTF)
    _, *said = provenance(path).splitlines()
    assert said == [f"BPF object: SHA-256 {HASHES[1]} ({path})"]
    with pytest.raises(ObjectError, match="cannot read BPF object /nosuch"):
        provenance("/nosuch")
