"""Names on the Hub, with the network replaced, and without any."""

import builtins
import re

import pytest

from jaxground import weights
from jaxground.weights import WeightsError

huggingface_hub = pytest.importorskip("huggingface_hub", reason="Hub names need the extra `hub`")
errors = pytest.importorskip("huggingface_hub.errors")
NAME = "timm/resnet50.tv_in1k"


class Hub:
    """Stands for `hf_hub_download`: files in the cache, files on the server, or an error."""

    def __init__(self, *, cached=(), served=(), error=None):
        self.cached, self.served, self.error, self.calls = cached, served, error, []

    def __call__(self, name, file, local_files_only=False):
        assert name == NAME
        self.calls.append((file, local_files_only))
        if file in self.cached:
            return f"/cache/{file}"
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not in the cache")
        if self.error is not None:
            raise self.error
        if file in self.served:
            return f"/fetched/{file}"
        raise errors.EntryNotFoundError("404")


@pytest.fixture
def hub(monkeypatch):
    def function(**options):
        server = Hub(**options)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", server)
        return server

    return function


def test_prefers_safetensors(hub):
    hub(served=["pytorch_model.bin", "model.safetensors"])
    assert str(weights.download(NAME)) == "/fetched/model.safetensors"


def test_falls_back_to_the_torch_file(hub):
    hub(served=["pytorch_model.bin"])
    assert str(weights.download(NAME)) == "/fetched/pytorch_model.bin"


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_asks_the_cache_before_the_network(hub, file):
    server = hub(cached=[file], error=ConnectionError("no network"))
    assert str(weights.download(NAME)) == f"/cache/{file}"
    assert all(local for _, local in server.calls)


def check_remedy(message):
    """The commands in the message are complete and name the right addresses."""
    commands = re.findall(r"^  (curl .*)$", message, re.MULTILINE)
    address = "https://huggingface.co/timm/resnet50.tv_in1k/resolve/main/"
    assert commands == [
        f"curl --fail --location --output resnet50.tv_in1k.safetensors {address}model.safetensors",
        f"curl --fail --location --output resnet50.tv_in1k.bin {address}pytorch_model.bin",
    ]
    for command in commands:
        url = command.split()[-1]
        assert url == huggingface_hub.hf_hub_url(NAME, url.rsplit("/", 1)[1])
    assert message.endswith("give its path in place of the name.")


def test_says_what_to_do_when_the_network_breaks(hub):
    hub(error=ConnectionError("reset by peer"))
    with pytest.raises(WeightsError, match="from the Hub failed: reset by peer") as caught:
        weights.download(NAME)
    check_remedy(str(caught.value))


def test_says_what_to_do_offline(monkeypatch, tmp_path):
    """The real library, told to stay offline, with an empty cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="not in the cache and the Hub cannot be") as caught:
        weights.download("timm/resnet50.tv_in1k")
    check_remedy(str(caught.value))


def test_says_which_files_are_missing(hub):
    hub()
    with pytest.raises(WeightsError, match=r"none of the files model\.safetensors, pytorch_model"):
        weights.download(NAME)


@pytest.mark.parametrize(
    "name",
    ["resnet50", "a/b/c", "", "../etc", "a b/c", "a/b..c", "a/b--c", "ä/b", "/etc/passwd", "a/"],
)
def test_refuses_what_is_no_name(hub, name):
    server = hub()
    with pytest.raises(WeightsError, match="expected a file that exists, or a name on the Hub"):
        weights.download(name)
    assert not server.calls


def test_names_the_extra(monkeypatch):
    original = builtins.__import__

    def absent(name, *arguments, **more):
        if name == "huggingface_hub":
            raise ImportError(name)
        return original(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"pip install 'jaxground\[hub\]'") as caught:
        weights.download(NAME)
    check_remedy(str(caught.value))
