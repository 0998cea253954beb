#!/usr/bin/env python3
"""Time one NVFP4 weight-only job on this machine's CPU: tombac, ModelOpt, compressed-tensors' own kernels.

    cpu.py --tombac PATH --work DIR [--layers 4] [--threads 2] [--repeat 3]

Needs Python packages torch, transformers, safetensors, nvidia-modelopt and compressed-tensors; nothing of
tombac does.  Makes a random qwen3_moe checkpoint (about 0.2 GB a layer), lets each tool read, quantize and
write it in turns, each in its own process, and prints the median seconds after imports, the peak memory of
the process, and the ratio to tombac.  tombac's time is the whole command; it also verifies sizes, hashes
every file and measures the error.
"""
import argparse
import json
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import time

CONFIG = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "vocab_size": 2048, "hidden_size": 1024,
          "intermediate_size": 2048, "moe_intermediate_size": 512, "num_attention_heads": 16, "num_key_value_heads": 4,
          "head_dim": 64, "num_experts": 64, "num_experts_per_tok": 8, "norm_topk_prob": True, "decoder_sparse_step": 1,
          "mlp_only_layers": [], "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
          "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16", "attention_bias": False}
RECIPE = """[recipe]
version = 1
[rules]
* = nvfp4-w4a16
[kv_cache]
format = none
"""


def make_checkpoint(path, layers):
    import torch
    from safetensors.torch import save_file
    c = {**CONFIG, "num_hidden_layers": layers}
    h, i, d, g = c["hidden_size"], c["moe_intermediate_size"], c["head_dim"], torch.Generator().manual_seed(1)

    def random(*shape):
        return (torch.randn(shape, generator=g) * 0.02).to(torch.bfloat16)

    def ones(n):
        return torch.ones(n, dtype=torch.bfloat16)
    q, k = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    shards = [{"model.embed_tokens.weight": random(2048, h), "lm_head.weight": random(2048, h), "model.norm.weight": ones(h)}]
    for n in range(layers):
        p, t = f"model.layers.{n}.", {}
        for name, shape in (("q", (q, h)), ("k", (k, h)), ("v", (k, h)), ("o", (h, q))):
            t[f"{p}self_attn.{name}_proj.weight"] = random(*shape)
        for name, size in (("self_attn.q_norm", d), ("self_attn.k_norm", d), ("input_layernorm", h), ("post_attention_layernorm", h)):
            t[f"{p}{name}.weight"] = ones(size)
        t[f"{p}mlp.gate.weight"] = random(c["num_experts"], h)
        for e in range(c["num_experts"]):
            for name, shape in (("gate", (i, h)), ("up", (i, h)), ("down", (h, i))):
                t[f"{p}mlp.experts.{e}.{name}_proj.weight"] = random(*shape)
        shards.append(t)
    path.mkdir(parents=True)
    where = {}
    for n, t in enumerate(shards):
        name = f"model-{n + 1:05}-of-{len(shards):05}.safetensors"
        save_file(t, path / name, metadata={"format": "pt"})
        where.update({key: name for key in t})
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (path / "config.json").write_text(json.dumps(c))


def modelopt(ckpt, out):
    import torch
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export import export_hf_checkpoint
    from transformers import AutoModelForCausalLM
    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(ckpt, dtype=torch.bfloat16)
    with torch.no_grad():
        mtq.quantize(model, mtq.W4A16_NVFP4_CFG)
        export_hf_checkpoint(model, dtype=torch.bfloat16, export_dir=str(out))
    return time.perf_counter() - start


def compressed_tensors(ckpt, out):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import preset_name_to_scheme
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
    from safetensors.torch import load_file, save_file
    scheme = preset_name_to_scheme("NVFP4A16", ["Linear"])
    compressor = BaseCompressor.get_value_from_registry("nvfp4-pack-quantized")
    out.mkdir(parents=True)
    start = time.perf_counter()
    for f in sorted(ckpt.glob("*.safetensors")):
        done = {}
        for key, w in load_file(f).items():
            if not key.endswith("_proj.weight"):
                done[key] = w
                continue
            blocks = w.unflatten(-1, (-1, 16))
            g = generate_gparam(w.amin(), w.amax())
            s, _ = calculate_qparams(blocks.amin(-1), blocks.amax(-1), scheme.weights, global_scale=g)
            parts = compressor.compress({"weight": w, "weight_scale": s, "weight_global_scale": g}, scheme)
            done.update({key[:-6] + a: b for a, b in parts.items()})
        save_file(done, out / f.name, metadata={"format": "pt"})
    return time.perf_counter() - start


def child(name, ckpt, out, threads):
    import torch
    torch.set_num_threads(threads)
    seconds = {"modelopt": modelopt, "compressed-tensors": compressed_tensors}[name](ckpt, out)
    print("RESULT", json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]))


def measure(name, a, ckpt):
    out = a.work / f"out-{name}"
    shutil.rmtree(out, ignore_errors=True)
    if name == "tombac":
        recipe = a.work / "recipe.ini"
        recipe.write_text(RECIPE)
        start = time.perf_counter()
        r = subprocess.run(["/usr/bin/env", "time", "-f", "RSS %M", a.tombac, "quantize", ckpt, "--recipe", recipe, "-o", out,
                            "--threads", str(a.threads), "-q"], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
        return seconds, int(r.stderr.rsplit("RSS ", 1)[1].split()[0]) / 1e6
    r = subprocess.run([sys.executable, __file__, "--child", name, "--work", a.work, "--threads", str(a.threads)],
                       capture_output=True, text=True)
    line = [x for x in r.stdout.splitlines() if x.startswith("RESULT ")]
    if not line:
        raise SystemExit(f"{name}: {(r.stderr or r.stdout).strip().splitlines()[-1]}")
    return json.loads(line[0][7:])


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--work", type=pathlib.Path, required=True)
    ap.add_argument("--tombac")
    ap.add_argument("--layers", type=int, default=4)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--repeat", type=int, default=3)
    ap.add_argument("--child")
    a = ap.parse_args()
    ckpt = a.work / "checkpoint"
    if a.child:
        return child(a.child, ckpt, a.work / f"out-{a.child}", a.threads)
    if not ckpt.exists():
        make_checkpoint(ckpt, a.layers)
    size = sum(f.stat().st_size for f in ckpt.glob("*.safetensors")) / 1e9
    runs = {name: [] for name in ("tombac", "compressed-tensors", "modelopt")}
    for _ in range(a.repeat):
        for name in runs:
            runs[name].append(measure(name, a, ckpt))
    base = statistics.median(s for s, _ in runs["tombac"])
    memory = max(m for _, m in runs["tombac"])
    print(f"{size:.2f} GB of BF16, {a.threads} threads, median of {a.repeat}")
    print("| tool | seconds | peak memory | time | memory |\n|---|--:|--:|--:|--:|")
    for name, r in runs.items():
        s, m = statistics.median(x for x, _ in r), max(x for _, x in r)
        print(f"| {name} | {s:.1f} | {m:.2f} GB | {s / base:.1f} x | {m / memory:.0f} x |")


if __name__ == "__main__":
    main()
