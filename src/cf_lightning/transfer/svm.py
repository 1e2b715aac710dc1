"""Linear support vector machines, one for each class, as published for VOC07."""

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.progress import Bar, progress_bar
from cf_lightning.transfer.average_precision import mean_average_precision
from cf_lightning.transfer.base import Protocol, Score, load
from cf_lightning.transfer.linear_svm import WEIGHTS, fit_linear_svm
from cf_lightning.transfer.splits import Split, class_splits

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

CHUNK = 1024  # samples normalised at once; changes no number


class SVM(Protocol):
    """Mean average precision of one linear SVM per class on features of length 1.

    Goyal et al. 2019, section 6.1, with the settings of VISSL's ``svm_trainer``: squared hinge loss,
    positives weighing twice, C chosen for each class by cross-validation on average precision, then a machine
    of all training samples. In training, what is not labelled 1 is negative, the difficult among it; in the
    test, difficult samples are left out. It differs in one thing: folds are shuffled.

    The machines are fitted one after the other, since liblinear draws from one generator for all threads.

    Attributes:
        cs: values of C that are tried, the smaller the more regularised; of equal ones the first wins.
        folds: of the cross-validation, stratified by class.
        seed: of the folds and the solver.
    """

    NAME: ClassVar[str] = "svm"
    VERSION: ClassVar[int] = 1

    cs: list[Annotated[float, Field(gt=0)]] = Field(
        default=[0.01, 0.1, 1, 2, 5, 10, 15, 20, 50, 100, 1000], min_length=1
    )
    folds: int = Field(default=3, ge=2)
    seed: int = Field(default=0, ge=0, lt=2**32)

    def splits(self, index: Index, skipped: np.ndarray) -> tuple[Split, Split]:
        """One or several labels a sample; refuses a class with too few samples for the folds."""
        train, test = class_splits(index, skipped)
        positives = (train.labels == 1).sum(axis=0)
        for which, counts in {"with": positives, "without": len(train) - positives}.items():
            rarest = int(counts.argmin())
            if counts[rarest] < self.folds:
                raise ConfigError(
                    f"transfer.svm.protocol.folds={self.folds}: root={index.origin} has {counts[rarest]} "
                    f"samples {which} class {index.classes[rarest]} in split train, and each of two or more "
                    f"folds needs one; set fewer folds, add samples or leave the class out"
                )
        return train, test

    def evaluate(self, features: np.ndarray, train: Split, test: Split, device: str) -> list[Score]:
        """Choose C, fit, measure; scikit-learn's solver runs on the CPU.

        Raises:
            DataError: a feature is not finite.
        """
        seen = np.empty((len(train), features.shape[1]))  # float64, since the solver copies anything else
        for start in range(0, len(train), CHUNK):
            chunk = slice(start, start + CHUNK)
            seen[chunk] = _normalised(features, train.rows[chunk])
        num_classes = train.labels.shape[1]
        weights, biases = np.empty((seen.shape[1], num_classes)), np.empty(num_classes)
        chosen, unconverged = [], 0
        with progress_bar(num_classes * (self.folds * len(self.cs) + 1), "fits") as progress:
            for label in range(num_classes):
                progress.set_postfix_str(f"class {label + 1}/{num_classes}", refresh=False)
                truth = np.where(train.labels[:, label] == 1, 1, -1)
                machine, stopped = self._machine(seen, truth, progress)
                weights[:, label], biases[label] = machine.coef_[0], machine.intercept_[0]
                chosen.append(machine.C)
                unconverged += stopped
        scores = [
            _normalised(features, test.rows[start : start + CHUNK]) @ weights + biases
            for start in range(0, len(test), CHUNK)
        ]
        details = self.model_dump() | {"C": chosen, "unconverged": unconverged}
        return [mean_average_precision(np.concatenate(scores), test.labels, details)]

    def _machine(self, seen: np.ndarray, truth: np.ndarray, progress: Bar) -> tuple["LinearSVC", int]:
        """The machine of one class with the best C, and how many of all its fits did not converge.

        Args:
            seen: (n, D) float64, the training samples.
            truth: (n,) int64: 1 or -1.
            progress: advances by a fit.
        """
        from sklearn.metrics import average_precision_score
        from sklearn.model_selection import StratifiedKFold

        precisions, unconverged = np.zeros(len(self.cs)), 0
        folds = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        for learnt, held in folds.split(truth, truth):
            samples, held_out = seen[learnt], seen[held]
            for position, c in enumerate(self.cs):
                machine, converged = fit_linear_svm(samples, truth[learnt], c, WEIGHTS, self.seed)
                precisions[position] += average_precision_score(
                    truth[held], machine.decision_function(held_out)
                )
                unconverged += not converged
                progress.update()
        best = self.cs[int(precisions.argmax())]
        machine, converged = fit_linear_svm(seen, truth, best, WEIGHTS, self.seed)
        progress.update()
        return machine, unconverged + (not converged)


def _normalised(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, D) float64: features divided by their length, or by a little more where it is near 0."""
    values = load(features, rows, "cpu").numpy().astype(np.float64)
    return np.asarray(values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-5))
