"""What the words of captions are read from: table 7.5 on photographs, and words about drawn clips.

    python -m experiments.spatiotemporal.captions clips
    python -m experiments.spatiotemporal.captions photographs --weights runs/coco_captioner
    python -m experiments.spatiotemporal.captions clips --smoke    # writes nothing

True captions are given to the captioner. In photographs a phrase that names a category hits if the
peak of its map lies in a box of that category in the image. In clips, of the frames in which a
figure can be seen, in how many does the peak lie on it, for words that name it; do they have more
on it than on the other figure, by area; and does the signal of words for an event peak in it?
Intervals are bootstrap, 95 %, over images or clips.
"""

import argparse
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from experiments.spatiotemporal import coco_captions
from experiments.spatiotemporal.intervals import interval, table
from experiments.spatiotemporal.train_captioner import LENGTH, WORDS
from experiments.spatiotemporal.train_coco_captioner import DATA, PARTS, load_cnn, make_network
from jaxground import core, maps, metrics, models
from jaxground import spatiotemporal as through
from jaxground.data.moving_scenes import draw_clips
from jaxground.data.sentences import describe_clips
from jaxground.models.compact_captioner import SCENES

OUTPUT = Path(__file__).with_name("captions.json")
SEED, FIRST, BATCH = 0, 2000, 25  # of the drawn clips: none that training was watched by
TAPS = "fire9", "fire7", "pool5"  # of SqueezeNet, to choose from
PICTURES = 10  # captions in a batch
TO_CHOOSE = 12  # captions of each part
ASKED = 4  # words of a caption that are explained together
THESIS = {"cEB-R": 51.2, "caption-guided saliency": 50.1, "centre": 49.2, "random": 26.8}


def explain_words(name: str, model, at: str, video, words, places):
    """Returns maps `[batch, k, time, h, w]` and signals `[batch, k, time]` of words at places."""
    context = (model.embed(words),)
    targets = jnp.take_along_axis(words, places, 1)
    options = {"step": places, "context": context}
    if name == "BP-R":
        found = through.spatiotemporal_gradient(
            model.features, model.decode, video, targets, **options
        )
        return found, found.sum((3, 4))
    if name == "caption-guided saliency":
        frames = video.reshape(-1, *video.shape[2:])
        hidden = core.split(model.cnn, frames, at=model.at).hidden  # [n, h, w, c] or [n, c]
        hidden = hidden.reshape(*video.shape[:2], *hidden.shape[1:])
        found = through.caption_guided_saliency(model, hidden, words, batch_size=64 * len(video))
        found = jnp.take_along_axis(
            found, places.reshape(*places.shape, *[1] * (found.ndim - 2)), 1
        )
        if found.ndim == 3:  # features of whole frames: when, not where
            return jnp.zeros((*found.shape, 2, 2)), found
        return found, found.sum((3, 4))
    contrastive = name == "cEB-R"
    found = through.spatiotemporal_grounding(
        model.features, model.decode, video, targets, contrastive=contrastive, at=at, **options
    )
    return found.maps, found.signal


METHODS = "cEB-R", "EB-R", "BP-R", "caption-guided saliency"


def measure_clips(model, at: str, indices: range) -> dict:
    """Returns scores of words about drawn clips, by method: rows of intervals by column."""
    every = jnp.tile(jnp.arange(LENGTH), (BATCH, 1))
    programs = {
        name: jax.jit(functools.partial(_measure_batch, name, model, at)) for name in METHODS
    }
    gathered: dict = {name: {} for name in [*METHODS, "chance"]}
    for start in range(indices.start, indices.stop, BATCH):
        clips = draw_clips(SCENES, range(start, start + BATCH), seed=SEED)
        told = describe_clips(clips, SCENES.events, seed=start)
        words = np.zeros((BATCH, LENGTH), np.int32)
        figure = np.full((BATCH, LENGTH), -1)
        event = np.zeros((BATCH, LENGTH), bool)
        for row, sentence in enumerate(told):
            words[row, : len(sentence.words)] = models.word_indices(str(sentence), WORDS)
            places = through.content_places(str(sentence))
            figure[row, list(places)] = np.array(sentence.objects)[list(places)]
            event[row, sentence.event[0] : sentence.event[1]] = True
        named = (figure >= 0) & ~event
        frames = model.card.preprocess(clips.frames.reshape(-1, *clips.frames.shape[2:]))
        video = frames.reshape(*clips.frames.shape[:2], *frames.shape[1:])
        rows = np.arange(BATCH)[:, None]
        masks = clips.masks[rows, np.maximum(figure, 0)]  # [batch, words, time, side, side]
        others = clips.masks[rows, 1 - np.maximum(figure, 0)]
        inside = np.asarray(metrics.frames_inside(clips.times[:, None], length=video.shape[1]))
        acting = masks & inside[:, None, :, None, None]
        kept = {"named": named, "event": event, "two": named & others.any((2, 3, 4))}
        for name, program in programs.items():
            scores = program(video, words, every, masks, others, acting, inside)
            _gather(gathered[name], scores, kept)
        shown = masks.any((3, 4))
        chance = {
            "named": (masks.mean((3, 4)) * shown).sum(2) / np.maximum(shown.sum(2), 1),
            "which": np.full(figure.shape, 0.5),
            "event": (acting.mean((3, 4))).sum(2) / inside.sum(1)[:, None],
            "when": np.broadcast_to(inside.mean(1)[:, None], figure.shape),
        }
        _gather(gathered["chance"], chance, kept)
    found = {name: {c: interval(np.concatenate(v)) for c, v in columns.items()}
             for name, columns in gathered.items()}  # fmt: skip
    when = found["caption-guided saliency"]["when"]
    found["caption-guided saliency"] = {"when": when}  # features are of whole frames: no place
    return found


def _measure_batch(name, model, at, video, words, places, masks, others, acting, inside):
    """Returns scores `[batch, words]` of all words, those too to which a score does not apply."""
    found, signal = explain_words(name, model, at, video, words, places)
    large = maps.resize(found, masks.shape[-2:])
    positive = jnp.maximum(large, 0)

    def density(figure):  # of the word's evidence, on the pixels of a figure
        return (positive * figure).sum((2, 3, 4)) / jnp.maximum(figure.sum((2, 3, 4)), 1)

    def pointing(figure):
        return metrics.video_pointing_game(large, figure, tolerance=0).mean

    which = density(masks) > density(others)
    when = metrics.temporal_pointing_game(signal, jnp.broadcast_to(inside[:, None], signal.shape))
    return {"named": pointing(masks), "which": which, "event": pointing(acting), "when": when}


def _gather(into: dict, scores: dict, kept: dict) -> None:
    """Adds to each column, for each clip, the mean over its words; NaN for none."""
    of_words = {"named": "named", "which": "two", "event": "event", "when": "event"}
    for column, words in of_words.items():
        values = np.where(kept[words], np.asarray(scores[column], float), np.nan)
        counts = (~np.isnan(values)).sum(1)
        means = np.where(counts, np.nansum(values, 1) / np.maximum(counts, 1), np.nan)
        into.setdefault(column, []).append(means)


def read_rows(images, vocabulary, names, captions: int) -> list[dict]:
    """Returns of each of so many captions of each image what is asked of it, if anything."""
    known, rows = set(vocabulary), []
    for number, image in enumerate(images):
        for caption in image.captions[:captions]:
            phrases = [
                phrase
                for phrase in coco_captions.find_phrases(caption, names)
                if phrase.category in image.boxes
                and known.issuperset(caption[i] for i in phrase.places)
            ]
            places = [place for phrase in phrases for place in phrase.places][:ASKED]
            phrases = [phrase for phrase in phrases if set(phrase.places) <= set(places)]
            if phrases:
                padded = places + [0] * (ASKED - len(places))
                rows.append({"image": number, "caption": caption, "phrases": phrases,
                             "places": places, "padded": padded})  # fmt: skip
    return rows


def hits(found: np.ndarray, row: dict, image) -> list[float]:
    """Returns of each phrase whether the peak of its map is in a box; a flat map misses."""
    scores = []
    for phrase in row["phrases"]:
        at = [row["places"].index(place) for place in phrase.places]
        mean = found[at].mean(0)
        if not mean.max() > mean.min():
            scores.append(0.0)
            continue
        peak = (np.array(np.unravel_index(mean.argmax(), mean.shape)) + 0.5) / mean.shape
        scores.append(float(_inside(peak[1], peak[0], image.boxes[phrase.category])))
    return scores


def _inside(x: float, y: float, boxes: np.ndarray) -> bool:
    low, high = boxes[:, :2] <= (x, y), boxes[:, 2:] > (x, y)
    return bool((low & high).all(1).any())


def covered(boxes: np.ndarray) -> float:
    """Returns which part of the image boxes cover."""
    grid = (np.arange(64) + 0.5) / 64
    x0, y0, x1, y1 = boxes.T[..., None]
    rows, columns = (grid >= y0) & (grid < y1), (grid >= x0) & (grid < x1)
    return float((rows[:, :, None] & columns[:, None]).any(0).mean())


def measure_photographs(folder: Path, asked: list[tuple[str, str]], *, captions: int, chosen: bool,
                        limit: int | None = None) -> dict:  # fmt: skip
    """Returns hits of every phrase by method and tap, with the number of its image and category.

    Args:
      folder: Of the trained captioners.
      asked: Methods and taps.
      captions: Of each image.
      chosen: Whether each captioner looks at its part for the table, or at that to choose by.
      limit: Images of a part, for a quick look.
    """
    vocabulary = tuple(json.loads((folder / "vocabulary.json").read_text()))
    images, _ = coco_captions.read_images(DATA / "coco_mini")
    content = json.loads((DATA / "coco_mini" / "annotations.json").read_text())
    names = coco_captions.category_names(content["categories"])
    cnn = load_cnn()
    rows = read_rows(images, vocabulary, names, captions)
    weights = [load_file(folder / f"part{part}.safetensors") for part in range(PARTS)]
    gathered: dict = {"image": [], "category": [], "centre": [], "random": []}

    def program(name, tap):
        @jax.jit
        def run(weights, video, words, places):
            found, _ = explain_words(name, make_network(weights, cnn), tap, video, words, places)
            return maps.resize(found[:, :, 0], (coco_captions.SIDE,) * 2)

        return run

    programs = {f"{name} at {tap}" if tap else name: program(name, tap) for name, tap in asked}
    for part in range(PARTS):
        mine = [
            row for row in rows if row["image"] % PARTS == (part if chosen else (part + 1) % PARTS)
        ]
        mine = mine[:limit]
        for row in mine:
            image = images[row["image"]]
            for phrase in row["phrases"]:
                boxes = image.boxes[phrase.category]
                gathered["image"].append(row["image"])
                gathered["category"].append(phrase.category)
                gathered["centre"].append(float(_inside(0.5, 0.5, boxes)))
                gathered["random"].append(covered(boxes))
        for start in range(0, len(mine), PICTURES):
            batch = mine[start : start + PICTURES]
            full = batch + [batch[0]] * (PICTURES - len(batch))
            pixels = [coco_captions.read_pixels(images[row["image"]]) for row in full]
            video = cnn.preprocess(np.stack(pixels))[:, None]
            words = coco_captions.encode([row["caption"] for row in full], vocabulary)
            places = np.array([row["padded"] for row in full], np.int32)
            for name, run in programs.items():
                found = np.asarray(run(weights[part], video, words, places))
                for row, each in zip(batch, found, strict=False):
                    gathered.setdefault(name, []).extend(hits(each, row, images[row["image"]]))
        print(f"part {part}: {len(mine)} captions", flush=True)
    return gathered


def summarise(gathered: dict) -> dict:
    """Returns intervals over images: of all phrases, of people, of the rest; and differences."""
    images = np.array(gathered["image"])
    people = np.array(gathered["category"]) == "person"
    methods = {k: np.array(v, float) for k, v in gathered.items() if k not in ("image", "category")}
    found = {}
    for name, values in methods.items():
        parts = {"all": values, "people": np.where(people, values, np.nan),
                 "others": np.where(people, np.nan, values)}  # fmt: skip
        found[name] = {column: interval(each, images) for column, each in parts.items()}
        found[name]["less centre"] = interval(values - methods["centre"], images)
    return {"phrases": len(images), "images": len(set(images.tolist())), "methods": found}


def main() -> None:
    """Parses the command line, measures, prints, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("clips", "photographs"))
    parser.add_argument("--weights", help="of the captioner of clips, or folder of the others")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--captions", type=int, default=1, help="of each photograph")
    parser.add_argument("--smoke", action="store_true", help="a few, writes nothing")
    options = parser.parse_args()
    results = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    if options.what == "clips":
        model = models.create("compact_captioner", options.weights or "embedded")
        count = BATCH if options.smoke else options.clips
        found = measure_clips(model, model.card.ground_at, range(FIRST, FIRST + count))
        print(table(found, ("named", "which", "event", "when")))
        results["clips"] = {"clips": count, "tap": model.card.ground_at, "scores": found}
    else:
        folder, smoke = Path(options.weights), options.smoke
        few, limit = (2, 2) if smoke else (TO_CHOOSE, None)
        choice = measure_photographs(
            folder, [("cEB-R", tap) for tap in TAPS], captions=1, chosen=False, limit=few
        )
        means = {tap: float(np.mean(choice[f"cEB-R at {tap}"])) for tap in TAPS}
        tap = max(TAPS, key=lambda each: means[each])
        print({each: round(100 * mean, 1) for each, mean in means.items()}, tap, flush=True)
        asked = [("cEB-R", tap), ("EB-R", tap), ("BP-R", ""), ("caption-guided saliency", "")]
        found = summarise(
            measure_photographs(folder, asked, captions=options.captions, chosen=True, limit=limit)
        )
        print(table(found["methods"], ("all", "people", "others", "less centre")))
        trained = json.loads((folder / "trained.json").read_text())
        results["photographs"] = {"tap": tap, "taps": means, "captioner": trained, "thesis": THESIS,
                                  **found}  # fmt: skip
    if not options.smoke:
        OUTPUT.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
