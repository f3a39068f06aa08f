#!/bin/bash
# up.sh [OPTION...]   docker compose up, with those services of profiles that run: else they kept their old image and secrets
set -euo pipefail
cd "$(dirname "$0")/.."
docker compose up --detach "$@" $(docker compose config --services) $(docker compose --profile '*' ps --services --orphans=false)
