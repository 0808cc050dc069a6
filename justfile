# The commands of CONTRIBUTING.md by name: https://just.systems (`pip install rust-just`).

python := env("PYTHON", ".venv/bin/python")

# All tests.
test:
    {{python}} -m pytest

# What a change of a line most likely breaks, in half a minute: the tests that are neither slow nor site.
quick:
    {{python}} -m pytest -m "not slow and not site"

# Lint, format and types.
lint:
    {{python}} -m ruff check .
    {{python}} -m ruff format --check .
    {{python}} -m mypy

# Fuzz container, payloads and weights in turn, for so many seconds in all; needs `pip install atheris`.
fuzz seconds="600":
    {{python}} tests/fuzz/fuzz.py container --seconds $(({{seconds}} / 3))
    {{python}} tests/fuzz/fuzz.py tiles --seconds $(({{seconds}} / 3))
    {{python}} tests/fuzz/fuzz.py weights --seconds $(({{seconds}} / 3))

# After new weights, their digest in caecodec/weights/__init__.py: the figures in bench/results that they change, and the tables made of them. Running text stays as it was written.
figures model kodak valid:
    OMP_NUM_THREADS=1 {{python}} tests/golden/make_golden.py --shipped {{model}}
    {{python}} -m caecodec bench {{kodak}} --codecs cae,cae-e1,cae-visual,classic,png,jpeg,mozjpeg,webp,jp2,jxl,avif,avif-psnr --out bench/results/kodak
    {{python}} -m caecodec bench {{valid}} --codecs cae,cae-e1,cae-visual,classic,jpeg,webp,jxl,avif,avif-psnr --out bench/results/valid
    {{python}} bench/butteraugli.py {{kodak}} > bench/results/kodak/butteraugli.json
    {{python}} bench/butteraugli.py {{valid}} > bench/results/valid/butteraugli.json
    {{python}} bench/release_checks.py {{kodak}} > bench/results/release_checks_kodak.json
    {{python}} bench/release_checks.py {{valid}} > bench/results/release_checks_valid.json
    {{python}} bench/limits.py {{valid}} bench/results/valid/results.csv > bench/results/limits_valid.json
    {{python}} bench/exactness.py {{valid}} > bench/results/exactness.json
    {{python}} docs/make_side_by_side.py examples/chelsea.png docs/images/side-by-side.webp
    {{python}} docs/make_tables.py
