# livseg: liver and liver-tumour segmentation in CT. `make` alone prints help.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

DATASET ?= phantom
PROFILE ?= quick
DATA ?=
TARGET ?=
MODALITY ?= ct
ACCEPT_AFFINE_MISMATCH ?=
RUN ?= $(DATASET)$(if $(filter mr,$(MODALITY)),-mr)-$(PROFILE)
ONLY ?=
SCAN ?=
LIVER ?=
PYTHON ?= python3

# Paths as they were typed, for recipes to take from the environment: in a recipe itself make would expand
# their $ and the shell their quotes. The make below `reproduce` has them already, no other program gets them.
ifndef TYPED_PATHS
reproduce configure: export TYPED_PATHS := yes
reproduce configure: export TYPED_DATA := $(value DATA)
reproduce configure: export TYPED_SCAN := $(value SCAN)
reproduce configure: export TYPED_LIVER := $(value LIVER)
endif

# notebooks/NAME.ipynb -> reports/RUN/NAME.ipynb, each with the rooms of the library that it uses
REPORT := reports/$(RUN)
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
RESULTS := $(NOTEBOOKS:notebooks/%=$(REPORT)/%)
PY := .venv/bin/python
export TF_CPP_MIN_LOG_LEVEL ?= 2
# glibc: keep the large buffers of a training step in place of mapping them anew at each (a third of its CPU time).
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 8589934592

# Notebooks at a time: a small network leaves a third of two cores idle, a GPU is best left to one.
JOBS ?= $(if $(wildcard /dev/nvidia0),1,2)

.PHONY: help setup reproduce results reference test test-slow test-explore bench app lint lab clean configure

help:  ## print this help
	@echo "livseg: liver and liver tumours in CT, outlined, measured, scored. Research only, not for clinical use."
	@echo
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14 | sed 's/^/  make /'
	@echo
	@echo "  make reproduce [DATASET=phantom|lits|msd|kaggle|ircadb] [DATA=path] [PROFILE=quick|full]"
	@echo "                 [TARGET=tumor|liver|both] [MODALITY=ct|mr] [RUN=name] [ONLY=system]"
	@echo "                 [SCAN=path] [LIVER=model] outline a scan of yours, too; LIVER: whose liver to take"
	@echo "                 [ACCEPT_AFFINE_MISMATCH=1] take labels voxel by voxel where their affine is another"
	@echo "                 results: reports/RUN/index.html; ONLY trains and scores one system (livseg train --help)"

setup: .venv/ready  ## install everything into .venv (done by the other targets when needed)

.venv/ready: requirements.txt pyproject.toml
	@echo "Installing packages into .venv (a few minutes, once)"
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps imgaug==0.4.0 --editable .
	@touch $@

ifeq ($(ONLY),)
reproduce: .venv/ready  ## run the notebooks that are out of date and build the report
	@$(MAKE) --no-print-directory --jobs=$(JOBS) results
	@$(PY) -m livseg_lib.notebooks --run-name $(RUN) summary

# The longest chain first, so that the other place is never left empty at the end.
results: $(REPORT)/17_finish_predictions.ipynb $(RESULTS)
else
reproduce: .venv/ready
	@$(PY) -m livseg_lib train --system $(ONLY) --dataset $(DATASET) --data="$$TYPED_DATA" \
		--profile $(PROFILE) --target $(or $(TARGET),both) --run-name $(RUN) \
		--set "modality=$(MODALITY)" $(if $(ACCEPT_AFFINE_MISMATCH),--accept-affine-mismatch)
endif

# Parameter files change only when a value does, and each notebook looks at its own.
configure: .venv/ready
	@$(PY) -m livseg_lib.notebooks --run-name $(RUN) configure --profile notebooks/params/$(PROFILE).yaml \
		--set "dataset=$(DATASET)" --set "data=$$TYPED_DATA" --set "target=$(TARGET)" --set "modality=$(MODALITY)" \
		--set "scan=$$TYPED_SCAN" --set "liver_model=$$TYPED_LIVER" \
		--set "accept_affine_mismatch=$(if $(ACCEPT_AFFINE_MISMATCH),true)" $(NOTEBOOKS)

$(REPORT)/parameters/%.json: configure ;

# What each notebook imported when it last ran: it runs again when one of these changes.
-include $(wildcard $(REPORT)/parameters/*.d)

define run_notebook
	@$(PY) -m livseg_lib.notebooks --run-name $(RUN) run notebooks/$(notdir $@)
endef

$(REPORT)/00_prepare_data.ipynb: notebooks/00_prepare_data.ipynb $(REPORT)/parameters/00_prepare_data.json
	$(run_notebook)

$(REPORT)/01_extract_slices.ipynb: notebooks/01_extract_slices.ipynb $(REPORT)/parameters/01_extract_slices.json \
		$(REPORT)/00_prepare_data.ipynb
	$(run_notebook)

$(REPORT)/02_classify_masks.ipynb: notebooks/02_classify_masks.ipynb $(REPORT)/parameters/02_classify_masks.json \
		$(REPORT)/01_extract_slices.ipynb $(wildcard data/processed/$(RUN)/splits.csv)
	$(run_notebook)

$(REPORT)/03_train_unet.ipynb: notebooks/03_train_unet.ipynb $(REPORT)/parameters/03_train_unet.json \
		$(REPORT)/02_classify_masks.ipynb
	$(run_notebook)

$(REPORT)/04_train_resnet50.ipynb: notebooks/04_train_resnet50.ipynb $(REPORT)/parameters/04_train_resnet50.json \
		$(REPORT)/02_classify_masks.ipynb
	$(run_notebook)

$(REPORT)/05_evaluate.ipynb: notebooks/05_evaluate.ipynb $(REPORT)/parameters/05_evaluate.json \
		$(REPORT)/03_train_unet.ipynb $(REPORT)/04_train_resnet50.ipynb
	$(run_notebook)

$(REPORT)/10_train_networks.ipynb: notebooks/10_train_networks.ipynb $(REPORT)/parameters/10_train_networks.json \
		$(REPORT)/02_classify_masks.ipynb
	$(run_notebook)

$(REPORT)/11_detect_tumors.ipynb: notebooks/11_detect_tumors.ipynb $(REPORT)/parameters/11_detect_tumors.json \
		$(REPORT)/02_classify_masks.ipynb
	$(run_notebook)

$(REPORT)/12_sort_slices.ipynb: notebooks/12_sort_slices.ipynb $(REPORT)/parameters/12_sort_slices.json \
		$(REPORT)/03_train_unet.ipynb
	$(run_notebook)

$(REPORT)/13_segment_volumes.ipynb: notebooks/13_segment_volumes.ipynb \
		$(REPORT)/parameters/13_segment_volumes.json $(REPORT)/02_classify_masks.ipynb
	$(run_notebook)

$(REPORT)/14_train_cascades.ipynb: notebooks/14_train_cascades.ipynb $(REPORT)/parameters/14_train_cascades.json \
		$(REPORT)/13_segment_volumes.ipynb
	$(run_notebook)

$(REPORT)/15_filter_candidates.ipynb: notebooks/15_filter_candidates.ipynb \
		$(REPORT)/parameters/15_filter_candidates.json $(REPORT)/03_train_unet.ipynb $(REPORT)/14_train_cascades.ipynb
	$(run_notebook)

$(REPORT)/16_classify_superpixels.ipynb: notebooks/16_classify_superpixels.ipynb \
		$(REPORT)/parameters/16_classify_superpixels.json $(REPORT)/13_segment_volumes.ipynb
	$(run_notebook)

$(REPORT)/17_finish_predictions.ipynb: notebooks/17_finish_predictions.ipynb \
		$(REPORT)/parameters/17_finish_predictions.json $(REPORT)/14_train_cascades.ipynb \
		$(REPORT)/15_filter_candidates.ipynb $(REPORT)/16_classify_superpixels.ipynb $(REPORT)/05_evaluate.ipynb \
		$(REPORT)/10_train_networks.ipynb $(REPORT)/11_detect_tumors.ipynb
	$(run_notebook)

$(REPORT)/20_compare_systems.ipynb: notebooks/20_compare_systems.ipynb \
		$(REPORT)/parameters/20_compare_systems.json $(REPORT)/17_finish_predictions.ipynb
	$(run_notebook)

$(REPORT)/21_audit_split.ipynb: notebooks/21_audit_split.ipynb $(REPORT)/parameters/21_audit_split.json \
		$(REPORT)/02_classify_masks.ipynb
	$(run_notebook)

$(REPORT)/22_tune.ipynb: notebooks/22_tune.ipynb $(REPORT)/parameters/22_tune.json \
		$(REPORT)/02_classify_masks.ipynb
	$(run_notebook)

$(REPORT)/23_weigh_classes.ipynb: notebooks/23_weigh_classes.ipynb $(REPORT)/parameters/23_weigh_classes.json \
		$(REPORT)/02_classify_masks.ipynb
	$(run_notebook)

$(REPORT)/24_apply_to_scan.ipynb: notebooks/24_apply_to_scan.ipynb $(REPORT)/parameters/24_apply_to_scan.json \
		$(REPORT)/17_finish_predictions.ipynb
	$(run_notebook)

$(REPORT)/25_check_scores.ipynb: notebooks/25_check_scores.ipynb $(REPORT)/parameters/25_check_scores.json \
		$(REPORT)/17_finish_predictions.ipynb
	$(run_notebook)

$(REPORT)/30_analyse_errors.ipynb: notebooks/30_analyse_errors.ipynb $(REPORT)/parameters/30_analyse_errors.json \
		$(REPORT)/17_finish_predictions.ipynb $(REPORT)/23_weigh_classes.ipynb
	$(run_notebook)

$(REPORT)/31_explain_predictions.ipynb: notebooks/31_explain_predictions.ipynb \
		$(REPORT)/parameters/31_explain_predictions.json $(REPORT)/17_finish_predictions.ipynb
	$(run_notebook)

$(REPORT)/32_measure_patients.ipynb: notebooks/32_measure_patients.ipynb \
		$(REPORT)/parameters/32_measure_patients.json $(REPORT)/17_finish_predictions.ipynb
	$(run_notebook)

$(REPORT)/33_patient_pages.ipynb: notebooks/33_patient_pages.ipynb $(REPORT)/parameters/33_patient_pages.json \
		$(REPORT)/17_finish_predictions.ipynb
	$(run_notebook)

REFERENCE_TABLES := systems patients lits_scores slices_summary class_counts splits_summary baseline comparison \
	paired_differences d_metrics detection slice_sorting slice_gate_summary split_audit split_inflation \
	cross_validation tuning_trials class_imbalance cascades cascade_differences \
	candidate_filter candidate_importance superpixel_validation finishing finishing_test test_time_augmentation \
	agreement agreement_differences lesions_by_size calibration thresholds froc groups group_differences \
	error_classes error_contrast error_remedies error_fusions error_edges bland_altman cohort follow_up \
	follow_up_response explain_sanity explain_uncertainty explain_pointing
REFERENCE_FIGURES := best_median_worst_unet_liver best_median_worst_unet_tumor contact_sheet dice_by_patient \
	training_unet comparison_differences comparison_cost split_audit_inflation cascade_differences \
	cascade_stages_cascade_25d cascade_stages_cascade_superpixels best_median_worst_cascade_25d_tumor \
	recall_by_size calibration_tumor froc groups errors_classes errors_missed_by_many measures_bland_altman \
	cohort_patients follow_up_changes

reference:  ## keep the small part of a finished RUN (tables; pictures of the phantom) in reports/reference
	@mkdir -p reports/reference/$(RUN)/tables
	@cp $(wildcard $(addprefix $(REPORT)/tables/,$(addsuffix .csv,$(REFERENCE_TABLES)))) reports/reference/$(RUN)/tables/
	@sed -E 's/"(data|scan|liver_model)": ".*\//"\1": "/' $(REPORT)/manifest.json >reports/reference/$(RUN)/manifest.json
	@if [ $(DATASET) = phantom ]; then mkdir -p reports/reference/$(RUN)/figures; \
		cp $(wildcard $(addprefix $(REPORT)/figures/,$(addsuffix .png,$(REFERENCE_FIGURES)))) reports/reference/$(RUN)/figures/; fi
	@du -sh reports/reference/$(RUN)

# One by one, and none is a must: tests that need a missing one skip with a reason.
.venv/test-ready: .venv/ready tests/requirements.txt
	@grep -v '^#' tests/requirements.txt | cut -d' ' -f1 | while read -r package; do \
		$(PY) -m pip install --quiet --disable-pip-version-check "$$package" || echo "without $$package: some tests skip"; \
	done
	@touch $@

test: .venv/test-ready  ## the fast tests (under 8 minutes on 2 cores)
	@$(PY) -m ruff check livseg_lib tests notebooks
	@OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(PY) -m pytest --numprocesses auto --dist loadfile

test-slow: .venv/test-ready  ## the slow tests: the notebooks on a tiny phantom, killed trainings
	@$(PY) -m pytest -m slow

EXPLORE_MINUTES ?= 60

test-explore: .venv/test-ready  ## draw new examples for the properties, EXPLORE_MINUTES long (60)
	@end=$$((SECONDS + 60 * $(EXPLORE_MINUTES))); while [ $$SECONDS -lt $$end ]; do \
		$(PY) -m pytest -q --hypothesis-profile explore -m 'hypothesis and not slow' || exit 1; done

bench: .venv/test-ready  ## time the parts, each as a ratio against a peer
	@$(PY) tests/bench.py

lint: .venv/ready  ## style of the code, tests and notebooks
	@$(PY) -m ruff check livseg_lib tests notebooks && $(PY) -m ruff format --check livseg_lib tests

app: .venv/ready  ## open the page in the browser: drop a scan or a slice (SHARE=1: a public link)
	@$(PY) -m livseg_lib app $(if $(SHARE),--share)

lab: .venv/ready  ## open the notebooks in JupyterLab
	@$(PY) -m jupyter lab notebooks

clean:  ## remove caches and half-written files; never models, results or data
	@find . -name __pycache__ -type d -not -path './.venv/*' -exec rm -rf {} +
	@find reports data \( -name '*.partial*' -o -name '.*.lock' \) -exec rm -rf {} +
	@rm -rf .pytest_cache .ruff_cache .hypothesis
