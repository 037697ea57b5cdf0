# SPDX-License-Identifier: GPL-2.0-only
"""``python -m icmp_rtt`` is the command ``icmp-rtt``, and where that begins, however it is called.

Older versions of Python than the command takes can read this file, to say so.
"""

import sys

if sys.version_info < (3, 9):  # noqa: UP036 - not everything that installs looks at it
    sys.exit("icmp-rtt: Python 3.9 or newer is needed, this is %d.%d" % sys.version_info[:2])  # noqa: UP031

# Not signal: that takes other modules, in which an interrupt would be told.
import _signal  # type: ignore[import-not-found]  # noqa: E402

# Until the command looks after its signals itself: an import that is interrupted would
# print where it was.
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from icmp_rtt.cli import main  # noqa: E402 - see above

__all__ = ("main",)

if __name__ == "__main__":
    sys.exit(main())
