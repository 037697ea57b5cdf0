# SPDX-License-Identifier: GPL-2.0-only
"""The machine: libbpf, the BPF object file, BTF layouts, kernel symbols."""
