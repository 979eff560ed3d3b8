#!/usr/bin/env python3
"""Says what the kernels of a step are and which change is next: kernel_times.py PROFILE.log [--wall SECONDS] [--host-share 0.3]

The log is cubecl's (`[profiling.logger] level = "basic"` in cubecl.toml), a line `| duration | kernel` for every launch.
Kernels are put into classes by their names; --wall is the time of the same repetitions without a profile, which waits for every kernel.
What is next is the class with the most time, in the words of the ten changes that were ranked before a GPU was at hand; where
kernels take less of the wall than all but the host's share, the host is.
"""

import argparse
import re

UNITS = {"ns": 1e-9, "µs": 1e-6, "us": 1e-6, "ms": 1e-3, "s": 1.0}
LINE = re.compile(r"^\|\s*([\d.]+)(ns|µs|us|ms|s)\s*\|\s*(\S.*)$")
# By which cubecl finds out what a device can do, when it first uses it.
PROBES = re.compile(r"(LaunchOverhead|PrimeBuffer|(Memory|Compute)\w*Throughput)")
# The first that fits; what is next if it leads.
CLASSES = [
    ("matrix products", r"matmul|gemm|gemv|cmma|mma|vecmat",
     "3: matrix products; compare the builds with NVRTC and with LLVM, below half of cuBLAS call cuBLASLt"),
    ("attention and softmax", r"softmax|attention|mask",
     "2: attention in query chunks as one operation, forward and backward"),
    ("embedding, loss, rows", r"gather|scatter|select|embedding|argmax",
     "6: larger chunks of the loss, read once a step"),
    ("reductions, norms", r"reduce|sharedsum", "5: RMSNorm, rotary and gate as kernels of their own"),
    ("copies and layouts", r"contiguous|copy|cat|slice|permute|repeat|fullkernel",
     "5: one product for q, k, v and for gate and up; fewer layouts between them"),
    ("random numbers", r"random|uniform|bernoulli|normal", "10: masks of dropout drawn on the device"),
    ("elementwise", r"", "5: RMSNorm, rotary, gate and LoRA-linear as kernels of their own; fusion on"),
]
HOST = "4 and 7: the host; weights on the training thread, kernels and autotune results kept between processes, fewer operations"


def kind(name):
    return next(label for label, pattern, _ in CLASSES if re.search(pattern, name.lower()))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("log")
    arguments.add_argument("--wall", type=float)
    arguments.add_argument("--host-share", type=float, default=0.3)
    options = arguments.parse_args()
    times, counts, slowest = {}, {}, {}
    with open(options.log, encoding="utf-8", errors="replace") as file:
        for line in file:
            found = LINE.match(line)
            if not found or PROBES.match(found[3]):
                continue
            seconds, name = float(found[1]) * UNITS[found[2]], found[3].strip()
            label = kind(name)
            times[label] = times.get(label, 0.0) + seconds
            counts[label] = counts.get(label, 0) + 1
            slowest[name] = slowest.get(name, 0.0) + seconds
    total = sum(times.values())
    if not total:
        raise SystemExit(f"{options.log} has no line of a kernel")
    print("| kernels | launches | ms | share |\n|---|---|---|---|")
    for label in sorted(times, key=times.get, reverse=True):
        print(f"| {label} | {counts[label]} | {1000 * times[label]:.2f} | {100 * times[label] / total:.1f} % |")
    print(f"| all | {sum(counts.values())} | {1000 * total:.2f} | 100 % |\n")
    print("The slowest:", "; ".join(
        f"`{name[:80]}` {100 * slowest[name] / total:.1f} %"
        for name in sorted(slowest, key=slowest.get, reverse=True)[:5]
    ))
    busy = total / options.wall if options.wall else None
    if busy is not None:
        print(f"\nKernels take {100 * min(busy, 1):.0f} % of the {options.wall:.3f} s that the same repetitions take without a profile.")
    first = max(times, key=times.get)
    of_host = busy is not None and busy < 1 - options.host_share
    print("\nNext of the ten changes:", HOST if of_host else next(text for label, _, text in CLASSES if label == first))


if __name__ == "__main__":
    main()
