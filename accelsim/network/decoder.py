"""Language models by their sizes alone: from a few keys, or a config.json from transformers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.config import (
    CHECKED,
    build,
    existing_file,
    find,
    kinds_of,
    label,
    parsed_toml,
    shipped_names,
    short,
    text_of,
    toml_text,
)
from accelsim.errors import InputError, did_you_mean, reason_of
from accelsim.files import real_path

MODELS = "workloads/models"
"""Where the language models are that come along."""

SHARDS_SUFFIX = ".index.json"
"""Of what names the files that tensors lie in, which is no configuration."""

CONFIG_SUFFIX = ".json"

ProductName = Literal["qkv", "o", "gate_up", "down"]
"""Products of a block as they are served."""

PATTERN = r"^([1-9][0-9]?:[1-9][0-9]?)?$"

MOST_SIZE = 2**31 - 1
Size = Annotated[int, Field(strict=True, ge=1, le=MOST_SIZE)]

MOST_BLOCKS = 1000
"""Of a model: each is seven layers; the largest that are known have fewer than 200."""

ARCHITECTURES = {
    "BitNetForCausalLM": {"sub_norms": True},
    "LlamaForCausalLM": {},
    "MistralForCausalLM": {},
    "Qwen2ForCausalLM": {},
    "Qwen3ForCausalLM": {},
}
"""Architectures of transformers whose blocks are those of `LanguageModel`, and what is its own of each."""

KEYS = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "ffn": "intermediate_size",
    "heads": "num_attention_heads",
    "vocabulary": "vocab_size",
    "context": "max_position_embeddings",
}
"""What transformers calls the sizes that it always gives."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LanguageModel:
    """A decoder of equal blocks: attention with a rotary embedding, a gated feed-forward part, RMS norms before both.

    Biases are left out, and so is whatever splits a model over several chips.
    """

    layers: Annotated[int, Field(strict=True, ge=1, le=MOST_BLOCKS)]
    """Blocks."""
    hidden: Size
    """Features of a token between blocks."""
    ffn: Size
    """Features inside of the feed-forward part."""
    heads: Size
    """Heads of queries."""
    kv_heads: Size
    """Heads of keys and values, each shared by as many heads of queries (grouped queries)."""
    head_features: Size
    """Features of a head."""
    vocabulary: Size
    """Words that the output head scores."""
    context: Size
    """Tokens for which it was made."""
    tied: Annotated[bool, Field(strict=True)] = False
    """true: the output head has the weights of the embedding."""
    sub_norms: Annotated[bool, Field(strict=True)] = False
    """true: RMS norms before the output projection and before the last product of the feed-forward part, too."""
    pattern: Annotated[str, Field(pattern=PATTERN)] = ""
    """N:M by which the weights of all blocks are pruned; empty: they are dense. The output head always is."""
    dense: tuple[ProductName, ...] = ()
    """Products of every block that stay dense all the same."""

    def __post_init__(self) -> None:
        """Check what the sizes say together; raises ValueError."""
        problems = []
        if self.heads % self.kv_heads:
            problems.append(f"kv_heads: {self.kv_heads} do not divide {self.heads} heads; correct one")
        if self.head_features % 2:
            problems.append(
                f"head_features: {self.head_features} are turned in pairs by a rotary embedding; make it even"
            )
        if self.pattern:
            n, m = map(int, self.pattern.split(":"))
            if not n <= m <= 32:
                problems.append(f'pattern: must be N:M with 1 <= N <= M <= 32 (got "{self.pattern}")')
        if problems:
            raise ValueError(*problems)

    @property
    def query_features(self) -> int:
        """Features of all queries of a token."""
        return self.heads * self.head_features

    @property
    def cache_features(self) -> int:
        """Features of all keys of a token, and as many of its values."""
        return self.kv_heads * self.head_features

    @property
    def products(self) -> dict[ProductName, tuple[int, int]]:
        """The four products of a block as they are served, (out_features, in_features)."""
        return {
            "qkv": (self.query_features + 2 * self.cache_features, self.hidden),
            "o": (self.hidden, self.query_features),
            "gate_up": (2 * self.ffn, self.hidden),
            "down": (self.hidden, self.ffn),
        }

    def pattern_of(self, product: str) -> str:
        """Return the N:M of one of the products, empty where it is dense."""
        return "" if product in self.dense else self.pattern

    @property
    def block_weights(self) -> int:
        """Weights of the products of all blocks."""
        return self.layers * sum(rows * columns for rows, columns in self.products.values())

    @property
    def embedding_weights(self) -> int:
        """Weights of the embedding, and of the output head where it has its own."""
        return (1 if self.tied else 2) * self.vocabulary * self.hidden

    def cache_bytes(self, value_bytes: int = 2) -> int:
        """Return the bytes of keys and values that one token leaves behind: two of each of all blocks."""
        return 2 * self.layers * self.cache_features * value_bytes


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LanguageModelFile:
    """A file that describes a language model."""

    name: str
    """What it is called in results."""
    language_model: LanguageModel
    description: str = ""
    """What it is, in a sentence or two; `accelsim list` shows it."""
    source: str = ""
    """Where its sizes are from."""
    notes: str = ""
    """What else a reader should know."""


def is_language_model(name: str) -> bool:
    """Return whether a name or a path is that of a language model by its sizes."""
    if name in shipped_names(MODELS) or (name.endswith(CONFIG_SUFFIX) and not name.endswith(SHARDS_SUFFIX)):
        return True
    path = Path(name)
    if path.suffix != ".toml" or not os.path.isfile(path):
        return False
    text = toml_text(path)  # a network is parsed by its own reader, and once
    return "language_model" in text and "language model" in kinds_of(parsed_toml(text, path))


def load_model(name: str | Path | LanguageModelFile) -> LanguageModelFile:
    """Return the language model of this name, .toml file or config.json; raises InputError with every problem."""
    if isinstance(name, LanguageModelFile):
        return name
    if str(name).endswith(CONFIG_SUFFIX):
        path = existing_file(Path(name).expanduser())
        return _of_config(text_of(path, "a config.json"), path)
    names = shipped_names(MODELS)
    if not str(name).endswith(".toml") and not os.path.isfile(name) and str(name) not in names:
        near = did_you_mean(str(name), names)
        raise InputError(
            f"{str(name)!r}: no language model of this name is shipped{near}; or give a .toml or a config.json"
        )
    path = find(name, MODELS)
    return _of_file(toml_text(path), path)


@lru_cache(maxsize=32)
def _of_file(text: str, path: Path) -> LanguageModelFile:
    return build(LanguageModelFile, parsed_toml(text, path), label(path))


@lru_cache(maxsize=32)
def _of_config(text: str, path: Path) -> LanguageModelFile:
    """Return what a config.json of transformers describes; raises InputError with every problem."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: is not JSON ({reason_of(error)}); give the config.json that transformers writes"
        ) from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: must be one JSON object, as the config.json that transformers writes")
    named = data.get("architectures")
    architecture = named[0] if isinstance(named, list) and len(named) == 1 and isinstance(named[0], str) else None
    known = {each.lower(): each for each in ARCHITECTURES}
    if architecture is None or architecture.lower() not in known:
        said = "is missing or not one name" if architecture is None else f"'{architecture}' is not known"
        raise InputError(
            f"{path}: architectures: {said}{did_you_mean(architecture or '', ARCHITECTURES)}; for others write a .toml "
            "with [language_model]"
        )
    missing = [f"{path}: {key}: is missing; add it" for key in KEYS.values() if key not in data]
    if missing:
        raise InputError(*missing)
    sizes: dict[str, Any] = {ours: data[theirs] for ours, theirs in KEYS.items()}
    wrong = [
        f"{path}: {KEYS[key]}: must be a whole number, at least 1 and at most {_most(key):,} (got {short(value)})"
        for key, value in sizes.items()
        if type(value) is not int or not 1 <= value <= _most(key)
    ]
    if wrong:
        raise InputError(*wrong)
    found = {
        **sizes,
        "kv_heads": sizes["heads"] if data.get("num_key_value_heads") is None else data["num_key_value_heads"],
        "head_features": data.get("head_dim") or _shared(path, sizes),
        "tied": bool(data.get("tie_word_embeddings", False)),
        **ARCHITECTURES[known[architecture.lower()]],
    }
    model: LanguageModel = build(LanguageModel, found, str(path))
    return LanguageModelFile(name=real_path(path.parent).name or path.stem, language_model=model, source=str(path))


def _most(key: str) -> int:
    return MOST_BLOCKS if key == "layers" else MOST_SIZE


def _shared(path: Path, sizes: dict[str, int]) -> int:
    if sizes["hidden"] % sizes["heads"]:
        raise InputError(
            f"{path}: num_attention_heads: {sizes['heads']} do not divide hidden_size = {sizes['hidden']}; correct "
            "one, or add head_dim"
        )
    return sizes["hidden"] // sizes["heads"]


def pruned_by(file: LanguageModelFile, pattern: str) -> LanguageModelFile:
    """Return a model with the weights of its blocks pruned N:M, or dense where the pattern is "" or "dense".

    Raises InputError for another pattern.
    """
    pattern = "" if pattern == "dense" else pattern.removeprefix("nm:")
    if not re.fullmatch(PATTERN, pattern):
        raise InputError(f"pattern: write N:M, as in 2:4 (got {pattern!r}), or dense")
    return replace(file, language_model=replace(file.language_model, pattern=pattern))


def described(file: LanguageModelFile) -> dict[str, Any]:
    """Return a model as the data of a network file: seven layers a block, the output head, and what stands between.

    One inference is a sequence as long as the context; weights are drawn.
    """
    model = file.language_model
    flow = _Flow(model)
    tokens, head = model.context, (model.heads, model.kv_heads, model.head_features)
    before = "embed_tokens"
    table = {"shape": [tokens, model.hidden], "weights": tokens * model.hidden}
    flow.does("embed_tokens", "Gather", ["input_ids"], **table)
    for block in range(model.layers):
        name = f"layers.{block}"
        seen = flow.does(f"{name}.input_layernorm", "RMSNormalization", [before], weights=model.hidden)
        q, k, v = (
            flow.layer(f"{name}.self_attn.{part}_proj", rows, model.hidden, seen, "qkv")
            for part, rows in (("q", model.query_features), ("k", model.cache_features), ("v", model.cache_features))
        )
        q, k = (
            flow.does(f"{name}.self_attn.rotary_{at}", "RotaryEmbedding", [part], kind="elementwise")
            for at, part in (("q", q), ("k", k))
        )
        seen = flow.attention(f"{name}.self_attn", (q, k, v), tokens, head)
        if model.sub_norms:
            seen = flow.does(f"{name}.attn_sub_norm", "RMSNormalization", [seen], weights=model.query_features)
        made = flow.layer(f"{name}.self_attn.o_proj", model.hidden, model.query_features, seen, "o")
        middle = flow.does(f"{name}.add_attn", "Add", [made, before])
        seen = flow.does(f"{name}.post_attention_layernorm", "RMSNormalization", [middle], weights=model.hidden)
        gate = flow.layer(f"{name}.mlp.gate_proj", model.ffn, model.hidden, seen, "gate_up")
        gate = flow.does(f"{name}.mlp.silu", "Silu", [gate])
        up = flow.layer(f"{name}.mlp.up_proj", model.ffn, model.hidden, seen, "gate_up")
        seen = flow.does(f"{name}.mlp.multiply", "Mul", [gate, up])
        if model.sub_norms:
            seen = flow.does(f"{name}.ffn_sub_norm", "RMSNormalization", [seen], weights=model.ffn)
        made = flow.layer(f"{name}.mlp.down_proj", model.hidden, model.ffn, seen, "down")
        before = flow.does(f"{name}.add_mlp", "Add", [made, middle])
    seen = flow.does("norm", "RMSNormalization", [before], weights=model.hidden)
    flow.layer("lm_head", model.vocabulary, model.hidden, seen)
    return {
        "name": file.name,
        "description": file.description,
        "source": file.source,
        "notes": file.notes,
        "inputs": {"input_ids": [tokens]},
        "layer": flow.layers,
        "operation": flow.operations,
        "not_simulated": list(_left_out(model)),
        "assumptions": ["its biases are left out"],
        "aliases": {layer["name"]: _in_files(layer["name"], tied=model.tied) for layer in flow.layers},
    }


GGUF = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Parts of a block in files of llama.cpp."""


def _in_files(name: str, *, tied: bool) -> tuple[str, str]:
    """Return what a layer is called in files of transformers and of llama.cpp; a tied head is the embedding there."""
    if name == "lm_head":
        return ("embed_tokens", "token_embd") if tied else (name, "output")
    _, block, part = name.split(".", 2)
    return name, f"blk.{block}.{GGUF[part]}"


def _left_out(model: LanguageModel) -> Iterator[str | dict[str, Any]]:
    if model.tied:
        yield "embed_tokens"
    else:
        yield {"name": "embed_tokens", "kind": "look-up", "weights": model.vocabulary * model.hidden}
    yield from ("rotary embeddings", "softmax", "swiglu", "normalisation", "residual additions")


class _Flow:
    """Layers and operations as a network file has them, in the order in which they run."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.layers: list[dict[str, Any]] = []
        self.operations: list[dict[str, Any]] = []

    def layer(self, name: str, rows: int, columns: int, takes: str, product: str = "") -> str:
        """Add a layer, a part of a product of its block; returns its name."""
        drawn: dict[str, Any] = {"density": 1.0}
        if product and (pattern := self._model.pattern_of(product)):
            n, m = map(int, pattern.split(":"))
            drawn = {"density": n / m, "pattern": f"nm:{pattern}"}
        self.layers.append(
            {
                "name": name,
                "inputs": [takes],
                "tokens": self._model.context,
                "out_features": rows,
                "in_features": columns,
                "synthetic": {**drawn, "seed": len(self.layers)},
                "activations": {"density": 1.0},
            }
        )
        return name

    def does(self, name: str, does: str, inputs: list[str], **more: Any) -> str:
        """Add an operation; returns its name."""
        self.operations.append({"name": name, "does": does, "inputs": inputs, **more})
        return name

    def attention(self, name: str, vectors: tuple[str, str, str], tokens: int, head: tuple[int, int, int]) -> str:
        """Add the products of a causal attention; head: heads of queries, of keys, features. Returns the last name."""
        queries, keys, values = vectors
        groups, shared, width = head
        more: dict[str, Any] = {"groups": groups, "vectors": tokens, "causal": True}
        if shared != groups:
            more["operand_groups"] = shared
        scores = {**more, "rows": tokens, "columns": width}
        made = self.does(f"{name}.scores", "AttentionScores", [queries, keys], product=scores)
        made = self.does(f"{name}.softmax", "Softmax", [made])
        by_values = {**more, "rows": width, "columns": tokens}
        return self.does(f"{name}.values", "AttentionValues", [made, values], product=by_values)
