"""Writes two random bf16 checkpoints of a llama shape for the merge bench: DIR/pre and DIR/post.

    python benches/merge_models.py DIR {0.5b|1.5b|3b}

Needs numpy. The numbers are Gaussian; post is pre plus 5 % noise. Shards of at most 1 GB.
"""
import json, sys
from pathlib import Path
import numpy as np

SHAPES = {  # hidden, feed-forward, layers, key/value width, vocabulary
    "0.5b": (896, 4864, 26, 128, 151936),
    "1.5b": (1536, 8960, 26, 256, 151936),
    "3b": (2048, 11008, 36, 256, 151936),
}
SHARD = 1_000_000_000


def weights(hidden, ff, layers, kv, vocab):
    yield "model.embed_tokens.weight", (vocab, hidden)
    for i in range(layers):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (hidden,)
        yield p + "mlp.down_proj.weight", (hidden, ff)
        yield p + "mlp.gate_proj.weight", (ff, hidden)
        yield p + "mlp.up_proj.weight", (ff, hidden)
        yield p + "post_attention_layernorm.weight", (hidden,)
        yield p + "self_attn.k_proj.weight", (kv, hidden)
        yield p + "self_attn.o_proj.weight", (hidden, hidden)
        yield p + "self_attn.q_proj.weight", (hidden, hidden)
        yield p + "self_attn.v_proj.weight", (kv, hidden)
    yield "model.norm.weight", (hidden,)


def bf16(x):
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def config(hidden, ff, layers, kv, vocab):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": ff, "num_hidden_layers": layers, "num_attention_heads": hidden // 64,
        "num_key_value_heads": kv // 64, "head_dim": 64, "vocab_size": vocab, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "attention_bias": False,
        "mlp_bias": False, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }


def shards(shape):
    group, size = [], 0
    for name, dims in weights(*shape):
        n = int(np.prod(dims)) * 2
        if group and size + n > SHARD:
            yield group
            group, size = [], 0
        group.append((name, dims))
        size += n
    yield group


def main():
    root, shape = Path(sys.argv[1]), SHAPES[sys.argv[2]]
    groups = list(shards(shape))
    rng = np.random.default_rng(1)
    folders = [root / "pre", root / "post"]
    weight_map, total = {}, 0
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config(*shape), indent=2))
    for nth, group in enumerate(groups):
        name = f"model-{nth + 1:05}-of-{len(groups):05}.safetensors"
        header, offset = {"__metadata__": {"format": "pt"}}, 0
        for weight, dims in group:
            n = int(np.prod(dims)) * 2
            header[weight] = {"dtype": "BF16", "shape": dims, "data_offsets": [offset, offset + n]}
            weight_map[weight] = name
            offset += n
        total += offset
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        files = [open(folder / name, "wb") for folder in folders]
        for file in files:
            file.write(len(text).to_bytes(8, "little") + text)
        for _, dims in group:
            rest = int(np.prod(dims))
            while rest:
                n = min(rest, 1 << 22)
                pre = rng.standard_normal(n, dtype=np.float32) * np.float32(0.02)
                post = pre + rng.standard_normal(n, dtype=np.float32) * np.float32(0.001)
                files[0].write(bf16(pre).tobytes())
                files[1].write(bf16(post).tobytes())
                rest -= n
        for file in files:
            file.close()
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    for folder in folders:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    print(f"{total / 2e9:.3f} B parameters, {len(groups)} shards")


main()
