# MinIO from its last source release. Its images left the public registries, and its repository is archived.
FROM python:3.11-slim-bookworm
COPY docker/minio/minio /usr/local/bin/minio
RUN useradd --uid 50000 --create-home boostline && install -d -o boostline -g boostline /data
USER boostline
CMD ["minio", "server", "/data", "--address", ":8333", "--json", "--quiet"]
