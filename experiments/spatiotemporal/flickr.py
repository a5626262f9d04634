"""Table 7.5 of the thesis, on Flickr30k Entities and a captioner of your own.

    python -m experiments.spatiotemporal.flickr --annotations FOLDER --images FOLDER \
        --network package.module:make

True captions are given to the captioner: does the peak of a noun phrase's map lie in a box of what
it names? Intervals are bootstrap, 95 %, over images. What `make` returns is described in
`networks.CaptioningNetwork`. Batches that are done are kept in a folder beside the output, until
it is written: stopped, the same command goes on.
"""

import argparse
import collections
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.spatiotemporal import phrases
from experiments.spatiotemporal.coco_captions import UNKNOWN, Phrase, encode, warp
from experiments.spatiotemporal.explainers import OF_WORDS
from experiments.spatiotemporal.intervals import table
from experiments.spatiotemporal.networks import CaptioningNetwork, fingerprint, load, separate
from experiments.spatiotemporal.phrases import THESIS, Question
from experiments.training.records import claim, held, resume_records, write_whole
from jaxground import core
from jaxground.data import read_flickr30k_entities
from jaxground.data.flickr import CaptionedImage

STRIDE = 16  # captions are padded to a multiple of so many words: few programs are compiled
NOT_ASKED = "without a box", "with unknown words"


def read_questions(
    images: Sequence[CaptionedImage], vocabulary: tuple[str, ...], captions: int | None = None
) -> tuple[list[Question], list[tuple[str, ...]], dict[str, int]]:
    """Returns what is asked of each caption, the types of each phrase, and how many are left out.

    Words are in lower case. Of what is not in the vocabulary punctuation is left out, as is all
    else if no `"<unk>"` stands for it.

    Args:
      images: Pictures with captions.
      vocabulary: Words by index; the first is the end.
      captions: Of each image; all by default.
    """
    known, any_word = set(vocabulary[1:]) - {UNKNOWN}, UNKNOWN in vocabulary
    questions, types = [], []
    left_out: dict[str, int] = dict.fromkeys(NOT_ASKED, 0)
    for number, image in enumerate(images):
        boxes = collections.defaultdict(list)
        sides = np.array([*image.example.size[::-1]] * 2, float)
        for instance in image.example.instances:
            boxes[instance.category].append(instance.box / sides)
        boxes = {chain: np.array(rows) for chain, rows in boxes.items()}
        for caption in image.captions[:captions]:
            words = [word.lower() for word in caption.words]
            said = [i for i, word in enumerate(words) if word in known or _is_spoken(word)]
            heard = [i for i in said if any_word or words[i] in known]
            place = {i: new for new, i in enumerate(heard)}
            asked = []
            for phrase in caption.phrases:
                inside = [i for i in said if phrase.start <= i < phrase.end]
                if phrase.chain not in boxes:
                    left_out[NOT_ASKED[0]] += 1
                elif not inside or not known.issuperset(words[i] for i in inside):
                    left_out[NOT_ASKED[1]] += 1
                else:
                    asked.append(Phrase(phrase.chain, tuple(place[i] for i in inside)))
                    types.append(phrase.types)
            if asked:
                questions.append(Question(number, tuple(words[i] for i in heard), asked, boxes))
    return questions, types, left_out


def _is_spoken(word: str) -> bool:
    return any(letter.isalnum() for letter in word)


def find_methods(network: CaptioningNetwork) -> list[str]:
    """Returns which methods can be asked: guided saliency needs features that have a position.

    Raises:
      ValueError: The network gives another number of words than its vocabulary has.
    """
    model = network.model
    frames = network.preprocess(np.zeros((1, network.side, network.side, 3), np.uint8))

    def look(frames):
        embedded = model.embed(np.zeros((1, STRIDE), np.int32))
        seen = core.split(model.cnn, frames, at=model.at).hidden
        return model.decode(model.features(frames)[:, None], embedded), seen

    logits, seen = jax.eval_shape(look, frames)
    if logits.shape[-1] != len(network.vocabulary):
        raise ValueError(
            f"the vocabulary has {len(network.vocabulary)} words, but the network gives logits "
            f"for {logits.shape[-1]}: they are one and the same list, the end included"
        )
    methods = [name for name in OF_WORDS if name != "caption-guided saliency"]
    return [*OF_WORDS] if seen.ndim == 4 else methods


def make_measure(
    network: CaptioningNetwork, weights: list, rebuild: Callable, images: Sequence[CaptionedImage]
) -> Callable:
    """Returns a function from questions to scores of every phrase by method."""
    programs = {
        name: phrases.make_program(name, network.at, network.side, rebuild)
        for name in find_methods(network)
    }

    def measure(questions: Sequence[Question]) -> dict[str, list[float]]:
        seen = {each.image: images[each.image].example for each in questions}
        pixels = {i: warp(example.image(), network.side) for i, example in seen.items()}
        frames = network.preprocess(np.stack([pixels[each.image] for each in questions]))
        longest = max(len(each.caption) for each in questions)
        length = -(-longest // STRIDE) * STRIDE
        words = encode([each.caption for each in questions], network.vocabulary, length)
        return phrases.measure_batch(programs, weights, questions, frames[:, None], words)

    return measure


def measure_all(questions: Sequence[Question], measure: Callable, path: Path) -> dict:
    """Returns scores of every phrase by method; batches in `path` are not measured again."""
    size = phrases.PICTURES
    batches = [questions[i : i + size] for i in range(0, len(questions), size)]
    found, began = resume_records(path), time.time()
    with path.open("a") as file:
        for number, batch in enumerate(batches[len(found) :], len(found) + 1):
            found.append(measure(batch))
            file.write(json.dumps(found[-1]) + "\n")
            file.flush()
            print(f"batch {number} of {len(batches)}, {time.time() - began:.0f} s", flush=True)
    return {name: [x for scores in found for x in scores[name]] for name in found[0]}


def show(results: dict) -> None:
    """Prints the table, as Markdown."""
    sizes = {"all": results["phrases"], **results["types"]}
    named = {name: f"{name} ({count})" for name, count in sizes.items()}
    rows = {
        name: {named.get(column, column): values for column, values in found.items()}
        | {"thesis": THESIS.get(name)}
        for name, found in results["methods"].items()
    }
    left_out = ", ".join(f"{count} {why}" for why, count in results["left out"].items())
    print(f"\n{results['phrases']} phrases, {results['images']} images; left out: {left_out}\n")
    print(table(rows, [*named.values(), "less centre", "thesis"]))
    for name in set(OF_WORDS) - set(rows):
        print(f"\n{name} is not asked: the features that the network reads have no position")


def main() -> None:
    """Parses the command line, measures, prints, and writes what was found."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--annotations", type=Path, required=True, help="annotations.zip, unpacked")
    parser.add_argument("--images", type=Path, required=True, help="folder of the photographs")
    parser.add_argument("--network", required=True, help="package.module:make, your function")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--captions", type=int, help="of each image; all by default")
    parser.add_argument("--limit", type=int, help="images, for a quick look")
    parser.add_argument("--output", type=Path, default=Path("runs/flickr.json"))
    options = parser.parse_args()
    network = load(options.network, CaptioningNetwork)
    weights, rebuild = separate(network.model)
    images = read_flickr30k_entities(options.annotations, options.split, images=options.images)
    images = images[: options.limit]
    questions, types, left_out = read_questions(images, network.vocabulary, options.captions)
    if not questions:
        raise SystemExit(f"nothing to ask of {len(images)} images; phrases left out: {left_out}")
    measure = make_measure(network, weights, rebuild, images)
    recipe = vars(options) | {
        "annotations": str(options.annotations),
        "images": str(options.images),
        "weights": fingerprint(weights),
        "tap": network.at,
        "side": network.side,
    }
    del recipe["output"]
    folder = options.output.with_name(f"{options.output.name}.kept")
    claim(folder, recipe)
    with held(folder):
        scores = measure_all(questions, measure, folder / "batches.jsonl")
        counts = collections.Counter(name for each in types for name in each)
        parts = {
            name: np.array([name in each for each in types]) for name, _ in counts.most_common()
        }
        numbers = np.array([each.image for each in questions for _ in each.phrases])
        results = {
            "recipe": recipe,
            "left out": left_out,
            "types": dict(counts.most_common()),
            "thesis": THESIS,
            **phrases.summarise(scores, numbers, parts),
        }
        show(results)
        write_whole(options.output, json.dumps(results, indent=1) + "\n")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
