#!/usr/bin/env python3
"""forward.py - tombac calibrate against the float32 forward of transformers, in turns.

    forward.py --tombac ./tombac --work DIR [--rounds 3] [--sequences 16] [--length 512]

Makes a qwen3_moe of 128 million parameters (256 MB in BF16, random weights) and random ids in DIR.
Each round runs `tombac calibrate` with every statistic it keeps, from a cold process to the published
file, and then transformers: float32, no cache, logits of the last token alone, without loading.  Prints
medians, tokens a second, and peak memory; both use two threads.
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

RECIPE = """[recipe]
version = 1
[rules]
*experts* = nvfp4
* = fp8
[calibration]
fit = pad
min_tokens = 1
"""


def make(work):
    import torch
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
    config = Qwen3MoeConfig(vocab_size=8192, hidden_size=1024, intermediate_size=2048,
                            num_hidden_layers=4, num_attention_heads=16, num_key_value_heads=4,
                            head_dim=64, moe_intermediate_size=512, num_experts=16,
                            num_experts_per_tok=4, norm_topk_prob=True,
                            max_position_embeddings=4096)
    torch.manual_seed(0)
    model = Qwen3MoeForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(work / "model")


def make_ids(work, sequences, length):
    import random
    random.seed(0)
    with open(work / "ids.jsonl", "w") as f:
        for _ in range(sequences):
            f.write(json.dumps({"input_ids": [random.randrange(3, 8192) for _ in range(length)]}) + "\n")


def run_transformers(work, threads):
    """Seconds of one forward of all ids, in a process of its own."""
    import torch
    from transformers import AutoModelForCausalLM
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(work / "model", dtype=torch.float32).eval()
    ids = torch.tensor([json.loads(line)["input_ids"] for line in open(work / "ids.jsonl")])
    with torch.no_grad():
        begin = time.time()
        for batch in ids.split(8):
            model(batch, use_cache=False, logits_to_keep=1)
        seconds = time.time() - begin
    print(json.dumps({"seconds": seconds,
                      "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def run_tombac(tombac, work, threads, length):
    out = work / "stats.h5"
    out.unlink(missing_ok=True)
    (work / "recipe.ini").write_text(RECIPE + f"length = {length}\n")
    begin = time.time()
    child = subprocess.Popen([tombac, "calibrate", work / "model", "--recipe", work / "recipe.ini",
                              "--data", f"ids={work / 'ids.jsonl'}", "-o", out, "-q", "--threads",
                              str(threads)])
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit("tombac calibrate failed")
    return time.time() - begin, usage.ru_maxrss * 1024


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--tombac", required=True)
    p.add_argument("--work", required=True, type=pathlib.Path)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--sequences", type=int, default=16)
    p.add_argument("--length", type=int, default=512)
    p.add_argument("--threads", type=int, default=2)
    # parts that load torch run in processes of their own: a child inherits its parent's peak memory
    p.add_argument("--part", choices=["make", "transformers"], help=argparse.SUPPRESS)
    a = p.parse_args()
    part = [sys.executable, __file__, *sys.argv[1:], "--part"]
    if a.part == "transformers":
        return run_transformers(a.work, a.threads)
    if a.part == "make":
        return make(a.work)
    a.work.mkdir(parents=True, exist_ok=True)
    if not (a.work / "model").exists():
        subprocess.run([*part, "make"], check=True)
    make_ids(a.work, a.sequences, a.length)
    ours, theirs = [], []
    for _ in range(a.rounds):
        ours.append(run_tombac(a.tombac, a.work, a.threads, a.length))
        text = subprocess.run([*part, "transformers"], capture_output=True, text=True,
                              check=True).stdout
        last = json.loads(text.strip().splitlines()[-1])
        theirs.append((last["seconds"], last["bytes"]))
    tokens = a.sequences * a.length
    base, room = statistics.median(t for t, _ in ours), max(m for _, m in ours)
    print(f"{tokens} tokens, {a.threads} threads, median of {a.rounds}")
    print("| | seconds | tokens/s | peak memory | time | memory |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, rows in (("tombac calibrate", ours), ("transformers forward", theirs)):
        seconds, peak = statistics.median(t for t, _ in rows), max(m for _, m in rows)
        print(f"| {name} | {seconds:.2f} | {tokens / seconds:.0f} | {peak / 1e9:.2f} GB | "
              f"{seconds / base:.1f} x | {peak / room:.1f} x |")


if __name__ == "__main__":
    main()
