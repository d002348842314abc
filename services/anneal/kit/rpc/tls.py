"""TLS of gRPC connections, as a server and as a client. Servers take up certificates that are renewed on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from anneal.kit.options import TlsOptions
from anneal.kit.settings import Misconfigured


def server_credentials(options: TlsOptions) -> grpc.ServerCredentials | None:
    """What a server shows to clients; None serves without TLS.

    Raises:
        Misconfigured: a file cannot be read.
    """
    if options.cert is None or options.key is None:
        return None
    cert, key = options.cert, options.key
    ca = options.ca if options.mutual else None
    files = [cert, key, *([ca] if ca else [])]
    seen: list[list[tuple[int, int]]] = []

    def configuration() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(_read(key, "KEY"), _read(cert, "CERT"))], root_certificates=_read(ca, "CA") if ca else None
        )

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """Asked at every handshake; None keeps what there is, as while the files are being replaced."""
        try:
            stamp = _stamp(files)
            if stamp == seen[-1]:
                return None
            found = configuration()
        except (Misconfigured, OSError):
            return None
        seen[:] = [stamp]
        return found

    first = configuration()
    seen.append(_stamp(files))
    fetch: Any = renewed  # its stub does not know that None is an answer
    return grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=options.mutual)


def channel_credentials(options: TlsOptions) -> grpc.ChannelCredentials | None:
    """How a client checks a server and, where it has a certificate, says who it is; None connects without TLS.

    Raises:
        Misconfigured: a file cannot be read.
    """
    if options.ca is None and options.cert is None:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=_read(options.ca, "CA") if options.ca else None,
        private_key=_read(options.key, "KEY") if options.key else None,
        certificate_chain=_read(options.cert, "CERT") if options.cert else None,
    )


def _read(path: Path, name: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"ANNEAL_TLS__{name}: cannot read {path}: {error.strerror}") from None
    if b"-----BEGIN " not in content:
        raise Misconfigured(f"ANNEAL_TLS__{name}: {path} is no PEM file")
    return content


def _stamp(files: list[Path]) -> list[tuple[int, int]]:
    stats = [file.stat() for file in files]
    return [(stat.st_mtime_ns, stat.st_ino) for stat in stats]
