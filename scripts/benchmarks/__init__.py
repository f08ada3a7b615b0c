"""The benchmarks behind `scripts/benchmark.py`, one file each; what they share is in `_measure.py` and `_peers.py`."""
