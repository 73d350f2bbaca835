# Each target works as the first command in a fresh clone: it sets up what it needs, once.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types bundle bench fuzz soak lock clean

# pip and the ROS logger need a home; containers and service managers may give none.
ifeq ($(strip $(HOME)),)
export HOME := $(CURDIR)/build/home
endif

# A sourced ROS installation would be imported instead of the wheels in .venv.
unexport PYTHONPATH PYTHONHOME AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH

BIN := .venv/bin
# Of tests: one more than there are cores, since tests of node processes mostly wait.
WORKERS = $$(($$(nproc) + 1))
PACKAGES := rap_inference rap_raster rap_perception rap_planner rap_bringup rap_evaluation rap_training

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):  *## /  make \1\t/p' Makefile | expand -t 16
	@echo "PYTHON=python3.12 chooses the interpreter (3.11 or 3.12) of a new .venv."

setup:  ## create .venv with everything, offline tools included
	@tools/setup.sh full

demo:  ## drive through the whole stack, results in out/demo (runtime part only)
	@tools/setup.sh runtime
	@$(BIN)/rap demo --out out/demo

test:  ## run all tests
	@tools/setup.sh full
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint:  ## ruff and mypy
	@tools/setup.sh full
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory types

types:
	$(BIN)/mypy $(PACKAGES:%=-p %)
	$(BIN)/mypy tools/*.py

bundle:  ## record traffic, train and export models/default, cut the demo drive (more than two hours)
	@tools/setup.sh full
	@tools/make_bundle.sh

bench:  ## speed figures of the rasterizer: times, growth, batches (a table, then JSON)
	@tools/setup.sh runtime
	@$(BIN)/python tools/bench.py

fuzz:  ## long fuzzing of every decoder
	@tools/setup.sh full
	@RAP_FUZZ_EXAMPLES=100000 $(BIN)/python -m pytest -m fuzz

soak:  ## random faults on the running graph: RAP_SOAK_S seconds, ten minutes by default
	@tools/setup.sh full
	@RAP_SOAK_S=$${RAP_SOAK_S:-600} $(BIN)/python -m pytest -m soak -s test/test_faults.py

lock:  ## write requirements/lock.txt from what .venv holds now
	@$(BIN)/python tools/lock.py > build/lock.txt && mv build/lock.txt requirements/lock.txt

clean:  ## remove .venv and everything built, keep out/
	rm -rf .venv build install log src/*/build src/*/*.egg-info .mypy_cache .pytest_cache .ruff_cache
