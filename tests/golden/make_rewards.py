#!/usr/bin/env python3
"""Makes the small reward models in `rewards/`: random models for sequence classification with one label, and the score that
transformers' own head gives every token.

    make_rewards.py OUT   write the models and cases.json into OUT

Needs torch 2.11.0 and transformers 5.23.0; other versions may move the last digits. A token's score is what `score` says of
the stream at it; `pooled` is what the class itself returns for the whole row, the score of its last token.
"""

import json
import sys
from pathlib import Path

import torch
import transformers

SIZES = dict(
    vocab_size=48,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    num_labels=1,
)
MODELS = {
    "pico-llama": (transformers.LlamaForSequenceClassification, transformers.LlamaConfig, dict(tie_word_embeddings=False)),
    "pico-gemma2": (
        transformers.Gemma2ForSequenceClassification,
        transformers.Gemma2Config,
        dict(head_dim=8, query_pre_attn_scalar=8, sliding_window=4),
    ),
}


def main(out: Path) -> None:
    cases = {}
    for seed, (name, (model_class, config_class, more)) in enumerate(MODELS.items(), start=1):
        torch.manual_seed(seed)
        model = model_class(config_class(**SIZES, **more)).eval().float()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
        ids = [torch.randint(3, SIZES["vocab_size"], (n,)).tolist() for n in (12, 7, 5)]
        scores, pooled = [], []
        with torch.no_grad():
            for row in ids:
                inputs = torch.tensor([row])
                stream = model.model(input_ids=inputs).last_hidden_state
                scores.append(model.score(stream)[0, :, 0].tolist())
                pooled.append(model(input_ids=inputs).logits[0, 0].item())
        model.save_pretrained(out / name)
        cases[name] = dict(ids=ids, scores=scores, pooled=pooled)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    (out / "cases.json").write_text("{\n" + lines + "\n}\n")


main(Path(sys.argv[1]))
