"""Raw files of a window to typed, cleaned, audited and published days.

    spark-submit jobs/ingest.py --request s3://…/request.json

Started by the task `ingest`, which writes the request; the result or the error is left beside it.
"""

from boostline.spark.ingest import run_ingest
from boostline.spark.job import main

if __name__ == "__main__":
    main("ingest", run_ingest, __doc__)
