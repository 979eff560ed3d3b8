#!/usr/bin/env python3
"""Prints the results of gpu.sh as a Markdown table, ours beside the twin's.

    table.py results.jsonl [--title TEXT] [--peak DTYPE=TFLOPS]...

A line is {"side": "ours"|"twin", "build", "what", "method", "shape", "dtype", "batch", "tokens", "device", "result": {...}}, with
`error` instead of `result` where a part failed. The ratio is our median time by the twin's: below 1 we are faster.
MFU is tokens/s × flops_per_token (no recomputation counted) by the peak of the number format.
"""

import argparse
import json

PART = ("what", "method", "shape", "dtype", "batch", "tokens")


def peak(text):
    dtype, _, tflops = text.partition("=")
    return dtype, float(tflops) if tflops else None


def memory(result):
    used = result.get("peak_device_bytes") or result.get("peak_rss_bytes")
    return f"{used / 2**30:.2f}" if used else "–"


def utilisation(result, flops_per_token, peak_tflops):
    if not (flops_per_token and peak_tflops):
        return "–"
    return f"{100 * result['tokens_per_s'] * flops_per_token / (peak_tflops * 1e12):.1f} %"


def cells(line, twin, peaks):
    """One row of the table."""
    what = " ".join(filter(None, (line["what"], line["method"])))
    who = "transformers + PEFT" if line["side"] == "twin" else line.get("build") or "finetune"
    row = [what, line["shape"], line["dtype"], f"{line['batch']} × {line['tokens']}", who, line["device"]]
    result = line.get("result")
    if result is None:
        return row + [f"failed ({line['error']})"] + ["–"] * 4
    twin = twin or {}
    ratio = f"{result['median_s'] / twin['median_s']:.2f}" if twin and line["side"] == "ours" else "–"
    flops = twin.get("flops_per_token") or result.get("flops_per_token")
    time = f"{1000 * result['median_s']:.1f} ({1000 * result['min_s']:.1f})"
    mfu = utilisation(result, flops, peaks.get(line["dtype"]))
    return row + [time, f"{result['tokens_per_s']:,.0f}", mfu, memory(result), ratio]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("results")
    arguments.add_argument("--title", default="bench")
    arguments.add_argument("--peak", type=peak, action="append", default=[])
    options = arguments.parse_args()
    with open(options.results) as file:
        lines = [json.loads(line) for line in file]
    print(f"## {options.title}\n")
    for line in lines:
        if "selftest" in line:
            print(f"- golden self-test of {line.get('build', 'finetune')} on {line['device']}: {line['selftest']}")
    measured = [line for line in lines if "side" in line]
    twins = {tuple(m[k] for k in PART): m.get("result") for m in measured if m["side"] == "twin"}
    head = "what|shape|dtype|batch × tokens|program|device|median (min) ms|tokens/s|MFU|peak GiB|ratio".split("|")
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for line in measured:
        row = cells(line, twins.get(tuple(line[k] for k in PART)), dict(options.peak))
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
