# SPDX-License-Identifier: GPL-2.0-only
#
# The front door: `make help` tells what there is.

PYTHON	  ?= $(firstword $(wildcard /usr/bin/python3) python3)
CLANG	  ?= clang
# The compiler's own, or else any: what comes of it is the same.
LLVM_STRIP ?= $(shell $(CLANG) -print-prog-name=llvm-strip)
PREFIX	  ?= /usr/local
KERNEL	  ?= all
SECONDS	  ?= 10
TIERS	  ?= unit native all

BPF_CFLAGS := -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -D__TARGET_ARCH_x86 -Ibpf
# The object must not depend on where the checkout lies.
BPF_CFLAGS += -fdebug-compilation-dir=.
# Nor does it hold what no start needs: DWARF, and for linking labels and BTF's relocations.
STRIP_FLAGS := -g --strip-unneeded --remove-section=.rel.BTF --remove-section=.rel.BTF.ext

# The second is for kernels without BTF.
OBJECT	:= icmp_rtt/data/icmp_rtt.bpf.o icmp_rtt/data/icmp_rtt_nobtf.bpf.o
VENV	:= .venv
VPYTHON := $(VENV)/bin/python

ifeq ($(V),1)
msg =
else
.SILENT:
msg = @printf '  %-8s %s\n' $(1) $(2);
endif

.DELETE_ON_ERROR:
.PHONY: build demo test vm-test dist-test fuzz bench lint ci deps install uninstall wheel dist btf clean help FORCE
.DEFAULT_GOAL := build

## Everyday targets

build: $(OBJECT) build/bytecode ## compile the BPF object and Python's modules (default)

demo: ## trace 5 pings between two namespaces; installs what is missing
	tests/tools/install-deps build run
	$(MAKE) --no-print-directory build $(VENV)/run
	tests/tools/demo "$(CURDIR)/$(VPYTHON)"

test: ## unit tests, on this kernel, six stages on four stock ones; installs what is missing
	tests/tools/install-deps all
	$(MAKE) --no-print-directory build $(VENV)/dev
	$(VPYTHON) tests/tools/run-tests $(TIERS)

vm-test: ## these and the longer tests in guests: KERNEL=bullseye|bookworm|trixie|sid|all
	tests/tools/install-deps all
	$(MAKE) --no-print-directory build $(VENV)/dev
	$(VPYTHON) tests/tools/run-tests --extended $(KERNEL) $(if $(TESTS),-- -k '$(TESTS)')

fuzz: build $(VENV)/dev ## fuzz what reads foreign bytes: SECONDS=10 for each target
	$(VPYTHON) tests/fuzz/run --seconds=$(SECONDS)

dist-test: dist ## the artifacts on minimal hosts: KERNEL as above
	tests/tools/install-deps all dist
	$(if $(filter-out all,$(KERNEL)),ICMP_RTT_SUITES='$(KERNEL)') $(VPYTHON) tests/tools/run-tests dist

ci: ## what a build server calls: build, lint, tests, dist; tells what it skipped
	tests/tools/ci

bench: ## what it costs, beside bpftrace: KERNEL=bookworm|sid|all|none CONTENDERS=a,b PROGRAMS=1
	tests/tools/install-deps all bench
	$(MAKE) --no-print-directory build $(VENV)/dev
	PYTHONPATH="$(CURDIR):$(CURDIR)/tests/unit" $(VPYTHON) tests/bench/bench.py --kernel $(KERNEL) \
		$(if $(CONTENDERS),--contenders $(CONTENDERS)) $(if $(PROGRAMS),--programs)

lint: $(VENV)/dev build/lint.o ## ruff, mypy --strict, clang with warnings as errors
	$(VENV)/bin/ruff check --quiet --config tests/ruff.toml $(PYTHON_SOURCES)
	$(VENV)/bin/ruff format --quiet --check --config tests/ruff.toml $(PYTHON_SOURCES)
	$(VENV)/bin/mypy --no-error-summary --config-file tests/mypy.ini icmp_rtt

deps: ## install the Debian packages and the virtual environment for all of this
	tests/tools/install-deps all
	$(MAKE) --no-print-directory $(VENV)/dev

## Artifacts

dist: ## tar archive, zipapp, wheel and Debian package, in dist; installs what is missing
	tests/tools/install-deps build dist
	$(MAKE) --no-print-directory build $(VENV)/dev
	tests/dist/all "$(CURDIR)/$(VPYTHON)"

btf: ## minimal BTF of the running kernel, BTF=FILE's or KERNEL=SUITE's, in dist
	tests/tools/install-deps build btf $(if $(filter-out all,$(KERNEL)),vm)
	$(MAKE) --no-print-directory build
	tests/dist/btf $(if $(filter-out all,$(KERNEL)),--suite $(KERNEL),$(BTF))

## Installing

wheel: build $(VENV)/dev ## build/wheel/*.whl
	rm -rf build/wheel build/lib build/bdist.*
	$(VPYTHON) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .

install: wheel ## install below PREFIX (/usr/local); DESTDIR is honoured
	rm -rf "$(INSTALLED)/lib/icmp-rtt"
	umask 022; $(VPYTHON) -m pip install --quiet --no-index --find-links $(VENV)/wheels \
		--target "$(INSTALLED)/lib/icmp-rtt" build/wheel/*.whl
	rm -rf "$(INSTALLED)/lib/icmp-rtt/bin"
	install -d "$(INSTALLED)/bin"
	tests/tools/launcher /usr/bin/python3 ../lib/icmp-rtt >build/launcher
	for name in $(COMMANDS); do \
		install -m 755 build/launcher "$(INSTALLED)/bin/$$name" || exit; done

uninstall: ## remove what install put there
	rm -rf "$(INSTALLED)/lib/icmp-rtt"
	for name in $(COMMANDS); do rm -f "$(INSTALLED)/bin/$$name" || exit; done

clean: ## remove what was built; kernels and virtual environment stay
	rm -rf build dist icmp_rtt.egg-info $(OBJECT)
	find icmp_rtt -name __pycache__ -prune -exec rm -rf {} +

help: ## this list
	awk -F ':.*## ' '/^## / { print "\n" substr($$0, 4) ":" } \
		/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile
	echo
	echo 'Variables: V=1 shows the commands, CLANG=clang-19 takes that compiler, PYTHON,'
	echo "PREFIX, DESTDIR, LLVM_STRIP; TIERS='unit native all' of the tests, TESTS=soak of vm-test's."
	echo 'ICMP_RTT_CACHE is where kernels are kept (~/.cache/icmp-rtt).'

COMMANDS       := icmp-rtt kernel_icmp_rtt.py
INSTALLED       = $(DESTDIR)$(PREFIX)
REQUIREMENTS   := tests/tools/requirements-dev.txt
PYTHON_SOURCES := icmp_rtt setup.py tests tests/tools/run-tests tests/vm/run tests/fuzz/run
PYTHON_SOURCES += $(addprefix tests/dist/,copy-package docs in-guest zipapp)

# The object

$(OBJECT): icmp_rtt/data/%.bpf.o: build/%.bpf.o
	$(call msg,COPY,$@)
	mkdir -p $(@D)
	cp $< $@

# Or make would take it for a passing thing, delete it, and build it anew the next time.
.SECONDARY: build/unstripped/icmp_rtt.bpf.o

build/%.bpf.o: build/unstripped/%.bpf.o
	$(call msg,STRIP,$@)
	$(LLVM_STRIP) $(STRIP_FLAGS) -o $@ $<

build/unstripped/icmp_rtt_nobtf.bpf.o: BPF_CFLAGS += -DWITHOUT_KERNEL_BTF
build/unstripped/%.bpf.o: bpf/icmp_rtt.bpf.c build/compiler
	$(call msg,BPF,$@)
	mkdir -p $(@D)
	$(CLANG) $(BPF_CFLAGS) -MD -MP -c $< -o $@

build/lint.o: bpf/icmp_rtt.bpf.c build/compiler
	$(call msg,BPF,'$< (-Werror)')
	$(CLANG) $(BPF_CFLAGS) -Werror -MD -MP -c $< -o $@

-include $(wildcard build/unstripped/*.d) build/lint.d

# What Python would do at the first start, and again at each where it may not write.
# Where we may not either (files of a build of root's), it is done without.
build/bytecode: $(shell find icmp_rtt -type f -name '[!.]*.py')
	{ mkdir -p $(@D) && $(PYTHON) -m compileall -qq icmp_rtt && touch $@; } || :

# Changes with the compiler and its options, so that the object is built anew.
build/compiler: FORCE
	mkdir -p $(@D)
	now=$$(echo '$(CLANG) $(LLVM_STRIP) $(BPF_CFLAGS) $(STRIP_FLAGS)'; $(CLANG) --version); \
		echo "$$now" | cmp -s - $@ || echo "$$now" >$@

# The virtual environment: "run" holds what the tool needs, "dev" the rest too

$(VENV)/run: $(REQUIREMENTS)
	$(call msg,VENV,$@)
	$(PYTHON) -m venv $(VENV)
	$(VPYTHON) -m pip install --quiet --disable-pip-version-check --constraint $< pyelftools
	touch $@

$(VENV)/dev: $(REQUIREMENTS) $(VENV)/run
	$(call msg,VENV,$@)
	$(VPYTHON) -m pip install --quiet --disable-pip-version-check --requirement $<
	$(VPYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --constraint $< \
		--dest $(VENV)/wheels pip pyelftools
	touch $@
