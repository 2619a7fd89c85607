"""sftp:// source. Loads paramiko: import it only where an SFTP source is built."""

from syncd.sources.sftp.source import SftpSource

__all__ = ["SftpSource"]
