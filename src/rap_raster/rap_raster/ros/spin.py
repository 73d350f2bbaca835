"""Starting nodes as a process, and ending it cleanly on SIGINT and SIGTERM."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from rap_raster.ros.node import ConfigureError, RapNode, one_line
from rap_raster.ros.shared_memory import remove_dead_segments

END_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_nodes(program: str, make_nodes: Callable[[], Sequence[RapNode]]) -> int:
    """Runs nodes in one process until a signal ends it.

    `rap run` starts its processes with both signals held, so that not even Python's own start is
    interrupted; they are let in once rclpy handles them.

    Args:
        program: Name for error lines.
        make_nodes: Creates the nodes, in the order in which they are to start.

    Returns:
        Exit status: 0 after SIGINT or SIGTERM, 1 if a node could not be started; then one line on
        stderr says why.
    """
    nodes: list[RapNode] = []
    handles_signals = False
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)
        signal.signal(signal.SIGINT, _leave_to_rclpy)
        rclpy.init()
        executor = SingleThreadedExecutor()  # After a signal it could not be made any more.
        handles_signals = True
        signal.pthread_sigmask(signal.SIG_UNBLOCK, END_SIGNALS)
        remove_dead_segments()
        nodes += make_nodes()
        for node in nodes:
            node.start_by_itself()
        gc.collect()
        gc.freeze()  # looking at all that was loaded took 75 ms, in the middle of a drive
        _spin(executor, nodes)
    except ExternalShutdownException:
        return 0
    except Exception as error:
        if handles_signals and not rclpy.ok():
            return 0  # a signal arrived while nodes were starting
        if not isinstance(error, ConfigureError):  # of those the node has logged the reason
            sys.stderr.write(f"{program}: {one_line(error)}\n")
        return 1
    finally:
        _shut_down(nodes)
    return 0


def _leave_to_rclpy(number: int, frame: FrameType | None) -> None:
    """Does nothing, where Python would raise KeyboardInterrupt beside what rclpy raises.

    rclpy's own handler calls this one. Of two exceptions one may come while the other is handled,
    and end the process as killed.
    """


def _spin(executor: SingleThreadedExecutor, nodes: Sequence[RapNode]) -> None:
    for node in nodes:
        executor.add_node(node)
    while rclpy.ok():
        try:
            executor.spin()
        except ExternalShutdownException:
            raise
        except Exception as error:  # of a callback that is not ours: a clock may be no time
            if not rclpy.ok():
                return  # A signal came between two waits; rclpy then has nothing to wait with.
            nodes[0].get_logger().error(one_line(error), throttle_duration_sec=1.0)


def _shut_down(nodes: Sequence[RapNode]) -> None:
    # A second SIGINT (process group and launcher both send one) must not interrupt the clean-up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for node in reversed(nodes):
        node.destroy_node()
    rclpy.try_shutdown()
