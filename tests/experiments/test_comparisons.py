"""Which method is best: differences on shared photographs, and methods on few of them."""

import numpy as np
import pytest

from experiments import comparisons


def record(number, **values):
    """A photograph of a cat and a dog, and of each method the insertion of both."""
    return {
        "key": f"{number:02}",
        "categories": ["cat", "dog"],
        "difficult": [False, True],
        "values": {
            method: {"insertion": each, "hit": [float(value > 0.5) for value in each]}
            for method, each in values.items()
        },
    }


def test_methods_meet_on_the_photographs_that_both_have():
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.2, 0.6, (40, 2))
    hard[:5] += 0.4  # the dear method meets five easy photographs, where all do well
    good = [record(i, good=list(row + 0.1), bad=list(row)) for i, row in enumerate(hard)]
    dear = [record(i, dear=list(row + 0.05)) for i, row in enumerate(hard[:5])]
    records = comparisons.merge([{"images": good}, {"images": dear[::-1]}])
    scores = comparisons.score(records, ["good", "bad", "dear"], ["cat", "dog"])
    assert scores["dear"]["insertion"]["images"] == 5
    assert scores["dear"]["insertion"]["value"] > scores["good"]["insertion"]["value"]
    found = comparisons.compare(records, scores, "insertion")
    assert (found["best"], found["next"], found["unbeaten"]) == ("good", "dear", ["good"])
    np.testing.assert_allclose(found["difference"]["value"], 0.05, rtol=1e-6)
    np.testing.assert_allclose(found["difference"]["low"], 0.05, rtol=1e-6)
    assert found["difference"]["images"] == 5 and found["beaten_by"]["bad"] in ("good", "dear")
    lines = comparisons.table(scores, {"insertion": found}).splitlines()
    assert lines[1].startswith("good") and "*" in lines[1] and lines[1].endswith(" 40")
    assert "*" not in lines[2] + lines[3]
    assert lines[-1].startswith("insertion: good, before dear by +0.05")


def test_noise_is_no_difference_and_small_values_may_be_good():
    rng = np.random.default_rng(1)
    rows = rng.normal(0.5, 0.1, (30, 2, 2))
    records = [record(i, one=list(row[0]), other=list(row[1])) for i, row in enumerate(rows)]
    for each in records:
        for values in each["values"].values():
            values["deletion"] = values["insertion"]
    scores = comparisons.score(records, ["one", "other"], ["cat", "dog"])
    found = comparisons.compare(records, scores, "deletion")
    assert set(found["unbeaten"]) == {"one", "other"}
    least = min(scores, key=lambda method: scores[method]["deletion"]["value"])
    assert found["best"] == least and found["difference"]["value"] < 0


def test_percent_by_category_as_the_metric_is():
    records = [record(0, one=[0.9, 0.9], other=[0.9, 0.1]), record(1, one=[0.9, 0.1], other=[0, 0])]
    scores = comparisons.score(records, ["one", "other"], ["cat", "dog"])
    gap = comparisons.compare(records, scores, "pointing_game")["difference"]
    assert scores["one"]["pointing_game"]["value"] == 75 and gap["value"] == 50
    hard = comparisons.compare(records, scores, "pointing_game_difficult")["difference"]
    assert hard["value"] == 50 and scores["one"]["pointing_game_difficult"]["n"] == 2


def test_a_broken_photograph_is_no_score():
    with pytest.raises(ValueError, match="truncated"):
        comparisons.merge([{"images": [{"key": "a", "error": "a.jpg is truncated"}]}])
