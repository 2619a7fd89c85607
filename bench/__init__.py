"""The benchmark: syncd beside rclone, smbclient, the rsync daemon and cp, over the same corpora and the same server.

`python -m bench` from the top of the checkout (or `make bench`, which installs what it needs) prints the table.
"""
