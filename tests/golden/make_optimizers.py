#!/usr/bin/env python3
"""Makes the goldens in `optimizers/`: what PEFT's and torchao's own optimizers make of given weights and gradients.

    make_optimizers.py OUT           write the cases into the folder OUT
    make_optimizers.py --check OUT   compute the cases of OUT again, and print the differences

Needs torch 2.11.0, transformers 5.23.0, peft 0.21.2, torchao 0.18.0 and a C++ compiler, with which torchao compiles its
update; other versions may move the last digits.

Each case is a safetensors file, whose settings and rates are in `cases.json`:
  lora_plus   all that is trained of DoRA on two maps of `models/pico-dropout`, by PEFT's `create_loraplus_optimizer` over
              torch's AdamW: `start.NAME`, and for each of 20 steps `gradient.STEP.NAME` and the weight after it,
              `step.STEP.NAME`. The weight decay is LoRA+'s own (`loraplus_weight_decay`), which PEFT gives every group.
  adamw_8bit  three weights by torchao's `AdamW8bit`: `large`, which it keeps in 8 bits, `small` and `uneven`, which it does
              not. `tables`; after the last step `last.NAME`, and of `large` `codes.MOMENT` and `scales.MOMENT`; of every step
              each 32nd number, `some.STEP.NAME`, and in `cases.json` the SHA-256 of codes and scales, first and second moment
              one behind the other. Weights and gradients are `drawn`, by whole numbers that any program can draw again.
Gradients are drawn anew in each step, some of them of another size than the others, so that no step is like the one
before. Rates are transformers' cosine schedule with a warm-up, as PEFT's groups have them: A's, of which B's is
a multiple.
"""

import hashlib
import zlib
from pathlib import Path

import make_models
import numpy
import peft
import torch
import torchao
import transformers
from make_models import load, write_json
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file, save_file
from torchao.optim import AdamW8bit
from torchao.optim.subclass_8bit import get_qmap_signed, get_qmap_unsigned

MODELS = Path(__file__).parent / "models"
STEPS = 20
ADAMW_8BIT = dict(
    shapes={"large": [64, 64], "small": [40, 32], "uneven": [43, 96]}, learning_rate=1e-3, weight_decay=0.1, warmup=3
)
LORA_PLUS = dict(base="pico-dropout", r=2, learning_rate=1e-3, ratio=16.0, weight_decay=0.1, warmup=3)


def lora_plus():
    """The tensors of the case, and its rates."""
    case = LORA_PLUS
    torch.manual_seed(zlib.crc32(b"lora_plus"))
    config = peft.LoraConfig(r=case["r"], lora_alpha=4, target_modules=["q_proj", "v_proj"], use_dora=True)
    model = peft.get_peft_model(load(MODELS / case["base"]), config)
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert len(weights) == 6
    optimizer = create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=case["learning_rate"],
        loraplus_lr_ratio=case["ratio"],
        loraplus_weight_decay=case["weight_decay"],
    )
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, case["warmup"], STEPS)
    short = {name: name.replace("base_model.model.", "").replace(".default", "") for name in weights}
    # Our name for DoRA's row lengths is that of PEFT's files.
    short = {name: ours.removesuffix(".weight") if "magnitude" in ours else ours for name, ours in short.items()}
    tensors = {f"start.{short[name]}": weight.detach().clone() for name, weight in weights.items()}
    rates = []
    for step in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        for name, weight in weights.items():
            size = 10.0 ** torch.randint(-5, 1, ()).item()
            weight.grad = size * torch.randn_like(weight)
            tensors[f"gradient.{step}.{short[name]}"] = weight.grad.clone()
        optimizer.step()
        schedule.step()
        tensors.update({f"step.{step}.{short[name]}": weight.detach().clone() for name, weight in weights.items()})
    return tensors, {**case, "rates": rates}


def mixed(x):
    """A whole number below 2^32 for each of those of `x`, without a pattern: Wellons' `lowbias32`."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) % 2**32
    x = ((x ^ (x >> 15)) * 0x846CA68B) % 2**32
    return x ^ (x >> 16)


def drawn(shape, stream, sizes):
    """Numbers from -1 to 1, each divided by a power of 2 below 2^sizes: exact in f32, so that no rounding tells them apart."""
    places = numpy.arange(numpy.prod(shape), dtype=numpy.uint64)
    x = mixed((places + stream * 65_536) % 2**32)
    whole = (x >> 8).astype(numpy.int64) - 2**23
    exponent = mixed((x + 1) % 2**32) % sizes
    return torch.from_numpy((whole * 2.0**-23 * 2.0 ** -exponent.astype(float)).astype(numpy.float32)).reshape(shape)


def adamw_8bit():
    """The tensors of the case, its rates and its digests."""
    case = ADAMW_8BIT
    shapes = case["shapes"].items()
    weights = {name: torch.nn.Parameter(drawn(shape, nth, 4)) for nth, (name, shape) in enumerate(shapes)}
    settings = dict(lr=case["learning_rate"], weight_decay=case["weight_decay"])
    optimizer = AdamW8bit(list(weights.values()), **settings)
    like = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], **settings)
    schedule = transformers.get_cosine_schedule_with_warmup(like, case["warmup"], STEPS)
    tensors = {"tables": torch.tensor([get_qmap_signed(), get_qmap_unsigned()])}
    rates, digests = [], []
    for step in range(STEPS):
        rates.append(like.param_groups[0]["lr"])
        optimizer.param_groups[0]["lr"].fill_(rates[-1])
        for nth, (name, weight) in enumerate(weights.items()):
            weight.grad = drawn(weight.shape, 16 * (step + 1) + nth, 20)
        optimizer.step()
        like.step()  # Has the schedule, and nothing to move.
        schedule.step()
        moments = [optimizer.state[weights["large"]][moment] for moment in ("exp_avg", "exp_avg_sq")]
        parts = [part.numpy().tobytes() for moment in moments for part in (moment.codes, moment.scale)]
        digests.append(hashlib.sha256(b"".join(parts)).hexdigest())
        for name, weight in weights.items():
            tensors[f"some.{step}.{name}"] = weight.detach().flatten()[::32].clone()
    for name, moment in zip(("first", "second"), moments):
        tensors[f"codes.{name}"], tensors[f"scales.{name}"] = moment.codes.clone(), moment.scale.clone()
    tensors.update({f"last.{name}": weight.detach().clone() for name, weight in weights.items()})
    return tensors, {**case, "rates": rates, "sha256": digests}


CASES = {"lora_plus": lora_plus, "adamw_8bit": adamw_8bit}


def make(out):
    """Writes every case."""
    out.mkdir(parents=True, exist_ok=True)
    cases = {module.__name__: module.__version__ for module in (peft, torchao, transformers, torch)}
    for name, case in CASES.items():
        tensors, cases[name] = case()
        save_file(tensors, out / f"{name}.safetensors")
        (out / f"{name}.safetensors").chmod(0o644)
    write_json(out / "cases.json", cases)


def check(out):
    """Computes every case of `out` again, and prints the largest differences."""
    for name, case in CASES.items():
        stored, (again, _) = load_file(out / f"{name}.safetensors"), case()
        assert stored.keys() == again.keys(), f"{name} has other tensors"
        print(f"{name}: {max((stored[key].float() - again[key].float()).abs().max().item() for key in stored):.1e}")


if __name__ == "__main__":
    make_models.main(__doc__, make, check)
