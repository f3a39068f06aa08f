# MinIO from its last source release: its images left the public registries, and its repository is archived. The binary is
# built by `make docker/minio/minio`, with Go; a build stage would need Go's image just for this.
FROM python:3.11-slim-bookworm
COPY docker/minio/minio /usr/local/bin/minio
RUN useradd --uid 50000 --create-home boostline && install -d -o boostline -g boostline /data
USER boostline
