"""Options of an object store, checked by name before its library sees them: it panics at some that it does not expect.

The names are those of obstore 0.12 (`_aws.pyi`, `_gcs.pyi`, `_azure.pyi`, `_client.pyi` and `_retry.pyi` in
`obstore/_store`), less those that it documents and does not take, and the aliases that the object_store crate reads
(`FromStr` of `AmazonS3ConfigKey`, `GoogleConfigKey` and `AzureConfigKey`). A test opens a store with each of them.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from anneal.kit.settings import Misconfigured

OPTIONS = "ANNEAL_STORE__OPTIONS"
URL = "ANNEAL_STORE__URL"


class Provider(NamedTuple):
    """What one kind of object store can be configured with.

    Attributes:
        title: its name in error messages.
        prefix: may stand before each of `names`, and stands before the library's environment variables.
        names: options with or without the prefix.
        exact: options that exist only as they are written here.
        in_url: names of what the URL says already.
        endpoint: options that name the server's address.
    """

    title: str
    prefix: str
    names: frozenset[str]
    exact: frozenset[str]
    in_url: frozenset[str]
    endpoint: tuple[str, ...]

    @property
    def known(self) -> frozenset[str]:
        """Every option of the top level, besides those of `GROUPS`."""
        return self.names | self.exact | {self.prefix + name for name in self.names}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


S3 = Provider(
    title="S3",
    prefix="aws_",
    names=_names(
        "access_key_id checksum_algorithm conditional_put container_authorization_token_file "
        "container_credentials_full_uri container_credentials_relative_uri copy_if_not_exists default_region "
        "disable_bulk_delete disable_tagging endpoint endpoint_url endpoint_url_sts imdsv1_fallback metadata_endpoint "
        "region request_payer role_arn role_session_name s3_express secret_access_key server_side_encryption "
        "session_token skip_signature sse_bucket_key_enabled sse_customer_key_base64 sse_kms_key_id token "
        "unsigned_payload virtual_hosted_style_request web_identity_token_file"
    ),
    exact=frozenset(),
    in_url=_names("bucket bucket_name"),
    endpoint=("endpoint", "endpoint_url"),
)
GCS = Provider(
    title="Google Cloud Storage",
    prefix="google_",
    names=_names(
        "application_credentials base_url bearer_token service_account service_account_key service_account_path "
        "skip_signature"
    ),
    exact=frozenset(),
    in_url=_names("bucket bucket_name"),
    endpoint=(),  # plain HTTP is allowed there
)
AZURE = Provider(
    title="Azure",
    prefix="azure_",
    names=_names(
        "authority_host authority_id client_id client_secret credential_type disable_tagging endpoint "
        "fabric_cluster_identifier fabric_session_token fabric_token_service_url fabric_workload_host "
        "federated_token_file identity_endpoint msi_endpoint msi_resource_id object_id skip_signature tenant_id "
        "use_azure_cli use_fabric_endpoint"
    ),
    exact=_names(
        "access_key account_key account_name bearer_token encryption_key master_key sas_key sas_token token "
        "use_emulator azure_storage_access_key azure_storage_account_key azure_storage_account_name "
        "azure_storage_authority_host azure_storage_authority_id azure_storage_client_id azure_storage_client_secret "
        "azure_storage_encryption_key azure_storage_endpoint azure_storage_master_key azure_storage_sas_key "
        "azure_storage_sas_token azure_storage_tenant_id azure_storage_token azure_storage_use_emulator"
    ),
    in_url=_names("container_name"),
    endpoint=("endpoint", "storage_endpoint"),
)
HTTP = Provider("HTTP", "", frozenset(), frozenset(), frozenset(), ())
MEMORY = Provider("memory", "", frozenset(), frozenset(), frozenset(), ())
SCHEMES: Mapping[str, Provider] = {
    "s3": S3,
    "s3a": S3,
    "gs": GCS,
    "az": AZURE,
    "azure": AZURE,
    "adl": AZURE,
    "abfs": AZURE,
    "abfss": AZURE,
    "memory": MEMORY,
}
_HOSTS: Mapping[str, Provider] = {
    "amazonaws.com": S3,
    "r2.cloudflarestorage.com": S3,
    "core.windows.net": AZURE,
    "fabric.microsoft.com": AZURE,
}
CLIENT = _names(
    "allow_http allow_invalid_certificates connect_timeout default_content_type default_headers http1_only "
    "http2_keep_alive_interval http2_keep_alive_timeout http2_keep_alive_while_idle http2_max_frame_size http2_only "
    "pool_idle_timeout pool_max_idle_per_host proxy_ca_certificate proxy_excludes proxy_url randomize_addresses "
    "read_timeout root_certificate timeout user_agent"
)
RETRY = _names("backoff max_retries retry_timeout")
BACKOFF = _names("base init_backoff max_backoff")
GROUPS: Mapping[str, frozenset[str]] = {"client_options": CLIENT, "retry_config": RETRY}
_DURATIONS = _names("init_backoff max_backoff retry_timeout")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def provider_of(url: str) -> Provider:
    """What is behind a URL.

    Raises:
        Misconfigured: no store that is known.
    """
    parts = urlsplit(url)
    if parts.scheme in SCHEMES:
        return SCHEMES[parts.scheme]
    if parts.scheme in ("http", "https"):
        host = parts.hostname or ""
        return next((provider for end, provider in _HOSTS.items() if host.endswith(end)), HTTP)
    raise Misconfigured(
        f"{URL}: {parts.scheme}:// is no kind of object store: use s3://, gs://, az:// or the path of a folder"
    )


def checked_options(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the library takes them.

    Numbers become the text that it reads, and the times of `retry_config`, such as `10s` or a number of seconds, become
    durations.

    Args:
        url: of the store.
        options: as they were set.

    Raises:
        Misconfigured: one is unknown, in the wrong place, or no option at all can be given to this store.
    """
    provider = provider_of(url)
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if name in GROUPS and provider is not MEMORY:
            checked[name] = _group(name, value)
        elif name.lower() in provider.known:
            checked[name] = _text(value)
        else:
            raise Misconfigured(_unknown(name, provider, url))
    _check_plain_http(provider, checked)
    return checked


def _unknown(name: str, provider: Provider, url: str) -> str:
    lower = name.lower()
    bare = lower.removeprefix(provider.prefix)
    if bare in provider.in_url or lower == "prefix":
        return f"{OPTIONS}: {name} is part of the URL, here {url}: leave it out"
    for group, names in GROUPS.items():
        inner = lower if lower in names else bare
        if inner in names and provider is not MEMORY:
            return f'{OPTIONS}: {name} belongs into {group}: write {{"{group}": {{"{inner}": ...}}}}'
    return f"{OPTIONS}: {provider.title} has no option {name}{_near(lower, provider.known | set(GROUPS))}"


def _near(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=2, cutoff=0.7)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are {', '.join(sorted(known))}"


def _group(group: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Misconfigured(f"{OPTIONS}: {group} has options of its own and is no single value")
    checked: dict[str, Any] = {}
    for name, inner in value.items():
        if name not in GROUPS[group]:
            raise Misconfigured(f"{OPTIONS}: {group} has no option {name}{_near(name.lower(), GROUPS[group])}")
        if name == "backoff":
            checked[name] = _backoff(inner)
        elif name in _DURATIONS:
            checked[name] = _duration(f"{group}.{name}", inner)
        else:
            checked[name] = _text(inner) if group == "client_options" else inner
    return checked


def _backoff(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Misconfigured(f"{OPTIONS}: retry_config.backoff has options of its own and is no single value")
    for name in value:
        if name not in BACKOFF:
            raise Misconfigured(f"{OPTIONS}: retry_config.backoff has no option {name}{_near(name.lower(), BACKOFF)}")
    return {
        name: _duration(f"retry_config.backoff.{name}", inner) if name in _DURATIONS else inner
        for name, inner in value.items()
    }


def _duration(place: str, value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)?", str(value))
    if match is None or isinstance(value, bool):
        raise Misconfigured(f"{OPTIONS}: {place} is no time such as 10s, 500ms or 2m")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2] or "s"])


def _text(value: Any) -> Any:
    """Numbers as the text that the library reads; it takes text, truth values and groups as they are."""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _check_plain_http(provider: Provider, options: Mapping[str, Any]) -> None:
    """Check that an address without TLS is allowed: the library says of it only `builder error`."""
    names = {prefix + name for name in provider.endpoint for prefix in ("", provider.prefix)}
    endpoint = next((str(value) for name, value in options.items() if name.lower() in names), "")
    if not endpoint.lower().startswith("http://"):
        return
    client = options.get("client_options")
    # What the environment says counts only where there are no client options.
    environment = os.environ.get(f"{provider.prefix}allow_http".upper(), "")
    allowed = environment if client is None else client.get("allow_http", False)
    if str(allowed).lower() not in ("true", "1", "yes", "y", "on", "t"):
        raise Misconfigured(
            f'{OPTIONS}: {endpoint} is not encrypted: set {{"client_options": {{"allow_http": true}}}} to allow it'
        )
