"""Benchmarks: the router beside a bare proxy and nginx, our engine beside llama-cpp-python's own.

`python -m bench --help`; how it is measured is told in docs/benchmarks.md.
"""
