# SPDX-License-Identifier: GPL-2.0-only
"""The exception tree: everything that this package raises on purpose.

    IcmpRttError              exit status 1
        OptionError           exit status 2: what was asked for makes no sense
        RequirementError      this host lacks something
        ObjectError           the BPF object or BTF file does not fit
        LibbpfError           a call into libbpf failed
        DecodeError           a record does not fit its layout, or is of two echoes
        CommandError          COMMAND cannot be told to end (command.py)
            NotStartedError   nor started: exit status 126 or 127, as a shell's
        StdoutError           reports cannot be written any more (stdout.py)

    Refused (loader.py), of one program, never gets out of the survey.

A message is one line in lower case: the cause, then the remedy. Whatever is
longer goes into ``detail``, which is shown with --verbose only.
"""

from __future__ import annotations

import errno
import os

__all__ = (
    "DecodeError",
    "IcmpRttError",
    "LibbpfError",
    "ObjectError",
    "OptionError",
    "RequirementError",
    "misfit",
    "shortage",
)

_SHORTAGES = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the whole host has too many files open: raise fs.file-max",
    errno.ENOMEM: "raise the limit of memory (ulimit -v, ulimit -l, that of the control group)",
}


class IcmpRttError(Exception):
    """The root: ``str()`` is one line with the cause and its remedy.

    Attributes:
        exit_status: what the process ends with when nobody handles the error.
        detail: more words for --verbose, possibly many lines, possibly empty.
    """

    exit_status = 1

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class OptionError(IcmpRttError):
    """What was asked for cannot be meant; nothing has been started yet."""

    exit_status = 2


class RequirementError(IcmpRttError):
    """This host lacks something: a privilege, kernel BTF, libbpf, a device."""


class ObjectError(IcmpRttError):
    """A BPF object or BTF file is missing, damaged, or not the one expected."""


class LibbpfError(IcmpRttError):
    """A call into libbpf failed.

    Attributes:
        call: name of the libbpf function, possibly with what it was about.
        errno: positive errno of the failure.
        log: libbpf's own words, the verifier's log included; same as ``detail``.
    """

    def __init__(self, call: str, errno: int, log: str = "") -> None:
        super().__init__(f"{call} failed: {os.strerror(errno)} (errno {errno})", log)
        self.call = call
        self.errno = errno
        self.log = log


class DecodeError(IcmpRttError):
    """A record is of another size than the object promised, or torn: it is counted as lost.

    Torn is one of a session that was used anew while it was still being written. Two CPUs
    that send one id and sequence at the same moment bring that about.
    """


def misfit(why: str) -> ObjectError:
    """A BPF object, sound in itself, is of another version than this program."""
    remedy = "reinstall icmp-rtt, or leave --object out"
    return ObjectError(f"the BPF object does not fit this program: {why}; {remedy}")


def shortage(code: int | None) -> str | None:
    """What to do where there is too little of something; None if it is not that.

    Args:
        code: errno of the failure, if it has one.
    """
    return None if code is None else _SHORTAGES.get(code)
