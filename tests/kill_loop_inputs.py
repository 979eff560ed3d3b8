"""What the jobs of `kill-loop` read: models, recipes, and a hub on loopback."""

import hashlib
import http.server
import json
import os
import pathlib
import random
import shutil
import struct
import threading
import time

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"

LORA = """schema = 1
name = "killed"
[model]
source = "DATA/model"
[data]
source = "DATA/math-train.jsonl"
validation_source = "DATA/math-valid.jsonl"
fields = { prompt = "question", completion = "answer" }
max_tokens = 256
[method]
rank = 4
dropout = 0.1
[train]
steps = 24
batch = 8
learning_rate = 2e-3
validate_every = 6
checkpoint_every = 4
[merge]
methods = ["linear:0.5", "ties:0.7,density=0.3"]
[eval]
temperature = 0.8
[[eval.suites]]
task = "gsm8k_chat"
name = "gsm8k"
source = "DATA/math-test.jsonl"
limit = 40
max_new_tokens = 24
[[eval.suites]]
task = "harmful"
source = "DATA/harmful-test.csv"
field = "goal"
limit = 40
max_new_tokens = 24
"""

# Two seeds, a variant with the training of the first, and what the seeds gave merged.
GRID = """
[grid]
"train.seed" = [1, 2]
over_seeds = ["linear:0.5"]
[[grid.variant]]
name = "other answers"
set = { eval.top_k = 5 }
[[grid.contrast]]
name = "less than tuned"
suite = "harmful"
of = "linear:0.5"
less = "tuned"
"""

YAML = """merge_method: dare_ties
base_model: ../inputs/pre
dtype: bfloat16
parameters: {lambda: 0.8}
models:
- {model: ../inputs/post, parameters: {weight: 0.6, density: 0.5}}
- {model: ../inputs/other, parameters: {weight: 0.4, density: 0.5}}
"""


def write_model(folder, seed):
    """A Llama of 51 M parameters with random weights in bf16: large enough to be killed while it is written."""
    folder.mkdir(parents=True)
    shipped = CHECKOUT / "data/tiny/model"
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(shipped / name, folder / name)
    width, wide, n_layers = 768, 2048, 8
    config = json.loads((shipped / "config.json").read_text())
    config.update(hidden_size=width, intermediate_size=wide, num_hidden_layers=n_layers, head_dim=64)
    config.update(num_attention_heads=12, num_key_value_heads=4)
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], width), "model.norm.weight": (width,)}
    for layer in range(n_layers):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
        shapes |= {f"{at}self_attn.{name}_proj.weight": (width, width) for name in "qo"}
        shapes |= {f"{at}self_attn.{name}_proj.weight": (256, width) for name in "kv"}
        shapes |= {f"{at}mlp.{name}_proj.weight": (wide, width) for name in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (width, wide)
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    rng, values = random.Random(seed), bytearray(end)
    # Numbers from 0.008 to 0.03 of either sign: the upper byte has sign and most of the exponent.
    values[0::2] = rng.randbytes(end // 2)
    values[1::2] = rng.randbytes(end // 2).translate(bytes(0x3C if i < 128 else 0xBC for i in range(256)))
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + values)


def write(folder):
    for seed, name in enumerate(("pre", "post", "other")):
        write_model(folder / name, seed)
    data = os.path.relpath(CHECKOUT / "data/tiny", folder)
    (folder / "lora.toml").write_text(LORA.replace("DATA", data))
    (folder / "study.toml").write_text(LORA.replace("DATA", data).replace("limit = 40", "limit = 20") + GRID)
    (folder / "merge.yml").write_text(YAML)
    rows = folder / "rows/data"
    rows.mkdir(parents=True)
    lines = (f'{{"question": "What is {i} and 3 more?", "answer": "#### {i + 3}"}}\n' for i in range(40000))
    (rows / "train.jsonl").write_text("".join(lines))


class Hub(http.server.BaseHTTPRequestHandler):
    """Two repositories as huggingface.co shows them: large files lie in a store, and have ranges."""

    protocol_version = "HTTP/1.1"
    # So slow that a download takes a few seconds.
    BYTES_PER_S = 40_000_000
    repositories: dict = {}
    # By their SHA-256.
    store: dict = {}

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        try:
            self.answer()
        except (BrokenPipeError, ConnectionResetError):
            pass

    def answer(self):
        path = self.path.lstrip("/")
        if path.startswith("api/"):
            kind, org, name, _, _ = path.removeprefix("api/").split("/", 4)
            files = self.repositories[("datasets/" if kind == "datasets" else "") + f"{org}/{name}"]
            info = {"sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            return self.send(200, {}, json.dumps(info).encode())
        if path.startswith("store/"):
            body = self.store[path.removeprefix("store/")]
            start = int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            part = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
            return self.send(206 if start else 200, part, body[start:])
        repository, _, file = path.partition(f"/resolve/{COMMIT}/")
        body = self.repositories[repository][file]
        if len(body) < 100_000:
            etag = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            return self.send(200, {"ETag": f'"{etag}"'}, body)
        sha256 = next(sha256 for sha256, stored in self.store.items() if stored == body)
        linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": len(body), "Location": f"/store/{sha256}"}
        return self.send(302, linked, b"")

    def send(self, status, headers, body):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        for start in range(0, len(body) if self.command == "GET" else 0, 1 << 18):
            self.wfile.write(body[start : start + (1 << 18)])
            time.sleep((1 << 18) / self.BYTES_PER_S)

    def log_message(self, *_):
        pass


def start_hub(inputs):
    def files(folder):
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    Hub.repositories = {"test/model": files(inputs / "pre"), "datasets/test/rows": files(inputs / "rows")}
    bodies = (body for files in Hub.repositories.values() for body in files.values())
    Hub.store = {hashlib.sha256(body).hexdigest(): body for body in bodies}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
