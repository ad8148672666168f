"""What the environment says of the way to the service. Nothing is sent, and no key looked at."""

from qwen_rerank import Reranker
from qwen_rerank._endpoint import Endpoint
from qwen_rerank._route import certificate_variables, certificates, proxy_for

__all__ = ["certificates_for", "check_surroundings", "proxy_for"]


def certificates_for(endpoint: Endpoint) -> tuple[str | None, str]:
    """Whose certificates are trusted on the way and what says so; None if none are looked at.

    Raises:
        RequestError: What the environment says of them, or of the proxy, cannot be followed.
    """
    proxy = proxy_for(endpoint.url)
    way = (endpoint.url, "" if proxy is None else proxy.url)
    if not any(url.startswith("https:") for url in way):
        return None, ""
    certificates()
    if not (named := certificate_variables()):
        return "those of certifi", "default"
    return ", ".join(named.values()), f"the environment variable {' and '.join(named)}"


def check_surroundings(reranker: Reranker) -> Endpoint:
    """Finds out before a long run whether every call would fail for the environment's sake.

    Returns:
        Where it will ask.

    Raises:
        RequestError: It would.
    """
    endpoint = reranker._line().endpoint
    certificates_for(endpoint)
    return endpoint
