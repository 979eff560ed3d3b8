#!/usr/bin/env python3
"""Checks that merges of another depth are what they should be to transformers and to `finetune`.

    check_depth.py FINETUNE     restacks each model of `models/` and compares

FINETUNE, the program, puts the layers of a model together anew, by mergekit's YAML. transformers must load the folder
whole; its logits must be those of the model whose layers were taken, assembled in Python (each layer sees as far as it
did); and `FINETUNE doctor --selftest` must find the same logits. Needs torch and transformers.
"""

import copy
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from check_exports import golden, load_model
from safetensors.torch import save_file

HERE = Path(__file__).parent
FAMILIES = ["gemma", "gemma2", "gemma3", "mistral", "phi3", "qwen2", "qwen3", "tied-llama3", "untied"]
# Shorter, longer, and turned around: what was full stands where the rule would have a layer slide.
STACKS = {"longer": lambda n: [*range(n), n - 1, 0], "last first": lambda n: [n - 1, *range(n)], "shorter": lambda n: [n - 1]}


def kinds(config):
    """How each layer sees, by transformers' own rule."""
    return getattr(config, "layer_types", None) or ["all alike"] * config.num_hidden_layers


def assembled(base, layers):
    """The base with these of its layers."""
    model = copy.deepcopy(base)
    model.model.layers = torch.nn.ModuleList(copy.deepcopy(base.model.layers[i]) for i in layers)
    model.config.num_hidden_layers = len(layers)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [base.config.layer_types[i] for i in layers]
    for i, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = i
    return model


def main():
    program = str(Path(sys.argv[1]).resolve())
    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        for family in FAMILIES:
            folder = HERE / "models" / f"pico-{family}"
            base = load_model(folder, "f32").eval()
            for name, stack in STACKS.items():
                layers = stack(base.config.num_hidden_layers)
                slices = [{"sources": [{"model": str(folder), "layer_range": [i, i + 1]}]} for i in layers]
                (work / "merge.yml").write_text(json.dumps({"merge_method": "passthrough", "slices": slices}))
                case = work / "cases" / f"{family} {name}"
                case.parent.mkdir(exist_ok=True)
                command = [program, "merge", "--config", work / "merge.yml", "--out", case]
                subprocess.run(command, check=True, capture_output=True)
                ours, theirs = load_model(case, "f32").eval(), assembled(base, layers).eval()
                save_file(golden(theirs), case / "golden.safetensors")
                ids = torch.randint(4, 64, (2, 24), generator=torch.Generator().manual_seed(1))
                with torch.no_grad():
                    off = (ours(input_ids=ids).logits - theirs(input_ids=ids).logits).abs().max().item()
                well = off == 0.0 and kinds(ours.config) == kinds(theirs.config)
                failed += not well
                print(f"{'ok  ' if well else 'FAIL'} {family} {name}: {layers}, off by {off:.1e}, {kinds(ours.config)}")
        done = subprocess.run(
            [program, "doctor", "--selftest", str(work / "cases"), "--device", "cpu"], capture_output=True, text=True
        )
        print(done.stdout[-3000:], done.stderr[-1000:])
        failed += done.returncode != 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
