"""Averages and intervals against definitions written out in NumPy."""

import numpy as np
import pytest

from jaxground.evaluation import quantities
from jaxground.evaluation.summary import resamples, summarise
from jaxground.evaluation.tables import best, numbers, table


def record(key, categories, hits, difficult=None):
    return {
        "key": key,
        "categories": categories,
        "difficult": difficult or [False] * len(hits),
        "values": {"m": {"hit": hits}},
    }


RECORDS = [
    record("a", ["cat", "dog"], [1.0, 0.0], [False, True]),
    record("b", ["cat"], [1.0]),
    record("c", ["cat"], [0.0], [True]),
    record("d", ["dog"], [None]),
]
NAMES = ("cat", "dog", "emu")


def scores(records, *metrics):
    return summarise(records, ["m"], metrics, NAMES)["m"]


def test_averages_by_hand():
    found = scores(RECORDS, *(n for n, m in quantities.METRICS.items() if m.quantity == "hit"))
    values = {name: (round(score["value"], 3), score["n"]) for name, score in found.items()}
    assert values == {
        "pointing_game": (33.333, 4),  # cats 2/3, dogs 0/1
        "pointing_game_micro": (50.0, 4),
        "pointing_game_difficult": (0.0, 2),
        "pointing_game_difficult_micro": (0.0, 2),
    }


def test_the_order_of_records_does_not_matter():
    assert scores(RECORDS, "pointing_game") == scores(RECORDS[::-1], "pointing_game")


def test_nothing_to_average():
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    assert scores([], "pointing_game")["pointing_game"] == nothing
    assert scores([RECORDS[3]], "pointing_game")["pointing_game"] == nothing


def test_the_interval_is_the_percentile_bootstrap_over_images():
    rng = np.random.default_rng(0)
    records = []
    for i in range(40):  # hits of one image agree: pairs are not independent
        hit, count = float(rng.random() < 0.6), rng.integers(1, 4)
        records.append(record(f"{i:02}", list(NAMES[:count]), [hit] * count))
    found = scores(records, "pointing_game", "pointing_game_micro")
    drawn = resamples(len(records))
    means, micro = [], []
    for counts in drawn:
        hits = {name: [] for name in NAMES}
        for times, each in zip(counts, records, strict=True):
            for name, hit in zip(each["categories"], each["values"]["m"]["hit"], strict=True):
                hits[name] += [hit] * int(times)
        means.append(100 * np.mean([np.mean(h) for h in hits.values() if h]))
        micro.append(100 * np.mean(np.concatenate(list(hits.values()))))
    for name, values in [("pointing_game", means), ("pointing_game_micro", micro)]:
        low, high = np.quantile(values, [0.025, 0.975])
        assert found[name]["low"] == pytest.approx(low)
        assert found[name]["high"] == pytest.approx(high)
        assert low < found[name]["value"] < high


def test_resamples_are_draws_with_replacement():
    drawn = resamples(50).astype(int)
    assert drawn.shape == (2000, 50) and (drawn.sum(1) == 50).all()
    assert drawn.mean(0) == pytest.approx(1, abs=0.15)
    assert drawn.var() == pytest.approx(1 - 1 / 50, abs=0.05)  # of a binomial
    assert (resamples(50) == drawn).all()


def test_chunks_do_not_change_their_shape(monkeypatch):
    monkeypatch.setattr("jaxground.evaluation.summary.CHUNK", 70)
    drawn = resamples(30, 7)
    assert drawn.shape == (7, 30) and (drawn.sum(1) == 30).all()
    assert len(np.unique(drawn, axis=0)) == 7


def test_infinite_values_are_counted_and_do_not_win():
    def found(values):
        records = [
            {
                "key": str(i),
                "categories": ["cat"],
                "difficult": [False],
                "values": {"m": {"max_sensitivity": [value]}},
            }
            for i, value in enumerate(values)
        ]
        return scores(records, "max_sensitivity")["max_sensitivity"]

    mixed, none, plain = found([0.25, "infinite", 0.75]), found(["infinite"]), found([0.9])
    assert mixed["value"] == 0.5 and mixed["n"] == 2 and mixed["infinite"] == 1
    assert none == {"value": None, "low": None, "high": None, "n": 0, "infinite": 1}
    assert set(plain) == {"value", "low", "high", "n"}
    table = {name: {"max_sensitivity": score} for name, score in
             [("mixed", mixed), ("none", none), ("plain", plain)]}  # fmt: skip
    assert best("max_sensitivity", table) == 0.9
    assert numbers("max_sensitivity", mixed)[1].endswith("1 infinite")
    assert numbers("max_sensitivity", none) == ("-", "1 infinite")


def test_the_footer_names_network_and_data_and_doubts_few_images():
    data = {"name": "pets", "images": 9, "evaluated": 9, "pairs": 12, "without_target": 0}
    results = {
        "scores": {"cam": {"entropy": {"value": 1.0, "low": 0.5, "high": 2.0, "n": 12}}},
        "data": data | {"broken": {"count": 0, "images": {}}},
        "left_out": {},
        "settings": {"network": {"name": "vgg16"}},
    }
    text = table(results)
    assert "vgg16 on pets: 9 of 9 images" in text and "too narrow" in text
    results["data"] = results["data"] | {"evaluated": 10}
    assert "too narrow" not in table(results)
