# Samba for the lab of the server side: both shares on port 13445, for any user id, without root.
#   docker build -t syncd-samba -f deploy/images/samba.Dockerfile .
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends samba \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin gvpocr \
 && install -d -m 1777 /state
COPY deploy/images/samba.sh /usr/local/bin/serve-shares
LABEL org.opencontainers.image.title="syncd-samba"
USER 1000:1000
VOLUME /state
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s CMD ["smbcontrol", "-s", "/etc/samba/smb.conf", "smbd", "ping"]
CMD ["sh", "/usr/local/bin/serve-shares"]
