# livseg: liver and liver-tumour segmentation in CT. `make` alone prints help.
.DEFAULT_GOAL := help
SHELL := /bin/bash
DATASET ?= phantom
PROFILE ?= quick
MODALITY ?= ct
RUN ?= $(DATASET)$(if $(filter mr,$(MODALITY)),-mr)-$(PROFILE)
PYTHON ?= python3
EXPLORE_MINUTES ?= 60
PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
export TF_CPP_MIN_LOG_LEVEL ?= 2
# glibc: keep the large buffers of a training step (TensorFlow 2.21: a small ResNet-50 gains 7 to 13 %, a plain U-Net nothing).
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 8589934592

.PHONY: help setup reproduce pretrained reference test test-slow test-explore bench app lint lock docs lab clean
help:  ## print this help
	@echo "livseg: liver and liver tumours in CT, outlined, measured, scored. Research only, not for clinical use."
	@echo
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14 | sed 's/^/  make /'
	@echo
	@echo "  make reproduce [DATASET=phantom|lits|msd|kaggle|ircadb] [DATA=path] [PROFILE=quick|best|session|full|tour]"
	@echo "                 [TARGET=tumor|liver|both] [MODALITY=ct|mr] [RUN=name] [ONLY=system]"
	@echo "                 [MINUTES=number] how long each network learns (default: as its epochs take)"
	@echo "                 [SCAN=path] [LIVER=model|own] outline a scan of yours, too; LIVER: whose liver to take"
	@echo "                 [ACCEPT_AFFINE_MISMATCH=1] take labels voxel by voxel where their affine is another"
	@echo "                 results: reports/RUN/index.html; ONLY: one system (livseg train --help), or one notebook by its name"

setup: .venv/ready  ## install everything into .venv (done by the other targets when needed)

.venv/ready: requirements.lock pyproject.toml
	@echo "Installing packages into .venv (a few minutes, once)"
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PIP) --no-deps -r requirements.lock --editable .
	@touch $@

# Paths as they were typed, by way of the environment: in a recipe make expands their $, the shell their quotes.
reproduce pretrained bench: export TYPED_DATA := $(value DATA)
reproduce pretrained: export TYPED_SCAN := $(value SCAN)
reproduce: export TYPED_LIVER := $(value LIVER)
reproduce: .venv/ready  ## run the notebooks that are out of date and build the report
	@$(PY) -m livseg_lib reproduce --dataset "$(DATASET)" --data="$$TYPED_DATA" --profile "$(PROFILE)" \
		--modality "$(MODALITY)" --run-name "$(RUN)" --scan="$$TYPED_SCAN" --liver="$$TYPED_LIVER" \
		$(if $(TARGET),--target "$(TARGET)") $(if $(ONLY),--only "$(ONLY)") $(if $(JOBS),--jobs "$(JOBS)") \
		$(if $(MINUTES),--minutes "$(MINUTES)") $(if $(ACCEPT_AFFINE_MISMATCH),--accept-affine-mismatch)

pretrained: export TYPED_SCANS := $(value SCANS)
pretrained: .venv/ready  ## make the model on board anew: LiTS slices (DATA), scans (SCANS), one to test on (SCAN)
	@$(PY) -m livseg_lib train --system liver-ct --run-name pretrained --dataset kaggle --data="$$TYPED_DATA" \
		--set whole_scans="$$TYPED_SCANS" --set test_scan="$$TYPED_SCAN"

# What is kept is what a folder of reports/reference holds: to keep more, copy it there once.
reference: reports/$(RUN)/manifest.json  ## keep the small part of a finished RUN (tables; pictures of the phantom) in reports/reference
	@mkdir -p reports/reference/$(RUN)/{tables,figures}
	@cd reports/reference && ls */tables/* $(if $(filter phantom,$(DATASET)),*/figures/*) | cut -d/ -f2- | sort -u | \
		while read -r file; do if [ -e ../$(RUN)/$$file ]; then cp ../$(RUN)/$$file $(RUN)/$$file; else rm -vf $(RUN)/$$file; fi; done
	@sed -E 's/"(data|scan|liver_model)": ".*\//"\1": "/' reports/$(RUN)/manifest.json >reports/reference/$(RUN)/manifest.json
	@find reports/reference -type d -empty -delete; du -sh reports/reference/$(RUN)

# One by one, and none is a must: tests that need a missing one skip with a reason.
.venv/test-ready: .venv/ready tests/requirements.txt
	@grep -v '^#' tests/requirements.txt | cut -d' ' -f1 | while read -r package; do \
		$(PIP) "$$package" || echo "without $$package: some tests skip"; done
	@touch $@

test: .venv/test-ready  ## the fast tests (under 8 minutes on 2 cores)
	@$(PY) -m ruff check livseg_lib tests notebooks
	@OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(PY) -m pytest --numprocesses auto --dist loadfile

test-slow: .venv/test-ready  ## the slow tests: the notebooks on a tiny phantom, killed trainings
	@OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(PY) -m pytest --numprocesses 2 --dist loadfile -m slow

test-explore: .venv/test-ready  ## draw new examples for the properties, EXPLORE_MINUTES long (60)
	@end=$$((SECONDS + 60 * $(EXPLORE_MINUTES))); while [ $$SECONDS -lt $$end ]; do \
		$(PY) -m pytest -q --hypothesis-profile explore -m 'hypothesis and not slow' || exit 1; done

bench: .venv/ready  ## livseg beside other programs (ONLY=reading; ONLY=board DATA=slices MINUTES="2 5")
	@$(PY) tests/bench.py --only "$(ONLY)" --data="$$TYPED_DATA" $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(MINUTES),--minutes "$(MINUTES)")

lint: .venv/ready  ## style of the code, tests and notebooks
	@$(PY) -m ruff check livseg_lib tests notebooks && $(PY) -m ruff format --check livseg_lib tests notebooks

lock: .venv/ready  ## renew requirements.lock: the newest versions that requirements.txt allows
	@$(PIP) uv && (cat requirements.txt && echo imgaug==0.4.0) | UV_CUSTOM_COMPILE_COMMAND="make lock" $(PY) -m uv pip compile \
		-q -U --universal --python-version 3.11 --no-emit-package opencv-python --annotation-style line - -o requirements.lock

docs: .venv/test-ready  ## the documentation as pages: docs/_build/docs/index.html
	@$(PY) -m sphinx --quiet --fail-on-warning --conf-dir docs . docs/_build

app: .venv/ready  ## open the page in the browser: drop a scan or a slice (SHARE=1: a public link)
	@$(PY) -m livseg_lib app $(if $(SHARE),--share)
lab: .venv/ready  ## open the notebooks in JupyterLab
	@$(PY) -m jupyter lab notebooks

clean:  ## remove caches and half-written files; never models, results or data
	@find . -name __pycache__ -type d -not -path './.venv/*' -exec rm -rf {} +
	@find reports data \( -name '*.partial*' -o -name '.*.lock' \) -exec rm -rf {} +
	@rm -rf .pytest_cache .ruff_cache .hypothesis
