#!/usr/bin/env python3
"""Makes the small goldens of the other families in `models/`: the files of make_models.py, which says what they hold.

    make_families.py OUT           write the cases into the folder OUT
    make_families.py --check OUT   compute all cases of OUT again, and print the differences

Both also change every setting named under `matters`, and fail unless the logits change: a case whose window is longer than
its rows, say, would prove nothing.
"""

import json

import make_models
import torch
import transformers
from make_models import TRAIN, VOCABULARY
from safetensors.torch import load_file

# The keys that every family spells alike.
COMMON = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    rms_norm_eps=1e-6,
    bos_token_id=2,
    eos_token_id=1,
    pad_token_id=0,
    attention_dropout=0.0,
)
# What files of transformers 4 and 5 say of themselves.
V4 = dict(COMMON, torch_dtype="float32", transformers_version="4.49.0")
V5 = dict(COMMON, dtype="float32", transformers_version="5.23.0")
FULL = dict(TRAIN, steps=5, kind="full", lr=2e-3)
LORA = dict(TRAIN, steps=5, kind="lora", lr=5e-3, r=2, alpha=6)
# Wide enough for the two forms of gelu to differ.
GELU = {"gate_proj": 0.4, "up_proj": 0.3, "down_proj": 0.3}
SHORT = [1.0, 1.1, 1.25, 1.4, 1.7, 2.0]
LONG = [1.0, 1.5, 2.5, 4.0, 6.0, 8.0]
CASES = {
    # The second layer alone has a window, as `max_window_layers` says.
    "pico-qwen2": dict(
        seed=450,
        family=dict(V4, architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_act="silu"),
        config=dict(
            rope_theta=1000000.0,
            tie_word_embeddings=True,
            use_sliding_window=True,
            sliding_window=6,
            max_window_layers=1,
        ),
        traces=dict(full=FULL, lora=LORA),
        matters=[
            dict(max_window_layers=0),
            dict(rope_theta=10000.0),
            dict(sliding_window=7),
            dict(use_sliding_window=False),
        ],
    ),
    "pico-qwen3": dict(
        seed=219,
        family=dict(V5, architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_act="silu"),
        config=dict(
            attention_bias=False,
            head_dim=12,
            layer_types=["full_attention"] * 2,
            max_window_layers=2,
            rope_parameters=dict(rope_theta=1000000.0, rope_type="default"),
            sliding_window=None,
            tie_word_embeddings=False,
            use_sliding_window=False,
        ),
        traces=dict(full=FULL, rslora=dict(LORA, rslora=True)),
        matters=[dict(rope_parameters=dict(rope_theta=10000.0, rope_type="default"))],
    ),
    "pico-mistral": dict(
        seed=212,
        family=dict(V4, architectures=["MistralForCausalLM"], model_type="mistral", hidden_act="silu"),
        config=dict(
            head_dim=12,
            num_attention_heads=2,
            num_key_value_heads=1,
            rope_theta=10000.0,
            sliding_window=6,
            tie_word_embeddings=False,
        ),
        traces=dict(full=FULL, lora=LORA),
        matters=[dict(sliding_window=None), dict(sliding_window=7)],
    ),
    # `hidden_act` as Google's first files have it: transformers takes it for the form with tanh.
    "pico-gemma": dict(
        seed=221,
        spreads=GELU,
        family=dict(V4, architectures=["GemmaForCausalLM"], model_type="gemma", hidden_act="gelu"),
        config=dict(attention_bias=False, head_dim=12, num_key_value_heads=1, rope_theta=10000.0),
        traces=dict(full=FULL, lora=LORA),
        matters=[dict(hidden_act="gelu_python")],
    ),
    # The first layer has a window, the second none.
    "pico-gemma2": dict(
        seed=366,
        spreads=GELU,
        family=dict(V4, architectures=["Gemma2ForCausalLM"], model_type="gemma2", hidden_act="gelu_pytorch_tanh"),
        config=dict(
            attention_bias=False,
            attn_logit_softcapping=3.0,
            cache_implementation="hybrid",
            final_logit_softcapping=4.0,
            head_dim=12,
            hidden_activation="gelu_pytorch_tanh",
            num_attention_heads=2,
            num_key_value_heads=1,
            query_pre_attn_scalar=6,
            rope_theta=10000.0,
            sliding_window=6,
        ),
        traces=dict(full=FULL, lora=LORA, dora=dict(LORA, dora=True)),
        matters=[
            dict(attn_logit_softcapping=None),
            dict(final_logit_softcapping=None),
            dict(hidden_activation="gelu"),
            dict(layer_types=["full_attention", "sliding_attention"]),
            dict(query_pre_attn_scalar=12),
            dict(sliding_window=7),
            dict(sliding_window=256),
        ],
    ),
    # The third layer of four sees everything, and turns by another base, scaled.
    "pico-gemma3": dict(
        seed=223,
        spreads=GELU,
        family=dict(V4, architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", num_hidden_layers=4),
        config=dict(
            attention_bias=False,
            attn_logit_softcapping=None,
            cache_implementation="hybrid",
            final_logit_softcapping=None,
            head_dim=12,
            hidden_activation="gelu_pytorch_tanh",
            num_key_value_heads=1,
            query_pre_attn_scalar=6,
            rope_local_base_freq=10000.0,
            rope_scaling=dict(factor=8.0, rope_type="linear"),
            rope_theta=1000000.0,
            sliding_window=6,
            sliding_window_pattern=3,
        ),
        traces=dict(full=FULL, lora=LORA),
        matters=[
            dict(hidden_activation="gelu"),
            dict(query_pre_attn_scalar=12),
            dict(rope_local_base_freq=1000000.0),
            dict(rope_scaling=None),
            dict(rope_theta=10000.0),
            dict(sliding_window=7),
            dict(sliding_window=256),
            dict(sliding_window_pattern=4),
        ],
    ),
    "pico-phi3": dict(
        seed=224,
        family=dict(V5, architectures=["Phi3ForCausalLM"], model_type="phi3", hidden_act="silu"),
        config=dict(
            embd_pdrop=0.0,
            num_key_value_heads=4,
            original_max_position_embeddings=256,
            resid_pdrop=0.0,
            rms_norm_eps=1e-5,
            rope_parameters=dict(partial_rotary_factor=1.0, rope_theta=10000.0, rope_type="default"),
            sliding_window=None,
            tie_word_embeddings=False,
        ),
        traces=dict(full=FULL, lora=LORA),
        matters=[dict(sliding_window=6)],
    ),
    # As Phi-4-mini, with a window: the last quarter of each head does not turn. The rows of the traces just keep the
    # short factors, those of the golden take the long ones, and the greedy row passes from one to the other.
    "pico-phi3-longrope": dict(
        seed=217,
        family=dict(V4, architectures=["Phi3ForCausalLM"], model_type="phi3", hidden_act="silu"),
        config=dict(
            attention_bias=False,
            embd_pdrop=0.0,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            original_max_position_embeddings=16,
            partial_rotary_factor=0.75,
            resid_pdrop=0.0,
            rope_scaling=dict(long_factor=LONG, short_factor=SHORT, type="longrope"),
            rope_theta=10000.0,
            sliding_window=8,
            tie_word_embeddings=True,
        ),
        traces=dict(full=FULL, lora=LORA),
        matters=[
            dict(max_position_embeddings=16),
            dict(original_max_position_embeddings=32, max_position_embeddings=128),
            dict(rope_scaling=dict(long_factor=SHORT, short_factor=SHORT, type="longrope")),
            dict(sliding_window=9),
            dict(sliding_window=None),
        ],
    ),
}


def must_matter(folder, case):
    """Fails unless each change of the config changes the logits by more than the 2e-4 that a test allows."""
    stored = load_file(folder / "golden.safetensors")
    written = json.loads((folder / "config.json").read_text())
    inputs = {n: stored[n] for n in ("input_ids", "attention_mask")}
    for change in case["matters"]:
        config = make_models.config_of({**written, **change})
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=torch.float32, attn_implementation="eager"
        )
        with torch.no_grad():
            logits = model(**inputs).logits
        difference = (logits - stored["logits"])[stored["attention_mask"].bool()].abs().max().item()
        print(f"{folder.name}: {change} changes the logits by {difference:.1e}")
        assert difference > 5e-4, f"{folder.name} does not show {change}"


def make(out):
    make_models.make(out, CASES)
    for name, case in CASES.items():
        must_matter(out / name, case)


def check(out):
    make_models.check(out)
    for name, case in CASES.items():
        must_matter(out / name, case)


if __name__ == "__main__":
    make_models.main(__doc__, make, check)
