#!/bin/sh
# Serve SFTP with a host key that is kept in the state volume: it stays the same when the container is made anew.
set -eu
if [ ! -e /state/host_key ]; then
    ssh-keygen -q -t ed25519 -N "" -C "" -f /state/host_key
fi
exec /usr/sbin/sshd -D -e -f /etc/ssh/syncd_sshd_config
