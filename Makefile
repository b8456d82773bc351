# make demo   a picture from a sentence, offline, in a fresh virtual environment
# make serve  the live page on http://127.0.0.1:7860
# make test   everything that must hold: ruff, mypy, pytest; before every commit on main
# make test-quick  what answers within 90 s: pytest without what is marked slow; while you work
# make test-families  every family of models beside diffusers, through every verb; `make test` has them, too
# make report the starter's evaluation: 2,000 pictures of each way to paint, about an hour; goes on where it stopped
# make bench-quick  whether anything has become slower since it was recorded, in two minutes
# make soak   32 churning clients for half an hour, and what is left of the memory
# make lint   ruff, mypy, and the size of the tree
# make trunk  the starter's training goes on in the background; -status, -pause, -resume, -stop, -curve
# make gpu    what a CUDA machine is worth, in stages: needs python3 with PyTorch, this tree and .wheels/, and no index
# make gpu-wheels  fill .wheels/ for it, where there is an index
# make gpu-trunk   the trunk for MINUTES there, back as weights; make gpu-trunk-art fills .trunk/ for it
#
# Choose an interpreter with `make demo PYTHON=python3.12`. Packages come from the index that pip is set up for.

VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(if $(shell $(name) -c \
            'import sys; sys.version_info >= (3, 11) and print("yes")' 2>/dev/null),$(name))))
# In front of what wants the machine for itself: a trunk in the background waits until it has ended, however it ends.
LEASE  := $(BIN)/python -m recipes.lease
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: help demo serve test test-quick test-families lint browser report bench-quick soak clean \
  trunk trunk-status trunk-pause trunk-resume trunk-stop trunk-curve

help:
	@sed -n 's/^# make /make /p' Makefile

demo: $(VENV)/.installed
	$(BIN)/fewstep generate "a cat face" -o demo.png
	@echo
	@echo "Your picture is demo.png. Next, for example:"
	@echo "  $(BIN)/fewstep generate \"a blue cat\" -n 4 --grid -o cats.png"
	@echo "  $(BIN)/fewstep generate \"a smiling sun\" --image demo.png --strength 0.7 -o sun.png"
	@echo "  $(BIN)/fewstep generate --from demo.png --steps 8 -o again.png"
	@echo "  $(BIN)/fewstep generate --help"

serve: $(VENV)/.installed-serve
	$(BIN)/fewstep serve

# Tests share work that lies in modules, so each worker gets a run of them, and at the end takes what the other has left.
# One thread each: the networks of the tests are so small that more would only wait for each other.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(LEASE) $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

test: lint browser
	$(PYTEST)

test-quick: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow"

test-families: $(VENV)/.installed-dev
	$(PYTEST) tests/models/families

# Real pictures for the report come from the recipe; NUM_IMAGES=256 is quick, ALSO=model+adapter.safetensors adds one.
NUM_IMAGES ?= 2000
ALSO ?= starter-teacher+lcm-lora
report: $(VENV)/.installed-starter
	$(BIN)/python -m recipes.starter art reference
	$(LEASE) $(BIN)/fewstep evaluate starter --num-images $(NUM_IMAGES) --reference build/starter/reference \
	  $(foreach model,$(ALSO),--also $(model)) --output build/report
	mkdir -p docs/starter-report
	cp build/report/report.html build/report/results.json build/report/card.md docs/starter-report/

# RECORD=1 keeps the figures as those that the next ones are compared with.
bench-quick: $(VENV)/.installed-dev
	$(LEASE) $(BIN)/python -m benchmarks.quick $(if $(RECORD),--record)

soak: $(VENV)/.installed-dev
	$(LEASE) $(BIN)/python -m benchmarks.soak

# The starter's trunk lies in fewstep's cache folder. TRUNK_CORES=2 when nothing else runs; TRUNK_FROM=weights.safetensors
# to begin with other weights than the package's.
TRUNK_CORES ?= 1
TRUNK := $(BIN)/python -m recipes.trunk
trunk: $(VENV)/.installed-starter
	$(TRUNK) start --cores $(TRUNK_CORES) $(if $(TRUNK_FROM),--from $(TRUNK_FROM))

trunk-status trunk-pause trunk-resume trunk-stop trunk-curve: trunk-%: $(VENV)/.installed-starter
	$(TRUNK) $*

# The page's tests need a Chromium: one on the PATH, or one that can be installed; without any they are skipped.
browser: $(VENV)/.installed-dev
	@command -v chromium chromium-browser google-chrome >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	       && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y chromium >/dev/null; } \
	  || $(BIN)/playwright install chromium \
	  || echo "No Chromium could be installed: the tests of the page will be skipped." >&2

# The tree must travel to other machines.
TREE_MIB := 40
lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@size=$$(git ls-files -z | xargs -0 cat | wc -c); [ $$size -le $$(($(TREE_MIB) * 1048576)) ] \
	  || { echo "The tracked files are $$((size / 1048576)) MiB; they may be $(TREE_MIB): pack or leave out what is large." >&2; exit 1; }

# build/ stays: it holds what hours of training made.
clean:
	rm -rf $(VENV) src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamps make a second run start at once; a change of the dependencies renews them.
$(VENV)/.installed: pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
	  echo "fewstep needs Python 3.11 or newer, and none was found on the PATH. Install it, or: make demo PYTHON=/path/to/python" >&2; \
	  exit 1; \
	fi
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("fewstep needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Try: make demo PYTHON=python3.12")'
	@echo "Installing into $(VENV) (once; about 1 GB with torch) ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-serve: $(VENV)/.installed
	$(PIP) --editable '.[serve,openvino]'
	@touch $@

$(VENV)/.installed-starter: $(VENV)/.installed
	$(PIP) --editable '.[starter,train]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev,serve,openvino,train]'
	@touch $@

# On a machine with a GPU: its own python3, no environment, no index. `make gpu DEVICE=cpu TINY=1` is a dry run; STAGES
# chooses some, BUDGET gives seconds, COMMIT names the tree where no .git says it.
.PHONY: gpu gpu-wheels
GPU_PYTHON ?= $(shell python3 -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' \
                2>/dev/null && echo python3 || echo $(BIN)/python)
GPU_OUTPUT = $(or $(OUTPUT),build/gpu)
gpu:
	PYTHONPATH=src:. $(GPU_PYTHON) -m benchmarks.gpu $(STAGES) --output $(GPU_OUTPUT) --device $(or $(DEVICE),cuda) \
	  $(if $(TINY),--tiny) $(if $(BUDGET),--budget $(BUDGET)) $(if $(COMMIT),--commit $(COMMIT))

gpu-wheels: $(VENV)/.installed-dev
	PYTHONPATH=src:. $(BIN)/python -m benchmarks.gpu.wheels

# GPU_FROM=weights begins with those. The art that travels lacks one style, whose package is too large.
.PHONY: gpu-trunk gpu-trunk-art
gpu-trunk:
	PYTHONPATH=src:. $(GPU_PYTHON) -m benchmarks.gpu.trunk --output $(or $(OUTPUT),build/gpu-trunk) \
	  --minutes $(or $(MINUTES),4) $(if $(GPU_FROM),--weights $(GPU_FROM))

gpu-trunk-art: $(VENV)/.installed-starter
	$(TRUNK) gpu-art
