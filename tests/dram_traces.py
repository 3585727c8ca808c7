"""The traces of the reference runs, from their definitions; a block is 64 bytes."""

from __future__ import annotations

import hashlib

import numpy as np

FOOTPRINT = 2**22


def splitmix64(seed: int, draws: int) -> np.ndarray:
    """Draws (uint64) of Steele, Lea and Flood's generator."""
    z = np.uint64(seed) + np.arange(1, draws + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _drawn(seed: int, draws: int, limit: int) -> np.ndarray:
    return (splitmix64(seed, draws) % np.uint64(limit)).astype(np.int64)


def _strided(blocks: int, i: np.ndarray) -> np.ndarray:
    return blocks * i % FOOTPRINT + blocks * i // FOOTPRINT


def _bursts(seed: int, blocks: int, n: int) -> np.ndarray:
    base = blocks * _drawn(seed, -(-n // blocks), FOOTPRINT // blocks)
    return (base[:, None] + np.arange(blocks)).reshape(-1)[:n]


def trace(name: str, n: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Blocks (n,) int64 and writes (n,) bool of a named trace."""
    i = np.arange(n, dtype=np.int64)
    reads = np.zeros(n, bool)
    if name == "mix_seq_75r25w":
        write = i % 4 == 3
        return np.where(write, FOOTPRINT // 2 + i // 4, 3 * (i // 4) + i % 4), write
    if name == "mix_rand_75r25w":
        draws = splitmix64(2, n)
        return (draws % np.uint64(FOOTPRINT)).astype(np.int64), (draws >> np.uint64(32)) % np.uint64(4) == 0
    blocks = {
        "seq_read": lambda: i,
        "seq_write": lambda: i,
        "rand_read64": lambda: _drawn(1, n, FOOTPRINT),
        "stride_256B": lambda: _strided(4, i),
        "stride_4KB": lambda: _strided(64, i),
        "stride_32KB": lambda: _strided(512, i),
        "stride_128KB": lambda: _strided(2048, i),
        "rand_burst256": lambda: _bursts(3, 4, n),
        "rand_burst1K": lambda: _bursts(4, 16, n),
    }[name]()
    return blocks, ~reads if name == "seq_write" else reads


def checksum(block: np.ndarray, write: np.ndarray) -> str:
    """MD5 over lines `<block> <R|W>`, the last one ended too."""
    text = "".join(f"{b} {'W' if w else 'R'}\n" for b, w in zip(block.tolist(), write.tolist(), strict=True))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
