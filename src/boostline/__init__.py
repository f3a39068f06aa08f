"""Boostline: dated tables in S3 to a tested, promoted XGBoost model, every day and for any past day."""

__version__ = "0.1.0"
