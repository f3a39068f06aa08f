"""The pipeline in Airflow, and Airflow from outside.

No other part imports Airflow, and `check`, `client`, `follow` and `run` do not either: the command line uses them where
there is none.
"""
