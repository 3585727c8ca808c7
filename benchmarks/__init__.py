"""Speed, memory and validation: `python -m benchmarks`, `python -m benchmarks.validation`."""
