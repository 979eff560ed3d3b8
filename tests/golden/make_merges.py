#!/usr/bin/env python3
"""Makes the merge goldens in `merge/`: vocabularies of several models, and chat templates, as mergekit merges them.

    make_merges.py OUT           write inputs, cases and chat_templates.json into the folder OUT, which must not exist
    make_merges.py --check OUT   compute the cases of OUT again from its own inputs, and print the differences

Needs mergekit 0.1.5, transformers 5.23.0, torch 2.15.0, safetensors 0.8.0, numpy 2.4.6.

The layout is that of the shared goldens: `inputs/<family>/<model>`, `cases/<id>.yml` with paths relative to OUT,
`cases/<id>.safetensors`, `cases.json`. A row of `cases.json` has besides
  out_tokens   the row of each token in the merged tokenizer
  chat         (chat cases) conversations rendered by transformers from the merged folder; `raises` where it fails
  template_in  (chat cases) the file of the merged folder that holds the template
`chat_templates.json` has the same for each built-in template of mergekit: rendered texts only, since the templates
themselves are under the LGPL.

Models, of one layer and width 16: `pre` has 24 tokens; `post1` has three more; `post2` lacks `t23`, has `t5` and `t6`
the other way round, and has three more, one of them also in `post1`; `twin` has the tokens of `pre`, and no template.
"""

import argparse
import hashlib
import importlib.resources
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import jinja2
import mergekit
import numpy as np
import safetensors
import torch
import transformers
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

SEED = 1
FAMILY = "inputs/tokens_bf16"
PRE, POST1, POST2, TWIN = (f"{FAMILY}/{name}" for name in ("pre", "post1", "post2", "twin"))
SPECIAL = ["<unk>", "<s>", "</s>"]
WORDS = [f"t{i}" for i in range(3, 24)]
SWAPPED = [{"t5": "t6", "t6": "t5"}.get(word, word) for word in WORDS if word != "t23"]
ADDED1 = ["<|im_start|>", "<|im_end|>", "<|think|>"]
ADDED2 = ["<|note|>", "<|im_end|>", "<|call|>"]
OUR_TEMPLATE = """{{ bos_token }}{% for message in messages %}
{{ message.role }}: {{ message.content | trim }}
{% endfor %}
{% if add_generation_prompt %}assistant:{% endif %}"""
# Two are equal but for the space around them, which `auto` takes off.
PLAIN_TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
TUNED_TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}\nend"
MODELS = {
    PRE: (WORDS, [], PLAIN_TEMPLATE),
    POST1: (WORDS, ADDED1, TUNED_TEMPLATE),
    POST2: (SWAPPED, ADDED2, "\n" + TUNED_TEMPLATE + "\n"),
    TWIN: (WORDS, [], None),
}
CONFIG = dict(
    architectures=["LlamaForCausalLM"],
    model_type="llama",
    hidden_size=16,
    intermediate_size=20,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    hidden_act="silu",
    attention_bias=False,
    mlp_bias=False,
    tie_word_embeddings=False,
    bos_token_id=1,
    eos_token_id=2,
    torch_dtype="bfloat16",
)
# The mean that pads or fills a row is then rounded once, with the merge.
F32 = "dtype: float32\nout_dtype: bfloat16\n"
# Exact in binary, so that a sum lies halfway between two bf16 numbers for everyone or for no one.
TWO = {PRE: 0.5, POST1: 0.5}
THREE = {PRE: 0.5, POST1: 0.375, POST2: 0.125}
SAME = {PRE: 0.5, TWIN: 0.5}


def linear(weights, rest, base=PRE):
    base = f"base_model: {base}\n" if base else ""
    models = "".join(f"- model: {model}\n  parameters: {{weight: {weight}}}\n" for model, weight in weights.items())
    return f"merge_method: linear\n{base}models:\n{models}{rest}"


def union(*tokens):
    return "tokenizer:\n  source: union\n  tokens:\n" + "".join(f"    {token}\n" for token in tokens)


def chat(template, rest=""):
    return f"chat_template: {json.dumps(template)}\n{rest}"


UNION = "tokenizer: {source: union}\n"
CASES = {
    "tokens_model": (
        linear(THREE, union(f'"<|im_end|>": {{source: {POST2}}}')),
        "two models have `<|im_end|>`: the third gets the row of the named one",
    ),
    "tokens_force": (
        linear(
            THREE,
            union(f't5: {{source: {POST1}, force: true}}', f'"<|im_end|>": {{source: {POST2}, force: true}}'),
        ),
        "every model gets the row of the named one, also those that have their own",
    ),
    "tokens_zero": (
        linear(TWO, union('"<|think|>": {source: {kind: zero}}', "t7: {source: {kind: zero}, force: true}")),
        "zeros where the model lacks `<|think|>`, which therefore shrinks; zeros for `t7` whoever has it",
    ),
    "tokens_model_token": (
        linear(TWO, union(f'"<|think|>": {{source: {{kind: model_token, model: {PRE}, token: t9}}}}')),
        "`pre` lacks `<|think|>` and gets its own row of `t9`; `post1` keeps its row",
    ),
    "tokens_new": (
        linear(
            TWO,
            union(
                f'"<|new|>": {{source: {{kind: model_token, model: {POST1}, token: t9}}}}',
                f'"<|newer|>": {{source: {{kind: model_token, model: {POST1}, token_id: 26}}}}',
                '"<|blank|>": {source: {kind: zero}}',
            ),
        ),
        "tokens that no model has are added behind the others, in the order they are listed",
    ),
    "tokens_pad": (
        linear(TWO, "tokenizer: {source: union, pad_to_multiple_of: 8}\n" + F32),
        "the rows behind the tokens are the mean of all rows of that model, then merged",
    ),
    "three_union": (
        linear(THREE, UNION + F32),
        "in one model only: its row; else the base's, if it has the token; else the mean of those that have it",
    ),
    "three_union_no_base": (
        linear(THREE, UNION + F32, base=None),
        "without `base_model` the mean also where the first model has the token",
    ),
    "three_path": (
        linear(THREE, f"tokenizer: {{source: {POST2}}}\n" + F32),
        "the vocabulary of one tuned model: tokens that only others have are gone",
    ),
    "gradient_one_layer": (
        linear({PRE: [0.75, 0.25], TWIN: [0.25, 0.75]}, ""),
        "a stack of one layer takes the last entry of a gradient, what is outside the first",
    ),
    "chat_chatml": (linear(SAME, chat("chatml")), "a built-in name"),
    "chat_llama3": (linear(TWO, chat("llama3", UNION)), "a built-in name, with a vocabulary"),
    "chat_auto": (linear(THREE, chat("auto", UNION)), "the template of most models, without the space around it"),
    "chat_jinja": (linear(SAME, chat(OUR_TEMPLATE)), "Jinja text"),
}
USER, SYSTEM, REPLY, MORE = (
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "system", "content": "You are terse."},
    {"role": "assistant", "content": "It is 4."},
    {"role": "user", "content": "  And\n3 + 3?\n"},
)
CONVERSATIONS = [[USER], [SYSTEM, USER], [USER, REPLY, MORE], [SYSTEM, USER, REPLY, MORE]]
# What the templates trip over: space around texts, no user, two systems, two users, an unknown role.
ODD = [
    [{"role": "system", "content": " Be\nbrief. "}, MORE, {"role": "assistant", "content": "\n6. "}],
    [REPLY],
    [SYSTEM, USER, REPLY, {"role": "system", "content": "Be kind."}, MORE],
    [USER, MORE],
    [USER, {"role": "tool", "content": "4"}],
    [USER, {"role": "user_context", "content": "two"}],
]
BUILT_IN = ["alpaca", "chatml", "exaone", "llama3", "mistral"]
STOPS = [("<s>", "</s>"), ("<|begin|>", "<|end|>"), (None, "</s>"), ("<s>", None)]


def listed(config):
    """mergekit goes through the models in the order of a Python set, which is random; here as they are listed."""
    # The planner moves `models` into slices of `modules`.
    modules = (config.modules or {}).values()
    slices = [*(config.slices or []), *(piece for module in modules for piece in module.slices or [])]
    sources = [*(config.models or []), *(source for piece in slices for source in piece.sources)]
    models = [config.base_model, *(source.model for source in sources)]
    return list(dict.fromkeys(filter(None, models)))


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def tokenizer_json(words, added):
    texts = SPECIAL + words + added
    vocab = {text: i for i, text in enumerate(texts)}
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocab[text], "content": text, **flags} for text in SPECIAL + added],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    }


def write_inputs(root):
    names = dict(tokenizer_class="PreTrainedTokenizerFast", unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    rng = np.random.Generator(np.random.PCG64(SEED))
    for name, (words, added, template) in MODELS.items():
        folder = root / name
        folder.mkdir(parents=True)
        vocab = len(SPECIAL + words + added)
        m, f, h, g = CONFIG["hidden_size"], CONFIG["intermediate_size"], 16, 8
        layer = "model.layers.0."
        shapes = {
            "lm_head.weight": (vocab, m),
            "model.embed_tokens.weight": (vocab, m),
            layer + "input_layernorm.weight": (m,),
            layer + "mlp.down_proj.weight": (m, f),
            layer + "mlp.gate_proj.weight": (f, m),
            layer + "mlp.up_proj.weight": (f, m),
            layer + "post_attention_layernorm.weight": (m,),
            layer + "self_attn.k_proj.weight": (g, m),
            layer + "self_attn.o_proj.weight": (m, h),
            layer + "self_attn.q_proj.weight": (h, m),
            layer + "self_attn.v_proj.weight": (g, m),
            "model.norm.weight": (m,),
        }
        weights = {key: torch.from_numpy(rng.standard_normal(shape)).bfloat16() for key, shape in shapes.items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        write_json(folder / "config.json", {**CONFIG, "vocab_size": vocab})
        text = json.dumps(tokenizer_json(words, added), separators=(",", ":"))
        (folder / "tokenizer.json").write_text(text + "\n")
        write_json(folder / "tokenizer_config.json", {**names, "model_max_length": 128})
        if template:
            (folder / "chat_template.jinja").write_text(template)


def rendered(tokenizer, conversations):
    rows = []
    for messages in conversations:
        for prompt in (False, True):
            try:
                text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
                outcome = {"text": text}
            except jinja2.exceptions.TemplateError:
                outcome = {"raises": True}
            rows.append({"messages": messages, "add_generation_prompt": prompt, **outcome})
    return rows


def chat_templates(folder):
    """What each built-in template makes of the conversations; null is a tokenizer without that token."""
    by_name = {}
    for name in BUILT_IN:
        rows = []
        for bos, eos in STOPS:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            tokenizer.bos_token, tokenizer.eos_token = bos, eos
            templates = importlib.resources.files("mergekit._data.chat_templates")
            tokenizer.chat_template = templates.joinpath(f"{name}.jinja").read_text()
            conversations = CONVERSATIONS + ODD if (bos, eos) == STOPS[0] else CONVERSATIONS[-1:]
            for row in rendered(tokenizer, conversations):
                stops = {"bos_token": bos, "eos_token": eos}
                rows.append({"messages": row.pop("messages"), **stops, **row})
        by_name[name] = rows
    return by_name


def run_case(root, name, text, note):
    """Merges in a folder of its own; the row for cases.json and the merged file."""
    config = MergeConfiguration.model_validate(yaml.safe_load(text))
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "out"
        run_merge(config, str(out), MergeOptions(random_seed=SEED, quiet=True), config_source=text)
        merged = load_file(out / "model.safetensors")
        written = json.loads((out / "config.json").read_text())
        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
        file = (out / "model.safetensors").read_bytes()
        row = {
            "id": name,
            "family": Path(FAMILY).name,
            "method": config.merge_method,
            "compare": "bit-near",
            "note": note,
            "seed": SEED,
            "out_dtype": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in merged.values()}),
            "tensors": len(merged),
            "non_finite": sum(int((~tensor.isfinite()).sum()) for tensor in merged.values()),
            "out_vocab_size": written["vocab_size"],
            "out_tie": written["tie_word_embeddings"],
            "side_files": sorted(p.name for p in out.iterdir() if p.suffix != ".safetensors"),
            "sha256": hashlib.sha256(file).hexdigest(),
            "out_tokens": dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])),
        }
        if config.chat_template:
            has = "chat_template" in json.loads((out / "tokenizer_config.json").read_text())
            row["template_in"] = "tokenizer_config.json" if has else "chat_template.jinja"
            row["chat"] = rendered(tokenizer, CONVERSATIONS)
    return row, file


def make(root):
    root.mkdir(parents=True)
    os.chdir(root)  # The paths in the YAML start here.
    write_inputs(Path())
    cases = Path("cases")
    cases.mkdir()
    rows = []
    for name, (text, note) in CASES.items():
        (cases / f"{name}.yml").write_text(text)
        row, file = run_case(Path(), name, text, note)
        (cases / f"{name}.safetensors").write_bytes(file)
        rows.append(row)
        print(name, row["out_vocab_size"])
    peers = dict(mergekit="0.1.5", torch=torch.__version__.split("+")[0], safetensors=safetensors.__version__)
    peers.update(transformers=transformers.__version__, numpy=np.__version__)
    golden = {"set": "own", "versions": peers, "python": platform.python_version(), "cases": rows}
    write_json(Path("cases.json"), golden)
    write_json(Path("chat_templates.json"), chat_templates(PRE))


def check(root):
    os.chdir(root)
    wrong = []
    for row in json.loads(Path("cases.json").read_text())["cases"]:
        text = Path(f"cases/{row['id']}.yml").read_text()
        again, _ = run_case(Path(), row["id"], text, row["note"])
        wrong += [f"{row['id']}.{key}" for key in row if again.get(key) != row[key]]
    if chat_templates(PRE) != json.loads(Path("chat_templates.json").read_text()):
        wrong.append("chat_templates.json")
    print("\n".join(wrong) or "no differences")
    return bool(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    MergeConfiguration.referenced_models = listed
    sys.exit(check(args.out) if args.check else make(args.out))


if __name__ == "__main__":
    main()
