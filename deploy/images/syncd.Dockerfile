# syncd, and the OCR worker with Tesseract for English and Hindi; both for any user id. From the repository's root:
#   docker build -t syncd       --target syncd  -f deploy/images/syncd.Dockerfile .
#   docker build -t worker-glue --target worker -f deploy/images/syncd.Dockerfile .
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 tzdata \
 && rm -rf /var/lib/apt/lists/*

FROM python AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv
# behind a proxy that signs by itself: mount its certificates with --volume, and name them with --build-arg CA=
ARG CA=/etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=${CA} PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
# what builds syncd stays in /build and out of the images; lock files are complete, so nothing is to be resolved
COPY requirements requirements
RUN python3 -m venv /build \
 && python3 -m venv --without-pip /opt/syncd \
 && /build/bin/pip install --quiet --no-deps --no-compile --require-hashes -r requirements/build.lock \
 && /build/bin/pip --python /opt/syncd/bin/python3 install --quiet --no-deps --no-compile --require-hashes \
        -r requirements/runtime.lock \
 && python3 -m compileall -q -j 0 /opt/syncd
COPY LICENSE README.md pyproject.toml ./
COPY syncd syncd
COPY worker_glue worker_glue
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /build/bin/pip --python /opt/syncd/bin/python3 install --quiet --no-deps --no-index /wheel/*.whl

FROM python AS worker
# more languages: --build-arg LANGUAGES="tesseract-ocr-hin tesseract-ocr-mar"
ARG LANGUAGES="tesseract-ocr-hin"
RUN apt-get update \
 && apt-get install -y --no-install-recommends tesseract-ocr ${LANGUAGES} \
 && rm -rf /var/lib/apt/lists/* \
 # a new volume takes the mode of the folder that it is mounted over: whoever the container runs as may write there
 && install -d -m 1777 /state
COPY --from=build /opt/syncd /opt/syncd
ENV PATH=/opt/syncd/bin:$PATH HOME=/tmp SYNCD_CONFIG=/etc/syncd/config.toml
LABEL org.opencontainers.image.title="worker-glue" \
      org.opencontainers.image.description="OCR worker on verified local files, with Tesseract" \
      org.opencontainers.image.licenses="MIT"
USER 1000:1000
VOLUME /state
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["worker-glue", "doctor", "--live"]
CMD ["worker-glue", "run", "--workers", "1", "--wait-for-config"]

FROM python AS syncd
RUN install -d -m 1777 /state /state/run /data
COPY --from=build /opt/syncd /opt/syncd
ENV PATH=/opt/syncd/bin:$PATH HOME=/tmp SYNCD_CONFIG=/etc/syncd/config.toml SYNCD_API=unix:///state/run/syncd.sock
LABEL org.opencontainers.image.title="syncd" \
      org.opencontainers.image.description="Mirrors a document collection for OCR workers, and announces what is ready" \
      org.opencontainers.image.licenses="MIT"
USER 1000:1000
VOLUME /state
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["/opt/syncd/bin/python3", "-m", "syncd.client.health"]
CMD ["syncd", "run", "--wait-for-config"]
