"""Writes the files beside it. Needs torch, which the tests do not: they read what is here."""

import pathlib


def main() -> None:
    import torch

    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "t": base.t(),
        "slice": base[1:, ::2],
        "row": base[2],
        "expand": torch.ones(1).expand(5),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 7),
        "flat": base.view(-1),
    }
    folder = pathlib.Path(__file__).parent
    torch.save(tensors, folder / "strided.zip.pth")
    torch.save(tensors, folder / "strided.legacy.pth", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
