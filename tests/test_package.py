"""The package as a whole: its imports, its names, its size, and how it is installed."""

import ast
import importlib
import importlib.metadata
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import jaxground

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "jaxground"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What users were promised, whatever else there is.
PROMISED = {
    "jaxground": (
        "CAFFE DECONVNET EXCITATION GRADIENT GUIDED MissingRuleError cam "
        "contrastive_excitation_backprop deconvnet excitation_backprop excite fold_batch_norm "
        "grad_cam gradient guided_backprop mass tap taps with_taps"
    ),
    "jaxground.core": "excitation_conv excitation_dense twin",
    "jaxground.maps": "boxes normalise peak resize smooth",
    "jaxground.models": "create names torchvision_names",
    "jaxground.weights": "read",
}

HEAVY = "PIL av chex flax h5py huggingface_hub matplotlib optax orbax tensorflow_datasets tqdm"


def run(code: str) -> str:
    """Returns what a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def imported(module: Path) -> Iterator[str]:
    """Yields the full names of what a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named(module: Path) -> str:
    return str(module.relative_to(PROJECT))


def test_import_is_light():
    jax, ours, heavy = run(
        "import sys, time\n"
        "start = time.perf_counter()\n"
        "import jax\n"
        "middle = time.perf_counter()\n"
        "import jaxground\n"
        "end = time.perf_counter()\n"
        f"heavy = [name for name in {HEAVY!r}.split() if name in sys.modules]\n"
        "print(middle - start, end - middle, ','.join(heavy), sep='\\n')"
    ).split("\n")[:3]
    print(f"import jaxground costs {1 + float(ours) / float(jax):.3f} times import jax")
    assert not heavy


def test_one_name_does_not_load_the_others():
    loaded = run(
        "import sys, jaxground\n"
        "jaxground.excitation_backprop\n"
        f"print(*[name for name in {HEAVY!r}.split() if name in sys.modules])"
    )
    assert not loaded.strip()


@pytest.mark.parametrize("name", jaxground.__all__)
def test_public_name_is_documented(name):
    value = getattr(jaxground, name)
    documentation = inspect.getdoc(value)
    assert documentation
    if not inspect.ismodule(value):
        assert ">>> " in documentation, "a public name shows an example of its use"


@pytest.mark.parametrize("module", PROMISED)
def test_promised_names(module):
    home = importlib.import_module(module)
    assert [name for name in PROMISED[module].split() if not hasattr(home, name)] == []


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'excitation_backprob'"):
        _ = jaxground.excitation_backprob
    assert set(jaxground.__all__) < set(dir(jaxground))


def test_type_checkers_see_every_name():
    """What `if TYPE_CHECKING` imports is what is loaded lazily."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    names = [alias.asname for node in ast.walk(block) for alias in getattr(node, "names", ())]
    assert sorted(names) == jaxground.__all__


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_module(module):
    text = module.read_text()
    assert text.count("\n") <= 300, "a module that outgrows 300 lines is two modules"
    assert "jax._src" not in text, "jax._src is private to JAX"
    if any(f"{name}.".startswith("jax.extend.") for name in imported(module)):
        assert named(module) == "jaxground/core/program.py"


def test_core_imports_jax_alone():
    roots = {
        ".".join(name.split(".")[:2]) if name.startswith("jaxground") else name.split(".")[0]
        for module in (PACKAGE / "core").glob("*.py")
        for name in imported(module)
    }
    assert roots - sys.stdlib_module_names <= {"jax", "jaxground.core", "numpy"}


def project() -> dict:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


def test_every_import_is_declared():
    """Nothing works only because another package happens to bring it."""
    extras = project()["optional-dependencies"]
    requirements = [*project()["dependencies"], *extras["hub"], *extras["keras"], *extras["video"]]
    declared = {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}
    provided = importlib.metadata.packages_distributions()
    for module in MODULES:
        for root in {name.split(".")[0] for name in imported(module)}:
            if root != "jaxground" and root not in sys.stdlib_module_names:
                homes = {home.lower().replace("_", "-") for home in provided.get(root, [root])}
                assert homes & declared, f"{named(module)} imports {root}"


def test_stack_is_required_within_bounds():
    bounds = dict(re.split("(?=>=)", text, maxsplit=1) for text in project()["dependencies"])
    assert all(re.match(r">=\d", bound) for bound in bounds.values()), "CI installs the oldest"
    stack = {"jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "chex"}
    assert all("<" in bounds[name] for name in stack)
    assert "numpy" in bounds


def test_readme_gives_the_command_that_ci_runs():
    (command,) = re.findall(r'^readme_command="(.*)"$', (PROJECT / ".ci/run").read_text(), re.M)
    assert f"    {command}\n" in (PROJECT / "README.md").read_text()
