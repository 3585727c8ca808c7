"""What names say of arrays that are no weights of a layer: look-ups, norms, and parameters without a rule."""

from __future__ import annotations

import re

from accelsim.network.roles.logical import Logical
from accelsim.network.roles.names import Path, words

LOOK_UPS = {
    "emb", "embs", "embd", "embed", "embeds", "embedding", "embeddings", "wte", "wpe", "lookup", "lut", "codebook",
    "queries", "prompt", "prompts",
}  # fmt: skip
"""Words that name a look-up wherever they stand in the last part of a module's name."""

WHOLE_LOOK_UPS = {"shared", "pos", "position", "positions", "vocab", "tok", "reference_points", "attn_rel_b"}
"""Names of modules that are look-ups."""

PAIRS = (
    ({"query", "token", "row", "column", "col", "style", "mode", "class", "label"}, {"embedder", "feat", "features"}),
    ({"pos", "position", "positional", "relative", "rel"}, {"encoding", "encodings", "enc", "bias", "table"}),
    ({"user", "item"}, {"bias", "biases", "factors"}),
)
"""Words of which one of the first with one of the second names a look-up."""

COLLECTIONS = {"embs", "embeds", "embeddings", "bags", "dict", "tables", "list", "collection", "lists"}
"""Words of a module whose parts are look-ups, if a word of `LOOK_UPS` stands beside them."""

LAYERS = {
    "proj", "projs", "projection", "projector", "project", "linear", "out", "output", "head", "heads", "fc", "dense",
    "mlp", "conv", "patch", "patches", "gate", "router", "to",
}  # fmt: skip
"""Words that name a layer, whatever else the name says; `out` only where it does not name what is looked up."""

OUTPUTS = {"head", "heads", "out", "output", "decoder", "generator", "logits", "loss", "classifier", "unembed"}
"""Words that name the layer in which a language model ends."""

NORMS = {"norm", "norms", "ln", "layernorm", "bn", "batchnorm", "groupnorm", "rmsnorm", "instancenorm", "gn"}
TRANSPOSED = {"deconv", "transpose", "transposed", "convtranspose", "upconv", "tconv"}
TOKEN_TABLES = {
    "wte", "embed_tokens", "word_embeddings", "tok_embeddings", "token_embedding", "token_embeddings", "shared",
    "embed_in", "tok_emb", "token_emb", "token_embd", "embeddings",
}  # fmt: skip
"""Look-ups of the tokens of a language model, with which its output layer may share weights."""

_LOOKED_UP = re.compile(r"(embed|embeds|embedding|embeddings|emb)$")
_TOKENS = re.compile(r"(^|_)tokens?(_types)?$")
_OPTIMISER = re.compile(r"(^|[./])(optimi[sz]er(_state)?s?|optim|opt_state)([./]|$)")

UNKNOWN = "parameter of unknown use"
"""The kind of an array that no rule knows."""

OPTIMISER, EXPERTS = "state of an optimiser", "weights of experts"

NO_WEIGHTS = {"index or mask", "mask", OPTIMISER}
"""Kinds of arrays that hold no weights, whatever their size."""


def is_look_up(path: Path) -> bool:
    """Whether the weights (rows, features) of a module without a bias are looked up, by its name."""
    component, parent = path.component, path.parent
    if component.isdecimal():
        component, parent = parent, ""
    said = words(component)
    if said & LAYERS and not (said & LAYERS <= {"out", "output"} and _LOOKED_UP.search(component)):
        return False
    if said & LOOK_UPS or component.lower() in WHOLE_LOOK_UPS or _TOKENS.search(component):
        return True
    if any(said & one and said & other for one, other in PAIRS):
        return True
    above = words(parent)
    return bool(above & LOOK_UPS) and bool(above & COLLECTIONS)


def is_norm(path: Path) -> bool:
    """Whether weights of two or more dimensions belong to a norm, by the name of its module."""
    said = words(path.component)
    return bool(said & NORMS) and not said & LAYERS


def is_of_experts(path: Path) -> bool:
    """Whether an array has a matrix for each expert of a layer, by its name."""
    return bool(words(path.module) & {"expert", "experts", "exps", "moe"})


def is_of_optimiser(path: Path) -> bool:
    """Whether an array is what an optimiser keeps beside the weights, under the same names."""
    return bool(_OPTIMISER.search(path.module))


def is_mask(path: Path, type_name: str) -> bool:
    """Whether weights by name are a mask: of a module `masks.X`, or `mask_X` where they are true or false."""
    first = re.split(r"[./]", path.module)[0]
    return first in ("mask", "masks") or ("mask" in words(first) and type_name.lower() == "bool")


def is_transposed(path: Path) -> bool:
    """Whether a convolution is transposed, by the name of its module."""
    return bool(words(path.component) & TRANSPOSED)


def kind_of(path: Path, array: Logical, type_name: str) -> tuple[str, int | None]:
    """Return what an array of two or more dimensions without a rule is, and its multiply-accumulates if known."""
    said = words(path.tail)
    above = words(path.module)
    if said & {"exp", "momentum"}:
        return OPTIMISER, 0
    if type_name.lower().startswith(("i", "u", "bool")):
        return "index or mask", 0
    if "mask" in said and said & {*LOOK_UPS, "token", "tokens"}:
        return "learned token", 0
    causal = path.tail == "bias" and array.shape[:2] == (1, 1) and len(set(array.shape[2:])) == 1
    if "mask" in said or above & {"mask", "masks"} or causal:
        return "mask", 0
    if path.tail in ("bias_k", "bias_v") or path.tail in ("bias", "biases", "b"):
        return "bias", 0
    if said & {"pos", "position", "positional"} and said & {*LOOK_UPS, "encoding", "table", "bias"}:
        return "position embedding", 0
    if said & LOOK_UPS:
        return "look-up", 0
    if said & {"token", "tokens", "cls"}:
        return "learned token", 0
    if said & {"gamma", "beta", "scale"} or re.fullmatch(r"(running|moving)_\w+", path.tail):
        return "normalisation", 0
    if is_of_experts(path):
        return EXPERTS, None
    return UNKNOWN, None
