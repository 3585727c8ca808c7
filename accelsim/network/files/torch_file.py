"""State dicts of PyTorch: tensors by name, read without running what a pickle may hold."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.files.tensor_file import TensorFile
from accelsim.network.sizes import check_fits_memory
from accelsim.number_formats import ARRAY_TYPES, unsupported
from accelsim.torch_weights import as_array, type_name

WRAPPINGS = ("state_dict", "model_state_dict", "model")
"""Under which a checkpoint keeps its state dict beside other things."""


class StateDict(TensorFile):
    """Tensors of a `.pt` file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            held_bytes = path.stat().st_size
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    held_bytes = sum(member.file_size for member in archive.infolist())
            check_fits_memory(held_bytes, str(path))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is odd about a file, it either fails by or not
                held = torch.load(path, map_location="cpu", weights_only=True)
        except InputError:
            raise
        except pickle.UnpicklingError:
            raise InputError(
                f"{path}: holds Python objects, perhaps a whole module, which are never unpickled; save its tensors, "
                "torch.save(model.state_dict(), path), or give the model itself to Network.from_torch"
            ) from None
        except Exception as error:
            # torch and zipfile raise a dozen types on damaged files, and more with each version.
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: not a whole file of torch.save: {reason}; save or copy it again") from None
        for key in WRAPPINGS:
            if isinstance(held, dict) and isinstance(held.get(key), dict):
                held = held[key]
        tensors = {str(key): each for key, each in held.items()} if isinstance(held, dict) else {}
        self._tensors = {name: each for name, each in tensors.items() if isinstance(each, torch.Tensor)}
        if not self._tensors:
            raise InputError(f"{path}: holds no dict of tensors by name; save model.state_dict()")
        for name, tensor in self._tensors.items():
            # A view may claim to be far larger than what it repeats.
            check_fits_memory(tensor.numel() * tensor.element_size(), f"{path}: '{name}'")
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}
        self.types = {name: type_name(tensor) for name, tensor in self._tensors.items()}
        self.unusable = {
            name: unsupported(tensor.dtype)
            for name, tensor in self._tensors.items()
            if type_name(tensor) not in ARRAY_TYPES
        }

    def _read(self, name: str) -> NDArray[Any]:
        return as_array(self._tensors[name])
