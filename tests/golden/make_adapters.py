#!/usr/bin/env python3
"""Makes the goldens in `adapters/`: small adapters on the models of `models/`, as PEFT saves them, and what it computes.

    make_adapters.py OUT           write the cases into the folder OUT
    make_adapters.py --check OUT   compute all cases of OUT again, and print the differences

Both also change every setting named under `matters`, and fail unless the logits change.
Needs torch 2.11.0, transformers 5.23.0, peft 0.21.2; other versions may move the last digits.

Each case is a PEFT folder with
  case.json           `base`, a folder of `models/`
  golden.safetensors  input_ids [2, 12], logits [2, 12, vocab] of the base with the adapter on it
All that PEFT would train is random: B does not stay at zero, nor DoRA's magnitudes at the lengths of the base's rows.
`refused/` has what an adapter of linear maps cannot be; `expect` of its case.json is a word that a refusal must say.
"""

import json
import shutil
import tempfile
import warnings
import zlib
from pathlib import Path

import make_models
import peft
import torch
import transformers
from make_models import VOCABULARY, load, write_json
from safetensors.torch import load_file, save_file

MODELS = Path(__file__).parent / "models"
NOTE = "float32, eager attention, eval mode, all 24 tokens real; the adapter was loaded from this folder"
LORA = dict(r=2, lora_alpha=6, target_modules="all-linear")
TWO = dict(LORA, target_modules=["q_proj", "v_proj"])
ONE = dict(r=1, target_modules=["q_proj"])
# The keys that a file of PEFT 0.4 has, and one of 0.2, as alpaca-lora wrote them.
KEYS_0_4 = [
    "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights", "lora_alpha",
    "lora_dropout", "modules_to_save", "peft_type", "r", "target_modules", "task_type",
]  # fmt: skip
KEYS_0_2 = [key for key in KEYS_0_4 if key != "init_lora_weights"] + ["enable_lora", "merge_weights"]
CASES = {
    # A key is a regular expression for the end of a module's name from one of its dots on: `proj` is no end.
    "patterns": dict(
        base="pico-untied",
        config=dict(
            LORA,
            rank_pattern={"q_proj": 3, "model.layers.1.mlp.down_proj": 4, r"layers\.0\..*up_proj": 1, "proj": 5},
            alpha_pattern={
                "v_proj": 2,
                "model.layers.0.self_attn.o_proj": 1.5,
                r"layers\.1\.mlp\.(gate|up)_proj": 12,
                r"^model\.layers\.1\.self_attn\.q_proj": 20,
                "layers.*.k_proj": 9,
                "0.mlp.down_proj": 3,
                "proj": 100,
            },
        ),
        matters=[dict(alpha_pattern={})],
    ),
    # The first key that fits counts, by its place in the file. PEFT's own files have them sorted.
    "pattern-order": dict(
        base="pico-untied",
        config=dict(
            LORA,
            rank_pattern={"up_proj": 1, "layers.0.mlp.up_proj": 4, "model.layers.1.mlp.down_proj": 3, "down_proj": 4},
            alpha_pattern={"q_proj": 12, "model.layers.0.self_attn.q_proj": 2, r".*\.1\..*": 9, "down_proj": 3},
        ),
        matters=[
            dict(alpha_pattern={"model.layers.0.self_attn.q_proj": 2, "q_proj": 12, r".*\.1\..*": 9, "down_proj": 3}),
            dict(alpha_pattern={"q_proj": 12, "down_proj": 3, r".*\.1\..*": 9}),
        ],
    ),
    "rslora-patterns": dict(
        base="pico-mistral",
        config=dict(
            LORA,
            use_rslora=True,
            rank_pattern={"down_proj": 4, "k_proj": 1},
            alpha_pattern={"gate_proj": 2.5, r"layers\.1\.self_attn\..*": 9},
        ),
        matters=[dict(use_rslora=False), dict(alpha_pattern={})],
    ),
    "dora-patterns": dict(
        base="pico-qwen3",
        config=dict(
            LORA,
            use_dora=True,
            rank_pattern={"o_proj": 4, "up_proj": 1},
            alpha_pattern={"up_proj": 3, "q_proj": 16},
        ),
        matters=[dict(use_dora=False), dict(alpha_pattern={})],
    ),
    "dora-rslora": dict(
        base="pico-tied-llama3",
        config=dict(LORA, r=3, use_dora=True, use_rslora=True),
        matters=[dict(use_dora=False), dict(use_rslora=False)],
    ),
    # Dropout is for training, and the start was another: neither shows in what is computed.
    "few-modules": dict(
        base="pico-tied-llama3",
        config=dict(TWO, r=4, lora_dropout=0.1, init_lora_weights="gaussian"),
    ),
    "target-regex": dict(
        base="pico-gemma",
        config=dict(LORA, target_modules=r".*\.1\.(self_attn\.(q|o)_proj|mlp\.down_proj)"),
    ),
    "excluded": dict(
        base="pico-untied",
        config=dict(LORA, exclude_modules=["down_proj", "model.layers.0.self_attn.o_proj"]),
    ),
    "layers": dict(
        base="pico-gemma3",
        config=dict(
            LORA, target_modules=["q_proj", "v_proj", "up_proj"], layers_to_transform=[1, 3], layers_pattern="layers"
        ),
    ),
    # One adapter on q, k and v together, one on gate and up.
    "phi3": dict(
        base="pico-phi3",
        config=dict(LORA, rank_pattern={"qkv_proj": 4}, alpha_pattern={"gate_up_proj": 3}),
        matters=[dict(alpha_pattern={})],
    ),
    "phi3-dora": dict(base="pico-phi3-longrope", config=dict(LORA, use_dora=True), matters=[dict(use_dora=False)]),
    "gemma2": dict(base="pico-gemma2", config=dict(LORA, use_rslora=True), matters=[dict(use_rslora=False)]),
    # So many maps that PEFT shortens the list of their names.
    "gemma3-dora": dict(base="pico-gemma3", config=dict(LORA, r=1, use_dora=True), matters=[dict(use_dora=False)]),
    # DoRA brings the map's rows to their lengths, its bias stays.
    "qwen2-dora": dict(base="pico-qwen2", config=dict(LORA, use_dora=True), matters=[dict(use_dora=False)]),
    "bf16": dict(base="pico-mistral", config=LORA, dtype=torch.bfloat16),
    "f16-dora": dict(base="pico-qwen3", config=dict(TWO, use_dora=True), dtype=torch.float16),
    "form-0.4": dict(base="pico-untied", config=TWO, keys=KEYS_0_4),
    "form-0.2": dict(
        base="pico-untied",
        config=dict(TWO, lora_dropout=0.05),
        keys=KEYS_0_2,
        written=dict(enable_lora=None, merge_weights=False),
    ),
}
# On pico-untied unless they name another base.
REFUSED = {
    "alora": dict(config=dict(ONE, alora_invocation_tokens=[7, 8]), expect="alora_invocation_tokens"),
    "bias": dict(config=dict(ONE, bias="lora_only"), expect="`bias`", base="pico-qwen2"),
    "bias-of-factor": dict(config=dict(ONE, lora_bias=True), expect="lora_bias", base="pico-qwen2"),
    "embedding": dict(config=dict(ONE, target_modules=["q_proj", "embed_tokens"]), expect="embed_tokens"),
    "head": dict(config=dict(ONE, target_modules=["q_proj", "lm_head"]), expect="lm_head"),
    "head-saved": dict(config=dict(ONE, modules_to_save=["lm_head"]), expect="modules_to_save"),
    "ia3": dict(config=dict(target_modules=["k_proj"], feedforward_modules=[]), expect="IA3", kind=peft.IA3Config),
    "loha": dict(config=ONE, expect="LOHA", kind=peft.LoHaConfig),
    "olora": dict(config=dict(ONE, init_lora_weights="olora"), expect="olora"),
    "parameter": dict(config=dict(r=1, target_parameters=["mlp.down_proj.weight"]), expect="target_parameters"),
    "pissa": dict(config=dict(ONE, init_lora_weights="pissa"), expect="pissa"),
    "pissa-fast": dict(config=dict(ONE, init_lora_weights="pissa_niter_4"), expect="pissa_niter_4"),
    "replicated": dict(config=dict(ONE, layer_replication=[[0, 2], [1, 2]]), expect="layer_replication"),
    "tokens": dict(config=dict(ONE, trainable_token_indices=[5, 6]), expect="trainable_token_indices"),
}
REFUSED = {name: {"base": "pico-untied", **case} for name, case in REFUSED.items()}


def write_adapter(folder, case):
    """A random adapter in PEFT's folder without its model card, in an order that does not change from run to run."""
    dtype = case.get("dtype", torch.float32)
    kind = case.get("kind", peft.LoraConfig)
    model = load(MODELS / case["base"]).to(dtype)
    config = kind(task_type="CAUSAL_LM", **json.loads(json.dumps(case["config"])))
    model = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad and "lora_A" not in name:
                weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    written = json.loads((folder / "adapter_config.json").read_text())
    written["base_model_name_or_path"] = None
    for value in written.values():
        # Sets in PEFT.
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value.sort()
    # PEFT sorted these keys while writing.
    written.update({key: value for key, value in case["config"].items() if key.endswith("_pattern") and value})
    written.update(case.get("written", {}))
    write_json(folder / "adapter_config.json", {key: written[key] for key in case.get("keys", written)})


def logits(base, folder, ids):
    """Of the base with the adapter that `folder` has, or of the base alone."""
    model = load(MODELS / base)
    if folder:
        model = peft.PeftModel.from_pretrained(model, folder)
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids).logits


def difference(one, other):
    return (one - other).abs().max().item()


def must_matter(folder, case):
    """Fails unless the adapter changes the logits, and each change of its file changes them by more than the 2e-4 that
    a test allows."""
    stored = load_file(folder / "golden.safetensors")
    ids = stored["input_ids"]
    whole = difference(logits(case["base"], None, ids), stored["logits"])
    print(f"{folder.name}: the adapter changes the logits by {whole:.1e}")
    assert whole > 5e-2, f"{folder.name} does nothing"
    for change in case.get("matters", []):
        with tempfile.TemporaryDirectory() as copy:
            copy = Path(copy) / "adapter"
            shutil.copytree(folder, copy)
            written = json.loads((copy / "adapter_config.json").read_text())
            write_json(copy / "adapter_config.json", {**written, **change})
            found = difference(logits(case["base"], copy, ids), stored["logits"])
        print(f"{folder.name}: {change} changes them by {found:.1e}")
        assert found > 5e-4, f"{folder.name} does not show {change}"


def must_be_loaded(folder, case):
    """Fails unless PEFT takes what is refused here, and it does something."""
    ids = torch.arange(24).reshape(2, 12)
    found = difference(logits(case["base"], folder, ids), logits(case["base"], None, ids))
    print(f"refused/{folder.name}: changes the logits by {found:.1e}")
    assert found > 5e-4, f"{folder.name} does nothing"


def make(out):
    """Writes every case."""
    about = {"peft": peft.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    for name, case in CASES.items():
        folder = out / name
        torch.manual_seed(zlib.crc32(name.encode()))
        write_adapter(folder, case)
        ids = torch.randint(4, VOCABULARY, (2, 12))
        save_file({"input_ids": ids, "logits": logits(case["base"], folder, ids)}, folder / "golden.safetensors")
        write_json(folder / "case.json", {"name": name, "base": case["base"], **about, "note": NOTE})
        must_matter(folder, case)
    for name, case in REFUSED.items():
        folder = out / "refused" / name
        torch.manual_seed(zlib.crc32(name.encode()))
        write_adapter(folder, case)
        write_json(folder / "case.json", {"name": name, "base": case["base"], "expect": case["expect"], **about})
        must_be_loaded(folder, case)
    for path in out.rglob("*.safetensors"):
        path.chmod(0o644)


def check(out):
    """Computes every case of `out` again, and prints the largest differences."""
    cases = {p.parent.name for p in out.glob("*/case.json")}
    if cases != CASES.keys():
        raise SystemExit(f"{out} has other cases: {sorted(cases ^ CASES.keys())}")
    for name, case in CASES.items():
        stored = load_file(out / name / "golden.safetensors")
        again = logits(case["base"], out / name, stored["input_ids"])
        print(f"{name}: logits {difference(again, stored['logits']):.1e}")
        must_matter(out / name, case)
    for name, case in REFUSED.items():
        must_be_loaded(out / "refused" / name, case)


if __name__ == "__main__":
    # PEFT advises against much of what is shown here.
    warnings.simplefilter("ignore")
    make_models.main(__doc__, make, check)
