"""Weights by their name on the Hugging Face Hub (extra `hub`)."""

import pathlib
import re

from jaxground.weights.errors import WeightsError

# What timm and transformers call the weights, safest first.
FILES = ("model.safetensors", "pytorch_model.bin")
URL = "https://huggingface.co/{name}/resolve/main/{file}"


def download(name: str) -> pathlib.Path:
    """Returns the local path of the weights of a Hub repository, fetched unless in the cache.

    What is in the cache is used as it is: the Hub is not asked for a newer revision.

    Args:
      name: `owner/repository`, as in `timm/resnet50.tv_in1k`.

    Raises:
      ImportError: huggingface_hub is absent; the message names the extra.
      WeightsError: The name is no repository's, the repository has no such file, or the Hub cannot
        be reached. The message then says which file to fetch elsewhere, and how.

    Example:
      >>> path = download("timm/resnet50.tv_in1k")  # doctest: +SKIP
      >>> arrays = jaxground.weights.read(path)  # doctest: +SKIP
    """
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, re.ASCII) or ".." in name or "--" in name:
        raise WeightsError(
            f"expected a file that exists, or a name on the Hub like timm/resnet50.tv_in1k, "
            f"found {name!r}"
        )
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ImportError(
            f"to fetch {name!r} from the Hub, jaxground needs huggingface_hub: "
            f"pip install 'jaxground[hub]'. {_remedy(name)}"
        ) from error
    for file in FILES:
        try:
            return pathlib.Path(huggingface_hub.hf_hub_download(name, file, local_files_only=True))
        except errors.LocalEntryNotFoundError:
            continue
    for file in FILES:
        try:
            return pathlib.Path(huggingface_hub.hf_hub_download(name, file))
        except errors.LocalEntryNotFoundError as error:  # a kind of EntryNotFoundError, but offline
            raise WeightsError(
                f"{name!r} is not in the cache and the Hub cannot be reached. {_remedy(name)}"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise WeightsError(
                f"the Hub has no repository {name!r} that you may read (if it is gated or private, "
                "log in with `hf auth login`)"
            ) from error
        except errors.EntryNotFoundError:
            continue
        except Exception as error:  # whatever the network library raises for a broken transfer
            raise WeightsError(
                f"fetching {name!r} from the Hub failed: {error}. {_remedy(name)}"
            ) from error
    raise WeightsError(f"the Hub's repository {name!r} has none of the files {', '.join(FILES)}")


def _remedy(name: str) -> str:
    """Returns what to do on a machine without network."""
    local = name.split("/")[1]
    first, second = (URL.format(name=name, file=file) for file in FILES)
    return (
        "On a machine with network access run\n"
        f"  curl --fail --location --output {local}.safetensors {first}\n"
        "or, should that file be missing there,\n"
        f"  curl --fail --location --output {local}.bin {second}\n"
        "bring the file here, and give its path in place of the name."
    )
