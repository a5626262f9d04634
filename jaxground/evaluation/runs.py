"""An evaluation from its settings to its results."""

import collections
import dataclasses
import hashlib
import json
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp

from jaxground import __version__
from jaxground.data.annotations import Dataset
from jaxground.evaluation import programs, trials, work
from jaxground.evaluation.classes import category_classes
from jaxground.evaluation.costs import Costs
from jaxground.evaluation.explainers import Explainer, nearest
from jaxground.evaluation.identity import digest, identify_data, identify_network
from jaxground.evaluation.quantities import METRICS, Quantity, quantities
from jaxground.evaluation.summary import CONFIDENCE, RESAMPLES, summarise
from jaxground.evaluation.work import Batch, Fit
from jaxground.models import Network

SAMPLE = 24  # photographs in the gallery
DEFAULT_METHODS = "excitation_backprop", "contrastive_excitation_backprop", "grad_cam", "gradient"
DEFAULT_METRICS = "pointing_game", "energy_pointing_game"  # these cost no pass
AHEAD = 3  # batches that are read while one is computed


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything settled and checked; nothing computed yet. Made by `prepare_evaluation`.

    Attributes:
      model: The network.
      dataset: The data.
      explainers: What is evaluated.
      metrics: Names of the metrics.
      quantities: What is measured for them.
      classes: The classes that mean each category.
      batches: All the work.
      key: Of everything random.
      left_out: Why a method of `"all"` is not evaluated, by its name.
      costs: Of maps and metrics, for the most frequent shape of image.
      settings: All that decides the results, ready for JSON.
    """

    model: Network
    dataset: Dataset
    explainers: tuple[Explainer, ...]
    metrics: tuple[str, ...]
    quantities: Mapping[str, Quantity]
    classes: Mapping[str, tuple[int, ...]]
    batches: Sequence[Batch]
    key: jax.Array
    left_out: Mapping[str, str]
    costs: Costs
    settings: Mapping[str, Any]

    def run(self, batches: Sequence[Batch]) -> Iterator[dict[str, Any]]:
        """Yields the record of each batch: `{"batch": number, "images": [...]}`."""
        keep = self.sample()
        program = programs.Program(self.model, self.explainers, self.quantities, self.key)
        for loaded in self._loaded(batches):
            yield {"batch": loaded.batch.number, "images": program.records(loaded, keep)}

    def sample(self) -> frozenset[str]:
        """Returns the keys of the photographs of the gallery: chance, but always the same."""
        keys = [task.example.key for batch in self.batches for task in batch.tasks]
        return frozenset(sorted(keys, key=lambda k: hashlib.sha256(k.encode()).digest())[:SAMPLE])

    def results(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns scores, data and settings, ready for JSON.

        Args:
          records: One of each batch, in any order.
        """
        images = [image for record in records for image in record["images"]]
        broken = {image["key"]: image["error"] for image in images if "error" in image}
        whole = [image for image in images if "error" not in image]
        scores = summarise(
            whole,
            [explainer.label for explainer in self.explainers],
            self.metrics,
            self.dataset.categories,
        )
        data = {
            "name": self.dataset.name,
            "images": len(self.dataset.examples),
            "without_target": len(self.dataset.examples) - len(images),
            "evaluated": len(whole),
            "pairs": sum(len(image["categories"]) for image in whole),
            "broken": {"count": len(broken), "images": dict(sorted(broken.items()))},
        }
        for explainer in self.explainers:
            for name, score in scores[explainer.label].items():
                score["protocol"] = self._protocol(explainer, name, data)
        return {
            "scores": scores,
            "data": data,
            "left_out": dict(self.left_out),
            "settings": self.settings,
        }

    def _protocol(self, explainer: Explainer, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
        metric = METRICS[name]
        measured = dict(self.quantities[metric.quantity].protocol)
        if "threshold" in measured:
            measured["threshold"] = explainer.threshold
        everywhere = "input", "network", "batch_size", "seed", "versions"
        return {
            "explainer": explainer.protocol(),
            "metric": {
                "quantity": metric.quantity,
                **measured,
                "resize": "cubic",
                "average": metric.average,
                "pairs": "difficult" if metric.difficult else "all",
                "unit": "percent" if metric.percent else "1",
            },
            "interval": {
                "kind": "percentile bootstrap over images",
                "confidence": CONFIDENCE,
                "resamples": RESAMPLES,
            },
            "target": "of the category's classes, the one with the largest logit",
            "data": {"name": data["name"], "images": data["evaluated"]},
            **{name: self.settings[name] for name in everywhere},
            "classes_sha256": digest(self.settings["classes"]),
        }

    def _loaded(self, batches: Sequence[Batch]) -> Iterator[work.Loaded]:
        """Reads ahead: the disk and the decoder are busy while the network is."""
        pending: collections.deque[Future] = collections.deque()
        pool = ThreadPoolExecutor(AHEAD)
        try:
            for batch in batches:
                pending.append(pool.submit(work.load, batch, self.classes, self.model.preprocess))
                if len(pending) > AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def prepare_evaluation(
    model: Network,
    dataset: Dataset,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    metrics: Sequence[str] = DEFAULT_METRICS,
    fit: Fit | None = None,
    classes: Mapping[str, Sequence[int]] | None = None,
    tolerance: str | float = 15,
    batch_size: int = 8,
    seed: int = 0,
    source: Mapping[str, str] | None = None,
) -> Evaluation:
    """Returns an evaluation, with everything checked before anything long is begun.

    Args:
      model: The network.
      dataset: The data.
      methods: Explainers, as `resolve` reads them, or `"all"`: those that run on the network and of
        which no variant is named besides.
      metrics: Names in `METRICS`, or `"all"`.
      fit: From a photograph to the input; by default its aspect is kept, and its shorter side is
        the side of the network's usual crop.
      classes: For each category the classes (indices) that mean it; by default as the data say,
        else by name. The one with the largest logit is explained.
      tolerance: Of the pointing game: 15, pixels of the photograph, or `"15/640"`, of its longer
        side.
      batch_size: Photographs of one shape that go through the network together, at most; where
        there are few, fewer, so that there are eight batches to share and to resume from.
      seed: Of everything random.
      source: What else is to be recorded of the network, such as the file of its weights.

    Raises:
      ValueError: A name that is none, a method that does not run on the network, data whose
        categories the network does not know, ...; the message says what to do.

    Example:
      >>> from jaxground import models
      >>> from jaxground.data.example import example_mosaics
      >>> model = models.create("compact_vgg", weights="embedded")
      >>> found = prepare_evaluation(model, example_mosaics(10), methods=["gradient"])
      >>> [len(batch.tasks) for batch in found.batches], found.classes
      ([2, 2, 2, 2, 2], {'airplane': (0,), 'ship': (8,)})
    """
    metrics = tuple(METRICS) if "all" in metrics else tuple(dict.fromkeys(metrics))
    if not metrics or not methods:
        raise ValueError("give at least one method and one metric")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: at least one image goes at a time")
    for name in metrics:
        if name not in METRICS:
            raise ValueError(f"no metric is called {name!r}; {nearest(name, METRICS)}")
    fit = fit or Fit(model.preprocess.crop)
    usual = jax.ShapeDtypeStruct((1, *fit.size((3, 4)), 3), jnp.float32)
    count = jax.eval_shape(model, usual).shape[-1]
    known = category_classes(dataset, model.card.class_names, count, classes)
    batches = work.batches(dataset, known, fit, batch_size)
    if not batches:
        raise ValueError(f"{dataset.name} has no photograph of a category that the network knows")
    found = quantities(metrics, tolerance)
    size, targets = statistics.mode((batch.size, batch.targets) for batch in batches)
    usual = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    explainers, maps, left_out = trials.choose(model, methods, usual, targets)
    measured, shared = trials.try_metrics(model, explainers, found, usual, targets)
    settings = {
        "data": identify_data(dataset),
        "network": {**identify_network(model), **(source or {})},
        "methods": {explainer.label: explainer.protocol() for explainer in explainers},
        "metrics": metrics,
        "quantities": {name: dict(quantity.protocol) for name, quantity in found.items()},
        "input": dataclasses.asdict(fit),
        "classes": {category: list(indices) for category, indices in known.items()},
        "batch_size": batch_size,
        "seed": seed,
        "versions": {
            "jaxground": __version__,
            "python": platform.python_version(),
            "platform": jax.default_backend(),
            **{name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")},
        },
    }
    return Evaluation(
        model,
        dataset,
        explainers,
        metrics,
        found,
        known,
        batches,
        jax.random.key(seed),
        left_out,
        Costs(maps, measured, shared, targets),
        json.loads(json.dumps(settings)),
    )
