"""The linear support vector machine of the published transfer protocols."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

MAX_ITER = 2000
WEIGHTS = {1: 2, -1: 1}  # positives weigh twice


def fit_linear_svm(
    samples: np.ndarray, truth: np.ndarray, c: float, class_weight: dict[int, int], seed: int
) -> tuple["LinearSVC", bool]:
    """A fitted machine, one-versus-rest where there are more than two classes, and whether it converged.

    The settings are those of VISSL's ``svm_trainer`` (after Goyal et al. 2019). What did not converge is for
    the details of a score, and no warning for the terminal.

    Args:
        samples: (n, D) float64, since the solver copies anything else.
        truth: (n,) int64 classes.
        c: the smaller, the more regularised.
        class_weight: of a class's samples in its loss.
        seed: of the solver.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    machine = LinearSVC(
        penalty="l2",
        loss="squared_hinge",
        dual=True,
        tol=1e-4,
        C=c,
        intercept_scaling=1,
        class_weight=class_weight,
        random_state=seed,
        max_iter=MAX_ITER,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        machine.fit(samples, truth)
    return machine, bool(machine.n_iter_ < MAX_ITER)
