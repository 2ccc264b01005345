"""Draws the results; runs in an environment of its own, which has matplotlib, and imports nothing
of this tree.

    python plot.py RESULTS PNG
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found] # in an environment of its own

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the choice of a backend without a screen

PANELS = (
    ("drain", "jobs_per_second", "jobs/s, target answers after {ms:g} ms"),
    ("drain", "cpu_ms", "CPU per job, ms"),
    ("drain-fast-target", "jobs_per_second", "jobs/s, target answers at once"),
)
OURS, OTHERS, LOST = "#1f6f8b", "#b8bec4", "#c0392b"


def main() -> None:
    """Three panels of bars with least and most, one of jobs lost and doubled."""
    results = json.loads(Path(sys.argv[1]).read_text())
    participants = results["participants"]
    figure, axes = plt.subplots(2, 2, figsize=(11, 6.5), layout="constrained")
    for axis, (scenario, name, title) in zip(axes.flat, PANELS, strict=False):
        bars(axis, results, scenario, name)
        axis.set_title(title.format(ms=results["sizes"]["latency_seconds"] * 1000), fontsize=10)
    wrong(axes.flat[3], results)
    quick = ", quick run" if results["quick"] else ""
    what = f"{len(participants)} participants, commit {results['commit'][:12]}"
    figure.suptitle(f"{what}, {results['when']}{quick}", fontsize=9)
    figure.savefig(sys.argv[2], dpi=110)


def bars(axis: Any, results: dict[str, Any], scenario: str, name: str) -> None:  # noqa: ANN401 - matplotlib is not known here
    """A bar for each participant: the median, with a line from least to most."""
    labels, medians, low, high, colours = [], [], [], [], []
    for key, each in results["participants"].items():
        figures = [
            entry[name]
            for entry in results["scenarios"].get(scenario, {}).get(key, ())
            if name in entry
        ]
        if not figures:
            continue
        middle = statistics.median(figures)
        labels.append(each["label"])
        medians.append(middle)
        low.append(middle - min(figures))
        high.append(max(figures) - middle)
        colours.append(OURS if key.startswith("daemon") else OTHERS)
    if not labels:
        axis.text(0.5, 0.5, "not measured in this run", ha="center", fontsize=9)
        axis.axis("off")
        return
    axis.barh(labels, medians, xerr=[low, high], color=colours, capsize=3)
    axis.bar_label(axis.containers[-1], fmt="%.1f", padding=6, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.18)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def wrong(axis: Any, results: dict[str, Any]) -> None:  # noqa: ANN401 - matplotlib is not known here
    """Jobs lost, and runs too many, over all scenarios."""
    labels, lost, doubled = [], [], []
    for key, each in results["participants"].items():
        accounts = [
            entry["account"]
            for scenario, rounds in results["scenarios"].items()
            if not scenario.startswith("real-")
            for entry in rounds.get(key, ())
            if "account" in entry
        ]
        labels.append(each["label"])
        lost.append(sum(account["lost"] for account in accounts))
        doubled.append(sum(account["doubled"] + account["strange"] for account in accounts))
    axis.barh(labels, lost, color=LOST, label="lost")
    axis.barh(labels, doubled, left=lost, color="#e0a030", label="doubled")
    axis.set_title("jobs lost and runs doubled, all scenarios", fontsize=10)
    axis.bar_label(axis.containers[-1], padding=4, fontsize=8)  # of both
    axis.set_xlim(
        left=0, right=max(1, *(sum(both) * 1.15 for both in zip(lost, doubled, strict=True)))
    )
    axis.legend(fontsize=8, loc="lower right")
    axis.invert_yaxis()
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
