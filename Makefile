.PHONY: demo test exhaustive containers bench fmt lock

PYTHON ?= python3

demo test exhaustive containers bench fmt lock:
	@$(PYTHON) dev.py $@ $(ARGS)
