"""The config.json of language models."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from hostile import mutations

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100, "tie_word_embeddings": True,
    "max_position_embeddings": 512, "rope_scaling": None, "torch_dtype": "bfloat16", "model_type": "llama",
    "quantization_config": {"quant_method": "gptq", "bits": 4},
}  # fmt: skip


def make(draw: Random, folder: Path) -> list[str]:
    """Make a configuration of a whole one."""
    changed = (mutations.numbers if draw.random() < 0.5 else mutations.tree)(draw, CONFIG)
    text = mutations.json_text(changed).encode("utf-8", "surrogatepass")
    (folder / "config.json").write_bytes(mutations.content(draw, text) if draw.random() < 0.1 else text)
    step = ["--prompt", draw.choice(("1", "128")), "--phase", draw.choice(("prefill", "decode"))]
    return draw.choice((
        ["check", "config.json"], ["inspect", "config.json"],
        ["run", "config.json", "--hardware", "h100-pcie", *step],
    ))  # fmt: skip
