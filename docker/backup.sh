#!/bin/bash
# backup.sh FOLDER            write the databases and the S3 server's data of the compose stack into a new folder
# backup.sh --restore FOLDER  put them back, into a stack that is up; what it holds now is replaced
#
# Databases first: a model version that they name is then in S3 too. S3 is away while its files are copied; tasks
# try again for about two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077
databases=(airflow mlflow mlflow_login)

# Lines of services; the last one has the files: s3-store, or MinIO's s3.
s3_services() { docker compose config --services | grep -xE 's3|s3-store' | sort; }
s3_files() { docker compose run --rm -T --no-deps --entrypoint "" "$(s3_services | tail -n 1)" "$@"; }
# Those very containers: Compose would start what they depend on, and `preflight` ends where the checkout is newer.
s3_containers() { for service in $(s3_services | tac); do docker compose ps --all --quiet "$service"; done; }

# Servers elsewhere have means of their own; a copy of the stack's idle ones would only look like a backup.
require_own_servers() {
  local database s3
  database=$(sed -n 's/^BOOSTLINE_DB=//p' docker/secrets/secrets.env)
  s3=$(docker compose config mlflow | sed -n 's/^ *BOOSTLINE_S3_ENDPOINT: *//p' | tr -d '"' | sort -u)
  [ -z "$database" ] || { echo "error: PostgreSQL is at $database: back it up there" >&2; exit 1; }
  [ "$s3" = http://s3:8333 ] || { echo "error: the lake is on ${s3:-AWS}: back it up there" >&2; exit 1; }
}

end_backup() {
  rm -rf "$part"
  [ -z "$stopped" ] || docker start $stopped >/dev/null || echo "error: S3 is down. Start it with: make compose-up" >&2
}

# All of it under another name first, so that what has the name is whole.
backup() {
  set -- "${1%/}"
  [ ! -e "$1" ] || { echo "error: $1 exists; name a new folder" >&2; exit 1; }
  mkdir -p "$(dirname "$1")"
  part=$(mktemp -d "$1.XXXXXX") stopped=
  trap end_backup EXIT
  for database in "${databases[@]}"; do
    docker compose exec -T postgres pg_dump -U postgres -Fc "$database" > "$part/$database.dump"
  done
  stopped=$(s3_containers)
  docker compose stop $(s3_services) >/dev/null 2>&1
  s3_files tar -C /var/lib/boostline/s3 -cf - . > "$part/s3.tar"
  mv "$part" "$1"
  echo "Wrote $(du -sh "$1" | cut -f1) to $1. Keep docker/secrets/secrets.env with it, elsewhere"
}

restore() {
  for file in "${databases[@]/%/.dump}" s3.tar; do
    [ -s "$1/$file" ] || { echo "error: $1/$file is missing: $1 is no whole backup" >&2; exit 1; }
  done
  local stream # it would go on from a checkpoint that is replaced under it
  stream=$(docker compose --profile stream ps --services | grep -x stream || true)
  docker compose stop $stream airflow-scheduler airflow-triggerer airflow-dags airflow-api mlflow $(s3_services) >/dev/null 2>&1
  for database in "${databases[@]}"; do
    # The whole database anew: tables of later migrations go with it.
    docker compose exec -T postgres pg_restore -U postgres --clean --create --if-exists --exit-on-error -d postgres < "$1/$database.dump"
  done
  # The databases' passwords are the backup's; without its stamp `init` sets those of now.
  docker compose exec -T postgres psql -q -U postgres -c 'DROP TABLE IF EXISTS boostline_init'
  s3_files sh -c 'find /var/lib/boostline/s3 -mindepth 1 -delete && tar -C /var/lib/boostline/s3 -xf -' < "$1/s3.tar"
  docker/up.sh $stream
  echo "Restored $1"
}

case "${1:-}" in
  --restore) require_own_servers; restore "${2:?backup.sh --restore FOLDER}" ;;
  ""|-*) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2 ;;
  *) require_own_servers; backup "$1" ;;
esac
