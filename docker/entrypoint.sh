#!/bin/bash
# Writes the files that hold a secret, each 0600 on a tmpfs that no other container sees, then becomes the command.
set -euo pipefail
umask 077
run=/run/boostline

# This container's address on the network `spark`. Its name stands for all of its networks, and Spark listens on one of them.
on_spark() {
  local own address
  own=" $(hostname -I) "
  for address in $(getent ahostsv4 on-spark | cut -d' ' -f1 | sort -u); do
    if [[ $own == *" $address "* ]]; then echo "$address"; return; fi
  done
  hostname
}

# What MLflow's and Airflow's own S3 clients read; none is AWS, and an empty one would be an error.
[ -z "${BOOSTLINE_S3_ENDPOINT:-}" ] || export AWS_ENDPOINT_URL_S3=$BOOSTLINE_S3_ENDPOINT

if [ -n "${BOOSTLINE_SPARK_SECRET:-}" ]; then
  mkdir -p "$SPARK_CONF_DIR"
  {
    cat "${0%/*}"/../conf/spark/{spark-defaults,containers}.conf
    echo "spark.driver.host $(on_spark)"
    echo "spark.authenticate.secret $BOOSTLINE_SPARK_SECRET"
    [ -z "${BOOSTLINE_S3_REGION:-}" ] || echo "spark.hadoop.fs.s3a.endpoint.region $BOOSTLINE_S3_REGION"
    [ -z "${BOOSTLINE_S3_ENDPOINT:-}" ] || echo "spark.hadoop.fs.s3a.endpoint $BOOSTLINE_S3_ENDPOINT"
    [[ "${BOOSTLINE_S3_ENDPOINT:-}" != http:* ]] || echo "spark.hadoop.fs.s3a.connection.ssl.enabled false"
    [ -z "${BOOSTLINE_EVENT_LOG:-}" ] || printf '%s\n' \
      "spark.eventLog.enabled true" "spark.eventLog.dir $BOOSTLINE_EVENT_LOG" "spark.history.fs.logDirectory $BOOSTLINE_EVENT_LOG" \
      "spark.history.fs.cleaner.enabled true" "spark.history.fs.cleaner.maxAge ${BOOSTLINE_KEEP_DAYS:-14}d"
  } > "$SPARK_CONF_DIR/spark-defaults.conf"
fi

case "${1:-}" in
  spark-master)
    # Spark writes these files without fsync. One that a power loss left empty would keep the master from ever becoming active;
    # who is missing in them registers again.
    find /var/lib/boostline/recovery -type f -empty -delete
    exec "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.master.Master --host "$(hostname)" --port 7077 --webui-port 8080 ;;
  spark-worker)
    exec "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.worker.Worker --host "$(on_spark)" --webui-port 8081 \
      --work-dir /scratch/work --cores "${SPARK_WORKER_CORES:-1}" --memory "${SPARK_WORKER_MEMORY:-1536m}" spark://spark-master:7077 ;;
  spark-history)
    exec "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.history.HistoryServer ;;
  s3-store) # blobs and their names; no password of its own, so only the gateway's network reaches it
    exec weed server -dir=/var/lib/boostline/s3 -ip="$(hostname)" -ip.bind=0.0.0.0 -filer -volume.max=0 \
      -master.volumeSizeLimitMB=1024 -master.telemetry=false -volume.preStopSeconds=1 -filer.disableDirListing=true ;;
  s3-gateway)
    python -m boostline.containers s3-identities "$run/s3.json"
    exec weed s3 -filer=s3-store:8888 -ip.bind=0.0.0.0 -port=8333 -config="$run/s3.json" -iam=false -autoCreateBucket=false ;;
  serving)
    # TOKEN_BILLING_SECRET=… is the token of the caller `billing`.
    while read -r line; do
      name=${line%%=*} name=${name#TOKEN_} name=${name%_SECRET}
      echo "${name,,} ${line#*=}"
    done < <(env | grep '^TOKEN_.*_SECRET=') > "$run/tokens"
    exec boostline serve ;;
  mlflow)
    python -m boostline.containers mlflow-login "$run/mlflow-login.ini"
    export MLFLOW_AUTH_CONFIG_PATH=$run/mlflow-login.ini
    exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers 1 --artifacts-destination "$BOOSTLINE_MLFLOW_ARTIFACTS" \
      --allowed-hosts "$BOOSTLINE_MLFLOW_HOSTS" ;;
esac
exec "$@"
