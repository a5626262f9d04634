"""The README's example and the notebooks run as printed, and name what is there."""

import json
import re
from pathlib import Path

import pytest

import jaxground
from jaxground import attribution, models

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text()
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
LONG = {"02_compare_explainers"}  # to run: the others are longer compiled than run


@pytest.mark.parametrize("section", ["In Python", "Your own model"])
def test_the_examples_of_the_readme_run(section):
    example = re.search(rf"## {section}\n.*?```python\n(.*?)```", README, re.DOTALL).group(1)
    exec(compile(example, f"README.md, {section}", "exec"), {})


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    if notebook.stem in LONG:
        request.getfixturevalue("optimised")
    cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
    names = {}
    for number, cell in enumerate(cells):
        assert not cell["outputs"], f"cell {number} has its output stored; strip it"
        exec(compile("".join(cell["source"]), f"{notebook.name}, cell {number}", "exec"), names)


def test_the_readme_lists_every_explainer_and_network():
    explainers = [n for n in vars(attribution) if callable(getattr(attribution, n))]
    for name in explainers:
        assert f"`{name}`" in README, f"the README does not name the explainer {name}"
        assert hasattr(jaxground, name)
    table = README.split("## Networks")[1].split("`models.create")[0]
    for name in models.names():
        base, batch_norm = name.removesuffix("_bn"), name.endswith("_bn")
        short = re.sub(r"\D+(?=\d+$)", "", base)  # `resnet18` `34` ...
        assert (
            f"`{name}`" in table or (f"`{base}`" in table and batch_norm) or f"`{short}`" in table
        )


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_every_link_of_the_readme_leads_somewhere(link):
    assert (PROJECT / link).exists()
