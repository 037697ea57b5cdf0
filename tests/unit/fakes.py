# SPDX-License-Identifier: GPL-2.0-only
"""A tracer that needs no kernel: it hands out what a test gave it."""

from __future__ import annotations

import time

from samples import decoder, guide_start, symbols


class FakeTracer:
    """As much of tracer.Tracer as a run uses.

    Args:
        batches: what each poll returns; a callable is called, for what it returns.
        last: what ``finish`` returns.
        counters: the final ones.
        in_flight: what each question for it is answered with, 0 in the end.
        warnings: given to the caller on entry.
        fails: raised on entry.
    """

    def __init__(
        self, batches=(), last=(), counters=None, in_flight=(), warnings=(), fails=None, start=None
    ):
        self._batches, self._in_flight = list(batches), list(in_flight)
        self._last, self._counters = list(last), counters or {"requests": 0}
        self._warnings, self._fails = warnings, fails
        self.start = start or guide_start()
        self.decoder, self.symbols, self.drop_reasons = decoder(), symbols(), {8: "NETFILTER_DROP"}
        self.options, self.log = None, []

    def __call__(self, options, warn):
        """Stands for the class."""
        self.options, self._warn = options, warn
        return self

    def __enter__(self):
        if self._fails:
            raise self._fails
        self.log.append("attached")
        for warning in self._warnings:
            self._warn(warning)
        return self

    def __exit__(self, *exc):
        self.log.append("closed")

    def give_up_privileges(self, command):
        self.log.append(f"gave up, command {command}")

    def completed(self, record):
        return True

    def poll(self, timeout_ms):
        self.log.append("poll")
        assert 0 <= timeout_ms <= 100
        assert len(self.log) < 5_000, "nobody ended this run"
        if not self._batches:
            time.sleep(0.001)
        batch = self._batches.pop(0) if self._batches else ()
        return list(batch() if callable(batch) else batch)

    def in_flight(self):
        return self._in_flight.pop(0) if self._in_flight else 0

    def finish(self):
        self.log.append("finish")
        return self._last

    def counters(self):
        return dict(self._counters)
