# SPDX-License-Identifier: GPL-2.0-only
"""The exception tree."""

import pytest

from icmp_rtt import errors


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.IcmpRttError, 1),
        (errors.OptionError, 2),
        (errors.RequirementError, 1),
        (errors.ObjectError, 1),
        (errors.DecodeError, 1),
    ],
)
def test_status(kind, status):
    """Every error is one of ours, says its message, and knows how the process ends."""
    error = kind("no luck; try again", "long story")
    assert isinstance(error, errors.IcmpRttError)
    assert (status, "no luck; try again", "long story") == (
        error.exit_status,
        str(error),
        error.detail,
    )


def test_detail_is_empty_by_default():
    """An error without a long story has an empty one."""
    assert errors.ObjectError("x").detail == ""


def test_libbpf_error_names_call_and_cause():
    """A failed call is named with its errno, and libbpf's own words are the detail."""
    error = errors.LibbpfError("bpf_object__load", 13, "the verifier says no")
    assert str(error) == "bpf_object__load failed: Permission denied (errno 13)"
    assert (error.exit_status, error.call, error.errno) == (1, "bpf_object__load", 13)
    assert error.log == error.detail == "the verifier says no"
