# SPDX-License-Identifier: GPL-2.0-only
"""The order of the layers: imports run downward, and each machine has one user."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "icmp_rtt"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module may import those of a lower rank, and of its own folder.
RANKS = {
    "icmp_rtt": 1,
    "version": 0,
    "errors": 0,
    "background": 0,
    "clock": 0,
    "carried": 1,
    "model": 1,
    "kernel": 2,
    "options": 2,
    "stages": 2,
    "command": 2,
    "signals": 2,
    "stdout": 3,
    "netns": 2,
    "plan": 3,
    "opening": 5,
    "privileges": 3,
    "report": 3,
    "record": 3,
    "order": 3,
    "decode": 4,
    "config": 3,
    "counters": 3,
    "loader": 4,
    "about": 5,
    "refusal": 4,
    "selftest": 4,
    "arguments": 4,
    "survey": 5,
    "unanswered": 5,
    "tracer": 6,
    "check": 7,
    "run": 7,
    "cli": 8,
    "__main__": 9,
}
# Who else may use what.
ONLY = {
    "elftools": {"kernel/objfile.py"},
    "ctypes": {"kernel/", "netns.py"},
    "argparse": {"arguments.py"},
}


def name_of(path):
    """The layer that a file belongs to: its folder or itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0] if parts != ("__init__",) else "icmp_rtt"


def imports(path):
    """Every module that a file imports anywhere, type checking included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "icmp_rtt":
                yield from (f"icmp_rtt.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_there_is_something_to_look_at():
    """The other tests do look at the package."""
    assert {"cli", "model", "report"} <= {name_of(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward(path):
    """No module imports one above it, or beside it in another folder."""
    own = name_of(path)
    for module in imports(path):
        parts = module.split(".")
        if parts[0] != "icmp_rtt":
            continue
        other = parts[1] if len(parts) > 1 else "icmp_rtt"
        assert other == own or RANKS[other] < RANKS[own], f"{own} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_machines_have_one_user(path):
    """ELF files, C libraries and the command line are each handled in one place."""
    own = path.relative_to(PACKAGE).as_posix()
    for module in imports(path):
        users = ONLY.get(module.split(".")[0])
        assert users is None or any(own.startswith(user) for user in users), module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_cli_prints(path):
    """Nothing but the command, and what it writes reports with, touches stdout or stderr."""
    printers = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Name) and node.id == "print")
        or (isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr"))
    ]
    assert not printers or path.name in ("cli.py", "stdout.py")
