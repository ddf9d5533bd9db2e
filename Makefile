# Everything a person needs: `make demo`, `make test`. Both do the set-up first.

PYTHON ?= python3
BIN := .venv/bin
export MUJOCO_GL ?= egl
# Nothing started from here talks to other machines.
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: help setup test lint format types unit test-learning lerobot-test gazebo-test demo constraints clean

help:
	@echo "make demo    a training session: the arm learns to grasp, with a report (minutes)"
	@echo "make test    lint, types and tests"
	@echo "make test-learning   learns the grasp, in a few minutes, and checks how well"
	@echo "make lerobot-test    lerobot's own library reads our exports, and we read what it writes"
	@echo "make gazebo-test     against the real Gazebo 11, which it installs into .gazebo"
	@echo "make setup   only the set-up that the others begin with"
	@echo "make format  put the code into the house style"
	@echo "make clean   remove what was built, keep .venv and runs"

setup:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "set-up: no $(PYTHON) on this machine: install Python 3.10 or newer" >&2; exit 2; }
	@$(PYTHON) scripts/setup_environment.py

test: lint types unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# The graphs of nodes have the machine to themselves; the rest shares it.
unit: setup
	$(BIN)/pytest -n 2 --ignore=test/nodes
	$(BIN)/pytest test/nodes

test-learning: setup
	$(BIN)/pytest -m learning

lerobot-test: setup
	$(BIN)/python scripts/lerobot_environment.py
	$(BIN)/pytest test/lerobot/read_back.py

# Status 3: Gazebo can't be had here, and a line says why. That is no failure, and no success.
gazebo-test: setup
	@$(BIN)/python scripts/gazebo_environment.py; \
	  case $$? in 0) $(BIN)/pytest test/gazebo;; 3) ;; *) exit 2;; esac

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: run := demo-$(shell date +%Y%m%d-%H%M%S)
demo: setup
	$(BIN)/rl_robot launch train.launch.py robot:=arm task:=grasp run:=$(run)

# The pins: newest versions of what setup.py asks for, in one file for all Pythons from 3.10 on.
constraints: setup
	{ sed -n '/^#/p' constraints.txt; \
	  printf 'pip\nsetuptools\nuv\ntorch==2.13.0\n' | \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-python-downloads \
	    --no-annotate --no-header --extra bare --extra dev setup.py - | \
	  grep -vE '^(nvidia-|cuda-|triton=)'; } > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:
	rm -rf .gazebo .gazebo.part build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find rl_robot test benchmarks launch scripts -name __pycache__ -type d -prune \
	  -exec rm -rf {} + 2>/dev/null || true
