# The ext_proc service. The base is an argument so that it can be pinned by digest or come from an inner registry.
ARG BASE=docker.io/library/python:3.12-slim

FROM ${BASE} AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/extproc && /opt/extproc/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY extproc ./extproc
# The build environment is apart from what is shipped.
RUN python -m venv /tmp/build && /tmp/build/bin/pip install --no-cache-dir "setuptools>=80" wheel \
 && /tmp/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation -w /tmp/wheel . \
 && /opt/extproc/bin/pip install --no-cache-dir --no-deps /tmp/wheel/*.whl

FROM ${BASE}
COPY --from=build /opt/extproc /opt/extproc
RUN mkdir -p /var/lib/extproc /run/extproc && chown 65532:65532 /var/lib/extproc /run/extproc
USER 65532:65532
WORKDIR /var/lib/extproc
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENTRYPOINT ["/opt/extproc/bin/extproc"]
CMD ["serve", "--config", "/etc/extproc/gateway.yaml"]
