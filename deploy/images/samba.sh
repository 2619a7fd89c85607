#!/bin/sh
# Give the user gvpocr the password of the secret, then serve what smb.conf says. Runs without root.
set -eu
config=/etc/samba/smb.conf
secret=/run/secrets/smb-password
if [ ! -r "$secret" ]; then
    echo "error: the secret smb-password is missing or not readable for uid $(id -u)" >&2
    echo "  next: write it to secrets/smb-password, mode 600, owned by the uid that the container runs as" >&2
    sleep 30 # a restart policy does not loop over this
    exit 2
fi
for folder in private lock state cache pid ncalrpc; do
    mkdir -p "/state/$folder"
done
password=$(cat "$secret")
printf '%s\n%s\n' "$password" "$password" | pdbedit -s "$config" -a -t -u gvpocr >/dev/null
unset password
exec smbd -F --no-process-group --debug-stdout -s "$config"
