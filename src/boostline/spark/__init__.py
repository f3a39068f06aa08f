"""Spark code: DataFrame in, DataFrame out. Only the `run_*` entry points touch the lake."""
