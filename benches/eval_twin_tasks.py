"""lm-eval's mmlu, arc_challenge and gsm8k as local tasks over the shared data, for eval_twin.py.

Prompts, options, filters and metrics are those of lm-eval 0.4.13; only the data comes from files.
"""

import gzip
import hashlib
import json

MMLU = dict(
    output_type="multiple_choice",
    test_split="test",
    fewshot_split="dev",
    fewshot_config=dict(sampler="first_n"),
    doc_to_text="{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:",
    doc_to_choice=["A", "B", "C", "D"],
    doc_to_target="answer",
    metric_list=[dict(metric="acc", aggregation="mean", higher_is_better=True)],
)
ARC = dict(
    output_type="multiple_choice",
    test_split="test",
    doc_to_text="Question: {{question}}\nAnswer:",
    doc_to_choice="{{choices.text}}",
    doc_to_target="{{choices.label.index(answerKey)}}",
    metric_list=[dict(metric=m, aggregation="mean", higher_is_better=True) for m in ("acc", "acc_norm")],
)
GSM8K = dict(
    output_type="generate_until",
    training_split="train",
    fewshot_split="train",
    test_split="test",
    doc_to_text="Question: {{question}}\nAnswer:",
    doc_to_target="{{answer}}",
    generation_kwargs=dict(until=["Question:", "</s>", "<|im_end|>"], do_sample=False, temperature=0.0),
    metric_list=[
        dict(
            metric="exact_match",
            aggregation="mean",
            higher_is_better=True,
            ignore_case=True,
            ignore_punctuation=False,
            regexes_to_ignore=[",", r"\$", "(?s).*#### ", r"\.$"],
        )
    ],
    filter_list=[
        dict(
            name="strict-match",
            filter=[
                dict(function="regex", regex_pattern=r"#### (\-?[0-9\.\,]+)"),
                dict(function="take_first"),
            ],
        ),
        dict(
            name="flexible-extract",
            filter=[
                dict(function="regex", group_select=-1, regex_pattern=r"(-?[$0-9.,]{2,})|(-?[0-9]+)"),
                dict(function="take_first"),
            ],
        ),
    ],
)


def rows_of(path):
    """The objects of a jsonl file, compressed or not, with their places."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        return [{"row": n, **json.loads(line)} for n, line in enumerate(lines)]


def write_task(folder, name, task, splits):
    """The task's file and its data. JSON is YAML too."""
    files = {}
    for split, rows in splits.items():
        path = folder / f"{name}-{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        files[split] = str(path)
    source = dict(task=name, dataset_path="json", dataset_kwargs=dict(data_files=files), metadata=dict(version=1))
    (folder / f"{name}.yaml").write_text(json.dumps({**source, **task}))


def without_row(rows):
    return [{k: v for k, v in row.items() if k != "row"} for row in rows]


def write_mmlu(folder, options):
    """One task a subject, as lm-eval has it. The items lie evenly over the file, so over the subjects."""
    dev, test = rows_of(options.data / "dev.jsonl.gz"), rows_of(options.data / "test.jsonl.gz")
    n = min(options.items, len(test))
    asked = [test[i * len(test) // n] for i in range(n)]
    for subject in sorted({row["subject"] for row in asked}):
        splits = {s: [row for row in rows if row["subject"] == subject] for s, rows in (("dev", dev), ("test", asked))}
        about = subject.replace("_", " ")
        head = f"The following are multiple choice questions (with answers) about {about}.\n\n"
        write_task(folder, f"mmlu_{subject}", {**MMLU, "description": head}, splits)
    return without_row(asked)


def write_arc(folder, options):
    """The first items, in the shape that the hub's copy has."""
    asked = rows_of(options.data / "ARC-Challenge-Test.jsonl.gz")[: options.items]
    shaped = []
    for row in asked:
        choices = row["question"]["choices"]
        columns = {key: [choice[key] for choice in choices] for key in ("text", "label")}
        shaped.append(
            dict(row=row["row"], question=row["question"]["stem"], choices=columns, answerKey=row["answerKey"])
        )
    write_task(folder, "arc_challenge", ARC, {"test": shaped})
    return without_row(asked)


def write_gsm8k(folder, options):
    """The first items; the examples are drawn from all of train, anew for each item, from one generator."""
    asked = rows_of(options.data / "test.jsonl")[: options.items]
    task = {**GSM8K, "generation_kwargs": {**GSM8K["generation_kwargs"], "max_gen_toks": options.tokens}}
    write_task(folder, "gsm8k", task, {"train": rows_of(options.data / "train.jsonl.gz"), "test": asked})
    return without_row(asked)


WRITE = {"mmlu": write_mmlu, "arc": write_arc, "gsm8k": write_gsm8k}


def lines(samples):
    """What lm-eval logged, one line an item: the place in the file, the prompt's hash, and what the model said.

    Rates are floats, and nothing else is.
    """
    out = {}
    for sample in samples:
        doc = sample["doc"]
        requests = sample["arguments"]
        prompt = requests["gen_args_0"]["arg_0"] if isinstance(requests, dict) else requests[0][0]
        line = out.setdefault(doc["row"], {"row": doc["row"], "prompt_sha256": digest(prompt)})
        if "subject" in doc:
            line["subject"] = doc["subject"]
        if "exact_match" in sample:
            line["text"] = sample["resps"][0][0]
            line[sample["filter"]] = sample["filtered_resps"][0]
            line["exact_match," + sample["filter"]] = float(sample["exact_match"])
        else:
            line["gold"] = sample["target"]
            line["loglikelihoods"] = [float(score) for score, _ in sample["filtered_resps"]]
            line |= {metric: float(sample[metric]) for metric in ("acc", "acc_norm") if metric in sample}
    return list(out.values())


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()
