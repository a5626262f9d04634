"""The results as one page: scores, figure, and photographs where methods hit and miss.

Everything lies in the page itself: it opens without a network and runs no script. Names of files
and classes are other people's text; they are shown, never obeyed.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxground import plots
from jaxground.data.annotations import Example
from jaxground.data.images import ImageError
from jaxground.evaluation.quantities import INFINITE, METRICS
from jaxground.evaluation.tables import best, numbers, visible

SIDE = 220  # pixels of the longer side of a picture
QUALITY = 80  # of its JPEG
SECTIONS = {
    "hit": "Every method hits",
    "mixed": "Methods disagree",
    "miss": "Every method misses",
    "": "Maps",
}
EACH = 12  # pairs in a section, at most

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1c2333;background:#fff;margin:2rem auto;
max-width:1200px;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem}
p,figcaption{color:#55607a}img{display:block;max-width:100%;height:auto}
table{border-collapse:collapse;font-size:.87rem}th,td{padding:.3rem .8rem;text-align:right;
border-bottom:1px solid #e3e6ee;white-space:nowrap}th:first-child{text-align:left}
td small{color:#7a849c}.best{font-weight:700;color:#b3261e}.wide{overflow-x:auto}
.pair{display:flex;gap:.6rem;overflow-x:auto;margin:0 0 1.4rem;padding-bottom:.4rem}
figure{margin:0;flex:none;width:220px;font-size:.8rem}
figure img{border:4px solid #d5d9e4;border-radius:4px;box-sizing:border-box;width:100%}
.hit img{border-color:#2e7d4f}.miss img{border-color:#b3261e}
figcaption{overflow-wrap:anywhere;padding:.2rem 0}figcaption b{color:#1c2333}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.78rem;background:#f5f6fa;padding:1rem}
"""


def page(
    results: Mapping[str, Any],
    images: Sequence[Mapping[str, Any]],
    examples: Mapping[str, Example],
    figure: bytes,
    class_names: Sequence[str],
) -> str:
    """Returns the page.

    Args:
      results: What `evaluate` returned.
      images: Records of the photographs of the gallery, with their maps.
      examples: Their photographs, by key.
      figure: The scores as a PNG.
      class_names: Of the network, or none.
    """
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    data = results["data"]
    title = f"Evaluation of {visible(results['settings']['network']['name'])} on {data['name']}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{_text(title)}</title>",
            f"<style>{STYLE}</style></head><body>",
            f"<h1>{_text(title)}</h1>",
            f"<p>{data['evaluated']} of {data['images']} images, {data['pairs']} pairs of image and"
            f" category, {data['broken']['count']} images broken. Intervals: 95 %, bootstrap over "
            "images.</p>",
            *_scores(results["scores"]),
            f'<h2>Figure</h2><img alt="scores with intervals" src="{_data(figure, "png")}">',
            *_gallery(results, images, examples, class_names),
            *_broken(data["broken"]["images"]),
            "<h2>Settings</h2><details><summary>All that decides these results</summary>",
            f"<pre>{_text(json.dumps(results['settings'], indent=2), lines=True)}</pre></details>",
            "</body></html>",
            "",
        ]
    )


def _text(text: str, *, lines: bool = False) -> str:
    """Returns other people's text as HTML that shows it, each name in its own direction."""
    parts = text.split("\n") if lines else [text]
    return "\n".join(html.escape(visible(part), quote=True) for part in parts)


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _scores(scores: Mapping[str, Any]) -> Iterator[str]:
    metrics = list(next(iter(scores.values())))
    heads = "".join(f"<th>{_text(_head(metric))}</th>" for metric in metrics)
    yield f'<h2>Scores</h2><div class="wide"><table><tr><th></th>{heads}</tr>'
    for method, each in scores.items():
        cells = []
        for metric in metrics:
            value, interval = numbers(metric, each[metric])
            top = best(metric, scores)
            name = ' class="best"' if top is not None and each[metric]["value"] == top else ""
            cells.append(f"<td><span{name}>{value}</span> <small>{interval}</small></td>")
        yield f"<tr><th>{_text(method)}</th>{''.join(cells)}</tr>"
    yield "</table></div>"


def _head(metric: str) -> str:
    kind = METRICS[metric]
    unit, good = " %" if kind.percent else "", " (small is better)" if kind.good == "small" else ""
    return metric.replace("_", " ") + unit + good


def _gallery(results, images, examples, class_names) -> Iterator[str]:
    sections: dict[str, list[tuple[Mapping[str, Any], int]]] = {name: [] for name in SECTIONS}
    for image in sorted(images, key=lambda image: image["key"]):
        for index in range(len(image["categories"])):
            sections[_section(image, index)].append((image, index))
    for name, title in SECTIONS.items():
        pairs = [pair for pair in sections[name] if pair[0]["key"] in examples][:EACH]
        if pairs:
            yield f"<h2>{title}</h2>"
            if name:
                yield (
                    "<p>Left the picture, dimmed where the object is not. Green frame: the peak "
                    "(ring) hits it, within the tolerance. Red: it does not.</p>"
                )
        for image, index in pairs:
            try:
                example = examples[image["key"]]
                yield from _pair(image, index, example, class_names, results["scores"])
            except (ImageError, OSError) as error:
                yield f"<p>{_text(str(error))}</p>"


def _section(image: Mapping[str, Any], index: int) -> str:
    hits = [measured["hit"][index] for measured in image["values"].values() if "hit" in measured]
    if not hits:
        return ""
    return "hit" if all(hits) else "mixed" if any(hits) else "miss"


def _pair(image, index: int, example: Example, class_names, methods) -> Iterator[str]:
    photo = _reduced(example.image())
    target, category = image["targets"][index], image["categories"][index]
    called = f" ({class_names[target].split(',')[0]})" if class_names else ""
    yield '<div class="pair">'
    yield _figure(
        _outlined(photo, example.mask(category)),
        f"<b><bdi>{_text(category)}</bdi></b><br>class {target}<bdi>{_text(called)}</bdi><br>"
        f"<bdi>{_text(image['key'])}</bdi>",
    )
    for method in methods:  # in the order of the table
        measured = image["values"][method]
        hit = measured.get("hit", [None] * (index + 1))[index]
        picture = _overlaid(photo, image["maps"][method][index])
        if picture is not photo:
            _ring(picture, image["points"][method][index], example.size)
        values = "<br>".join(
            f"{_text(name)} {value[index] if value[index] == INFINITE else f'{value[index]:.3g}'}"
            for name, value in measured.items()
            if name != "hit" and value[index] is not None
        )
        note = "" if picture is not photo else "<br>the map has no contrast"
        kind = "" if hit is None else "hit" if hit else "miss"
        yield _figure(picture, f"<b>{_text(method)}</b>{note}<br>{values}", kind)
    yield "</div>"


def _figure(picture: np.ndarray, caption: str, kind: str = "") -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY)
    source = _data(file.getvalue(), "jpeg")
    return (
        f'<figure class="{kind}"><img alt="" src="{source}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _reduced(photo: np.ndarray) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(photo)
    image.thumbnail((SIDE, SIDE))
    return np.asarray(image)


def _outlined(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns the photograph, dimmed outside the object."""
    from PIL import Image

    height, width = photo.shape[:2]
    inside = np.asarray(Image.fromarray(mask).resize((width, height)))[..., None]
    return np.where(inside, photo, photo // 3 + 150).astype(np.uint8)


def _overlaid(photo: np.ndarray, kept: Mapping[str, Any]) -> np.ndarray:
    if not kept["bytes"]:
        return photo
    values = np.frombuffer(base64.b64decode(kept["bytes"]), np.uint8).reshape(kept["size"])
    return plots.overlay(photo, values / np.float32(255))


def _ring(picture: np.ndarray, point: Sequence[int], size: tuple[int, int]) -> None:
    """Draws a ring around the peak, white within black."""
    rows, columns = np.indices(picture.shape[:2])
    row, column = (
        (p + 0.5) * n / m - 0.5 for p, n, m in zip(point, picture.shape[:2], size, strict=True)
    )
    distance = np.hypot(rows - row, columns - column)
    picture[(distance > 4) & (distance < 9)] = 0
    picture[(distance > 5.3) & (distance < 7.7)] = 255


def _broken(images: Mapping[str, str]) -> Iterator[str]:
    if images:
        yield "<h2>Broken images</h2><ul>"
        for reason in images.values():
            yield f"<li><bdi>{_text(reason)}</bdi></li>"
        yield "</ul>"
