"""What TensorBoard shows of a run, beside the scalars that the model itself writes.

A dashboard opens the event files, writes what is known before training and what came out, and lends
the Trainer its callbacks. All is written by the first process. Nothing of it is in a checkpoint:
testing the best one, which restores the callbacks, could otherwise set it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.dashboards import hparams, layout
from cifar_lab.dashboards.budget import Budget
from cifar_lab.dashboards.graph import add_graph
from cifar_lab.dashboards.norm_curves import NormCurves
from cifar_lab.dashboards.pictures import Pictures
from cifar_lab.models.classifier import ImageClassifier


class Dashboard:
    """The TensorBoard files of one run.

    Args:
        logger: writes them.
        with_pictures: figures, images, precision-recall curves and the graph too.

    Attributes:
        logger: for the Trainer.
        callbacks: for the Trainer.
    """

    def __init__(self, logger: TensorBoardLogger, with_pictures: bool) -> None:
        self.logger = logger
        self._with_pictures = with_pictures
        self._budget = Budget()
        self.callbacks: list[Callback] = [NormCurves(logger, self._budget)]
        if with_pictures:
            self.callbacks.append(Pictures(logger, self._budget))

    @property
    def seconds(self) -> float:
        """Time that was spent on it so far."""
        return self._budget.seconds

    @rank_zero_only
    def write_start(
        self,
        model: ImageClassifier,
        settings: Mapping[str, Any],
        texts: Mapping[str, str],
        since: int | None = None,
    ) -> None:
        """Writes what is known before training.

        Args:
            model: on the CPU.
            settings: see ``hparams.summaries``.
            texts: title to Markdown.
            since: the step that a run goes on from, which has all this already: the texts are
                written once more, as they are from now on.
        """
        with self._budget.spending():
            declared, start, self._end = hparams.summaries(settings)
            if since is None:
                self._add_summaries(declared, start)
                self.logger.experiment.add_custom_scalars(layout.LAYOUT)
                if self._with_pictures and (reason := add_graph(self.logger.experiment, model)):
                    texts = {**texts, "graph": f"No graph: {reason}."}
            for title, content in texts.items():
                self.logger.experiment.add_text(f"run/{title}", content, since or 0)

    @rank_zero_only
    def write_end(self, accuracy: Mapping[str, Mapping[str, float]], step: int) -> None:
        """Writes the final accuracies, see ``hparams.final_metrics``, and closes the files."""
        with self._budget.spending():
            self.logger.log_metrics(hparams.final_metrics(accuracy), step)
            self._add_summaries(self._end)
            self.logger.finalize("success")

    def _add_summaries(self, *summaries: Any) -> None:
        writer = self.logger.experiment._get_file_writer()  # there is no public way for these
        for summary in summaries:
            writer.add_summary(summary)
