"""Parts of an ONNX graph as ONNX Runtime runs them."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from accelsim.errors import InputError, needing, reason_of
from accelsim.network.onnx_graph.replaced import Reader

Array = NDArray[Any]

LEAST_SHARED = 2**12
"""Bytes of a constant that is handed over as it lies in memory."""

IR_VERSION = 10
"""Of the files that are handed over: one that every version of ONNX Runtime since 1.20 reads."""

QUIET = 4
"""What ONNX Runtime logs: only what ends the program; what fails is raised."""

AS_THEY_RUN = {"Conv", "Gemm", "MatMul"}
"""Operations of floating-point numbers that lay out their weights while they run as well, with the same result."""

TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""Types of ONNX Runtime as NumPy calls them."""


@cache
def _share_memory() -> None:
    """Let all sessions take memory from one place, so that the next has what the one before gave back."""
    import onnxruntime as ort

    as_needed = ort.OrtArenaCfg({"arena_extend_strategy": 1})
    cpu = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(cpu, as_needed)


class Session:
    """A part of a graph, ready to run."""

    def __init__(
        self,
        nodes: Sequence[Any],
        constants: Mapping[str, Reader],
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        opsets: Mapping[str, int],
        *,
        runs: int,
    ) -> None:
        """Take nodes in order, constants by name, inputs of whose shapes and types it is, and what is wanted.

        runs: how often it is to run.

        Raises InputError where ONNX Runtime is missing or cannot run it.
        """
        with needing("onnx"):
            import onnxruntime as ort
        self.outputs = list(outputs)
        options = ort.SessionOptions()
        options.log_severity_level = QUIET
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads of a part that has run wait
        options.enable_mem_pattern = False  # one block for all values, which has no place where others were
        _share_memory()
        used = dict.fromkeys(name for node in nodes for name in node.input if name in constants)
        tensors, shared = [], {}
        for name in used:
            array = np.asarray(constants[name](), order="C")
            if array.nbytes >= LEAST_SHARED and array.dtype.isbuiltin == 1 and array.dtype.kind in "fiub":
                shared[name] = ort.OrtValue.ortvalue_from_numpy(array)
                tensors.append(_elsewhere(name, array))
            else:
                tensors.append(numpy_helper.from_array(array, name))
        if runs == 1 and all(_is_laid_out_late(node, shared) for node in nodes):
            options.add_session_config_entry("session.disable_prepacking", "1")
        if shared:
            options.add_external_initializers(list(shared), list(shared.values()))
        entering = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape)
            for name, each in inputs.items()
        ]
        leaving = [helper.make_empty_tensor_value_info(name) for name in self.outputs]
        graph = helper.make_graph(list(nodes), "part", entering, leaving, tensors)
        domains = dict.fromkeys((node.domain for node in nodes if node.domain != "ai.onnx"), 1) | dict(opsets)
        imports = [helper.make_opsetid(*each) for each in domains.items()]
        model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
        try:
            self._session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(_told(error)) from None

    @property
    def made(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of what is wanted, where ONNX Runtime knows them beforehand and NumPy has that type."""
        given = {each.name: (tuple(each.shape), TYPES.get(each.type, "")) for each in self._session.get_outputs()}
        return {
            name: (shape, kind)
            for name, (shape, kind) in given.items()
            if kind and all(isinstance(size, int) and size > 0 for size in shape)
        }

    def run(self, inputs: Mapping[str, Array], into: Mapping[str, Array]) -> dict[str, Array]:
        """Return what is wanted, for inputs of the shapes and types given; raises InputError.

        into: arrays in C order that some of it is written to; these are returned as they are.
        """
        binding = self._session.io_binding()
        try:
            for name, array in inputs.items():
                _bind(binding.bind_input, name, array)
            for name in self.outputs:
                if name in into:
                    _bind(binding.bind_output, name, into[name])
                else:
                    binding.bind_output(name, "cpu")
            self._session.run_with_iobinding(binding)
            values = dict(zip(self.outputs, binding.get_outputs(), strict=True))
            return {name: into[name] if name in into else value.numpy() for name, value in values.items()}
        except Exception as error:
            raise InputError(_told(error)) from None


def _is_laid_out_late(node: Any, large: Container[str]) -> bool:
    """Return whether nothing is won by laying out the large constants of a node before it runs, if that is once."""
    is_known = node.op_type in AS_THEY_RUN and node.domain in ("", "ai.onnx")
    return is_known or not any(name in large for name in node.input)


def _bind(bind: Any, name: str, array: Array) -> None:
    """Let an input or output of a session be an array where it lies."""
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    bind(name, "cpu", 0, kind, array.shape, array.ctypes.data)


def _elsewhere(name: str, array: Array) -> Any:
    """Return a tensor whose data is handed over beside the file."""
    tensor = onnx.TensorProto(
        name=name,
        dims=array.shape,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=onnx.TensorProto.EXTERNAL,
    )
    tensor.external_data.add(key="location", value=name)
    return tensor


def _told(error: Exception) -> str:
    """Say what ONNX Runtime says."""
    return f"ONNX Runtime cannot run it: {reason_of(error)}"
