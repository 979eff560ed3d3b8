#!/usr/bin/env python3
"""Makes the small encoders in `encoders/`: random models, the hidden states that transformers computes with them, and BERTScore.

    make_encoders.py OUT   write the models, their golden.safetensors and cases.json into OUT

Needs torch 2.11.0, transformers 5.23.0, and the package bert-score 0.3.13 (its folder on PYTHONPATH serves); other versions
may move the last digits. BERTScore is the package's own code, one pair a batch, but for the tokens: it was written for the
slow tokenizers of transformers 4, whose part here is `sent_encode` below (a space before a text for RoBERTa, the two special
tokens around it, the end cut off). Its plots are not needed, so matplotlib is replaced by nothing.
"""

import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

for name in ["matplotlib", "matplotlib.pyplot", "mpl_toolkits", "mpl_toolkits.axes_grid1"]:
    sys.modules[name] = MagicMock()

import tokenizers
import torch
import transformers
from collections import defaultdict
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
import bert_score.utils as upstream

MAX_TOKENS = 24
SIZES = dict(hidden_size=32, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4, hidden_act="gelu")
DEBERTA = dict(
    SIZES,
    layer_norm_eps=1e-7,
    relative_attention=True,
    # Fewer than the longest text has tokens, more than the shortest has: both bounds of a distance are met.
    max_relative_positions=8,
    max_position_embeddings=MAX_TOKENS,
    pos_att_type=["c2p", "p2c"],
    position_biased_input=False,
    type_vocab_size=0,
    pad_token_id=0,
)
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BERT_SPECIALS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
MODELS = {
    "pico-roberta": dict(
        seed=1,
        model=transformers.RobertaForMaskedLM,
        config=transformers.RobertaConfig,
        values=dict(SIZES, layer_norm_eps=1e-5, max_position_embeddings=MAX_TOKENS + 2, type_vocab_size=1, pad_token_id=1),
        specials=ROBERTA_SPECIALS,
        ends=("<s>", "</s>"),
        layer=2,
    ),
    "pico-bert": dict(
        seed=2,
        model=transformers.BertModel,
        config=transformers.BertConfig,
        values=dict(SIZES, layer_norm_eps=1e-12, max_position_embeddings=MAX_TOKENS, type_vocab_size=2, pad_token_id=0),
        specials=BERT_SPECIALS,
        ends=("[CLS]", "[SEP]"),
        layer=3,
    ),
    "pico-deberta": dict(
        seed=3,
        model=transformers.DebertaForSequenceClassification,
        config=transformers.DebertaConfig,
        values=DEBERTA,
        specials=BERT_SPECIALS,
        ends=("[CLS]", "[SEP]"),
        layer=2,
        # As the published files write it.
        written=dict(pos_att_type="c2p|p2c"),
    ),
}
TEXTS = ["a cat", "", "The cat sat on the mat.", "naïve café costs 7 €", "the the cat sat on the mat and the mat sat on the cat again and again"]
PAIRS = [
    ["The cat sat on the mat.", "The cat sat on the mat."],
    ["  a cat sat\n", "The cat sat on the mat."],
    ["", "The mat."],
    ["The mat.", " \t"],
    ["naïve café", "a naive cafe costs 7 €"],
    ["cat", "mat"],
    ["Take it twice a day with food.", "Take one twice daily, with a meal."],
    ["the the cat sat on the mat and the mat sat on the cat again and again and again", "The cat sat, and the mat."],
]
BASELINE = [0.31, 0.32, 0.315]


def tokenizer_of(case):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=case["specials"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS + [text for pair in PAIRS for text in pair], trainer)
    first, last = case["ends"]
    specials = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=specials)
    return tokenizer


def write_model(folder, case):
    tokenizer = tokenizer_of(case)
    config = case["config"](vocab_size=tokenizer.get_vocab_size(), **case["values"])
    torch.manual_seed(case["seed"])
    model = case["model"](config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            centre = 1.0 if "LayerNorm.weight" in name else 0.0
            spread = 0.1 if weight.dim() == 1 else 0.25
            weight.copy_(centre + spread * torch.randn_like(weight))
    model.save_pretrained(folder)
    path = folder / "config.json"
    written = {**json.loads(path.read_text()), **case.get("written", {})}
    write_json(path, written)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = dict(zip(["bos_token", "eos_token"], case["ends"]))
    write_json(folder / "tokenizer_config.json", {**names, "model_max_length": MAX_TOKENS})


def encoding(folder, case):
    """Text to ids, as bert_score 0.3.13 does it with the slow tokenizers of transformers 4."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    first, last = (tokenizer.token_to_id(token) for token in case["ends"])
    prefix = " " if "roberta" in folder.name else ""

    def sent_encode(_, text):
        text = text.strip()
        ids = tokenizer.encode(prefix + text, add_special_tokens=False).ids if text else []
        return [first, *ids[: MAX_TOKENS - 2], last]

    return sent_encode, first, last


class Padding:
    pad_token_id = 0  # One pair a batch: nothing is padded.


def scores(folder, layer, weights):
    model = upstream.get_model(str(folder), layer)
    found = upstream.bert_cos_score_idf(
        model, [pair[1] for pair in PAIRS], [pair[0] for pair in PAIRS], Padding, weights, batch_size=1, device="cpu"
    )
    return found


def write_case(folder, case):
    sent_encode, first, last = encoding(folder, case)
    upstream.sent_encode = sent_encode
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    texts, hidden = [], {}
    for nth, text in enumerate(TEXTS):
        ids = sent_encode(None, text)
        texts.append(dict(text=text, ids=ids))
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for layer, state in enumerate(states):
            hidden[f"{nth}.{layer}"] = state[0].contiguous()
    save_file(hidden, folder / "golden.safetensors")
    plain = defaultdict(lambda: 1.0, {first: 0, last: 0})
    idf = upstream.get_idf_dict([pair[1] for pair in PAIRS], Padding, nthreads=0)
    plain, idf = scores(folder, case["layer"], plain), scores(folder, case["layer"], idf)
    baseline = torch.tensor(BASELINE)
    rescaled = (plain - baseline) / (1 - baseline)
    return dict(
        name=folder.name,
        layer=case["layer"],
        texts=texts,
        plain=plain.tolist(),
        idf=idf.tolist(),
        rescaled=rescaled.tolist(),
    )


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def main():
    out = Path(sys.argv[1])
    cases = []
    for name, case in MODELS.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        write_model(folder, case)
        cases.append(write_case(folder, case))
    write_json(out / "cases.json", dict(pairs=PAIRS, baseline=BASELINE, models=cases))


if __name__ == "__main__":
    main()
