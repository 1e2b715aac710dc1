from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cf_lightning.clustering import quality
from cf_lightning.clustering.quality import Known, Members
from cf_lightning.clustering.sheets import PLACES, Line, Sheets
from cf_lightning.data.index import Index

Names = list[list[str]]


def index_of(tags: Names, labels: Names | None = None) -> Index:
    count = len(tags)
    empty: dict[str, list[Any]] = {name: [None] * count for name in ("size", "crc", "shard", "offset")}
    columns = {"key": [f"{row}.jpg" for row in range(count)], "split": ["train"] * count}
    return Index(pa.table({**columns, "labels": labels or [[]] * count, "tags": tags, **empty}), "here")


def known_of(tags: Names) -> Known:
    known = Known.of(index_of(tags), "tags", np.arange(len(tags)))
    assert known is not None
    return known


LABELS = np.array([2, 0, 0, -1, 2, 2, 0])
SQUARED = np.array([4, 9, 1, np.nan, 16, 0, 4], np.float32)


def test_members_come_by_cluster_and_then_by_distance() -> None:
    members = Members.of(LABELS, SQUARED, np.arange(7), 4)
    assert members.sizes.tolist() == [3, 0, 3, 0]
    assert [members.cluster(number).tolist() for number in range(4)] == [[2, 6, 1], [], [5, 0, 4], []]
    assert members.inertia().tolist() == [14, 0, 20, 0]
    assert np.array_equal(members.radius(0.5), [2, np.nan, 2, np.nan], equal_nan=True)
    assert np.array_equal(members.radius(1.0), [3, np.nan, 4, np.nan], equal_nan=True)
    assert members.radius(0.01)[0] == 1
    assert Members.of(LABELS, SQUARED, np.array([1, 3, 4]), 4).rows.tolist() == [1, 4]


def test_sizes_that_are_equal_and_sizes_that_are_not() -> None:
    even = quality.size_facts(np.full(8, 5))
    assert (even["imbalance"], even["entropy"], even["largest_share"]) == pytest.approx((1, 1, 1 / 8))
    uneven = quality.size_facts(np.array([6, 1, 1, 0]))
    assert uneven["imbalance"] == pytest.approx(4 * (36 + 1 + 1) / 64)
    assert uneven["entropy"] == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.125)) / np.log(4))
    assert (uneven["empty"], uneven["singletons"], uneven["largest"], uneven["mean"]) == (1, 2, 6, 2)
    assert quality.size_facts(np.array([3]))["entropy"] == 1


def test_spread_and_held_out_rows() -> None:
    labels, squared = np.array([0, 0, 1, 1, 1]), np.array([1, 1, 4, 2, 8], np.float32)
    train = Members.of(labels, squared, np.arange(4), 2)
    assert quality.spread(train) == {
        "rows": 4,
        "inertia": pytest.approx(8),
        "mean_squared_distance": pytest.approx(2),
        "mean_distance": pytest.approx((1 + 1 + 2 + 2**0.5) / 4),
    }
    val = quality.held_out(Members.of(labels, squared, np.array([4]), 2), train)
    assert val["distance_ratio"] == pytest.approx(4)
    assert (val["clusters_used"], val["clusters_expected"]) == (0.5, 0.5)


def test_expected_clusters_are_those_that_random_rows_use() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(20, 5000, p=np.arange(1, 21) / 210)
    squared = np.ones(5000, np.float32)
    train = Members.of(labels, squared, np.arange(5000), 20)
    draws = [Members.of(labels, squared, rng.integers(5000, size=15), 20) for _ in range(300)]
    used = np.mean([quality.held_out(draw, train)["clusters_used"] for draw in draws])
    assert quality.held_out(draws[0], train)["clusters_expected"] == pytest.approx(used, abs=0.01)


def test_of_centroids_without_spread_there_is_no_ratio() -> None:
    members = Members.of(np.array([0, 1]), np.zeros(2, np.float32), np.arange(2), 2)
    assert quality.held_out(members, members)["distance_ratio"] is None


def test_nearest_centroids_are_those_of_brute_force_and_never_themselves() -> None:
    centroids = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    centroids[7] = centroids[3] = centroids[20]
    other, distance = quality.nearest_centroids(centroids)
    squared = ((centroids[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    assert not (other == np.arange(40)).any()
    assert distance == pytest.approx(np.sqrt(squared.min(axis=1)), abs=1e-5)
    assert squared[np.arange(40), other] == pytest.approx(squared.min(axis=1))
    assert quality.nearest_centroids(centroids[:1])[0].tolist() == [-1]


def test_a_name_counts_once_for_each_image_and_only_where_it_is_asked_for() -> None:
    known = Known.of(index_of([["b", "a", "b"], [], ["a"], ["c"]]), "tags", np.array([0, 1, 2]))
    assert known is not None
    assert known.names.tolist() == ["a", "b"]
    assert list(zip(known.rows.tolist(), known.codes.tolist(), strict=True)) == [(0, 0), (0, 1), (2, 0)]
    assert Known.of(index_of([[], []]), "tags", np.arange(2)) is None


def test_clusters_that_are_the_classes_and_clusters_that_say_nothing() -> None:
    known = known_of([["cat"]] * 10 + [["dog"]] * 10)
    perfect = quality.agreement(known, np.repeat([1, 0], 10), 2)
    assert (perfect["nmi"], perfect["ami"], perfect["purity"]) == pytest.approx((1, 1, 1))
    assert (perfect["purity_of_one"], perfect["images"], perfect["pairs"]) == (0.5, 20, 20)
    useless = quality.agreement(known, np.tile([0, 1], 10), 2)
    assert useless["nmi"] == pytest.approx(0)
    assert useless["purity"] == 0.5
    every_row_its_own = quality.agreement(known, np.arange(20), 20)
    assert every_row_its_own["purity"] == 1
    assert every_row_its_own["ami"] == pytest.approx(0, abs=1e-6)


def test_an_image_with_two_tags_is_two_pairs() -> None:
    found = quality.agreement(known_of([["a", "b"], ["a"], ["b"], []]), np.array([0, 0, 1, 1]), 2)
    assert (found["names"], found["images"], found["pairs"]) == (2, 3, 4)
    assert found["purity"] == 0.75


def test_chance_is_left_out_where_it_would_take_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "AMI_TERMS", 1)
    found = quality.agreement(known_of([["a"], ["b"]]), np.array([0, 1]), 2)
    assert found["ami"] is None
    assert found["nmi"] == pytest.approx(1)


def test_themes_are_frequent_here_rare_elsewhere_and_on_several_images() -> None:
    here = [["sea", "gull", "all"]] * 4 + [["sea", "all"]] * 14 + [["sea", "all", "typo"], ["all"]]
    there = [["snow", "all"]] * 39 + [["sea", "all"]]
    labels, sizes = np.repeat([0, 2], [20, 40]), np.array([20, 0, 40])
    known = known_of(here + there)
    first, empty, last = quality.themes(known, labels, sizes, 3).to_pylist()
    assert first == [
        {"name": "sea", "count": 19, "lift": pytest.approx((19 / 20) / (20 / 60))},
        {"name": "gull", "count": 4, "lift": pytest.approx(3)},
    ]
    assert (empty, last) == ([], [])
    assert [len(themes) for themes in quality.themes(known, labels, sizes, 1).to_pylist()] == [1, 0, 0]


def test_majority_and_purity_of_each_cluster() -> None:
    known = known_of([["a"], ["a"], ["b"], [], ["b"]])
    names, purity = quality.majority(known, np.array([0, 0, 0, 1, 2]), 3)
    assert names.to_pylist() == ["a", None, "b"]
    assert np.array_equal(purity, [2 / 3, np.nan, 1], equal_nan=True)


def test_the_largest_the_smallest_and_some_others_are_shown() -> None:
    sizes = np.random.default_rng(0).permutation(np.arange(60))
    chosen = Sheets(clusters=9).choose(sizes, seed=0)
    shown = sizes[list(chosen)]
    assert shown[:3].tolist() == [59, 58, 57]
    assert shown[-3:].tolist() == [3, 2, 1], "an empty cluster has nothing to show"
    assert (np.diff(shown) < 0).all()
    assert list(chosen.values()) == ["largest"] * 3 + ["random"] * 3 + ["smallest"] * 3
    assert Sheets(clusters=9).choose(sizes, seed=0) == chosen
    assert Sheets(clusters=9).choose(sizes, seed=1) != chosen
    assert sorted(Sheets(clusters=100).choose(sizes, seed=0)) == np.flatnonzero(sizes).tolist()
    assert len(Sheets(clusters=1).choose(sizes, seed=0)) == 1


@pytest.mark.parametrize("size", [1, 3, 4, 7, 100])
def test_no_image_is_shown_twice_and_places_are_what_they_say(size: int) -> None:
    distances = np.random.default_rng(0).permutation(size).astype(np.float32)
    members = Members.of(np.zeros(size, np.int64), distances, np.arange(size), 1)
    rows = Sheets(columns=3).rows(members, 0, seed=0)
    every = np.concatenate(list(rows.values()))
    assert tuple(rows) == PLACES
    assert len(np.unique(every)) == len(every) == min(size, 9)
    assert distances[rows["nearest"]].tolist() == list(range(min(size, 3)))
    farthest = distances[rows["farthest"]].tolist()
    assert farthest == list(range(size - 1, max(2, size - 4), -1))


def test_a_sheet_has_a_line_for_each_cluster_and_its_images_in_their_places() -> None:
    from PIL import Image

    sheets = Sheets(columns=2, tile=16)
    colours = {"nearest": (250, 0, 0), "random": (0, 250, 0), "farthest": (0, 0, 250)}
    pictures = {
        place: sheets.montage([Image.new("RGB", (16, 16), colour)]) for place, colour in colours.items()
    }
    line = Line(7, "largest", 12, ["мост", "pont"], pictures)
    one, three = sheets.sheet([line]), sheets.sheet([line] * 3)
    assert three.width == one.width
    assert three.height > one.height
    found = {colour: count for count, colour in three.getcolors(2**20)}
    assert [found[colour] for colour in colours.values()] == [3 * 16 * 16] * 3
    lines = [three.crop((0, top, three.width, top + 3)).getcolors(2**16) for top in range(0, three.height, 3)]
    assert any(len(line) > 1 for line in lines)
