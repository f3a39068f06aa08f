#!/bin/bash
# make-secrets.sh: random secrets for the compose stack, in docker/secrets/ (mode 0600). What is there is kept.
#
# secrets.env is the source; the other files are made from it, one for each kind of process, so that none gets more than
# it needs. To change a secret: docker/rotate.sh.
set -euo pipefail
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
cd secrets
touch secrets.env

random() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }
value() { sed -n "s/^$1=//p" secrets.env; }
want() {
  [ -n "$(value "$1")" ] && return
  { grep -v "^$1=" secrets.env || true; echo "$1=$2"; } > secrets.new
  mv secrets.new secrets.env
  echo "made $1"
}
put() { printf '%s\n' "${@:2}" > "$1.new"; mv "$1.new" "$1"; }

# Values of one's own: Compose would take `$` and quotes for its own, and a database's password is part of an address.
odd=$(grep -vE '^(#.*|[A-Za-z0-9_]+=[]A-Za-z0-9._~+/=,:@%^&!()#[-]*)?$' secrets.env || true)
odd+=$(grep -E '^(AIRFLOW|MLFLOW)_DB_SECRET=.*[^A-Za-z0-9._~-]' secrets.env || true)
[ -z "$odd" ] || { echo "error: docker/secrets/secrets.env: ${odd%%=*} has a character that it may not have: A-Z a-z 0-9 . _ ~ - are allowed, and + / = , : @ % ^ & ! ( ) # [ ] where it is no *_DB_SECRET" >&2; exit 1; }

for name in POSTGRES AIRFLOW_DB MLFLOW_DB AIRFLOW_API AIRFLOW_JWT SPARK MLFLOW_SESSION MLFLOW_ADMIN MLFLOW_PIPELINE MLFLOW_READER; do
  want "${name}_SECRET" "$(random 32)"
done
want TOKEN_CLIENT_SECRET "$(random 24)" # a caller's of the REST service; a line TOKEN_NAME_SECRET for each other one
want AIRFLOW_ADMIN_SECRET "$(random 9)"
want AIRFLOW_FERNET_SECRET "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
for name in ADMIN PIPELINE SERVING MLFLOW; do
  want "S3_${name}_KEY" "$(random 10)"
  want "S3_${name}_SECRET" "$(random 30)"
done

server=$(value BOOSTLINE_DB) # no secret: where PostgreSQL is, if it is not the stack's own
database() { echo "postgresql+psycopg2://$1:$(value "$2")@${server:-postgres:5432}/$3"; }

put postgres.env "POSTGRES_PASSWORD=$(value POSTGRES_SECRET)"
put spark.env "BOOSTLINE_SPARK_SECRET=$(value SPARK_SECRET)"
put serving.env \
  "AWS_ACCESS_KEY_ID=$(value S3_SERVING_KEY)" "AWS_SECRET_ACCESS_KEY=$(value S3_SERVING_SECRET)" \
  $(grep '^TOKEN_' secrets.env)
put reader.env "MLFLOW_TRACKING_USERNAME=reader" "MLFLOW_TRACKING_PASSWORD=$(value MLFLOW_READER_SECRET)"
put s3.env $(grep '^S3_' secrets.env)
put minio.env "MINIO_ROOT_USER=$(value S3_ADMIN_KEY)" "MINIO_ROOT_PASSWORD=$(value S3_ADMIN_SECRET)"
put airflow.env \
  "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=$(database airflow AIRFLOW_DB_SECRET airflow)" \
  "AIRFLOW__CORE__FERNET_KEY=$(value AIRFLOW_FERNET_SECRET)" \
  "AIRFLOW__API__SECRET_KEY=$(value AIRFLOW_API_SECRET)" \
  "AIRFLOW__API_AUTH__JWT_SECRET=$(value AIRFLOW_JWT_SECRET)"
put pipeline.env \
  "AWS_ACCESS_KEY_ID=$(value S3_PIPELINE_KEY)" "AWS_SECRET_ACCESS_KEY=$(value S3_PIPELINE_SECRET)" \
  "MLFLOW_TRACKING_USERNAME=pipeline" "MLFLOW_TRACKING_PASSWORD=$(value MLFLOW_PIPELINE_SECRET)"
put mlflow.env \
  "AWS_ACCESS_KEY_ID=$(value S3_MLFLOW_KEY)" "AWS_SECRET_ACCESS_KEY=$(value S3_MLFLOW_SECRET)" \
  "MLFLOW_BACKEND_STORE_URI=$(database mlflow MLFLOW_DB_SECRET mlflow)" \
  "MLFLOW_LOGIN_STORE_URI=$(database mlflow MLFLOW_DB_SECRET mlflow_login)" \
  "MLFLOW_AUTH_ADMIN_PASSWORD=$(value MLFLOW_ADMIN_SECRET)" \
  "MLFLOW_FLASK_SERVER_SECRET_KEY=$(value MLFLOW_SESSION_SECRET)"
put init.env $(grep -E '^(AIRFLOW_ADMIN|POSTGRES|AIRFLOW_DB|MLFLOW_DB|MLFLOW_PIPELINE|MLFLOW_READER)_SECRET=|^S3_ADMIN_' secrets.env)
# What `boostline` signs in to Airflow with: in a container, and on this machine.
put cli.env "BOOSTLINE_AIRFLOW_PASSWORD=$(value AIRFLOW_ADMIN_SECRET)"
put airflow-password.json "{\"admin\": \"$(value AIRFLOW_ADMIN_SECRET)\"}"
