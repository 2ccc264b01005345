# The daemon alone, for amd64 and arm64: nothing is compiled, every dependency is a published wheel, pinned and hashed.
#
#   docker build --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD) -t sagemaker-modeldb-sync .
#
# It runs as user 10001, with a read-only root file system and without any capability; /var/lib/modeldb-sync is all it writes to.

ARG BASE=docker.io/library/python:3.13-slim-trixie

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 SOURCE_DATE_EPOCH=315532800
WORKDIR /build
RUN python -m venv /build/tools && python -m venv --without-pip /opt/modeldb-sync

# Before the code, so that a change of the code does not fetch them again.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN tools/bin/pip install --quiet --no-deps --require-hashes --only-binary :all: -r requirements/build.txt \
 && tools/bin/pip --python /opt/modeldb-sync/bin/python install --quiet --no-deps --require-hashes --only-binary :all: -r requirements/runtime.txt

COPY pyproject.toml README.md ./
COPY daemon daemon
# Byte code that never looks at a file's time: the root file system is read-only, and two builds are the same.
RUN tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
 && tools/bin/pip --python /opt/modeldb-sync/bin/python install --quiet --no-deps --no-index dist/*.whl \
 && tools/bin/pip --python /opt/modeldb-sync/bin/python check \
 && PYTHONHASHSEED=0 python -m compileall -q -j 1 --invalidation-mode unchecked-hash /opt/modeldb-sync/lib


FROM ${BASE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sagemaker-modeldb-sync" \
      org.opencontainers.image.description="Records every finished SageMaker training job in ModelDB, exactly once" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

RUN groupadd --gid 10001 modeldb-sync \
 && useradd --uid 10001 --gid 10001 --no-create-home --no-log-init --home-dir /var/lib/modeldb-sync --shell /usr/sbin/nologin modeldb-sync \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/modeldb-sync
COPY --from=build /opt/modeldb-sync /opt/modeldb-sync

# What needs a temporary file (SQLite does for large sorts) has one place to write to.
ENV PATH=/opt/modeldb-sync/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=1 \
    TMPDIR=/var/lib/modeldb-sync
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/modeldb-sync
VOLUME /var/lib/modeldb-sync
EXPOSE 9090
# Alive, not ready: an outage of ModelDB or AWS must never get the daemon restarted. No curl in the image, and no proxy asked.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-IS", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('MODELDB_SYNC_HTTP__PORT') or 9090), timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["sagemaker-modeldb-sync"]
CMD ["run"]
