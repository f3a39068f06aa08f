"""The simple Spark ML model that XGBoost has to beat, on the same rows.

    spark-submit jobs/baseline.py --request s3://…/request.json

Started by the task `baseline`, which writes the request; the result or the error is left beside it.
"""

from boostline.spark.baseline import run_baseline
from boostline.spark.job import main

if __name__ == "__main__":
    main("baseline", run_baseline, __doc__)
