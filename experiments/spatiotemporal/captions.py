"""What the words of captions are read from: table 7.5 on photographs, and words about drawn clips.

    python -m experiments.spatiotemporal.captions clips
    python -m experiments.spatiotemporal.captions photographs --weights runs/coco_captioner
    python -m experiments.spatiotemporal.captions clips --smoke    # writes nothing

True captions are given to the captioner. Intervals are bootstrap, 95 %, over images or clips.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from experiments.spatiotemporal.clip_words import BATCH, measure_clips
from experiments.spatiotemporal.intervals import table
from experiments.spatiotemporal.photograph_words import measure_photographs, summarise
from experiments.spatiotemporal.phrases import THESIS
from jaxground import models

OUTPUT = Path(__file__).with_name("captions.json")
FIRST = 2000  # of the drawn clips: none that training was watched by
TAPS = "fire9", "fire7", "pool5"  # of SqueezeNet, to choose from
TO_CHOOSE = 12  # captions of each part


def main() -> None:
    """Parses the command line, measures, prints, and writes what was found."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
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
