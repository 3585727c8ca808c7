"""Hostile inputs: generators by kind, a corpus of those that once did harm, and a harness that runs them.

`tests/test_hostile.py` runs some of every kind, `python -m benchmarks.hostile` as many as one likes.
"""
