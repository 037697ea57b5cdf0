# SPDX-License-Identifier: GPL-2.0-only
"""A time that was asked for, in the unit of reports."""

from __future__ import annotations

__all__ = ("milliseconds",)


def milliseconds(elapsed_ns: int) -> str:
    """Milliseconds to the last digit that there is, as in ``1.5 ms``."""
    whole, rest_ns = divmod(elapsed_ns, 1_000_000)
    return f"{whole}.{rest_ns:06d}".rstrip("0").rstrip(".") + " ms"
