"""The report of a recorded drive as lines for the terminal."""

from __future__ import annotations

from typing import Any

SHOWN = 20
"""Lines of a list; all of it is in `report.json`."""


def as_text(report: dict[str, Any]) -> str:
    """Returns the content of `report.json` as people read it.

    Args:
        report: As `rap_bringup.drive_report.report` makes it.
    """
    lines = [
        _line("mode", report["mode"] or "no trajectory recorded"),
        _line("time, distance", f"{report['duration_s']:.1f} s, {report['driven_m']:.0f} m"),
    ]
    for name, found in report["states"].items():
        times = "once" if found["episodes"] == 1 else f"{found['episodes']} times"
        longest = f"longest {found['longest_s']:.1f} s"
        lines.append(_line(name, f"{100 * found['share']:.1f} % of the time, {times}, {longest}"))
    lines += [
        _line("cycle gap", _milliseconds(report["cycle_gap_ms"])),
        _line("latency", _milliseconds(report["latency_ms"])),
        _line("plan to driven path", _distances(report)),
    ]
    if report["farthest"]:
        worst = (f"{plan['ade_3s_m']:.1f} m at {plan['at_s']:.1f} s" for plan in report["farthest"])
        lines.append(_line("farthest", ", ".join(worst)))
    rejected = {name: share for name, share in report["rejected"].items() if share > 0.0}
    if rejected:
        shares = (f"{name} {100 * share:.1f} %" for name, share in rejected.items())
        lines.append(_line("candidates that fail", ", ".join(shares)))
    if report["not_finite"]:
        counts = (f"{count} of /{topic}" for topic, count in report["not_finite"].items())
        lines.append(_line("not finite, left out", ", ".join(counts)))
    lines += _listed("not nominal", [_episode(found) for found in report["episodes"]])
    lines += _listed("diagnostics", [_complaint(found) for found in report["diagnostics"]])
    return "".join(f"{line}\n" for line in lines)


def _line(name: str, value: str) -> str:
    return f"{name:20} {value}"


def _milliseconds(values: dict[str, float | None]) -> str:
    if values["max"] is None:
        return "not recorded"
    return f"median {values['p50']:.0f} ms, p99 {values['p99']:.0f} ms, max {values['max']:.0f} ms"


def _distances(report: dict[str, Any]) -> str:
    if not report["ade_plans"]:
        return "no plan has 3 s of odometry after it"
    return (
        f"{report['ade_3s_m']:.2f} m over 3 s ({report['ade_plans']} plans), "
        f"constant velocity {report['ade_3s_constant_velocity_m']:.2f} m"
    )


def _episode(found: dict[str, Any]) -> str:
    when = f"{found['begin_s']:8.1f} s for {found['seconds']:5.1f} s"
    return f"{when}  {found['state']}: {found['reason']}"


def _complaint(found: dict[str, Any]) -> str:
    times = "once" if found["count"] == 1 else f"{found['count']} times"
    return (
        f"{found['first_s']:8.1f} s  {found['level']}, {times}: {found['name']}: {found['message']}"
    )


def _listed(name: str, entries: list[str]) -> list[str]:
    more = len(entries) - SHOWN
    rest = [f"  and {more} more in report.json"] if more > 0 else []
    return [f"{name}:", *entries[:SHOWN], *rest] if entries else []
