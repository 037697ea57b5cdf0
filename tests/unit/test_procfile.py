# SPDX-License-Identifier: GPL-2.0-only
"""Files of /proc, read by libc."""

import os
import threading
from pathlib import Path

import pytest

from icmp_rtt.kernel.procfile import ProcFile


def test_read_again_and_again(tmp_path):
    """Each time from the beginning, in blocks of the size asked for."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 10)
    file = ProcFile(str(path))
    assert [len(block) for block in file.blocks(40)] == [40, 40, 20]
    next(file.blocks(7))  # and no further
    assert b"".join(file.blocks(33)) == path.read_bytes()
    file.close()
    file.close()


def test_a_file_of_proc():
    """It comes a page at a time, and in whole blocks all the same."""
    file = ProcFile("/proc/kallsyms")
    *blocks, last = map(len, file.blocks(1 << 16))
    file.close()
    assert set(blocks) == {1 << 16}
    assert 0 < last <= 1 << 16


@pytest.mark.parametrize("name", ["nosuch", "a\\x1b"])
def test_no_such_file(tmp_path, name):
    """The error is as open() has it."""
    with pytest.raises(FileNotFoundError) as caught:
        ProcFile(str(tmp_path / name))
    assert caught.value.filename == str(tmp_path / name)
    assert caught.value.strerror == "No such file or directory"


def test_a_file_that_cannot_be_read(tmp_path):
    """A directory can be opened, and no more."""
    file = ProcFile(str(tmp_path))
    with pytest.raises(IsADirectoryError):
        list(file.blocks(100))
    file.close()


def test_not_inherited(tmp_path):
    """A command that is started does not get it."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    file = ProcFile(str(path))
    (number,) = [fd.name for fd in Path("/proc/self/fd").iterdir() if fd.resolve() == path]
    assert not os.get_inheritable(int(number))
    file.close()


def test_closed_by_another_thread(tmp_path):
    """In the middle of a read that waits: not before it is over, and nothing is read after."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writing = os.open(path, os.O_RDWR)
    file = ProcFile(str(path))
    blocks = file.blocks(4)
    found, began = [], threading.Event()

    def read():
        found.append(next(blocks))
        began.set()
        found.append(next(blocks))

    reader = threading.Thread(target=read)
    reader.start()
    os.write(writing, b"abcd")
    assert began.wait(60)
    while not file._lock.locked():  # it waits for the next four bytes
        pass
    closer = threading.Thread(target=file.close)
    closer.start()
    os.write(writing, b"efgh")
    reader.join(60)
    closer.join(60)
    assert not reader.is_alive() and not closer.is_alive()
    os.close(writing)
    assert found[:2] == [b"abcd", b"efgh"]


def test_closed_in_between(tmp_path):
    """What is closed is read no further."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    file = ProcFile(str(path))
    blocks = file.blocks(4)
    assert next(blocks) == b"0123"
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        next(blocks)
