# make demo    a tour on drawn faces, into demo/
# make quick   the fast tests, in about a minute
# make test    all tests, ruff and mypy
# make fuzz    20,000 damaged inputs; SEED=N repeats those of the seed N, which it prints
# make bench FER=DIR MODEL=FILE   the benchmarks against a peer, into bench/results.csv;
#              DIR holds train.csv, test.csv and public_truth.csv, MODEL is a trained CNN

VENV := .venv
PYTHON := $(VENV)/bin/python
# Two workers with a thread each for TensorFlow: with more they wait for each other on two cores.
PYTEST := TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(PYTHON) -m pytest -n 2 --dist worksteal

.PHONY: demo quick test fuzz bench bench-arguments clean
.DELETE_ON_ERROR:

$(VENV)/installed: requirements.txt
	@python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "error: python3 must be 3.11 to 3.13: $$(python3 --version)"; exit 2; }
	@python3 -m venv $(VENV) || \
	  { echo "error: on Debian and Ubuntu first: sudo apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m pip install --progress-bar off -r requirements.txt
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed pyproject.toml
	$(PYTHON) -m pip install --progress-bar off --editable ".[dev]"
	@touch $@

demo: $(VENV)/installed
	rm -rf demo
	$(PYTHON) -m ferlab sample demo
	$(PYTHON) -m ferlab check demo/train.csv demo/test.csv --out demo/data_report.html
	$(PYTHON) csv_to_npz.py demo/train.csv demo/test.csv --out demo/data.npz
	$(PYTHON) train.py demo/data.npz --recipe fast --epochs 6 --batch-size 32 --validation 400 --out-dir demo --run-dir demo/runs/cnn
	$(PYTHON) dnn_train.py demo/data.npz --epochs 20 --out-dir demo --run-dir demo/runs/dnn
	$(PYTHON) test.py demo/data.npz demo/result.csv demo/[01].*.h5 --truth demo/test_truth.csv
	cd demo && { echo 2 [01].*.h5; echo 1 dnn_*.h5; } > model_list.txt
	$(PYTHON) test_by_vote.py demo/data.npz demo/vote.csv demo/model_list.txt --truth demo/test_truth.csv
	$(PYTHON) plot_model.py demo/train.csv demo/[01].*.h5 --images 0,1,2 --out-dir demo
	$(PYTHON) gradient_ascent.py demo/[01].*.h5 --out-dir demo
	$(PYTHON) -m ferlab compare demo/[01].*.h5 demo/dnn_*.h5 --data demo/test.csv --truth demo/test_truth.csv --out demo/comparison.html
	@echo "Look into demo/: data_report.html, comparison.html, result.csv, vote.csv, and the pictures."

quick: $(VENV)/installed-dev
	$(PYTHON) -m ruff check .
	$(PYTEST) -m "not slow"

test: $(VENV)/installed-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTEST)

fuzz: SEED := $(shell date +%s)
fuzz: $(VENV)/installed-dev
	@echo "SEED=$(SEED)"
	TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(PYTHON) -m pytest -n 2 tests/fuzz \
	  --hypothesis-profile=fuzz --hypothesis-seed=$(SEED)

bench-arguments:
	@test -f "$(FER)/train.csv" -a -f "$(MODEL)" || \
	  { echo "error: make bench FER=DIR MODEL=FILE. Received: '$(FER)' and '$(MODEL)'"; exit 2; }

bench: bench-arguments $(VENV)/installed-dev
	$(PYTHON) -m pip install --progress-bar off --editable ".[bench]"
	$(PYTHON) bench/reading.py $(FER)/train.csv
	$(PYTHON) bench/pipeline.py
	$(PYTHON) bench/throughput.py
	$(PYTHON) bench/time_to_accuracy.py $(FER)
	$(PYTHON) bench/inference.py $(FER) $(MODEL)
	$(PYTHON) bench/vote.py $(FER)/test.csv
	$(PYTHON) bench/saliency.py

clean:
	rm -rf $(VENV) demo runs
