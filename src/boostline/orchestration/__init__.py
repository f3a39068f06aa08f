"""The only part that imports Airflow: run date, Spark tasks, task functions."""
