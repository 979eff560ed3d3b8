#!/usr/bin/env python3
"""Makes the small llama goldens in `models/`: random models, and what transformers and PEFT compute with them.
make_families.py makes those of the other families.

    make_models.py OUT           write the cases into the folder OUT
    make_models.py --check OUT   compute the cases of OUT again from its own models and batches, and print the differences

Needs torch 2.11.0, transformers 5.23.0, peft 0.21.2; other versions may move the last digits.

Each case is a Hugging Face folder with `case.json`, `golden.safetensors` and training traces:
  golden   input_ids, attention_mask, labels [3, 24] (right padding, labels unshifted, -100 = not counted), logits [3, 24, vocab]
           (meaningless where the mask is 0), loss [1], greedy_prompt [1, 9], greedy [1, 25] (no stop token)
  a trace  batch_ids, batch_mask, batch_labels [steps * accum, 2, 16] in the order of use, losses, grad_norms (before clipping),
           lrs [steps], and a sample of the last weights: `final.*` (full) or `merged.*` (adapter, after merge_and_unload)
  adapter  PEFT folders `<trace>-init` and `<trace>-final`; B does not start at zero, so that a wrong scale shows at once
"""

import argparse
import json
import math
from pathlib import Path
import tempfile

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

import dropout

NOTE = (
    "float32, eager attention, right padding; logits at padded positions are not meaningful; labels are unshifted "
    "(position t+1 is predicted from t); loss is the mean over labels != -100"
)
VOCABULARY = 64
# In the form that transformers 4 wrote.
LLAMA = dict(
    architectures=["LlamaForCausalLM"],
    model_type="llama",
    hidden_act="silu",
    attention_bias=False,
    torch_dtype="float32",
    transformers_version="4.43.0",
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=256,
    rms_norm_eps=1e-5,
    bos_token_id=1,
)
# Wavelengths of this scaling lie below 8, between 8 and 32, and above 32 tokens: all three branches are taken.
LLAMA3_ROPE = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
PREFIX = {"full": "final.", "lora": "merged."}
TRAIN = dict(wd=0.01, steps=6, warmup=2, accum=2, max_grad_norm=1.0)
CASES = {
    "pico-untied": dict(
        seed=200,
        config=dict(rope_theta=10000.0, tie_word_embeddings=False, eos_token_id=2, pad_token_id=0),
        traces=dict(
            full=dict(TRAIN, kind="full", lr=2e-3), rslora=dict(TRAIN, kind="lora", lr=5e-3, r=4, alpha=16, rslora=True)
        ),
    ),
    # Tied as Llama 3.2: several stop tokens, no padding token, two shards.
    "pico-tied-llama3": dict(
        seed=201,
        config=dict(rope_theta=10000.0, rope_scaling=LLAMA3_ROPE, tie_word_embeddings=True, eos_token_id=[2, 3]),
        shard_size="40KB",
        traces=dict(
            full=dict(TRAIN, kind="full", lr=2e-3), lora=dict(TRAIN, kind="lora", lr=5e-3, r=4, alpha=8, accum=3)
        ),
    ),
    # One layer is enough to see which inputs of which map are dropped.
    "pico-dropout": dict(
        seed=230,
        config=dict(rope_theta=10000.0, tie_word_embeddings=True, eos_token_id=2, pad_token_id=0, num_hidden_layers=1),
        traces={
            "dropout": dict(TRAIN, kind="lora", lr=5e-3, r=4, alpha=8, dropout=0.3, seed=7),
            "dora-dropout": dict(TRAIN, kind="lora", lr=5e-3, r=4, alpha=8, dropout=0.1, seed=8, dora=True),
        },
    ),
}


def load(folder):
    """The model of `folder`, as every number here is computed with it."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def config_of(written):
    """What transformers reads from a config.json that holds `written`."""
    with tempfile.TemporaryDirectory() as empty:
        (Path(empty) / "config.json").write_text(json.dumps(written))
        return transformers.AutoConfig.from_pretrained(empty)


def write_model(folder, case):
    """A random model, its config in the form that the case gives, not the one that transformers would write."""
    written = {**case.get("family", LLAMA), **case["config"]}
    torch.manual_seed(case["seed"])
    model = transformers.AutoModelForCausalLM.from_config(config_of(written))
    # The norms of gemma multiply by 1 + their weight.
    centre = 0.0 if written["model_type"].startswith("gemma") else 1.0
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.copy_(centre + 0.2 * torch.randn_like(weight))
            else:
                spread = next((s for part, s in case.get("spreads", {}).items() if part in name), 0.15)
                weight.copy_(spread * torch.randn_like(weight))
    model.save_pretrained(folder, max_shard_size=case.get("shard_size", "1GB"))
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_json(folder / "config.json", written)


def batches(shape, labelled_from):
    """Random token ids with right padding: every row keeps at least two labels, the first row is full."""
    rows, tokens = shape[-2:]
    ids = torch.randint(4, VOCABULARY, shape)
    lengths = torch.randint(labelled_from + 2, tokens + 1, shape[:-1])
    lengths[..., 0] = tokens
    position = torch.arange(tokens)
    mask = (position < lengths.unsqueeze(-1)).long()
    ids = ids * mask
    labels = torch.where((mask == 1) & (position >= labelled_from), ids, -100)
    return ids, mask, labels


def golden(model, inputs):
    """Logits, loss and a greedy continuation."""
    with torch.no_grad():
        out = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=inputs["labels"])
        row = inputs["greedy_prompt"]
        margin = math.inf
        for _ in range(16):
            top = model(input_ids=row).logits[:, -1].topk(2)
            margin = min(margin, float(top.values[0, 0] - top.values[0, 1]))
            row = torch.cat([row, top.indices[:, :1]], dim=1)
    # Closer than this, another order of summation could pick the other token.
    assert margin > 2e-3, f"the greedy choice is too close: {margin}"
    return {**inputs, "logits": out.logits, "loss": out.loss.reshape(1), "greedy": row}


def learning_rate(step, trace):
    """Linear warm-up from 0, then a cosine to 0."""
    if step < trace["warmup"]:
        return trace["lr"] * step / trace["warmup"]
    done = (step - trace["warmup"]) / (trace["steps"] - trace["warmup"])
    return trace["lr"] * 0.5 * (1 + math.cos(math.pi * done))


def train(model, trace, ids, mask, labels):
    """The training loop of a trace: losses, norms of the gradients before clipping, and rates, one for each step."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=0.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=trace["wd"])
    losses, norms, rates = [], [], []
    for step in range(trace["steps"]):
        rates.append(learning_rate(step, trace))
        for group in optimizer.param_groups:
            group["lr"] = rates[-1]
        micro = slice(step * trace["accum"], (step + 1) * trace["accum"])
        counted = (labels[micro, :, 1:] != -100).sum()
        loss_sum = 0.0
        for x, m, y in zip(ids[micro], mask[micro], labels[micro]):
            logits = model(input_ids=x, attention_mask=m).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y[:, 1:].flatten(), reduction="sum") / counted
            loss.backward()
            loss_sum += loss.item()
        losses.append(loss_sum)
        norms.append(torch.nn.utils.clip_grad_norm_(trainable, trace.get("max_grad_norm", 1.0)).item())
        optimizer.step()
        optimizer.zero_grad()
    return {"losses": torch.tensor(losses), "grad_norms": torch.tensor(norms), "lrs": torch.tensor(rates)}


def write_adapter(folder, trace, base):
    """A fresh adapter on all linear layers, B random too."""
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=trace["r"],
        lora_alpha=trace["alpha"],
        lora_dropout=trace.get("dropout", 0.0),
        target_modules="all-linear",
        use_rslora=trace.get("rslora", False),
        use_dora=trace.get("dora", False),
    )
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.05 * torch.randn_like(weight))
    save_adapter(model, folder)


def save_adapter(model, folder):
    """PEFT's folder without its model card, in an order that does not change from run to run."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"].sort()
    config["base_model_name_or_path"] = None
    write_json(folder / "adapter_config.json", config)


def run_trace(folder, name, trace, inputs, keep_adapter, kept=None):
    """Trains the model of `folder` on `inputs`; gives the trace and, of the last weights, those that `kept` picks."""
    model = load(folder)
    if trace["kind"] == "lora":
        model = peft.PeftModel.from_pretrained(model, folder / f"{name}-init", is_trainable=True)
        if "dropout" in trace:
            dropout.install(model, trace)
    out = train(model, trace, inputs["batch_ids"], inputs["batch_mask"], inputs["batch_labels"])
    if trace["kind"] == "lora":
        if keep_adapter:
            save_adapter(model, folder / f"{name}-final")
        model = model.merge_and_unload()
    prefix = PREFIX[trace["kind"]]
    weights = {prefix + n: w.contiguous().clone() for n, w in model.state_dict().items()}
    kept = kept or sample(trace["kind"], model.config.tie_word_embeddings)
    return {**inputs, **out, **{n: w for n, w in weights.items() if kept(n)}}


def sample(kind, tied):
    """Which weights a trace stores: enough to see each kind of tensor move, few enough to commit."""
    parts = ["layers.0.self_attn"]
    if kind == "full":
        parts += ["norm", "layers.0.mlp.down_proj"] + ["embed_tokens"] * tied
    return lambda name: any(part in name for part in parts)


def describe(trace, losses):
    fixed = {
        "clip": "global L2 norm; grad_norms are before clipping",
        "optimizer": "AdamW betas 0.9 0.999 eps 1e-8",
        "schedule": "linear warm-up from 0 then cosine to 0; lr of step s computed before the step, s from 0",
        "loss": "sum of token cross-entropies over the accumulated micro-batches divided by their number of label tokens",
    }
    return {**trace, **fixed, "first_last_loss": [losses[0].item(), losses[-1].item()]}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def make(out, cases=CASES):
    """Writes every case."""
    for name, case in cases.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        write_model(folder, case)
        ids, mask, labels = batches((3, 24), 5)
        prompt = torch.randint(4, VOCABULARY, (1, 9))
        inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels, "greedy_prompt": prompt}
        save_file(golden(load(folder), inputs), folder / "golden.safetensors")
        about = {"name": name, "transformers": transformers.__version__, "torch": torch.__version__, "note": NOTE}
        for trace_name, trace in case["traces"].items():
            trace = dict(trace, dir=trace_name)
            if trace["kind"] == "lora":
                write_adapter(folder / f"{trace_name}-init", trace, load(folder))
            ids, mask, labels = batches((trace["steps"] * trace["accum"], 2, 16), 4)
            inputs = {"batch_ids": ids, "batch_mask": mask, "batch_labels": labels}
            tensors = run_trace(folder, trace_name, trace, inputs, keep_adapter=True)
            save_file(tensors, folder / f"{trace_name}.safetensors")
            about[trace_name] = describe(trace, tensors["losses"])
        write_json(folder / "case.json", about)
    for path in out.rglob("*.safetensors"):
        path.chmod(0o644)


def check(out):
    """Computes every case of `out` again, and prints the largest differences."""
    cases = sorted(p.parent for p in out.glob("*/case.json"))
    if not cases:
        raise SystemExit(f"no case in {out}")
    for folder in cases:
        about = json.loads((folder / "case.json").read_text())
        stored = load_file(folder / "golden.safetensors")
        names = ("input_ids", "attention_mask", "labels", "greedy_prompt")
        again = golden(load(folder), {n: stored[n] for n in names})
        real = stored["attention_mask"].bool()
        print(
            f"{folder.name}: logits {(again['logits'] - stored['logits'])[real].abs().max():.1e}"
            f" loss {(again['loss'] - stored['loss']).abs().item():.1e}"
            f" greedy {'equal' if torch.equal(again['greedy'], stored['greedy']) else 'DIFFERENT'}"
        )
        for name, trace in about.items():
            if not isinstance(trace, dict):
                continue
            stored = load_file(folder / f"{name}.safetensors")
            inputs = {n: stored[n] for n in ("batch_ids", "batch_mask", "batch_labels")}
            again = run_trace(folder, name, trace, inputs, keep_adapter=False, kept=stored.__contains__)
            parts = {"losses": [], "grad_norms": [], "weights": []}
            for key in stored.keys() - inputs.keys() - {"lrs"}:
                difference = (again[key] - stored[key]).norm() / stored[key].norm()
                parts[key if key in parts else "weights"].append(difference.item())
            print(f"  {name}: " + " ".join(f"{part} {max(found):.1e}" for part, found in parts.items()) + " (relative)")


def main(description=__doc__, make=make, check=check):
    arguments = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=Path, metavar="OUT")
    arguments.add_argument("--check", action="store_true", help="compare with what OUT holds instead of writing it")
    options = arguments.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # One thread, so that sums are taken in one order on every machine.
    torch.set_num_threads(1)
    (check if options.check else make)(options.out)


if __name__ == "__main__":
    main()
