"""Kills and cuts everything that may break, under load, and counts what was promised.

``python -m bench.chaos --kills 200 --jobs 10000 --database URL``
"""
