# make demo    everything once, on drawn faces, into demo/
# make test    the tests, and ruff


VENV := .venv
PYTHON := $(VENV)/bin/python

.PHONY: demo test clean
.DELETE_ON_ERROR:

$(VENV)/installed: requirements.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: python3 must be 3.11 or newer: $$(python3 --version)"; exit 2; }
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
	$(PYTHON) csv_to_npz.py demo/train.csv demo/test.csv --out demo/data.npz
	$(PYTHON) train.py demo/data.npz --epochs 4 --batch-size 32 --validation 400 --out-dir demo --run-dir demo/runs/cnn
	$(PYTHON) dnn_train.py demo/data.npz --epochs 4 --out-dir demo --run-dir demo/runs/dnn
	$(PYTHON) test.py demo/data.npz demo/result.csv demo/[01].*.h5
	(cd demo && for model in [01].*.h5; do echo "2 $$model"; done; \
	 cd demo && for model in dnn_*.h5; do echo "1 $$model"; done) > demo/model_list.txt
	$(PYTHON) test_by_vote.py demo/data.npz demo/vote.csv demo/model_list.txt
	$(PYTHON) plot_model.py demo/train.csv demo/[01].*.h5 --out-dir demo
	@echo "Look into demo/: faces.png, result.csv, vote.csv, and the pictures of the model."

test: $(VENV)/installed-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m pytest

clean:
	rm -rf $(VENV) demo runs
