#!/usr/bin/env python3
"""Writes the first samples of a GSM8K file as rows that both sides of the bench read.

    gsm8k_rows.py --model DIR --data train.jsonl[.gz] [--rows 4] --out rows.jsonl

A row is {"input_ids": [...], "labels": [...]}: the question through the model's own chat template, labels only on the
answer and its stop token, -100 elsewhere.
"""

import argparse
import gzip
import itertools
import json

import transformers


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", required=True)
    arguments.add_argument("--data", required=True)
    arguments.add_argument("--rows", type=int, default=4)
    arguments.add_argument("--out", required=True)
    options = arguments.parse_args()
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model, local_files_only=True)
    with (gzip.open if options.data.endswith(".gz") else open)(options.data, "rt") as data, open(options.out, "w") as out:
        for line in itertools.islice(data, options.rows):
            sample = json.loads(line)
            turns = [{"role": "user", "content": sample["question"]}, {"role": "assistant", "content": sample["answer"]}]
            prompt = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, tokenize=False)
            whole = tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\n")
            if not whole.startswith(prompt):
                raise SystemExit("the template renders the prompt differently when an answer follows")
            ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
            n_prompt = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
            out.write(json.dumps({"input_ids": ids, "labels": [-100] * n_prompt + ids[n_prompt:]}) + "\n")


if __name__ == "__main__":
    main()
