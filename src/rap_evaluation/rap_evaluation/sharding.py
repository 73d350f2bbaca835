"""Work on many scenarios: one after the other here, or spread over a Ray cluster.

A worker is made once per process, since maps and networks take seconds to load; it is then called
with one scenario after the other. The results do not depend on who computed what.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from rap_bringup.console import Report, silent

Item = TypeVar("Item")
Result = TypeVar("Result")

_CONNECT_S = 5.0

LOCAL = "local"
"""Address that starts a cluster on this machine, one worker per core, for the time of the work."""


class ShardingError(ValueError):
    """The cluster cannot be used; the text says why."""


def process(
    items: Sequence[Item],
    make_worker: Callable[[], Callable[[Item], Result]],
    *,
    ray_address: str | None = None,
    report: Report = silent,
    keep: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Works on every item.

    Args:
        items: Scenarios; on a cluster they are sent to other machines.
        make_worker: Makes what turns an item into a result. On a cluster it is called on every
            worker, so the files it opens must lie at the same paths everywhere.
        ray_address: `LOCAL`, `HOST:PORT` of a Ray cluster, or None to work here.
        report: Called with the share that is done.
        keep: Called with every result as it comes, in the order of the items.

    Returns:
        Results in the order of the items.

    Raises:
        ShardingError: If Ray is not installed or the cluster cannot be reached.
    """
    if ray_address is None:
        found: Iterator[Result] = map(make_worker(), items)
    else:
        found = _on_cluster(items, make_worker, ray_address)
    results = []
    for result in found:
        results.append(result)
        keep(result)
        report(len(results) / len(items))
    return results


def _on_cluster(
    items: Sequence[Item],
    make_worker: Callable[[], Callable[[Item], Result]],
    address: str,
) -> Iterator[Result]:
    ray = _connected(address)
    try:
        remote = ray.remote(num_cpus=1)(_Worker)
        count = min(len(items), max(1, int(ray.cluster_resources().get("CPU", 1))))
        pool = ray.util.ActorPool([remote.remote(make_worker) for _ in range(count)])
        yield from pool.map(lambda actor, item: actor.work.remote(item), list(items))
    except ray.exceptions.RayError as error:
        if isinstance(getattr(error, "cause", None), ValueError):
            raise error.cause from error
        raise ShardingError(f"ray: a worker failed: {' '.join(str(error).split())}") from error
    finally:
        ray.shutdown()


class _Worker:
    """One process of the cluster."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]) -> None:
        self._worker = make_worker()

    def work(self, item: Any) -> Any:  # noqa: ANN401 - whatever the worker takes and returns
        return self._worker(item)


def _connected(address: str) -> Any:  # noqa: ANN401 - the module, where it is installed
    try:
        import ray  # noqa: PLC0415  (optional: only clusters need it)
        import ray.util  # noqa: PLC0415
    except ImportError as error:
        raise ShardingError("ray is not installed: run make setup") from error
    try:
        _check_reachable(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise ShardingError(
            f"ray: no cluster at {address}: {str(error).splitlines()[0]}"
        ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Fails within seconds where nobody listens; Ray itself tries for minutes."""
    host, separator, port = address.rpartition(":")
    if address == LOCAL or "://" in address:
        return
    if not separator or not port.isdigit():
        raise ValueError(f"expected {LOCAL} or HOST:PORT")
    socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
