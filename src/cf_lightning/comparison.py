"""Contestants against the teacher, on the same test samples."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cf_lightning.results import Result, panel_of
from cf_lightning.transfer.bootstrap import paired


def against_teacher(results: Sequence[Result], draws: Sequence[np.ndarray]) -> list[Result]:
    """The results with ``details["minus_teacher"]``, where the teacher was measured on the same.

    It has the difference's 95 % interval ``ci_low`` and ``ci_high`` and its two-sided ``p``, from a paired
    bootstrap over the test samples (``transfer.bootstrap.paired``).

    Args:
        results: of one run.
        draws: of each result, (DRAWS,) float64: its value on resampled test samples.
    """
    teachers = {
        panel_of(result): (result, drawn)
        for result, drawn in zip(results, draws, strict=True)
        if result.contestant == "teacher"
    }
    compared = []
    for result, drawn in zip(results, draws, strict=True):
        teacher, before = teachers.get(panel_of(result), (result, drawn))
        if teacher is not result and teacher.n_test == result.n_test:
            details = {**result.details, "minus_teacher": paired(before, drawn)}
            result = replace(result, details=details)
        compared.append(result)
    return compared
