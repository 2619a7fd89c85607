# The OCR worker with Tesseract for English and Hindi, for any user id. Build from the root of the repository:
#   docker build -t worker-glue -f deploy/images/worker.Dockerfile .
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv
# behind a proxy that signs by itself: mount its certificates with --volume, and name them with --build-arg CA=
ARG CA=/etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=${CA} PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
COPY requirements requirements
RUN python3 -m venv /opt/syncd \
 && /opt/syncd/bin/pip install --quiet --require-hashes -r requirements/build.lock -r requirements/runtime.lock
COPY LICENSE README.md pyproject.toml ./
COPY syncd syncd
COPY worker_glue worker_glue
RUN /opt/syncd/bin/pip install --quiet --no-deps --no-build-isolation . \
 && /opt/syncd/bin/pip uninstall --quiet --yes setuptools wheel pip \
 && /usr/bin/python3 -m compileall -q /opt/syncd

FROM ${BASE}
# more languages: --build-arg LANGUAGES="tesseract-ocr-hin tesseract-ocr-mar"
ARG LANGUAGES="tesseract-ocr-hin"
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 tzdata tesseract-ocr ${LANGUAGES} \
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
