.PHONY: demo test exhaustive bench fmt lock

PYTHON ?= python3

demo test exhaustive bench fmt lock:
	@$(PYTHON) dev.py $@ $(ARGS)
