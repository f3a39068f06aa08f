"""One clean day to predictions of one model version.

    spark-submit jobs/score.py --request s3://…/request.json

Started by the task `score`, which writes the request; the result or the error is left beside it.
"""

from boostline.spark.job import main
from boostline.spark.score import run_score

if __name__ == "__main__":
    main("score", run_score, __doc__)
