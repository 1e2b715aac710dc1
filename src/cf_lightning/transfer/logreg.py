"""Multinomial logistic regression: the linear classifier that has one best solution."""

import warnings
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeAlias

import numpy as np
from pydantic import Field, field_validator

from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.progress import progress_bar
from cf_lightning.transfer.average_precision import map_of_those_present
from cf_lightning.transfer.base import Protocol, Score, load
from cf_lightning.transfer.splits import Split
from cf_lightning.transfer.tally import Tally

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression as Classifier
    from sklearn.multiclass import OneVsRestClassifier

    Fitted: TypeAlias = Classifier | OneVsRestClassifier

CHUNK = 1024  # samples loaded at once; changes no number


class LogisticRegression(Protocol):
    """Scikit-learn's L-BFGS on frozen features; the L2 strength is chosen on a share of train.

    Radford et al. 2021, appendix A.3: up to 1000 iterations and a logarithmic sweep that is judged on
    validation samples. It differs in two things: the sweep is a plain grid, and features are divided by their
    length, as for the support vector machines, so that one grid fits networks of any scale. Where samples
    have several labels, each class has a classifier of its own, and one C is chosen for all, by mAP.

    Attributes:
        cs: inverse L2 strengths that are tried, ascending; of equally good ones the smallest, the most
            regularised, wins.
        val_share: of train that C is chosen on, stratified by class where samples have one.
        seed: of that share.
        max_iter: iterations of a fit, at most.
    """

    NAME: ClassVar[str] = "logreg"
    VERSION: ClassVar[int] = 1

    cs: list[Annotated[float, Field(gt=0)]] = Field(
        default=[0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000], min_length=1
    )
    val_share: float = Field(default=0.2, gt=0, le=0.5)
    seed: int = Field(default=0, ge=0, lt=2**32)
    max_iter: int = Field(default=1000, ge=1)

    @field_validator("cs")
    @classmethod
    def _ascend(cls, cs: list[float]) -> list[float]:
        if cs != sorted(set(cs)):
            raise ValueError("values of C have to ascend")
        return cs

    def splits(self, index: Index, skipped: np.ndarray) -> tuple[Split, Split]:
        """As every protocol; refuses a train split of which no stratified share can be held out."""
        train, test = super().splits(index, skipped)
        if train.labels.ndim == 2:
            return train, test
        classes, counts = np.unique(train.labels, return_counts=True)
        key = f"transfer.logreg.protocol.val_share={self.val_share}: root={index.origin}"
        if counts.min() < 2:
            name = index.classes[classes[counts.argmin()]]
            raise ConfigError(
                f"{key} has 1 sample of class {name} in split train, and each class needs 2, so that "
                f"a share of them can be held out; add samples or leave the class out"
            )
        if np.ceil(self.val_share * len(train)) < len(classes):
            raise ConfigError(
                f"{key} has {len(train)} samples in split train, and that share of them is fewer than its "
                f"{len(classes)} classes; set a larger share, 0.5 at most, or add samples"
            )
        return train, test

    def evaluate(self, features: np.ndarray, train: Split, test: Split, device: str) -> list[Score]:
        """Choose C, fit, measure; scikit-learn's solver runs on the CPU.

        Raises:
            DataError: a feature is not finite.
        """
        from sklearn.model_selection import train_test_split

        several = train.labels.ndim == 2
        classes = None if several else train.labels
        shares = train_test_split(
            np.arange(len(train)), test_size=self.val_share, random_state=self.seed, stratify=classes
        )
        order, num_fit = np.concatenate(shares), len(shares[0])  # so that both shares are views: no copy
        seen, labels = _normalised(features, train.rows[order]), train.labels[order]
        values, unconverged = [], 0
        with progress_bar(len(self.cs) + 1, "fits") as progress:
            for c in self.cs:
                classifier, converged = self._fit(seen[:num_fit], labels[:num_fit], c)
                values.append(_value(classifier, seen[num_fit:], labels[num_fit:]))
                unconverged += not converged
                progress.update()
            best = int(np.argmax(values))
            classifier, converged = self._fit(seen, labels, self.cs[best])
            progress.update()
        details = self.model_dump() | {
            "C": self.cs[best],
            "C_at_end_of_cs": best in (0, len(self.cs) - 1),
            "tuned_on": f"{len(train) - num_fit} samples of train; then fitted on all {len(train)}",
            "val_map" if several else "val_top1": values,
            "val_unconverged": unconverged,
            "converged": converged,
        }
        return _tally(classifier, features, test).scores(details)

    def _fit(self, seen: np.ndarray, labels: np.ndarray, c: float) -> tuple["Fitted", bool]:
        """A classifier, and whether it converged: that is for the details, and no warning for the terminal.

        Each starts from zero: from the solution of the C before, L-BFGS is faster, but stops close to it.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression as Classifier
        from sklearn.multiclass import OneVsRestClassifier

        classifier: Fitted = Classifier(C=c, max_iter=self.max_iter)
        if labels.ndim == 2:
            classifier, labels = OneVsRestClassifier(classifier), labels == 1
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            classifier.fit(seen, labels)
        return classifier, not caught


def _normalised(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, D) float32: features divided by their length; zeros stay."""
    from sklearn.preprocessing import normalize

    values = np.empty((len(rows), features.shape[1]), np.float32)
    for start in range(0, len(rows), CHUNK):
        chunk = slice(start, start + CHUNK)
        values[chunk] = normalize(load(features, rows[chunk], "cpu").numpy())
    return values


def _value(classifier: "Fitted", seen: np.ndarray, labels: np.ndarray) -> float:
    """Top-1, or the mAP of several labels."""
    if labels.ndim == 1:
        return float(classifier.score(seen, labels))
    return map_of_those_present(classifier.decision_function(seen), labels)


def _tally(classifier: "Fitted", features: np.ndarray, test: Split) -> Tally:
    """The test samples' scores."""
    import torch

    if test.labels.ndim == 1:  # train may lack classes
        test = Split(test.rows, np.searchsorted(classifier.classes_, test.labels))
    tally = Tally(test, len(classifier.classes_))
    for start in range(0, len(test), CHUNK):
        scores = classifier.decision_function(_normalised(features, test.rows[start : start + CHUNK]))
        if scores.ndim == 1:  # of two classes
            scores = np.stack([-scores, scores], axis=1)
        tally.add(torch.from_numpy(scores))
    return tally
