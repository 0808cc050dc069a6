# The commands of CONTRIBUTING.md by name: https://just.systems (`pip install rust-just`).

python := env("PYTHON", ".venv/bin/python")

# All tests.
test:
    {{python}} -m pytest

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
