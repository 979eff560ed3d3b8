#!/usr/bin/env python3
"""A second real model: Gemma 3 270M in this program and in transformers, on WikiText.

    gemma3.py FINETUNE MODEL WIKITEXT.txt.gz

prints the largest relative difference of the log-likelihoods of 50 lines, and the losses of LoRA steps on the first lines with
the peak memory of training: a vocabulary of 262,144 must never be held for all tokens at once.
"""

import argparse
import gzip
import json
import subprocess
import tempfile
from pathlib import Path

import torch
import transformers

N_LINES = 50


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("finetune")
    arguments.add_argument("model")
    arguments.add_argument("wikitext")
    arguments.add_argument("--steps", type=int, default=6)
    asked = arguments.parse_args()
    tokenizer = transformers.AutoTokenizer.from_pretrained(asked.model)
    with gzip.open(asked.wikitext, "rt") as lines:
        texts = [line.strip() for line in lines if len(line.split()) >= 20][:N_LINES]
    rows = [tokenizer(text)["input_ids"][:256] for text in texts]
    assert all(row[0] == tokenizer.bos_token_id for row in rows)
    model = transformers.AutoModelForCausalLM.from_pretrained(asked.model, dtype=torch.float32)
    model.eval()
    expected = []
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row])
            logs = model(ids).logits[0, :-1].log_softmax(-1)
            expected.append(logs.gather(1, ids[0, 1:, None]).sum().item())
    del model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps({"input_ids": row, "labels": row}) + "\n" for row in rows))

        def bench(*more):
            command = [asked.finetune, "bench", *more, "--model", asked.model, "--rows", str(path)]
            return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

        found = bench("likelihood")
        step = bench("step", "--batch", "4", "--steps", str(asked.steps))
    worst = max(abs(a - b) / abs(b) for a, b in zip(found["log_likelihoods"], expected, strict=True))
    n = sum(len(row) - 1 for row in rows)
    print(f"{len(rows)} lines, {n} tokens: largest relative difference {worst:.2e}")
    print(f"log-likelihood per token {sum(expected) / n:.4f} (transformers {transformers.__version__})")
    print(f"scoring: {found['times_s'][0]:.1f} s, peak {found['peak_rss_bytes'] / 1e6:.0f} MB")
    losses = ", ".join(f"{loss:.4f}" for loss in step["losses"])
    print(f"LoRA losses {losses}; {step['median_s']:.2f} s a step, peak {step['peak_rss_bytes'] / 1e6:.0f} MB")
    whole = sum(len(row) for row in rows[:4]) * model_vocabulary(asked.model) * 4
    print(f"logits of these four rows alone would be {whole / 1e6:.0f} MB")
    assert worst <= 1e-3, "the log-likelihoods differ"
    assert step["losses"][-1] < step["losses"][0], "the loss did not fall"


def model_vocabulary(folder):
    return json.loads((Path(folder) / "config.json").read_text())["vocab_size"]


if __name__ == "__main__":
    main()
