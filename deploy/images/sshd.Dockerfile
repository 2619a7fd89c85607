# sshd for SFTP, for the lab of the server side: port 2222, keys only, read-only, for any user id.
#   docker build -t syncd-sshd -f deploy/images/sshd.Dockerfile .
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends openssh-server \
 && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_* \
 && useradd --uid 1000 --no-create-home --home-dir /srv --shell /usr/sbin/nologin gvpocr \
 && install -d -m 1777 /state
COPY deploy/images/sshd.sh /usr/local/bin/serve-sftp
LABEL org.opencontainers.image.title="syncd-sshd"
USER 1000:1000
VOLUME /state
CMD ["sh", "/usr/local/bin/serve-sftp"]
