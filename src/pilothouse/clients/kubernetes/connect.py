"""A connection to an API server: by what a Cluster document declares, or by a kubeconfig.

Both end in a `Transport`: a pool of connections, the server's address, and the credentials of the moment. What a
kubeconfig may say (client certificates, exec plugins, contexts) is read by the kubernetes package; what a Cluster
document says needs urllib3 alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pilothouse.clients.http import authorization, tls
from pilothouse.clients.kubernetes.transport import Transport
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Invalid, PilothouseError, Unavailable


def to_endpoint(endpoint: Endpoint) -> Transport:
    """The API server of a Cluster document, with the token that its file holds at the moment of each request."""
    import urllib3

    pool = urllib3.PoolManager(num_pools=2, maxsize=16, retries=False, **tls(endpoint))
    file = endpoint.token_file
    hint = f"see whether {file} holds a token that may do this" if file else "declare a `tokenFile` for it"
    return Transport(pool, endpoint.url.rstrip("/"), lambda: authorization(endpoint), hint, close=pool.clear)


def to_context(kubeconfig: str | None = None, context: str | None = None) -> Transport:
    """The API server of a kubeconfig's context, by default the current one; inside a pod, its own cluster's."""
    api = connect(kubeconfig, context)

    def credentials() -> dict[str, str]:
        headers: dict[str, str] = {}
        api.update_params_for_auth(headers, [], ["BearerToken"])
        return {str(key): str(value) for key, value in headers.items()}

    host = str(api.configuration.host).rstrip("/")
    hint = "they may have expired: `pilothouse access cert` gets new ones"
    return Transport(api.rest_client.pool_manager, host, credentials, hint, close=api.close)


def connect(kubeconfig: str | None = None, context: str | None = None) -> Any:
    """An API client of the kubernetes package for that kubeconfig and context."""
    try:
        import kubernetes.client
        import kubernetes.config
        import yaml
    except ImportError as missing:
        raise Unavailable(
            "reading a live cluster needs the kubernetes client, which is not installed",
            "pip install 'pilothouse[live]'",
        ) from missing
    try:
        if not kubeconfig and not context and _inside_a_pod():
            configuration = kubernetes.client.Configuration()
            kubernetes.config.load_incluster_config(client_configuration=configuration)
            return kubernetes.client.ApiClient(configuration)
        # The package reads KUBECONFIG once, when it is imported; what holds is what the variable says now.
        file = kubeconfig or os.environ.get("KUBECONFIG") or None
        return kubernetes.config.new_client_from_config(config_file=file, context=context, persist_config=False)
    except (kubernetes.config.ConfigException, yaml.YAMLError, OSError) as failure:
        raise _unusable(kubeconfig, str(failure)) from failure
    except (AttributeError, KeyError, TypeError, ValueError) as failure:
        # The client reads a malformed kubeconfig without looking, and trips over it.
        raise _unusable(kubeconfig, "it is malformed") from failure


def _inside_a_pod() -> bool:
    default = Path("~/.kube/config").expanduser()
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ and not default.exists()


def _unusable(kubeconfig: str | None, why: str) -> PilothouseError:
    name = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    return Invalid(
        f"no usable kubeconfig at {name}: {' '.join(why.split())[:300]}",
        "set KUBECONFIG, name a --context that it holds, or read a snapshot file instead",
    )
