#!/usr/bin/env python3
"""Makes `tokenizers/`: folders whose tokenizer files disagree, and the ids that transformers' AutoTokenizer gives.

    make_tokenizers.py           writes `tokenizers/` anew
    make_tokenizers.py --check   makes it again in memory and prints what differs

Needs transformers 5.24 and tokenizers 0.23. A folder of `tokenizers/bases` has a `tokenizer.json`; `cases.json` has a
row for each case: the base, what stands in the files beside it, a patch of `tokenizer.json`, and what transformers has
of the folder then: the ids of each text, its bos, eos and pad token, the id of each added token, and the text of all
ids without special tokens. Where transformers refuses the folder, `raises` has its error.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

HERE = Path(__file__).parent / "tokenizers"
WORDS = ["hello", "world", "pens", "and", "the", "end", "user", "says", "what", "is"]
# What the cases name; the vocabularies have the first three, and none has the last.
NAMED = ["<s>", "</s>", "<|end|>", "<|new|>"]
TEXTS = [
    "hello world",
    "<s>hello <|end|> \n world</s>",
    "hello<|end|>world<|end|>  and the <|new|> pens",
    "<|new|>\nhello  <unk> the<|user|> \n\nend",
    "HELLO <|END|> the pens</s> <|call|>is",
    " <pad> what <mask>is<|user|>",
]


def byte_level():
    """BPE on bytes, as GPT-2, Llama 3 and Qwen have; the named tokens stand in its vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<unk>", *NAMED[:3], *alphabet])}
    merges = []
    for word in ["Ġthe", "hello", "Ġworld", "Ġpens"]:
        left = word[0]
        for letter in word[1:]:
            if left + letter not in vocab:
                merges.append((left, letter))
                vocab[left + letter] = len(vocab)
            left += letter
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def metaspace():
    """BPE with byte fallback behind a normalizer, as Llama 2's file has it."""
    letters = sorted({letter for word in WORDS for letter in word} | {"▁"})
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    vocab = {token: i for i, token in enumerate(["<unk>", *NAMED[:3], *bytes_, *letters])}
    merges = []
    for left, right in [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("l", "l"), ("e", "ll"), ("h", "ell"), ("hell", "o"), ("▁", "hello")]:
        merges.append((left, right))
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken("<unk>"), AddedToken("<s>")])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    return tokenizer


def unigram():
    """Unigram behind Metaspace, as T5 and Gemma have."""
    letters = sorted({letter for word in WORDS for letter in word} | set("▁|<>\n/"))
    pieces = [("<unk>", 0.0), *((token, 0.0) for token in NAMED[:3]), *((letter, -9.0) for letter in letters)]
    pieces += [(f"▁{word}", -4.0) for word in WORDS]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first")
    tokenizer.decoder = decoders.Metaspace("▁", "first")
    return tokenizer


def word_piece():
    """WordPiece in lower case, as BERT's encoders have."""
    letters = sorted({letter for word in WORDS for letter in word} | set("|<>/"))
    tokens = ["<unk>", *NAMED[:3], *letters, *(f"##{letter}" for letter in letters), *WORDS]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece("##")
    return tokenizer


BASES = {"byte-level": byte_level, "metaspace": metaspace, "unigram": unigram, "word-piece": word_piece}


def token(content, special=True, **flags):
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    return {"content": content, **plain, **flags}


def typed(content, **flags):
    return {"__type": "AddedToken", **token(content, **flags)}


def added(*tokens):
    """A patch of `tokenizer.json`: these, at these ids, are its added tokens."""
    return {"added_tokens": [{"id": i, **token} for i, token in tokens]}


def cases():
    """Name, base, files beside it, patch of `tokenizer.json`."""
    end = {"eos_token": "<|end|>"}
    for base in BASES:
        yield f"{base}: nothing beside", base, {}, {}
        yield f"{base}: named as text", base, {"tokenizer_config": {**end, "bos_token": "<s>", "pad_token": None}}, {}
        decoder = {"added_tokens_decoder": {"3": token("<|end|>", rstrip=True), "2": token("</s>", lstrip=True)}}
        yield f"{base}: flags in the decoder", base, {"tokenizer_config": {**decoder, **end}}, {}
        other = added((2, token("</s>")), (3, token("<|end|>", normalized=True)))
        yield f"{base}: other flags in both", base, {"tokenizer_config": {**decoder, **end}}, other
        yield f"{base}: a token of nobody", base, {"tokenizer_config": {**end, "pad_token": "<pad>"}}, {}
        extra = {"extra_special_tokens": ["<|new|>", "<|user|>"], **end}
        yield f"{base}: extra tokens", base, {"tokenizer_config": extra}, {}
    plain = token("<|new|>", special=False, normalized=True)
    yield "plain, single word", "byte-level", {"tokenizer_config": {"added_tokens_decoder": {"900": {**plain, "single_word": True}}}}, {}
    yield "lower case by the normalizer", "word-piece", {
        "tokenizer_config": {"added_tokens_decoder": {"3": token("<|END|>", special=False, normalized=True)}}
    }, {}
    gaps = added((500, token("<|user|>")), (700, token("<|call|>")))
    beyond = {"added_tokens_decoder": {"500": token("<|user|>"), "700": token("<|call|>"), "600": token("<|new|>")}, **end}
    yield "gaps between ids", "byte-level", {"tokenizer_config": beyond}, gaps
    tokens_map = {"eos_token": token("<|end|>", rstrip=True), "bos_token": "<s>", "pad_token": "</s>"}
    del tokens_map["eos_token"]["special"]
    yield "special_tokens_map alone", "byte-level", {"special_tokens_map": tokens_map}, {}
    yield "special_tokens_map wins", "metaspace", {"tokenizer_config": {"eos_token": "</s>"}, "special_tokens_map": tokens_map}, {}
    yield "special_tokens_map beside a decoder", "byte-level", {
        "tokenizer_config": {"eos_token": "</s>", "added_tokens_decoder": {"2": token("</s>")}},
        "special_tokens_map": tokens_map,
    }, {}
    yield "a list in special_tokens_map", "unigram", {
        "special_tokens_map": {"additional_special_tokens": ["<|new|>", "<|end|>"], "eos_token": "</s>"}
    }, {}
    yield "a list of objects in special_tokens_map", "byte-level", {
        "special_tokens_map": {"additional_special_tokens": [{**token("<|new|>", rstrip=True)}]}
    }, {}
    yield "additional_special_tokens", "byte-level", {"tokenizer_config": {"additional_special_tokens": ["<|new|>", "<s>"], **end}}, {}
    yield "additional_special_tokens as objects", "byte-level", {
        "tokenizer_config": {"additional_special_tokens": [typed("<|new|>", lstrip=True), typed("<|user|>")]}
    }, {}
    yield "extra tokens by name", "byte-level", {
        "tokenizer_config": {"extra_special_tokens": {"call_token": "<|call|>", "user_token": "<|user|>"}, "image_token": "<|new|>"}
    }, {}
    yield "named as an object", "byte-level", {"tokenizer_config": {"eos_token": typed("<|end|>", lstrip=True), "bos_token": typed("<s>")}}, {}
    yield "named as an object without a type", "byte-level", {"tokenizer_config": {"eos_token": token("<|end|>", lstrip=True)}}, {}
    yield "named, and plain in the decoder", "byte-level", {
        "tokenizer_config": {"eos_token": "<|end|>", "added_tokens_decoder": {"3": token("<|end|>", special=False, rstrip=True)}}
    }, {}
    yield "added_tokens.json", "byte-level", {"added_tokens": {"<|new|>": 400, "<|end|>": 3}, "tokenizer_config": end}, {}
    yield "added_tokens.json against tokenizer.json", "byte-level", {"added_tokens": {"<|end|>": 7}}, added((3, token("<|end|>", rstrip=True)))
    yield "added_tokens.json beside a decoder", "byte-level", {
        "added_tokens": {"<|new|>": 400}, "tokenizer_config": {"added_tokens_decoder": {"3": token("<|end|>")}}
    }, {}
    for flag in [True, False]:
        yield f"add_bos_token {flag}", "metaspace", {"tokenizer_config": {"bos_token": "<s>", "add_bos_token": flag, "add_eos_token": flag, **end}}, {}
        yield f"add_bos_token {flag} without a post-processor", "byte-level", {"tokenizer_config": {"bos_token": "<s>", "add_bos_token": flag}}, {}
    yield "special tokens are split", "byte-level", {"tokenizer_config": {"split_special_tokens": True, **end}}, added((3, token("<|end|>")))
    padding = {
        "direction": "Right", "pad_id": 2, "pad_token": "</s>", "pad_type_id": 0, "pad_to_multiple_of": None,
        "strategy": "BatchLongest",
    }
    yield "padding names a token", "byte-level", {"tokenizer_config": end}, {"padding": padding}
    # A class that builds its own tokenizer of the file's vocabulary: how it differs is known and not followed.
    decoder = {"added_tokens_decoder": {"3": token("<|end|>", rstrip=True)}, "bos_token": "<s>", "unk_token": "<unk>"}
    yield "class LlamaTokenizerFast", "metaspace", {"tokenizer_config": {"tokenizer_class": "LlamaTokenizerFast", **decoder, **end}}, {}


def found(base, beside, patch):
    """What transformers has of a folder."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        file = {**json.loads(BASES[base]().to_str()), **patch}
        (folder / "tokenizer.json").write_text(json.dumps(file))
        (folder / "config.json").write_text('{"model_type": "llama", "vocab_size": 1024}')
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **beside.get("tokenizer_config", {})}
        for name, value in {**beside, "tokenizer_config": config}.items():
            (folder / f"{name}.json").write_text(json.dumps(value))
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # Whatever transformers says of the folder is what is stored.
            return {"raises": f"{type(error).__name__}: {error}"}
        ids = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
        return {
            "ids": ids,
            "with_ends": tokenizer.encode(TEXTS[0]),
            "texts": [tokenizer.decode(row, skip_special_tokens=True) for row in ids],
            "named": [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token],
            "added": {content: i for content, i in sorted(tokenizer.get_added_vocab().items())},
        }


def make():
    rows = []
    for name, base, beside, patch in cases():
        rows.append({"name": name, "base": base, "beside": beside, "patch": patch, **found(base, beside, patch)})
    versions = {"transformers": transformers.__version__, "tokenizers": __import__("tokenizers").__version__}
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
    head = f'{{"versions": {json.dumps(versions)},\n "texts": {json.dumps(TEXTS, ensure_ascii=False)},\n "cases": [\n'
    files = {f"bases/{base}/tokenizer.json": make_base().to_str() for base, make_base in BASES.items()}
    return {**files, "cases.json": head + lines + "\n]}\n"}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true")
    options = arguments.parse_args()
    transformers.logging.set_verbosity_error()
    differ = 0
    for name, text in make().items():
        path = HERE / name
        if options.check:
            if not path.exists() or path.read_text() != text:
                differ += 1
                print(f"{name} differs")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
