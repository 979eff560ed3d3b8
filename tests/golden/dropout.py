"""Dropout that drops what `finetune` drops, for the traces of make_models.py: the definition, written down a second time.

Of an adapter on MODULE an input is dropped in step STEP where the next 32 bits of the stream named `dropout MODULE STEP SAMPLE` are below
the share of 2^32 - 1, position after position; what is left is divided by the share that is kept. The stream is ChaCha8 (RFC 8439
with 8 rounds, a block counter of 64 bits and a zero nonce); its key is the SHA-256 of the seed, 8 bytes, little end first, and the
name. SAMPLE counts the rows of the trace's batches in the order of use.
"""

import hashlib
import struct

import torch


COLUMNS = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
DIAGONALS = [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]


def block(key, counter):
    """The 16 words of one block of ChaCha8."""
    start = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key)]
    start += [counter & 0xFFFFFFFF, counter >> 32, 0, 0]
    x = start.copy()

    def add_and_turn(a, b, d, n):
        x[a] = (x[a] + x[b]) & 0xFFFFFFFF
        x[d] ^= x[a]
        x[d] = (x[d] << n | x[d] >> 32 - n) & 0xFFFFFFFF

    for _ in range(4):
        for a, b, c, d in COLUMNS + DIAGONALS:
            add_and_turn(a, b, d, 16)
            add_and_turn(c, d, b, 12)
            add_and_turn(a, b, d, 8)
            add_and_turn(c, d, b, 7)
    return [(a + b) & 0xFFFFFFFF for a, b in zip(x, start)]


def words(seed, name, n):
    """The first `n` words of the stream of this name."""
    key = hashlib.sha256(seed.to_bytes(8, "little") + name.encode()).digest()
    return [word for counter in range(-(-n // 16)) for word in block(key, counter)][:n]


class GivenDropout(torch.nn.Module):
    """Drops what the names say, whatever torch would draw."""

    def __init__(self, module, trace, clock):
        super().__init__()
        self.module, self.share, self.seed, self.clock = module, trace["dropout"], trace["seed"], clock

    def forward(self, x):
        rows, tokens, width = x.shape
        step, first = self.clock["step"], self.clock["first_sample"]
        streams = [words(self.seed, f"dropout {self.module} {step} {first + row}", tokens * width) for row in range(rows)]
        kept = torch.tensor(streams, dtype=torch.float64) >= self.share * 0xFFFFFFFF
        return x * kept.reshape(x.shape).to(x.dtype) / (1 - self.share)


def install(model, trace):
    """Puts the given dropout into every adapter of `model`; a hook counts its forward passes."""
    clock = {"step": 0, "first_sample": 0, "passes": 0}

    def tick(_module, _arguments, keywords):
        rows = keywords["input_ids"].shape[0]
        clock["step"] = clock["passes"] // trace["accum"]
        clock["first_sample"] = clock["passes"] * rows
        clock["passes"] += 1

    model.register_forward_pre_hook(tick, with_kwargs=True)
    for name, module in model.named_modules():
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = GivenDropout(name.removeprefix("base_model.model."), trace, clock)
    model.train()
