# make app    set up, then serve the app on the bundled variants
# make test   set up, then run the whole test suite
# make check  lint, format and types, as CI checks them
# make fix    what of that can be mended by itself
# make table  README's table and the cards' own from the figures of the bundled variants

PYTHON ?= python3
V := .venv
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: app test check fix table
app: $(V)/.ok
	$(V)/bin/python app.py
test: $(V)/.ok
	$(V)/bin/python -m pytest
check: $(V)/.ok
	$(V)/bin/ruff check .
	$(V)/bin/ruff format --check .
	$(V)/bin/mypy
	cd benchmarks && ../$(V)/bin/mypy --config-file ../pyproject.toml app.py
fix: $(V)/.ok
	$(V)/bin/ruff check --fix .
	$(V)/bin/ruff format .
table: $(V)/.ok
	for folder in model_cards/*/; do \
	    $(V)/bin/python -c "from colorhub import cards; cards.write('$$folder')"; done
	$(V)/bin/python -c "from colorhub import cards; cards.update_table('README.md', 'model_cards')"

# Without an NVIDIA card torch comes as its CPU build, which is gigabytes smaller: from where pip
# finds one (a folder of wheels), else from PyTorch's own index, which uv knows.
$(V)/.ok: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(V)
	command -v nvidia-smi >/dev/null \
	|| $(V)/bin/pip install -q "torch==$(TORCH)+cpu" 2>/dev/null \
	|| { $(V)/bin/pip install -q uv && $(V)/bin/uv pip install -q --python $(V)/bin/python \
	     --torch-backend cpu "torch==$(TORCH)"; }
	$(V)/bin/pip install -q -c constraints.txt -e ".[app,train,test]"
	touch $@
