"""Files from strangers: tensors are read, programs are not run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from more_model.errors import EnvironmentFault
from more_model.state_file import read_tensors

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}


class Program:
    """Unpickling it would touch a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("content", [TENSORS, {"model": TENSORS, "epoch": 3}, {"state_dict": TENSORS}], ids=str)
@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_files_plain_wrapped_and_of_the_old_format(tmp_path: Path, content: object, zipped: bool) -> None:
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    found = read_tensors(tmp_path / "file.pth", "weights")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_the_prefix_goes_only_where_every_name_has_it(tmp_path: Path) -> None:
    save_file({f"module.{name}": tensor for name, tensor in TENSORS.items()}, tmp_path / "all.safetensors")
    save_file({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "some.safetensors")
    assert read_tensors(tmp_path / "all.safetensors", "weights").keys() == TENSORS.keys()
    assert read_tensors(tmp_path / "some.safetensors", "weights").keys() == {"module.a", "b"}


def test_a_program_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1), "callback": Program(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(EnvironmentFault, match=r"weights: evil\.pth holds more than tensors") as caught:
        read_tensors(tmp_path / "evil.pth", "weights")
    assert "can run any program" in caught.value.avoid
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kept", [0, 10, 200, 600])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_cut_files_are_refused(tmp_path: Path, kept: int, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save({"a": torch.zeros(500)}, path)
    else:
        save_file({"a": torch.zeros(500)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(EnvironmentFault, match=r"weights: cut\.\w+ (cannot be read|holds more than tensors)"):
        read_tensors(path, "weights")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([torch.zeros(1)], "a list"),
        ({}, "a dict"),
        ({"epoch": 3, "weights": {"a": torch.zeros(1)}}, "entries that are none: epoch, weights"),
        ({"state_dict": {"a": torch.zeros(1), "lr": 0.1}}, "entries that are none: lr"),
    ],
)
def test_anything_but_a_dictionary_of_tensors_is_refused(tmp_path: Path, content: object, found: str) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(EnvironmentFault, match=f"is no dictionary of tensors; it holds {found}"):
        read_tensors(tmp_path / "file.pth", "weights")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"weights: there is no file .*nothing\.pth"):
        read_tensors(tmp_path / "nothing.pth", "weights")
