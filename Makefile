# make demo: agent -> episodes -> VAE -> latents -> UNet -> decoder -> rollout, from a fresh clone.
# make play: the world that is there, in the browser.
# make test: the test suite, from a fresh clone.
PYTHON ?= python3
# Processes that share the tests.
TEST_WORKERS ?= 2

.PHONY: venv demo play test lint clean

venv: .venv/installed

# Modules that the stages and the tests import; compiled once here, since a stage takes 20 s to start without and 7 s with.
WARM = gamengen.diffusion.pipeline, gamengen.latents.encoding, gamengen.games.emulator, gamengen.media, agents.sb3, stable_baselines3, tyro, tensorboard, pytest, xdist

# Installed again only when what is to be installed has changed. --no-compile: 40 s less on two cores than for all files.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gamengen needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e ".[record,video,eval,play,onnx,dev]"
	PYTHONDONTWRITEBYTECODE= .venv/bin/python -c 'import $(WARM)'
	@touch $@

demo: venv
	.venv/bin/python scripts/make_world.py --preset demo --output_dir runs/demo

# The world that ships with the repository, else the one that `make demo` made.
WORLD ?= $(firstword $(patsubst %/model_index.json,%,$(wildcard worlds/pong/model_index.json runs/demo/world/model_index.json)))

.PHONY: world
world:
	@test -n "$(WORLD)" || { echo "there is no world to play yet: make demo makes one in a quarter of an hour; or name one: make play WORLD=runs/breakout" >&2; exit 1; }

play: world venv
	.venv/bin/python scripts/play.py --world $(WORLD) --record_dir data/played

# One thread a process: the tests are small, and threads that wait for each other cost more than they give.
test: venv
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile

lint: venv
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache dist *.egg-info
