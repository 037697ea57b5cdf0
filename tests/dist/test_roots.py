# SPDX-License-Identifier: GPL-2.0-only
"""Every artifact on minimal hosts: what in-guest recorded there, against what is to be."""

import hashlib
import json
import re

import pytest
from conftest import CHECKOUT, minimal_btf

ARCHIVES = ("tar veth", "tar card", "pyz veth", "pyz card")
# The other two are for newer systems than Debian 11.
NEWER = ("bookworm", "trixie", "sid")


def assert_traced(result, count=23):
    """As many complete echoes of six stages as ping says that it got answers."""
    assert result["status"] == 0, result["stderr"]
    assert f"{count} received" in result["stderr"]
    lines = [json.loads(line) for line in result["stdout"].splitlines()]
    echoes = [line for line in lines if line["type"] == "echo"]
    assert len(echoes) == count, result["stderr"]
    for echo in echoes:
        assert [stage["stage"] for stage in echo["stages"]] == [0, 1, 2, 3, 4, 5]
        assert echo["outcome"] == "complete"
        assert echo["path1_ns"] + echo["inter_path_ns"] + echo["path2_ns"] == echo["rtt_ns"]
    return echoes


def assert_refused(result, words):
    """One line on stderr that says what is missing, and nothing else."""
    assert (result["status"], result["stdout"]) == (1, "")
    assert re.fullmatch(rf"icmp-rtt\S*: [^\n]*{words}[^\n]*\n", result["stderr"]), result["stderr"]


def libraries(result):
    """The libbpf files whose code the tool had in its memory."""
    fields = [line.split(maxsplit=5) for line in result["maps"].splitlines()]
    return {path for _, access, _, _, _, path in fields if "x" in access}


def test_the_host_is_bare(said, suite):
    """Nothing there that the tool must not need; what libbpf there was is hidden afterwards."""
    assert (said["root"]["tools"], said["root"]["headers"], said["root"]["elftools"]) == (
        [],
        [],
        [],
    )
    assert said["root"]["libbpf"]


@pytest.mark.parametrize("run", ARCHIVES)
def test_archives_trace_every_echo(said, run):
    """The tar archive and the zipapp, over veth and over a network card."""
    assert_traced(said[run])


@pytest.mark.parametrize(
    ("run", "path"),
    [
        ("tar veth", r"/opt/icmp-rtt-[^/]+/lib/icmp_rtt/data/libbpf\.so\.1"),
        ("pyz veth", r"/memfd:libbpf\.so\.1 \(deleted\)"),
        ("noexec, addresses hidden", r"/memfd:libbpf\.so\.1 \(deleted\)"),
    ],
)
def test_the_carried_libbpf_is_the_one_loaded(said, run, path):
    """By the kernel's own list of what is in the tool's memory."""
    (library,) = libraries(said[run])
    assert re.fullmatch(path, library)


def test_the_wheel(said, suite):
    """Installed in a virtual environment without a network; it carries its libbpf too."""
    assert ("wheel veth" in said) == (suite in NEWER)
    if suite in NEWER:
        assert_traced(said["wheel veth"])
        (library,) = libraries(said["wheel veth"])
        assert library.startswith("/opt/venv/")


def test_the_debian_package(said, suite):
    """Installed, used with Debian's libbpf, and gone without a trace."""
    assert ("deb veth" in said) == (suite in NEWER)
    if suite in NEWER:
        assert said["deb install"]["status"] == 0, said["deb install"]["stderr"]
        assert_traced(said["deb veth"])
        (library,) = libraries(said["deb veth"])
        assert library.startswith("/usr/lib/x86_64-linux-gnu/libbpf.so.1")
        assert (said["deb purge"]["status"], said["deb purge"]["left"]) == (0, [])


def sha256_of(name):
    """Of an object that was built here."""
    return hashlib.sha256((CHECKOUT / "icmp_rtt/data" / name).read_bytes()).hexdigest()


def test_all_hold_the_same_objects(said):
    """The hashes are those of the objects built here; the mark is where BTF says."""
    lines = [
        f"BPF object: SHA-256 {sha256_of('icmp_rtt.bpf.o')} (this kernel's)",
        f"BPF object for kernels without BTF: SHA-256 {sha256_of('icmp_rtt_nobtf.bpf.o')}",
    ]
    versions = [result for name, result in said.items() if name.endswith(" version")]
    assert len(versions) >= 2
    for result in versions:
        assert result["stdout"].splitlines()[2:] == lines
    without_btf = said["version, btf hidden"]["stdout"].splitlines()[2:]
    assert [line.endswith(" (this kernel's)") for line in without_btf] == [False, True]


def test_a_kernel_without_btf_is_told(said):
    """With the two ways out."""
    assert_refused(said["btf hidden"], "CONFIG_DEBUG_INFO_BTF=y, or .* --btf FILE")


@pytest.mark.parametrize("run", ["btf file", "btf minimal"])
def test_a_file_stands_for_the_kernels_btf(said, run):
    """All six stages, by probes that need no BTF of the kernel's own."""
    kinds = {
        stage["probe"].partition(":")[0]
        for echo in assert_traced(said[run])
        for stage in echo["stages"]
    }
    assert kinds <= {"kprobe", "kretprobe", "raw_tp"}


def test_the_file_is_small(suite):
    """A few kilobytes, to be shipped to a fleet."""
    assert 500 < minimal_btf(suite).stat().st_size < 8192


def test_without_kallsyms_the_devices_stages_are_left(said):
    """No function can be probed then; what is left is measured, and nothing made up."""
    result = said["no kallsyms"]
    assert result["status"] == 0, result["stderr"]
    lines = [json.loads(line) for line in result["stdout"].splitlines() if line.startswith("{")]
    echoes = [line for line in lines if line["type"] == "echo"]
    assert len(echoes) == 23
    assert {stage["stage"] for echo in echoes for stage in echo["stages"]} == {2, 3}
    fentry, kprobe = lines[0]["notes"][:2]
    assert fentry.startswith("fentry: fentry:ip_send_skb: /proc/kallsyms is empty")
    assert kprobe.startswith("kprobe: kprobe:ip_send_skb: /proc/kallsyms is empty")
    assert {stage.get("stack_error", "") for echo in echoes for stage in echo["stages"]} == {
        "/proc/kallsyms is empty: it takes a kernel with CONFIG_KALLSYMS,"
        " and nothing mounted over that file"
    }


@pytest.mark.parametrize("run", ["noexec, addresses hidden", "read-only, no HOME, locale C"])
def test_hardened_hosts(said, run):
    """They are no obstacle."""
    assert_traced(said[run])


def test_hidden_addresses_leave_stacks_without_names(said):
    """It is said why, and nothing is made up."""
    for echo in assert_traced(said["noexec, addresses hidden"]):
        for stage in echo["stages"]:
            assert stage["stack"] is None
            assert "kptr_restrict" in stage["stack_error"]


def test_lockdown_integrity(said):
    """Forbids nothing that the tool does."""
    assert_traced(said["lockdown integrity"])


def test_lockdown_confidentiality(said):
    """Forbids reading kernel memory, which is said."""
    assert_refused(said["lockdown confidentiality"], "lockdown")
