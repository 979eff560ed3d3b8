#!/usr/bin/env python3
"""Checks that transformers and PEFT load what `finetune` wrote, and compute the same logits.

    check_exports.py FOLDER...                          loads each folder and tries it on fixed token ids
    check_exports.py FOLDER --logits FILE               and compares its logits with ours
    check_exports.py ADAPTER --base DIR --logits FILE   the same for an adapter on its base
    check_exports.py --program FINETUNE                 has every model of `models/` tuned, merged and compared

FOLDER is a model folder, an adapter folder, or a run folder: then every model and adapter in it is checked. FILE is a
safetensors file with `input_ids` [b, t], `logits` [b, t, vocab] and, with padding, `attention_mask` [b, t] (as
`golden.safetensors` has); without --logits, `logits.safetensors` of the folder is used if it is there.

With --program a short run of FINETUNE tunes each model by each method; its adapter, the tuned and the merged model are
loaded and made into golden cases, which `FINETUNE doctor --selftest` computes again, 2e-4 being the most that a logit
may differ. The largest differences are written to `exports.json`.

The exit status is 1 if a folder does not load whole or a difference is larger than --tolerance.
Needs torch, transformers and, for adapters, peft; without torch it does nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

try:
    import torch
except ImportError:
    print("torch is not installed: skipped")
    sys.exit(0)
import transformers
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "file": "auto"}
RATE = {"lora": 2e-2, "rslora": 1e-2, "dora": 2e-2, "full": 4e-3}
RECIPE = """\
schema = 1
name = "{method}"
model = {{ source = {base} }}
data = {{ source = "train.jsonl" }}
method = {{ {settings} }}
train = {{ steps = 3, batch = 4, learning_rate = {rate}, warmup = 0.0 }}
merge = {{ methods = ["linear:0.5"] }}
"""
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<' + m.role + '>' }}{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
WEIGHTS = 2e-6


class Bad(Exception):
    """What is wrong with a folder."""


def models_in(folder):
    """`folder` itself, or the models and adapters of a run folder."""
    if not folder.is_dir():
        raise SystemExit(f"`{folder}` is no folder")
    if is_adapter(folder) or (folder / "config.json").exists():
        return [folder]
    found = {p.parent for name in ("config.json", "adapter_config.json") for p in folder.rglob(name)}
    # A checkpoint is for going on with training and promises nothing to other programs.
    found = sorted(p for p in found if not any(part.startswith("checkpoint") for part in p.parts))
    if not found:
        raise SystemExit(f"`{folder}` holds no model and no adapter")
    return found


def is_adapter(folder):
    return (folder / "adapter_config.json").exists()


def load_model(folder, dtype):
    """The model; every weight of the files must have a place in it, and it none without a file."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=DTYPES[dtype], attn_implementation="eager", output_loading_info=True, local_files_only=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(kind):
            raise Bad(f"{kind.replace('_', ' ')}: {sorted(map(str, info[kind]))[:5]}")
    return model


def load_adapter(folder, base, dtype):
    """The base with the adapter on it; every tensor of the adapter's file must have arrived."""
    import peft

    base = base or json.loads((folder / "adapter_config.json").read_text()).get("base_model_name_or_path")
    if not base:
        raise Bad("the adapter names no base: give --base")
    model = peft.PeftModel.from_pretrained(load_model(base, dtype), folder)
    stored = load_file(folder / "adapter_model.safetensors")
    # A tied or new output layer is no business of an adapter on linear layers.
    loaded = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    if stored.keys() != loaded.keys():
        raise Bad(f"tensors differ: {sorted(stored.keys() ^ loaded.keys())[:5]}")
    changed = [n for n in stored if not torch.equal(stored[n].float(), loaded[n].float())]
    if changed:
        raise Bad(f"tensors not as in the file: {changed[:5]}")
    return model


def largest_difference(model, tensors):
    """Over the positions that are not padding."""
    mask = tensors.get("attention_mask", torch.ones_like(tensors["input_ids"]))
    with torch.no_grad():
        theirs = model(input_ids=tensors["input_ids"].long(), attention_mask=mask.long()).logits.float()
    ours = tensors["logits"].float()
    if ours.shape != theirs.shape:
        raise Bad(f"our logits are {list(ours.shape)}, theirs {list(theirs.shape)}")
    return (theirs - ours)[mask.bool()].abs().max().item()


def check(folder, options):
    """Loads `folder`; gives what to print about it, or raises."""
    if is_adapter(folder):
        model = load_adapter(folder, options.base, options.dtype)
    else:
        model = load_model(folder, options.dtype)
    model.eval()
    weights = sum(p.numel() for p in model.parameters())
    said = [f"loads ({weights:,} parameters, {next(model.parameters()).dtype})"]
    if (folder / "tokenizer.json").exists():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        said.append(f"tokenizer of {len(tokenizer)}")
        if tokenizer.chat_template:
            tokenizer.apply_chat_template([{"role": "user", "content": "Hello."}], tokenize=False)
            said.append("chat template renders")
    file = options.logits or folder / "logits.safetensors"
    if options.logits or file.exists():
        difference = largest_difference(model, load_file(file))
        said.append(f"max |Δlogit| {difference:.2e}")
        # Written so that a NaN fails too.
        if not difference <= options.tolerance:
            raise Bad(", ".join(said) + f": more than {options.tolerance:g}")
    else:
        ids = torch.arange(4, 12).unsqueeze(0) % model.config.vocab_size
        with torch.no_grad():
            if not model(input_ids=ids).logits.isfinite().all():
                raise Bad("logits are not finite")
        said.append("finite logits, compared with nothing")
    return ", ".join(said)


def check_folders(options):
    """Gives how many of the folders are not as they should be."""
    failed = 0
    for folder in [m for f in options.folders for m in models_in(f)]:
        try:
            print(f"ok   {folder}: {check(folder, options)}")
        # Whatever a library raises on a folder of ours is a finding about that folder; the others are still checked.
        except Exception as error:
            failed += 1
            print(f"FAIL {folder}: {error if isinstance(error, Bad) else repr(error)}")
    return failed


def write_base(folder, model):
    """A copy of `model` that can be talked to: words, a template, settings for generation."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True)
    for path in [model / "config.json", *model.glob("model*")]:
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((model / "config.json").read_text())
    bos, eos = config["bos_token_id"], config["eos_token_id"]
    specials = {0: "<pad>", 1: "<1>", 2: "<2>", 3: "<3>", 4: "<user>", 5: "<assistant>", 6: "<unk>"}
    words = [*map(str, range(20)), *"what is and it . ?".split()]
    vocabulary = {token: i for i, token in enumerate([*specials.values(), *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials.values()])
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": specials[bos],
        "eos_token": specials[eos[0] if isinstance(eos, list) else eos],
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
    generation = {"bos_token_id": bos, "eos_token_id": eos, "do_sample": True, "temperature": 0.7, "max_new_tokens": 9}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    sums = [(a, b) for a in range(9) for b in range(5)]
    lines = [json.dumps({"prompt": f"what is {a} and {b} ?", "completion": f"it is {a + b} ."}) for a, b in sums]
    (folder.parent / "train.jsonl").write_text("\n".join(lines) + "\n")


def call(arguments, folder):
    """Standard output of the program, run in `folder`."""
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise Bad(f"`{' '.join(map(str, arguments[1:]))}` ends with {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout


def tune(program, base, method):
    """Tunes `base` by `method`; gives the folders of adapter (if there is one), tuned and merged model."""
    place, run = base.parent, base.parent / method
    settings = 'kind = "full"' if method == "full" else f'rank = 3, alpha = 6.0, variant = "{method}"'
    recipe = RECIPE.format(method=method, base=json.dumps(str(base)), settings=settings, rate=RATE[method])
    (place / f"{method}.toml").write_text(recipe)
    call([program, "--recipe", f"{method}.toml", "--device", "cpu", "--out", run, "--keep-merged"], place)
    (merged,) = (run / "merged").iterdir()
    if method == "full":
        return {"tuned": run / "train/model", "merged": merged}
    adapter, tuned = run / "train/adapter", place / f"{method}-tuned"
    call([program, "merge", "--pre", base, "--post", adapter, "--merge", "linear:1", "--out", tuned], place)
    return {"adapter": adapter, "tuned": tuned, "merged": merged}


def like_base(folder, model, base_folder, base):
    """What a model or an adapter has from its base must be there as it was."""
    names = ["generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    for name in names:
        if not (folder / name).exists() or (folder / name).read_bytes() != (base_folder / name).read_bytes():
            raise Bad(f"`{name}` is not the base's")
    transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if is_adapter(folder):
        return
    settings = [{**m.config.to_dict(), "_name_or_path": None} for m in (model, base)]
    if settings[0] != settings[1]:
        raise Bad("transformers reads another configuration than the base's")
    tied = base.config.tie_word_embeddings
    stored = {name for path in folder.glob("*.safetensors") for name in load_file(path)}
    if ("lm_head.weight" in stored) == tied:
        raise Bad("the file has a head of its own" if tied else "the head is missing from the file")
    if (model.get_output_embeddings().weight is model.get_input_embeddings().weight) != tied:
        raise Bad(f"head and embedding are {'not ' * tied}shared")


def golden(model):
    """What make_models.py stores of a model, with a prompt after which every greedy token is clear."""
    import make_models

    torch.manual_seed(1)
    ids, mask, labels = make_models.batches((3, 24), 5)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    for _ in range(100):
        try:
            return make_models.golden(model, {**inputs, "greedy_prompt": torch.randint(4, make_models.VOCABULARY, (1, 9))})
        except AssertionError:
            pass
    raise Bad("no prompt has a clear greedy answer")


def largest_step(one, other):
    """Between the weights of two models."""
    one, other = one.state_dict(), other.state_dict()
    if one.keys() != other.keys():
        raise Bad(f"weights differ: {sorted(one.keys() ^ other.keys())[:5]}")
    return max((one[name] - other[name]).abs().max().item() for name in one)


def export(program, base_folder, method, cases):
    """Tunes; writes what transformers and PEFT compute as cases; gives how far our weights are from theirs."""
    base = load_model(base_folder, "f32").eval()
    folders, models = tune(program, base_folder, method), {}
    for part, folder in folders.items():
        model = load_adapter(folder, base_folder, "f32") if part == "adapter" else load_model(folder, "f32")
        like_base(folder, model.eval(), base_folder, base)
        tensors = golden(model)
        if not largest_difference(base, tensors) > 1e-2:
            raise Bad(f"{part}: nothing was learned")
        case = cases / f"{base_folder.parent.name} {method} {part}"
        case.mkdir(parents=True)
        save_file(tensors, case / "golden.safetensors")
        # Our side of an adapter is the model that `finetune merge` makes of it.
        files = folders["tuned"] if part == "adapter" else folder
        for path in [files / "config.json", *files.glob("model*")]:
            (case / path.name).symlink_to(path)
        models[part] = model
    theirs = models["adapter"].merge_and_unload() if "adapter" in models else models["tuned"]
    step = largest_step(models["tuned"], theirs)
    with torch.no_grad():
        for name, weight in base.named_parameters():
            weight.copy_((weight.double() + theirs.get_parameter(name).double()) / 2)
    return max(step, largest_step(models["merged"], base))


def selftest(program, cases, figures):
    """Has the program compute every case; adds the largest differences of logits, and gives what went wrong."""
    command = [program, "doctor", "--selftest", str(cases), "--device", "cpu", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return [f"`doctor` ends with {done.returncode}: {done.stderr.strip()[-600:]}"]
    failures = [f"{name}: not compared" for name in found.get("unsupported", [])]
    for part in found["checks"]:
        if not part["passed"]:
            failures.append(f"{part['case']}: {part['part']} {part['measured']}, allowed {part['allowed']:.0e}")
        elif "logits" in part["part"] and part["case"].split()[0] in figures:
            family, method, name = part["case"].split()
            figure = figures[family][method]
            figure[name] = max(figure.get(name, 0.0), part["measured"])
    for family, method in [(family, method) for family in figures for method in figures[family]]:
        expected = {"tuned", "merged"} | ({"adapter"} if method != "full" else set())
        missing = sorted(expected - figures[family][method].keys())
        failures += [f"{family} {method} {name}: no logits compared" for name in missing]
    return failures


def check_program(options, work):
    """Gives how many families and methods are not as they should be, and writes the record if none."""
    import peft

    figures, failures = {}, []
    program = str(options.program.resolve())
    models = sorted(p.parent for p in (HERE / "models").glob("*/config.json"))
    for model in [m for m in models if not options.only or m.name in options.only]:
        write_base(work / model.name / "base", model)
        for method in RATE:
            try:
                weights = export(program, work / model.name / "base", method, work / "cases")
                if not weights <= WEIGHTS:
                    raise Bad(f"weights differ by {weights:.1e}")
                figures.setdefault(model.name, {})[method] = {"weights": weights}
            # As above: a finding about this family and method.
            except Exception as error:
                failures.append(f"{model.name} {method}: {error if isinstance(error, Bad) else repr(error)}")
    if figures:
        failures += selftest(program, work / "cases", figures)
    for family, methods in figures.items():
        for method, parts in methods.items():
            print(f"{family} {method}: " + ", ".join(f"{name} {value:.1e}" for name, value in parts.items()))
    for failure in failures:
        print(f"FAIL {failure}")
    if not failures and (options.record or not options.only):
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
        record = {
            "note": "largest |Δlogit| of ours and theirs, f32; weights: largest |Δweight| of tuned and merged models",
            "made by": "check_exports.py --program",
            "versions": {version[0]: version[1]}
            | {library.__name__: library.__version__ for library in (torch, transformers, peft)},
            "differences": {
                family: {m: {name: float(f"{x:.1e}") for name, x in sorted(parts.items())} for m, parts in methods.items()}
                for family, methods in figures.items()
            },
        }
        path = options.record or HERE / "exports.json"
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        print(f"wrote {path}")
    return len(failures)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    arguments.add_argument("--logits", type=Path, metavar="FILE", help="our logits and their token ids")
    arguments.add_argument("--base", type=Path, metavar="DIR", help="the base of an adapter (default: as it says itself)")
    arguments.add_argument("--tolerance", type=float, default=2e-4, help="largest |Δlogit| (default 2e-4, for f32)")
    arguments.add_argument("--dtype", choices=DTYPES, default="f32", help="compute in (default f32; file: as stored)")
    arguments.add_argument("--program", type=Path, metavar="FINETUNE", help="the program, built")
    arguments.add_argument("--only", nargs="+", metavar="MODEL", help="of `models/`, such as pico-gemma2; no record")
    arguments.add_argument("--record", type=Path, metavar="FILE", help="instead of exports.json")
    options = arguments.parse_args()
    if bool(options.folders) == bool(options.program):
        arguments.error("give folders, or --program")
    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    if not options.program:
        sys.exit(1 if check_folders(options) else 0)
    # One thread, as for the other goldens.
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)
    with tempfile.TemporaryDirectory() as work:
        sys.exit(1 if check_program(options, Path(work)) else 0)


if __name__ == "__main__":
    main()
