"""Kills, freezes and cuts off every part of a running atelier, and counts what that costs.

``python -m bench.chaos --kills 200 --jobs 10000 --database postgresql://postgres@127.0.0.1/``
"""
