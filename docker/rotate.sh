#!/bin/bash
# rotate.sh NAME...   new values for these secrets of docker/secrets/secrets.env, and the running stack with them
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077
file=docker/secrets/secrets.env
fernet=AIRFLOW_FERNET_SECRET

value() { sed -n "s/^$1=//p" "$file"; }
put() { { grep -v "^$1=" "$file" || true; [ -z "${2:-}" ] || echo "$1=$2"; } > "$file.new"; mv "$file.new" "$file"; }

[ $# -gt 0 ] || { sed -n '2s/^# //p' "$0"; grep -oE '^[^=]+_(SECRET|KEY)=' "$file" | tr -d = | sort; exit 2; }
for name; do
  [[ $name =~ _(SECRET|KEY)$ ]] && [ -n "$(value "$name")" ] || { echo "error: $file has no secret $name" >&2; exit 2; }
done

s3=$(docker compose config mlflow | sed -n 's/^ *BOOSTLINE_S3_ENDPOINT: *//p' | tr -d '"' | sort -u)
if [[ " $*" == *" S3_"* ]] && [ "$s3" != http://s3:8333 ]; then
  echo "error: the lake is on ${s3:-AWS}: make new keys there, write them into $file, then: make compose-up" >&2
  exit 2
fi
database=$(value BOOSTLINE_DB)
if [ -n "$database" ] && [[ " $* " == *" POSTGRES_SECRET "* ]]; then
  echo "error: PostgreSQL is at $database: change the password of postgres there, then its line in $file, then: make compose-up" >&2
  exit 2
fi

docker/make-secrets.sh # refuses what cannot be, before anything is thrown away
old=$(value $fernet)
for name; do
  case $name in
    TOKEN_*) put "$name" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;; # make-secrets.sh knows one of them only
    *) put "$name" ;;
  esac
done
docker/make-secrets.sh
new=$(value $fernet)
# With two keys Airflow encrypts with the first one and decrypts with either.
[ "$new" = "$old" ] || { put $fernet "$new,$old"; docker/make-secrets.sh; }
if [[ " $* " == *" POSTGRES_SECRET "* ]]; then # kept in PostgreSQL's own files; its local socket asks for no password
  docker compose up --detach --wait --no-deps postgres
  docker compose exec -T postgres sh -c "echo \"ALTER ROLE postgres PASSWORD '\$POSTGRES_PASSWORD'\" | psql -q -U postgres"
fi
docker/up.sh
if [ "$new" != "$old" ]; then
  docker compose exec -T airflow-scheduler airflow rotate-fernet-key
  put $fernet "$new"
  docker/make-secrets.sh
  docker/up.sh
fi
docker compose up --detach verify # it may have ended before the last change
[ "$(docker wait "$(docker compose ps --all --quiet verify)")" = 0 ] || { docker compose logs --no-log-prefix verify >&2; exit 1; }
docker compose logs --no-log-prefix verify | tail -n 1
