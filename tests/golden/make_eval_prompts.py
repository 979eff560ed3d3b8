#!/usr/bin/env python3
"""Writes the digests of every prompt that lm-eval 0.4.13 makes of the shared data: eval_prompts.json beside this file.

    make_eval_prompts.py DATA        DATA is the folder of the shared data sets (gsm8k/, bbh/, mmlu/, ...)

Needs lm_eval 0.4.13, datasets, evaluate. lm-eval's own tasks run, with one thing replaced: where they would load a data
set from the hub, they get the rows of the shared files in the form the hub's copy has. The few-shot seed is lm-eval's
default, 1234, and the prompts are plain text, without a chat template.

One entry a task: `file` (the suite's file under DATA) and `shots`, then
  n          the number of items
  prompts    sha256 of all prompts, each followed by a zero byte, in the file's order (several tasks of a group: of the
             tasks' names, in alphabetical order for bbh, in the file's for mmlu)
  first      sha256 of the first prompt
  options    sha256 of all options as lm-eval scores them, the delimiter included, each followed by a zero byte;
             a line feed ends the options of an item. Only where an option is chosen
  gold       sha256 of the places of the right options, each followed by a zero byte
  targets    sha256 of the texts that are scored, each followed by a zero byte. Only for wikitext
  stop, max_new_tokens    generation settings, where an answer is written
"""

import gzip
import hashlib
import json
import os
import sys
import types
from pathlib import Path

os.environ["HF_DATASETS_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
import evaluate

DATA = Path(sys.argv[1])

# Only for the import of modules whose other functions are not used here.
evaluate.load = lambda *_: types.SimpleNamespace(compute=lambda **_: None)
sys.modules["immutabledict"] = types.SimpleNamespace(immutabledict=dict)


def text(name):
    path = DATA / name
    return (gzip.open(path, "rt", encoding="utf-8", newline="") if name.endswith(".gz") else open(path, encoding="utf-8", newline="")).read()


def lines(name):
    return [json.loads(line) for line in text(name).split("\n") if line.strip()]


def bbh(task):
    return {"test": json.loads(text(f"bbh/{task}.json.gz"))["examples"]}


def mmlu(subject):
    rows = lambda part: [row for row in lines(f"mmlu/{part}.jsonl.gz") if row["subject"] == subject]
    return {"test": rows("test"), "dev": rows("dev")}


def arc(_):
    def row(r):
        choices = r["question"]["choices"]
        return {
            "id": r["id"],
            "question": r["question"]["stem"],
            "choices": {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]},
            "answerKey": r["answerKey"],
        }

    rows = lambda part: [row(r) for r in lines(f"arc/ARC-Challenge-{part}.jsonl.gz")]
    return {"test": rows("Test"), "validation": rows("Dev"), "train": rows("Dev")}


def medqa(_):
    def row(r):
        options = {f"ending{i}": r["options"][letter] for i, letter in enumerate("ABCD")}
        return {"sent1": r["question"], **options, "label": "ABCD".index(r["answer_idx"])}

    rows = [row(r) for r in lines("medqa/test.jsonl.gz")]
    return {"test": rows, "validation": rows, "train": rows}


def pubmedqa(_):
    records, truth = json.loads(text("pubmedqa/ori_pqal.json.gz")), json.loads(text("pubmedqa/test_ground_truth.json"))
    rows = [record for pmid, record in records.items() if pmid in truth]
    return {"test": rows, "validation": rows, "train": rows}


def pages(_):
    found, page = [], []
    for line in text("wikitext2/test.txt.gz").split("\n"):
        heading = line.replace("= = =", "===").replace("= =", "==").strip()
        if heading.startswith("= ") and heading.endswith(" ="):
            if "\n".join(page).strip():
                found.append("\n".join(page))
            page = []
        page.append(line)
    rows = [{"page": page} for page in [*found, "\n".join(page)]]
    return {"test": rows, "validation": rows, "train": rows}


HUB = {
    "openai/gsm8k": lambda _: {"test": lines("gsm8k/test.jsonl"), "train": lines("gsm8k/train.jsonl.gz")},
    "SaylorTwift/bbh": bbh,
    "cais/mmlu": mmlu,
    "allenai/ai2_arc": arc,
    "GBaker/MedQA-USMLE-4-options-hf": medqa,
    "bigbio/pubmed_qa": pubmedqa,
    "openai/openai_humaneval": lambda _: {"test": lines("humaneval/HumanEval.jsonl.gz")},
    "google/IFEval": lambda _: {"train": lines("ifeval/input_data.jsonl")},
    "EleutherAI/wikitext_document_level": pages,
}


class Rows(list):
    """What lm-eval wants of a datasets.Dataset."""

    @property
    def features(self):
        return self[0]


datasets.load_dataset = lambda path=None, name=None, **_: {part: Rows(rows) for part, rows in HUB[path](name).items()}

from lm_eval.tasks import TaskManager  # noqa: E402  the replacement above must stand first

BBH = sorted(path.name.removesuffix(".json.gz") for path in (DATA / "bbh").glob("*.json.gz") if "cot_prompts" not in path.name)
SUBJECTS = list(dict.fromkeys(row["subject"] for row in lines("mmlu/test.jsonl.gz")))

# Our task; lm-eval's; the file; examples.
TASKS = [
    ("gsm8k", ["gsm8k"], "gsm8k/test.jsonl", 5),
    ("gsm8k", ["gsm8k"], "gsm8k/test.jsonl", 2),
    ("gsm8k", ["gsm8k"], "gsm8k/test.jsonl", 25),
    ("gsm8k_cot", ["gsm8k_cot"], "gsm8k/test.jsonl", 8),
    ("gsm8k_cot", ["gsm8k_cot"], "gsm8k/test.jsonl", 3),
    ("gsm8k_cot_zeroshot", ["gsm8k_cot_zeroshot"], "gsm8k/test.jsonl", 0),
    ("gsm8k_cot_llama", ["gsm8k_cot_llama"], "gsm8k/test.jsonl", 8),
    ("bbh_cot_fewshot", [f"bbh_cot_fewshot_{task}" for task in BBH], "bbh", 3),
    ("bbh_cot_fewshot", ["bbh_cot_fewshot_snarks"], "bbh/snarks.json.gz", 2),
    ("bbh_zeroshot", [f"bbh_zeroshot_{task}" for task in BBH], "bbh", 0),
    ("bbh_cot_zeroshot", [f"bbh_cot_zeroshot_{task}" for task in BBH], "bbh", 0),
    ("mmlu", [f"mmlu_{subject}" for subject in SUBJECTS], "mmlu/test.jsonl.gz", 5),
    ("mmlu", [f"mmlu_{subject}" for subject in SUBJECTS], "mmlu/test.jsonl.gz", 0),
    ("arc_challenge", ["arc_challenge"], "arc/ARC-Challenge-Test.jsonl.gz", 0),
    ("medqa_4options", ["medqa_4options"], "medqa/test.jsonl.gz", 0),
    ("pubmedqa", ["pubmedqa"], "pubmedqa/ori_pqal.json.gz", 0),
    ("humaneval", ["humaneval"], "humaneval/HumanEval.jsonl.gz", 0),
    ("humaneval_instruct", ["humaneval_instruct"], "humaneval/HumanEval.jsonl.gz", 0),
    ("ifeval", ["ifeval"], "ifeval/input_data.jsonl", 0),
    ("wikitext", ["wikitext"], "wikitext2/test.txt.gz", 0),
]


class Digest:
    """The sha256 of texts, each followed by a zero byte."""

    def __init__(self):
        self.sha, self.any = hashlib.sha256(), False

    def add(self, *texts, end=""):
        self.any = True
        for each in texts:
            self.sha.update(str(each).encode() + b"\0")
        self.sha.update(end.encode())

    def hex(self):
        return self.sha.hexdigest() if self.any else None


def entry(manager, name, tasks, file, shots):
    n, first = 0, None
    prompts, options, gold, targets = Digest(), Digest(), Digest(), Digest()
    found = {}
    for task in manager.load(tasks)["tasks"].values():
        task.set_fewshot_seed(1234)
        kind = task.OUTPUT_TYPE
        for doc in task.eval_docs:
            n += 1
            if kind == "loglikelihood_rolling":
                targets.add(task.doc_to_target(doc))
                continue
            prompt = task.fewshot_context(doc, shots, gen_prefix=task.doc_to_prefix(doc))
            prompts.add(prompt)
            first = first or hashlib.sha256(prompt.encode()).hexdigest()
            if kind == "multiple_choice":
                requests = task.construct_requests(doc, prompt, metadata=(None, None, None))
                options.add(*[request.arguments[1] for request in requests], end="\n")
                target = task.doc_to_target(doc)
                gold.add(target if isinstance(target, int) else task.doc_to_choice(doc).index(target))
        if kind == "generate_until":
            settings = task.config.generation_kwargs
            found = {"stop": settings["until"], "max_new_tokens": settings.get("max_gen_toks", 256)}
    found = {"task": name, "file": file, "shots": shots, "n": n, "first": first, "prompts": prompts.hex(), "options": options.hex(), "gold": gold.hex(), "targets": targets.hex(), **found}
    return {key: value for key, value in found.items() if value is not None}


def main():
    manager = TaskManager()
    entries = [entry(manager, *row) for row in TASKS]
    out = Path(__file__).with_name("eval_prompts.json")
    out.write_text("[\n" + ",\n".join(json.dumps(each) for each in entries) + "\n]\n")


main()
