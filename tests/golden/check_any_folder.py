"""Folders of models that this program cannot run are merged weight by weight: a tiny LLaVA, an encoder and a mixture of
experts, made by transformers, merged by this program, loaded there again, against the same merge done in torch.

    python tests/golden/check_any_folder.py path/to/finetune

Checked with torch 2.11.0, transformers 5.23.0.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers as t

SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)


def llava():
    config = t.LlavaConfig(
        vision_config=t.CLIPVisionConfig(**SMALL, image_size=8, patch_size=4, projection_dim=16),
        text_config=t.LlamaConfig(**SMALL, num_key_value_heads=2, vocab_size=99),
        image_token_index=98,
    )
    n_patches = 4
    ids = torch.tensor([[1] + [98] * n_patches + [5, 6, 7]])
    pixels = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)
    return t.LlavaForConditionalGeneration, config, dict(input_ids=ids, pixel_values=pixels)


def bert():
    config = t.BertConfig(**SMALL, vocab_size=99)
    return t.BertForMaskedLM, config, dict(input_ids=torch.arange(1, 9).reshape(1, 8))


def mixture():
    config = t.MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=4, vocab_size=99)
    return t.MixtralForCausalLM, config, dict(input_ids=torch.arange(1, 9).reshape(1, 8))


def check(program, kind, folder):
    model_class, config, inputs = kind()
    torch.manual_seed(0)
    pre = model_class(config).eval()
    post = model_class(config).eval()
    post.load_state_dict({k: v + 0.05 * torch.randn_like(v) for k, v in pre.state_dict().items() if v.is_floating_point()}, strict=False)
    for name, model in [("pre", pre), ("post", post)]:
        model.save_pretrained(folder / name)
        (folder / name / "preprocessor_config.json").write_text('{"size": 8}\n')
    with torch.no_grad():
        ours = subprocess.run(
            [program, "merge", "--pre", folder / "pre", "--post", folder / "post", "--merge", "linear:0.3", "--out", folder / "out"],
            capture_output=True,
            text=True,
        )
        assert ours.returncode == 0, ours.stderr
        merged = model_class.from_pretrained(folder / "out").eval()
        other = post.state_dict()
        wanted = model_class(config).eval()
        mean = {k: 0.7 * v + 0.3 * other[k] if v.is_floating_point() else v for k, v in pre.state_dict().items()}
        wanted.load_state_dict(mean)
        found, expected = merged(**inputs).logits, wanted(**inputs).logits
    worst = (found - expected).abs().max().item()
    assert worst < 1e-5 * expected.abs().max().item(), (kind.__name__, worst)
    assert (folder / "out" / "preprocessor_config.json").is_file(), kind.__name__
    print(f"{kind.__name__}: largest difference of logits {worst:.1e} of {expected.abs().max().item():.2f}")


for kind in [llava, bert, mixture]:
    with tempfile.TemporaryDirectory() as folder:
        check(sys.argv[1], kind, Path(folder))
