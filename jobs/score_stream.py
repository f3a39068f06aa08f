"""Rows to predictions as they come, until it is stopped.

    spark-submit jobs/score_stream.py --dataset nyc_flights

Started by `boostline stream`, which starts it again after a fault that may pass.
"""

from boostline.spark.stream_job import main

if __name__ == "__main__":
    main(__doc__)
