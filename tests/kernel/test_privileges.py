# SPDX-License-Identifier: GPL-2.0-only
"""Nobody with a few capabilities can trace, and the tool keeps none that it does without."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import GUEST, LOCAL, PEER, Run, assert_identities, assert_six_stages, sh, trace

PACKAGE = Path(__file__).parents[2] / "icmp_rtt"
NOBODY = 65534
FEW = ("bpf", "perfmon", "syslog")
BITS = {"kill": 5, "net_raw": 13, "sys_admin": 21, "sys_resource": 24, "perfmon": 38, "bpf": 39}
native, guest = pytest.mark.native, pytest.mark.guest


@pytest.fixture(scope="module")
def everyones():
    """Where anybody can read the tool: the checkout may lie where only its owner looks."""
    import elftools

    folders = [PACKAGE.parent, Path(elftools.__file__).parents[1]]
    if GUEST:  # a copy takes long there, and the guest's files are its own
        for folder in {parent for each in folders for parent in (each, *each.parents)}:
            folder.chmod(0o755)
        yield ":".join(map(str, folders))
        return
    with tempfile.TemporaryDirectory() as copy:
        for folder, name in zip(folders, (PACKAGE.name, "elftools")):
            shutil.copytree(folder / name, Path(copy, name))
        sh(f"chmod -R a+rX {copy}")
        yield copy


@pytest.fixture
def as_nobody(everyones):
    """Makes a command that runs the tool as nobody with these capabilities and no others."""

    def command(capabilities, *arguments):
        sets = ",".join(["-all", *(f"+{name}" for name in capabilities)])
        return [
            *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
            *(f"--inh-caps={sets}", f"--ambient-caps={sets}"),
            *("env", f"PYTHONPATH={everyones}", "PYTHONDONTWRITEBYTECODE=1"),
            *(os.path.realpath(sys.executable), "-m", "icmp_rtt", "--format", "json", *arguments),
        ]

    return command


def outcome(command):
    """What a command printed, and how it ended."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd="/")
    return Run(done.returncode, done.stdout, done.stderr)


def capabilities_of(pid):
    """Effective, permitted and ambient ones as bits, and whether it may get new ones."""
    words = Path(f"/proc/{pid}/status").read_text().split()
    fields = dict(zip(words, words[1:]))
    bits = [int(fields[name], 16) for name in ("CapEff:", "CapPrm:", "CapAmb:")]
    return bits, fields["NoNewPrivs:"] == "0"


def traced(command, work):
    """What the tool reports of ``work``, and its capabilities once it goes without."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/"
    )
    with process:
        first = process.stdout.readline()
        deadline = time.monotonic() + 30
        while capabilities_of(process.pid)[1] and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
        bits, _ = capabilities_of(process.pid)
        sh(work)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    return Run(process.returncode, first + rest, errors), bits


def looks_take_a_capability():
    """Whether this kernel asks for CAP_BPF in each bpf() call: found out without the tool."""
    script = (
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True);"
        "attr = (ctypes.c_uint32 * 32)(0xFFFFFFFF);"
        "libc.syscall(321, 1, attr, ctypes.sizeof(attr)); print(ctypes.get_errno())"
    )
    plain = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    python = os.path.realpath(sys.executable)
    done = subprocess.run([*plain, python, "-c", script], capture_output=True, check=True, cwd="/")
    return int(done.stdout) == 1  # EPERM rather than EBADF


def kept(*names):
    """The bits of these capabilities in all three sets; ambient ones go when given up."""
    return sum(1 << BITS[name] for name in names)


@pytest.mark.extended
@guest
@pytest.mark.parametrize("backend", ["fentry", "kprobe"])
def test_six_stages_for_nobody(veth, as_nobody, backend):
    """Named stacks and all, with the capabilities that the README lists and without root."""
    where = ("--src-ip", LOCAL, "--dst-ip", PEER, "--backend", backend)
    command = as_nobody(needed(backend), *where)
    run, bits = traced(command, f"ping -U -c 23 -i 0.02 {PEER}")
    assert_six_stages(run, 23)
    for stage in run.echoes[0]["stages"]:
        assert stage["stack"] is not None, stage
        assert not stage["stack"][-1].startswith("0x")
    rest = kept("bpf") if looks_take_a_capability() else 0
    assert bits[:2] == [rest, rest]


@pytest.mark.extended
@guest
@pytest.mark.parametrize("backend", ["fentry", "kprobe"])
def test_none_of_them_is_to_spare(as_nobody, backend):
    """Without one of those that it takes to start there is no run, and what is said names it."""
    every = needed(backend)
    spare = {"syslog"}  # takes names from stacks, no more
    if "sys_admin" in every:
        spare |= {"bpf", "perfmon"}  # which that includes
    for name in sorted(set(every) - spare):
        rest = [each for each in every if each != name]
        run = outcome(as_nobody(rest, "--backend", backend, "--duration", "0.01"))
        assert (run.status, run.stdout) == (1, ""), (name, run.stdout)
        assert f"CAP_{name.upper()}" in run.stderr, run.stderr


def needed(backend):
    """What the README lists for this back end, on this kernel."""
    names = list(FEW)
    if (backend == "kprobe" and paranoid() >= 3) or modules_are_searched():
        names.append("sys_admin")
    if memory_is_locked():
        names.append("sys_resource")
    return names


def paranoid():
    """Level of kernel.perf_event_paranoid; Debian has one more than the kernel, 3."""
    return int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())


def modules_are_searched():
    """Whether libbpf looks for bpf_rdonly_cast in modules: it is new in 6.2, their BTF in 5.11."""
    return os.environ["ICMP_RTT_GUEST"] == "bookworm"


def memory_is_locked():
    """Whether this kernel counts maps as locked memory, as they did before memory groups."""
    return os.environ["ICMP_RTT_GUEST"] == "bullseye"


@native
def test_tracepoints_for_nobody(veth, as_nobody):
    """The tracepoint back end with two capabilities, and none afterwards."""
    here = ("--netns", "/proc/self/ns/net", "--src-ip", LOCAL)
    where = (*here, "--backend", "tracepoint", "--no-self-test")
    run, bits = traced(as_nobody(("bpf", "perfmon"), *where), f"ping -q -c 23 -i 0.01 {PEER}")
    assert (run.status, len(run.echoes)) == (0, 23), run.stderr
    assert_identities(run)
    rest = kept("bpf") if looks_take_a_capability() else 0
    assert bits[:2] == [rest, rest]


@native
@pytest.mark.parametrize(
    ("capabilities", "missing"),
    [
        ((), "CAP_BPF and CAP_PERFMON missing"),
        (("bpf",), "CAP_PERFMON missing"),
        (("perfmon", "syslog"), "CAP_BPF missing"),
    ],
)
def test_what_is_missing_is_told(as_nobody, capabilities, missing):
    """One line that names it, rather than what the kernel says."""
    run = outcome(as_nobody(capabilities, "--backend", "tracepoint"))
    assert (run.status, run.stdout) == (1, "")
    assert missing in run.stderr
    assert len(run.stderr.splitlines()) == 1


@native
def test_a_command_keeps_what_it_was_started_with(veth):
    """What the tool gives up, the command in it still has; it can be ended as another user, too."""
    tracepoints = ("--backend", "tracepoint", "--disable-kernel-stacks")
    plain = sh("grep -E '^(Cap|NoNew)' /proc/self/status")
    run = trace(*tracepoints, "--", "grep", "-E", "^(Cap|NoNew)", "/proc/self/status")
    assert run.status == 0, run.stderr
    found = [line for line in run.stdout.splitlines() if line.startswith(("Cap", "NoNew"))]
    assert found == plain.splitlines()
    asleep = ("setpriv", f"--reuid={NOBODY}", "--clear-groups", "sleep", "1000")
    run = trace(*tracepoints, "--duration", "0.1", "--", *asleep)
    assert run.status == 128 + signal.SIGINT, run.stderr


@native
@pytest.mark.parametrize("form", ["text", "json"])
def test_root_runs_what_lies_in_a_private_home(veth, everyones, form):
    """What has to be read is read before root's right to read anybody's files is given up."""
    sh(f"chown -R {NOBODY} {everyones}; chmod -R go-rwx {everyones}")
    try:
        tool = [os.path.realpath(sys.executable), "-m", "icmp_rtt", "--format", form]
        what = ["--netns", "/proc/self/ns/net", "--backend", "tracepoint", "--timeout", "0.1"]
        done = subprocess.run(
            [*tool, *what, "--", "sh", "-c", f"ping -c 2 -i 0.01 {PEER}; ping -c1 -W1 10.77.0.77"],
            capture_output=True,
            text=True,
            timeout=90,
            env={**os.environ, "PYTHONPATH": everyones},
            cwd="/",
        )
    finally:
        sh(f"chown -R 0 {everyones}; chmod -R a+rX {everyones}")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1].startswith(("Summary: requests=2", '{"type": "summary"'))


@pytest.mark.extended
@guest
def test_without_a_namespace_for_the_self_test(veth, as_nobody):
    """Where nobody may make one, the tool says how to go on, and does."""
    limit = Path("/proc/sys/user/max_user_namespaces")
    before = limit.read_text()
    arguments = ("--backend", "tracepoint", "--duration", "0.01")
    few = [name for name in needed("tracepoint") if name != "syslog"]
    limit.write_text("0")
    try:
        refused = outcome(as_nobody(few, *arguments))
        unproved = outcome(as_nobody(few, *arguments, "--no-self-test"))
    finally:
        limit.write_text(before)
    assert (refused.status, len(refused.stderr.splitlines())) == (1, 1)
    assert "--no-self-test" in refused.stderr
    assert unproved.status == 0, unproved.stderr
    assert json.loads(unproved.stdout.splitlines()[0])["backend"] == "tracepoint"
