#!/usr/bin/env python3
"""What `finetune eval` computes, done by transformers and lm-eval's Hugging Face back-end: times, and numbers to compare.

    eval_twin.py generate --model DIR --prompts FILE --out FILE [--max-new-tokens 128] [--batches 1,4,8,16] [--limit N]
    eval_twin.py mmlu     --model DIR --data .../data/mmlu  --out FILE [--items 200] [--shots 0|5] [--batch 8]
    eval_twin.py arc      --model DIR --data .../data/arc   --out FILE [--items 100] [--batch 8]
    eval_twin.py gsm8k    --model DIR --data .../data/gsm8k --out FILE [--items 100] [--shots 5] [--tokens 256] [--batch 8]

Everything in f32, greedy, `--threads 2` on the CPU, no network. `generate` reads one list of token ids a line (or an object
with `ids`), pads on the left, sorts by length, and stops at the tokens that the model's files name. The others are lm-eval's
tasks of these names (eval_twin_tasks.py); `--items-out FILE` writes the items asked, in the data's own format, for the
other program to be asked the same. Each prints one JSON object a measurement; `seconds` are without loading the model.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

# Before transformers and datasets are imported: nothing is looked up on a hub.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")

import torch
import transformers


def token_lists(path, limit):
    """The prompts of a jsonl file."""
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    rows = [row if isinstance(row, list) else row["ids"] for row in rows]
    return rows[:limit] if limit else rows


def stop_ids(model):
    """The tokens that end an answer, as the model's files name them."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = model.config.eos_token_id
    return ids if isinstance(ids, list) else [ids]


def static_batches(prompts, size):
    """Row numbers, the longest prompts first: batches of like lengths, and too large a batch shows at once."""
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def answer_batch(model, prompts, config):
    """The answers of one batch, each up to and with its stop token."""
    length = max(map(len, prompts))
    pad = config.pad_token_id
    ids = torch.tensor([[pad] * (length - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts])
    with torch.inference_mode():
        out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return [cut(row, config.eos_token_id) for row in out[:, length:].tolist()]


def cut(ids, stops):
    end = next((n for n, token in enumerate(ids) if token in stops), None)
    return ids if end is None else ids[: end + 1]


def generate(options):
    """All prompts once a batch size."""
    prompts = token_lists(options.prompts, options.limit)
    start = time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    load_s = time.perf_counter() - start
    stops = stop_ids(model)
    config = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=options.max_new_tokens, eos_token_id=stops, pad_token_id=stops[0]
    )
    # A published temperature or penalty must not come in from the model's own file.
    model.generation_config = config
    answer_batch(model, [prompts[0][:8]], transformers.GenerationConfig(**{**config.to_dict(), "max_new_tokens": 2}))
    first, lines = None, []
    for size in options.batches:
        answers = [None] * len(prompts)
        start = time.perf_counter()
        for rows in static_batches(prompts, size):
            for row, answer in zip(rows, answer_batch(model, [prompts[r] for r in rows], config), strict=True):
                answers[row] = answer
        seconds = time.perf_counter() - start
        lines += [{"batch": size, "row": row, "ids": ids, "stopped": ids[-1] in stops} for row, ids in enumerate(answers)]
        first = first or answers
        new = sum(map(len, answers))
        report(
            options,
            batch=size,
            prompts=len(prompts),
            prompt_tokens=sum(map(len, prompts)),
            new_tokens=new,
            stopped=sum(a[-1] in stops for a in answers),
            seconds=seconds,
            tokens_per_s=new / seconds,
            load_s=load_s,
            rows_unlike_first_batch_size=sum(a != b for a, b in zip(answers, first, strict=True)),
            stop_ids=stops,
        )
    write_lines(options.out, lines)


class Timed:
    """Adds up the time that lm-eval spends in one method of the model, tokenizing included."""

    def __init__(self, model, method):
        self.seconds, self.work = 0.0, getattr(model, method)
        setattr(model, method, self)

    def __call__(self, *arguments, **named):
        start = time.perf_counter()
        out = self.work(*arguments, **named)
        self.seconds += time.perf_counter() - start
        return out


def harness(options):
    """A task of lm-eval on its Hugging Face back-end."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = folder
        import datasets
        import eval_twin_tasks
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        datasets.disable_progress_bars()
        asked = eval_twin_tasks.WRITE[options.what](Path(folder), options)
        if options.items_out:
            write_lines(options.items_out, asked)
        start = time.perf_counter()
        model = HFLM(pretrained=str(options.model), dtype="float32", device="cpu", batch_size=options.batch)
        load_s = time.perf_counter() - start
        clock = Timed(model, "generate_until" if options.what == "gsm8k" else "loglikelihood")
        manager = TaskManager(include_path=folder, include_defaults=False)
        names = sorted(path.stem for path in Path(folder).glob("*.yaml"))
        start = time.perf_counter()
        # lm-eval prints progress where only the result should stand.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            found = lm_eval.simple_evaluate(
                model=model, tasks=names, num_fewshot=options.shots, bootstrap_iters=0, task_manager=manager
            )
        whole_s = time.perf_counter() - start
    lines = [line for name in names for line in eval_twin_tasks.lines(found["samples"][name])]
    lines.sort(key=lambda line: line["row"])
    metrics = [key for key, value in lines[0].items() if isinstance(value, float)]
    report(
        options,
        shots=options.shots,
        items=len(lines),
        batch=options.batch,
        seconds=clock.seconds,
        with_prompts_s=whole_s,
        load_s=load_s,
        **{metric: sum(line[metric] for line in lines) / len(lines) for metric in metrics},
    )
    write_lines(options.out, lines)


def report(options, **measured):
    versions = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
    if options.what != "generate":
        import lm_eval

        versions["lm_eval"] = lm_eval.__version__
    about = {"what": options.what, "model": str(options.model), "threads": options.threads}
    # Linux counts in kilobytes.
    memory = {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "versions": versions}
    print(json.dumps({**about, **measured, **memory}), flush=True)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def parse():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = arguments.add_subparsers(dest="what", required=True)
    for what in ("generate", "mmlu", "arc", "gsm8k"):
        a = kinds.add_parser(what)
        a.add_argument("--model", type=Path, required=True, metavar="DIR")
        a.add_argument("--out", type=Path, required=True, metavar="FILE", help="jsonl")
        a.add_argument("--threads", type=int, default=2)
        if what == "generate":
            a.add_argument("--prompts", type=Path, required=True, metavar="FILE", help="jsonl of lists of token ids")
            a.add_argument("--max-new-tokens", type=int, default=128)
            a.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1, 4, 8, 16])
            a.add_argument("--limit", type=int, help="the first prompts only")
            continue
        a.add_argument("--data", type=Path, required=True, metavar="DIR", help="the shared data's folder of this task")
        a.add_argument("--items", type=int, default=200 if what == "mmlu" else 100)
        a.add_argument("--items-out", type=Path, metavar="FILE")
        a.add_argument("--shots", type=int, default=5 if what == "gsm8k" else 0, choices=[0, 5] if what != "arc" else [0])
        a.add_argument("--batch", type=int, default=8)
        if what == "gsm8k":
            a.add_argument("--tokens", type=int, default=256, help="of an answer at most")
    return arguments.parse_args()


def main():
    options = parse()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    (generate if options.what == "generate" else harness)(options)


if __name__ == "__main__":
    main()
