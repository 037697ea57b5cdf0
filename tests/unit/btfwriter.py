# SPDX-License-Identifier: GPL-2.0-only
"""BTF bytes, written type by type, and a struct with everything that a record may hold."""

import struct

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST = range(1, 11)
RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(11, 20)
SIGNED = 1


class Writer:
    """BTF bytes, type by type; every method returns the id of its type."""

    def __init__(self):
        self.types, self.strings, self.count = b"", b"\0", 0

    def string(self, text):
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def add(self, kind, name="", size=0, trailer=b"", vlen=0, flag=0):
        info = flag << 31 | kind << 24 | vlen
        self.types += struct.pack("<III", self.string(name) if name else 0, info, size) + trailer
        self.count += 1
        return self.count

    def integer(self, name, size, encoding=0):
        return self.add(INT, name, size, struct.pack("<I", encoding << 24 | size * 8))

    def array(self, element, length):
        return self.add(ARRAY, trailer=struct.pack("<III", element, 0, length))

    def struct(self, name, size, *members, kind=STRUCT, flag=0):
        """Members are (name, type, offset in bits)."""
        packed = [struct.pack("<III", self.string(m), t, at) for m, t, at in members]
        return self.add(kind, name, size, b"".join(packed), len(members), flag)

    def enum(self, name, values, flag=0):
        packed = [struct.pack("<II", self.string(n), v & 0xFFFFFFFF) for n, v in values.items()]
        return self.add(ENUM, name, 4, b"".join(packed), len(values), flag)

    def enum64(self, name, values, flag=0):
        packed = [
            struct.pack("<III", self.string(n), v & 0xFFFFFFFF, v >> 32 & 0xFFFFFFFF)
            for n, v in values.items()
        ]
        return self.add(ENUM64, name, 8, b"".join(packed), len(values), flag)

    def bytes(self, magic=0xEB9F, version=1, header=24):
        lengths = (0, len(self.types), len(self.types), len(self.strings))
        return struct.pack("<HBBIIIII", magic, version, 0, header, *lengths) + (
            self.types + self.strings
        )


def event():
    """A struct with everything that a record of ours may hold."""
    w = Writer()
    u64, u32, u8 = w.integer("u64", 8), w.integer("u32", 4), w.integer("u8", 1)
    s32, char = w.integer("s32", 4, SIGNED), w.integer("char", 1, SIGNED)
    alias = w.add(TYPEDEF, "__u64", u64)
    hook = w.enum("hook", {"HOOK_SEND": 0, "HOOK_XMIT": 2, "HOOK_COUNT": 6})
    side = w.struct("side", 20, ("pid", u32, 0), ("comm", w.array(char, 16), 32))
    stack = w.array(w.array(alias, 3), 2)  # BTF names the outer dimension first
    w.struct(
        "event",
        160,
        ("ts_ns", w.array(w.add(CONST, size=alias), 6), 0),
        ("family", u8, 384),
        ("hook", w.add(VOLATILE, size=hook), 416),
        ("side", w.array(side, 2), 448),
        ("error", s32, 768),
        ("stack", stack, 832),
        ("pointer", w.add(PTR, size=char), 1216),
    )
    return w
