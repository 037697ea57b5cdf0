# SPDX-License-Identifier: GPL-2.0-only
"""The command as its users meet it: messages, statuses, and what happens to its stdout."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from fakes import FakeTracer

from icmp_rtt import cli
from icmp_rtt.cli import main
from icmp_rtt.errors import LibbpfError, RequirementError
from icmp_rtt.options import Options
from icmp_rtt.version import VERSION

HERE = Path(__file__).parent
# A process that runs the command on a fake tracer with one echo after the other.
SCRIPT = """
import sys
sys.argv[0] = "icmp-rtt"
from fakes import FakeTracer
from samples import record
from icmp_rtt.cli import main
sys.exit(main(make_tracer=FakeTracer([{batches}] * 3000)))
"""


def start(*words, batches="[record()]", **pipes):
    """The command in a process of its own."""
    path = os.pathsep.join((str(HERE), str(HERE.parents[1])))
    return subprocess.Popen(
        (sys.executable, "-c", SCRIPT.format(batches=batches), *words),
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": ""},
        stderr=subprocess.PIPE,
        text=True,
        **pipes,
    )


@pytest.mark.parametrize("words", [(), ("--format", "json")])
def test_reader_that_goes(words):
    """When the reader of stdout goes, the run ends with one line, at the next report or without."""
    for batches in ("[record()]", "[]"):
        with start(*words, batches=batches, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == "icmp-rtt: stdout was closed by its reader\n"
        assert process.returncode == 1


def test_reader_that_was_never_there():
    """What could not be written is not tried again at the interpreter's end."""
    reading, writing = os.pipe()
    os.close(reading)
    with start(stdout=writing) as process:
        os.close(writing)
        assert process.stderr.read() == "icmp-rtt: stdout was closed by its reader\n"
    assert process.returncode == 1


def test_full_device():
    """When reports cannot be written, the run says so."""
    with open("/dev/full", "w") as full, start(stdout=full) as process:
        assert process.stderr.read() == (
            "icmp-rtt: cannot write to stdout: no space left on device\n"
        )
    assert process.returncode == 1


def test_no_stdout():
    """Without a stdout, nothing is started."""
    with start(preexec_fn=lambda: os.close(1)) as process:
        assert process.stderr.read() == (
            "icmp-rtt: stdout is closed; give the reports a place to go\n"
        )
    assert process.returncode == 1


def test_help_into_a_closed_pipe():
    """Not even the help fails noisily."""
    with start("--help", stdout=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() in ("", "icmp-rtt: stdout was closed by its reader\n")


def test_no_kernel_needed():
    """Help, version and bad usage load nothing of the machine."""
    loaded = ("ctypes", "json", "elftools", "subprocess", "shutil")
    code = (
        "import sys; from icmp_rtt.cli import main; main(['--help']); main(['--version']);"
        "main(['--count', '0']);"
        f"print([m for m in sys.modules if m in {loaded}"
        " or m.startswith(('icmp_rtt.kernel', 'icmp_rtt.report.text', 'icmp_rtt.decode'))])"
    )
    done = subprocess.run(
        (sys.executable, "-S", "-c", code),
        env={"PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs the command in this process: exit status, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/icmp-rtt"])

    def run(*words, tracer=None):
        status = main(words, tracer)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_version(command):
    """The version is one line."""
    assert command("--version") == (0, f"icmp-rtt {VERSION}\n", "")


def test_help(command):
    """The help is on stdout, and fine."""
    status, out, err = command("--help")
    assert (status, err) == (0, "")
    assert out.startswith("usage: icmp-rtt ")


@pytest.mark.parametrize(
    "words",
    [
        ("--src-ip", "10.1"),
        ("--direction", "up"),
        ("--count", "0"),
        ("--latency-ms", "-3"),
        ("--src-ip", "10.0.0.1", "--dst-ip", "::1"),
        ("--src-ip", "\x1b[2J\n"),
        ("--fo\x1b[2J\r\no",),
        ("--nonsense",),
    ],
)
def test_bad_usage(command, words):
    """Bad usage ends with status 2 and one harmless line; nothing is started."""
    tracer = FakeTracer()
    status, out, err = command(*words, tracer=tracer)
    assert (status, out, tracer.log) == (2, "", [])
    assert err.startswith("icmp-rtt: ")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()


def test_other_names(command, monkeypatch):
    """Whoever calls it by the original's name finds that name in its messages."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kernel_icmp_rtt.py"])
    assert command("--count", "0")[2].startswith("kernel_icmp_rtt.py: --count: ")
    monkeypatch.setattr(sys, "argv", ["/x/icmp_rtt/__main__.py"])
    assert command("--count", "0")[2].startswith("icmp-rtt: --count: ")


def test_error(command):
    """An error is one line; its details are for --verbose."""
    error = LibbpfError("bpf_object__load", 1, "the verifier\nsays no")
    line = "icmp-rtt: bpf_object__load failed: Operation not permitted (errno 1)\n"
    assert command(tracer=FakeTracer(fails=error)) == (1, "", line)
    status, _, err = command("--verbose", tracer=FakeTracer(fails=error))
    assert (status, err) == (1, f"{line}the verifier\nsays no\n")


def test_verbose_of_the_command_is_not_ours(command):
    """What follows -- is not for us."""
    error = RequirementError("no", "long story")
    err = command("--", "x", "--verbose", tracer=FakeTracer(fails=error))[2]
    assert err == "icmp-rtt: no\n"


def test_internal_error(command):
    """A defect is told as one, without a traceback unless asked for."""
    status, out, err = command(tracer=FakeTracer(fails=KeyError("x")))
    assert (status, out) == (1, "")
    assert err == "icmp-rtt: internal error: KeyError: 'x'; --verbose shows where\n"
    err = command("--verbose", tracer=FakeTracer(fails=KeyError("x")))[2]
    assert "Traceback (most recent call last)" in err


def test_shortage(command):
    """Too few of something is no defect, and can be helped."""
    error = OSError(24, "Too many open files")
    assert command(tracer=FakeTracer(fails=error)) == (
        1,
        "",
        "icmp-rtt: too many open files: raise the limit of open files (ulimit -n)\n",
    )
    err = command(tracer=FakeTracer(fails=OSError(5, "Input/output error")))[2]
    assert err.startswith("icmp-rtt: internal error: OSError: ")


def test_interrupt_at_any_time(command):
    """An interrupt is no defect."""
    assert command(tracer=FakeTracer(fails=KeyboardInterrupt())) == (130, "", "")


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_check(command, monkeypatch, ok, status):
    """The check's lines are printed, and its status says whether there is a plan."""
    seen = []
    fake = types.ModuleType("icmp_rtt.check")
    fake.check = lambda options: (seen.append(options), (iter(["a", "six stages: no: x"]), ok))[1]
    monkeypatch.setitem(sys.modules, "icmp_rtt.check", fake)
    assert command("check", "--backend", "kprobe") == (status, "a\nsix stages: no: x\n", "")
    assert seen == [Options(backend="kprobe")]


def test_nobody_listens_on_stderr(monkeypatch):
    """Without a stderr there is still a status."""
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["--count", "0"]) == 2


def test_names_beyond_the_encoding(monkeypatch, tmp_path):
    """A name that stdout's encoding lacks is escaped rather than fatal."""
    with open(tmp_path / "out", "w", encoding="ascii") as file:
        monkeypatch.setattr(sys, "stdout", file)
        cli.Stdout().write("пинг\n")
    assert (tmp_path / "out").read_text() == "\\u043f\\u0438\\u043d\\u0433\n"


@pytest.mark.parametrize("flag", ["--src-ip", "--count", "--latency-ms", "--interface"])
def test_words_that_are_not_utf_8_are_told_as_their_bytes(capsys, flag):
    """Whichever flag they are given to."""
    assert main([flag, "\udce9\n"]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert "\\xe9\\x0a" in line and "\\udce9" not in line
