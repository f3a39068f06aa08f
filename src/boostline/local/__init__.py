"""The embedded stack: S3, Spark standalone, MLflow and Airflow on one machine."""
