"""Learning curves: losses and held-out recall as PNG and as TensorBoard events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .train import Step

if TYPE_CHECKING:  # half a second, which processes that only offer a training need not spend
    from matplotlib.figure import Figure

POINTS = 500  # per curve of losses; the steps between are averaged


class Curves:
    """Writes loss.png, recall.png and events into ``folder``. ``history`` (JSON) holds all points; kept
    in the checkpoint, it gives curves without gaps after a restart."""

    def __init__(self, folder: Path, history: dict[str, Any], steps: int, number: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.every = folder, max(1, steps // POINTS)
        self.losses: dict[str, list[list[float]]] = history.setdefault("losses", {})
        self.recall: list[list[float]] = history.setdefault("recall", [])
        self.open: dict[str, list[float]] = history.setdefault("open", {})
        self.events = SummaryWriter(str(folder), purge_step=number + 1)

    def add_step(self, step: Step) -> None:
        for name, loss in step.losses.items():
            self.open.setdefault(name, []).append(loss)
        if (step.number + 1) % self.every:
            return
        for name, found in self.open.items():
            mean = sum(found) / len(found)
            self.losses.setdefault(name, []).append([step.number + 1, mean])
            self.events.add_scalar(f"loss/{name}", mean, step.number + 1)
        self.events.add_scalar("learning_rate", step.learning_rate, step.number + 1)
        self.open.clear()

    def add_recall(self, epoch: int, summary: Mapping[str, Any]) -> None:
        """``summary`` is that of ``abnormal_recall``; nothing is drawn where there were too few queries."""
        if summary["recall"] is None:
            return
        self.recall.append([epoch + 1, summary["recall"], *summary["interval_95"], summary["random"]])
        for name in ("recall", "random"):
            self.events.add_scalar(f"held_out/{name}", summary[name], epoch + 1)

    def write(self) -> None:
        """Raises OSError."""
        from matplotlib.figure import Figure

        self.events.flush()
        losses = Figure(figsize=(8, 4.5), layout="constrained")
        axes = losses.subplots()
        for name, points in sorted(self.losses.items()):
            axes.plot(*zip(*points, strict=True), label=name.replace("_", " "), linewidth=1)
        axes.set(xlabel="step", ylabel="loss, unweighted", yscale="log", title="Losses on the batches trained on")
        _finished(losses, self.folder / "loss.png", legend=bool(self.losses))
        recall = Figure(figsize=(8, 4.5), layout="constrained")
        axes = recall.subplots()
        if self.recall:
            columns: Sequence[Sequence[float]] = list(zip(*self.recall, strict=True))
            epochs, found, low, high, chance = columns
            axes.plot(epochs, found, marker="o", markersize=3, label="recall at 5")
            axes.fill_between(epochs, low, high, alpha=0.2, label="95 % interval")
            axes.plot(epochs, chance, linestyle="--", color="grey", label="random order")
        else:
            said = "not measured: no whole epoch, or too few held-out patients with an abnormal region"
            axes.text(0.5, 0.5, said, ha="center", transform=axes.transAxes)
        axes.set(xlabel="epoch", ylim=(0, 1), title="Held-out patients, queries whose region is abnormal")
        _finished(recall, self.folder / "recall.png", legend=bool(self.recall))

    def close(self) -> None:
        self.events.close()


def _finished(figure: Figure, path: Path, *, legend: bool) -> None:
    axes = figure.axes[0]
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if legend:
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
