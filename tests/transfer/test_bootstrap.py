import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from cf_lightning.transfer.bootstrap import DRAWS, drawn_means, paired, percentiles, resampled


def test_a_draw_has_as_many_samples_and_is_the_same_for_all() -> None:
    counts = np.concatenate([*resampled(50)], axis=1)
    assert counts.shape == (50, DRAWS)
    assert (counts.sum(axis=0) == 50).all()
    assert np.array_equal(counts, np.concatenate([*resampled(50)], axis=1))
    values = np.random.default_rng(1).normal(size=(50, 2))
    assert np.allclose(drawn_means(values)[1], counts.T @ values[:, 1] / 50)


def test_the_interval_of_a_mean_is_scipys() -> None:
    values = np.random.default_rng(0).normal(size=400)
    expected = bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    assert percentiles(drawn_means(values[:, None])[0]) == pytest.approx((*expected,), abs=0.01)


def test_a_difference_that_all_samples_share_is_certain_though_both_vary() -> None:
    values = np.random.default_rng(0).normal(size=(100, 1))
    before, after = drawn_means(values)[0], drawn_means(values + 0.01)[0]
    found = paired(before, after)
    assert found["ci_low"] == pytest.approx(0.01)
    assert found["ci_high"] == pytest.approx(0.01)
    assert found["p"] == 1 / DRAWS
    assert paired(before, before) == {"ci_low": 0.0, "ci_high": 0.0, "p": 1.0}


def test_p_is_that_of_a_z_test() -> None:
    draw = np.random.default_rng(3)
    before, after = draw.random(2000) < 0.5, draw.random(2000) < 0.53
    first, second = drawn_means(np.stack([before, after], axis=1))
    difference = after.astype(float) - before
    mean, error = difference.mean(), difference.std() / 2000**0.5
    found = paired(first, second)
    assert found["p"] == pytest.approx(2 * norm.sf(abs(mean / error)), abs=0.03)
    assert found["ci_low"] == pytest.approx(mean - 1.96 * error, abs=0.003)
