"""A small real job: what it loads goes into the class-data archives, so that later jobs start in half the time.

    spark-submit conf/spark/warm_up.py s3a://bucket/prefix

Reads CSV, cleans, joins, fits the Spark ML stages that Boostline uses, and writes partitioned Parquet through the magic
committer, twice over so that the paths that need an existing table are loaded too.
"""

from __future__ import annotations

import sys

from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import Imputer, OneHotEncoder, StringIndexer, VectorAssembler
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

SCHEMA = "id INT, day DATE, code STRING, amount DOUBLE, weight DOUBLE, bad STRING"


def main(folder: str) -> None:
    """Run the job below this folder."""
    spark = SparkSession.builder.appName("warm-up").getOrCreate()
    days = F.date_add(F.lit("2020-01-01").cast("date"), (F.col("id") % 3).cast("int"))
    made = spark.range(300).select(
        F.col("id").cast("int"),
        days.alias("day"),
        F.concat(F.lit(" K"), F.col("id") % 5).alias("code"),
        F.when(F.col("id") % 7 > 0, F.col("id") / 3).alias("amount"),
        F.sqrt("id").alias("weight"),
    )
    made.write.mode("overwrite").csv(f"{folder}/raw", header=True)
    raw = spark.read.schema(SCHEMA).csv(f"{folder}/raw", header=True, columnNameOfCorruptRecord="bad")
    codes = spark.createDataFrame([(f"k{n}", float(n)) for n in range(5)], "code STRING, size DOUBLE")
    newest = Window.partitionBy("id").orderBy(F.desc("day"))
    clean = (
        raw.withColumn("code", F.regexp_replace(F.lower(F.trim("code")), "[^a-z0-9]", ""))
        .withColumn("late", (F.col("amount") > 30).cast("double"))
        .withColumn("copy", F.row_number().over(newest))
        .where("copy = 1 AND bad IS NULL AND late IS NOT NULL")
        .join(F.broadcast(codes), "code", "left")
    )
    for _ in range(2):
        clean.repartition("day").sortWithinPartitions("id").write.mode("overwrite").partitionBy("day").parquet(
            f"{folder}/clean"
        )
    rows = spark.read.parquet(f"{folder}/clean").cache()
    rows.groupBy("day").agg(F.count("*"), F.avg("amount"), F.max("code"), F.bit_xor(F.xxhash64("id", "code"))).collect()
    fit(rows).transform(rows).select("id", "late", "prediction").write.mode("overwrite").parquet(f"{folder}/scored")
    rows.limit(10).toPandas()
    spark.stop()


def fit(rows):
    """The stages of a one-hot logistic baseline."""
    stages = [
        StringIndexer(inputCols=["code"], outputCols=["code_index"], handleInvalid="keep"),
        Imputer(inputCols=["amount", "size"], outputCols=["amount_full", "size_full"], strategy="median"),
        OneHotEncoder(inputCols=["code_index"], outputCols=["code_hot"]),
        VectorAssembler(inputCols=["code_hot", "amount_full", "size_full", "weight"], outputCol="features"),
        LogisticRegression(labelCol="late", maxIter=5),
    ]
    return Pipeline(stages=stages).fit(rows)


if __name__ == "__main__":
    main(sys.argv[1])
