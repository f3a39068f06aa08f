"""Clean days of a window to the features that a model learns from.

    spark-submit jobs/featurize.py --request s3://…/request.json

Started by the task `featurize`, which writes the request; the result or the error is left beside it.
"""

from boostline.spark.features import run_featurize
from boostline.spark.job import main

if __name__ == "__main__":
    main("featurize", run_featurize, __doc__)
