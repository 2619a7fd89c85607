# One TCP proxy: UPSTREAM=HOST:PORT, LISTEN=PORT. Healthy while its upstream takes connections.
#   docker build -t syncd-proxy -f deploy/images/proxy.Dockerfile .
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends socat \
 && rm -rf /var/lib/apt/lists/*
LABEL org.opencontainers.image.title="syncd-proxy" \
      org.opencontainers.image.description="One TCP port of the main server, for a network that leads nowhere else"
USER 1000:1000
HEALTHCHECK --interval=15s --timeout=5s --start-period=5s \
    CMD socat -u OPEN:/dev/null "TCP4:${UPSTREAM},connect-timeout=4" || exit 1
CMD ["sh", "-c", "exec socat -b 65536 TCP4-LISTEN:${LISTEN},reuseaddr,fork,nodelay,keepalive TCP4:${UPSTREAM},connect-timeout=10,nodelay,keepalive"]
