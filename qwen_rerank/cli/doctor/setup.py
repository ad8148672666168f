"""The set-up that is found: which values are used, and where each came from. Nothing is shown."""

from typing import Any

from qwen_rerank import Reranker
from qwen_rerank.cli._surroundings import certificates_for, proxy_for
from qwen_rerank.cli._words import flag
from qwen_rerank.cli.doctor.probe import Probe, key_doubt, key_end

__all__ = ["setup_of"]

# Of `Endpoint.found_in`, in the words of the command line.
_PLACES = {"": "default"} | {name: flag(name) for name in ("base_url", "region", "workspace")}


def setup_of(reranker: Reranker, probe: Probe, sources: dict[str, str]) -> dict[str, Any]:
    """Value and place of each, both None for what there is none of.

    Args:
        reranker: Whose set-up it is.
        probe: Knows the way that it takes.
        sources: Where key, model and protocol were found, in the words of the command line.

    Raises:
        RequestError: A proxy or certificates that the environment names cannot be followed.
    """
    endpoint, found = probe.endpoint, probe.endpoint.found_in
    end, proxy = key_end(endpoint), proxy_for(endpoint.url)
    places = _PLACES | sources
    host = places.get(found["host"], found["host"])
    setup = {
        "key": (None if end is None else f"...{end}{key_doubt(endpoint)}", found["key"]),
        "region": (endpoint.region, host if endpoint.region else ""),
        "host": (endpoint.host, host),
        "url": (endpoint.url, ""),
        "proxy": (None, "") if proxy is None else (proxy.url, proxy.named_by),
        "certificates": certificates_for(endpoint),
        "workspace": (endpoint.workspace, found["workspace"]),
        "headers": (", ".join(reranker.headers or ()) or None, "--header-env"),
        "protocol": (reranker.protocol, sources["protocol"]),
        "server": (reranker.server, "--server"),
        "model": (reranker.model, sources["model"]),
        "length": probe.length,
    }
    return {
        name: {
            "value": value,
            "found_in": places.get(place, place) if value and place else None,
        }
        for name, (value, place) in setup.items()
    }
