"""A matrix in 4 and 8 bits by bitsandbytes: make_quantised.py [OUT]

torch 2.11, bitsandbytes 0.50.2 on the processor. NF4 as `Linear4bit(quant_type="nf4", compress_statistics=True)` keeps a weight, int8 as
`Linear8bitLt` does (scales by row; outliers are a matter of what is multiplied with it, and none of the weight).
"""
import sys
import warnings

import bitsandbytes.functional as F
import torch
from safetensors.torch import save_file

warnings.filterwarnings("ignore")
torch.manual_seed(7)
# More than 256 blocks of 64, so that scales have two scales of their own, and a last block that is not full.
weight = torch.randn(137, 124) * torch.rand(137, 1) * 0.1
weight[3] = 0.0
weight[5, 7] = 2.5
weight = weight.bfloat16()
exact = weight.float()
levels, state = F.quantize_4bit(exact.clone(), blocksize=64, quant_type="nf4", compress_statistics=True)
# The library's search on the processor takes a neighbour where a scale lies within 1e-5 of the middle between two levels: its
# definition (and its other kernels) is the nearest.
centred = torch.stack([block.abs().max() for block in exact.flatten().split(64)]) - state.offset
blocks = zip(centred.split(256), state.state2.absmax)
scaled = torch.cat([block * (1 / largest) for block, largest in blocks])
nearest = (scaled.unsqueeze(1) - state.state2.code).abs().argmin(1).to(torch.uint8)
others = (nearest != state.absmax).nonzero().flatten()
assert len(others) <= 2 and all(abs(int(nearest[i]) - int(state.absmax[i])) == 1 for i in others)
state.absmax = nearest
nf4 = F.dequantize_4bit(levels, state)
codes, rows, _ = F.int8_vectorwise_quant(weight.clone().half())
int8 = F.int8_vectorwise_dequant(codes, rows)
save_file(
    {
        "weight": weight,
        "nf4.levels": levels.flatten(),
        "nf4.scales": state.absmax,
        "nf4.largest": state.state2.absmax,
        "nf4.mean": state.offset.reshape(1),
        "nf4.values": nf4[:16].contiguous(),
        "int8.codes": codes,
        "int8.scales": rows,
        "int8.values": int8[:16].float().contiguous(),
        "dynamic": state.state2.code,
    },
    sys.argv[1] if len(sys.argv) > 1 else "quantised.safetensors",
)
