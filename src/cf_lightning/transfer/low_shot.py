"""Low-shot classification: what the features say with a few images of each class."""

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from cf_lightning.config import each_once
from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.progress import progress_bar
from cf_lightning.transfer.average_precision import mean_average_precision
from cf_lightning.transfer.base import Protocol, Score, load
from cf_lightning.transfer.bootstrap import drawn_means
from cf_lightning.transfer.linear_svm import WEIGHTS, fit_linear_svm
from cf_lightning.transfer.splits import Split, shuffled_by_class

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

CHUNK = 1024  # test samples loaded at once; changes no number


class LowShot(Protocol):
    """Top-1 of linear SVMs, one-versus-rest, on n images of each class: the mean over several draws.

    Goyal et al. 2019, section 6.2, with the settings of VISSL's ``svm_low_shot_trainer``: features of length
    1, squared hinge loss, positives weighing twice (of two classes there is one machine, for which both do).
    It differs in two things: of samples with one label top-1 takes the place of mAP, and C is fixed.
    Theirs is the best on the test split; of one image of a class none is left to choose it on.

    Where samples have several labels, each class has a machine, n images without it are drawn, too, and
    what is drawn for one class the others see with all of its labels.

    A draw's images of a smaller n are among those of a larger one. The interval is Student's t over draws:
    how much is the luck of which images are labelled, on these test samples.

    Attributes:
        shots: n, the images of each class; one score for each.
        draws: how often these are drawn.
        c: the smaller, the more regularised; 1 is liblinear's.
        seed: of the draws and the solver.
    """

    NAME: ClassVar[str] = "low_shot"
    VERSION: ClassVar[int] = 1

    shots: Annotated[list[Annotated[int, Field(ge=1)]], each_once("a number of images")] = Field(
        default=[1, 2, 4, 8, 16], min_length=1
    )
    draws: int = Field(default=5, ge=2)
    c: float = Field(default=1.0, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**32)

    def splits(self, index: Index, skipped: np.ndarray) -> tuple[Split, Split]:
        """As every protocol; refuses a class with fewer images than the largest n."""
        train, test = super().splits(index, skipped)
        if train.labels.ndim == 2:
            classes, counts = np.arange(len(index.classes)), (train.labels == 1).sum(axis=0)
        else:
            classes, counts = np.unique(train.labels, return_counts=True)
        rarest, most = int(counts.argmin()), max(self.shots)
        if counts[rarest] < most:
            raise ConfigError(
                f"transfer.low_shot.protocol.shots={self.shots}: root={index.origin} has {counts[rarest]} "
                f"samples of class {index.classes[classes[rarest]]} in split train, and {most} are drawn; "
                f"set {counts[rarest]} at most, add samples or leave the class out"
            )
        return train, test

    def evaluate(self, features: np.ndarray, train: Split, test: Split, device: str) -> list[Score]:
        """Draw, fit, measure, for each n; scikit-learn's solver runs on the CPU.

        Raises:
            DataError: a feature is not finite.
        """
        scores = []
        with progress_bar(len(self.shots) * self.draws, "fits") as progress:
            for n in self.shots:
                fitted = []
                for draw in range(self.draws):
                    drawn = _drawn(train.labels, n, (self.seed, draw))
                    seen = _normalised(features, train.rows[drawn])
                    fitted.append(self._fit(seen, train.labels[drawn]))
                    progress.update()
                scores.append(self._score(n, fitted, features, test))
        return scores

    def _fit(self, seen: np.ndarray, labels: np.ndarray) -> "list[tuple[LinearSVC, bool]]":
        """One machine of all classes, or one for each where samples have several; whether it converged."""
        if labels.ndim == 1:
            weights = dict.fromkeys(np.unique(labels).tolist(), 2)  # of positives; the rest weighs 1
            return [fit_linear_svm(seen, labels, self.c, weights, self.seed)]
        truths = np.where(labels.T == 1, 1, -1)
        return [fit_linear_svm(seen, truth, self.c, WEIGHTS, self.seed) for truth in truths]

    def _score(
        self, n: int, fitted: "list[list[tuple[LinearSVC, bool]]]", features: np.ndarray, test: Split
    ) -> Score:
        """Top-1 or mAP of each draw, their mean and its interval."""
        from scipy.stats import t

        found = _predicted([[machine for machine, _ in draw] for draw in fitted], features, test)
        if test.labels.ndim == 1:
            metric, values, draws = (
                "top1",
                found.mean(axis=0),
                drawn_means(found.mean(axis=1, keepdims=True))[0],
            )
        else:
            each = [mean_average_precision(scores, test.labels, {}) for scores in found.swapaxes(0, 1)]
            metric, values = "map", np.array([score.value for score in each])
            draws = np.mean([score.draws for score in each], axis=0)
        mean, deviation = float(values.mean()), float(values.std(ddof=1))
        half = float(t.ppf(0.975, self.draws - 1)) * deviation / self.draws**0.5
        details = self.model_dump() | {
            metric: values.tolist(),
            "std": deviation,
            "interval": f"Student's t over {self.draws} draws of training images",
            "unconverged": sum(not all(converged for _, converged in draw) for draw in fitted),
        }
        ends = max(mean - half, 0.0), min(mean + half, 1.0)
        return Score(f"{metric}_n{n}", mean, *ends, len(test), draws, details)


def _predicted(fitted: "list[list[LinearSVC]]", features: np.ndarray, test: Split) -> np.ndarray:
    """(n, draws) bool hits, or (n, draws, C) float64 scores where samples have several labels."""
    kept = []
    for start in range(0, len(test), CHUNK):
        chunk = slice(start, start + CHUNK)
        seen, truth = _normalised(features, test.rows[chunk]), test.labels[chunk]
        if truth.ndim == 1:
            kept.append(np.stack([machine.predict(seen) == truth for (machine,) in fitted], axis=1))
        else:
            scores = [[machine.decision_function(seen) for machine in draw] for draw in fitted]
            kept.append(np.moveaxis(np.array(scores), 2, 0))
    return np.concatenate(kept)


def _drawn(labels: np.ndarray, n: int, seed: tuple[int, int]) -> np.ndarray:
    """(m,) int64: the positions of n samples of each class.

    Where samples have several, one counts for each of them, and n without a class are drawn, too. A draw of
    a smaller n is part of a larger one's.
    """
    if labels.ndim == 1:
        order, places = shuffled_by_class(labels, seed)
        return order[places < n]
    order = np.random.default_rng(seed).permutation(len(labels))
    ranked = labels[order] == 1
    first = np.where(ranked, ranked.cumsum(axis=0), (~ranked).cumsum(axis=0)) <= n
    return np.asarray(order[first.any(axis=1)])


def _normalised(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, D) float64, which the solver computes in: features divided by their length; zeros stay."""
    from sklearn.preprocessing import normalize

    return np.asarray(normalize(load(features, rows, "cpu").numpy().astype(np.float64)))
