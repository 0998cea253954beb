#!/usr/bin/env python3
"""Time the experts' GEMMs of other libraries on this GPU beside tombac's, in turns, and print ratios.

    gpu.py --tombac PATH [--model qwen3-30b-a3b] [--tokens 1,64,1024,4096] [--rounds 3]

Needs torch with CUDA.  Peers that torch brings are always measured: torch._grouped_mm (BF16),
torch._scaled_grouped_mm (FP8 by row, input quantized beforehand) and a loop of one matmul an expert, which
is cuBLAS.
Each peer and each number of tokens is timed the way `tombac bench` does: random normal weights in at least
four sets, another routing a call, one CUDA graph, the median of its replays; where a peer cannot be captured,
events around the calls.  Rounds alternate between tombac and the peers, so that clocks and
heat are shared; the median of the rounds is printed.  A ratio is peer / tombac: above 1, tombac is faster.
The formats differ (BF16 and FP8 read four and two times as much as NVFP4): that is the point of a 4-bit weight,
and the column `bits` says it.
"""
import argparse
import json
import statistics
import subprocess
import sys

import torch

MODELS = {"mixtral-8x7b": (4096, 14336, 8, 2), "qwen3-30b-a3b": (2048, 768, 128, 8),
          "deepseek-v3-ep8": (7168, 2048, 32, 1), "gpt-oss-120b": (2880, 2880, 128, 4)}
REPLAYS, SETS = 21, 4


def route(tokens, experts, top_k, generator):
    """Offsets [experts] int32 (ends) and token of each row, uniform without replacement."""
    ids = torch.rand(tokens, experts, generator=generator, device="cuda").topk(top_k, 1).indices
    order = ids.flatten().argsort(stable=True)
    ends = torch.bincount(ids.flatten(), minlength=experts).cumsum(0).to(torch.int32)
    return ends, order // top_k


def timed(calls):
    """Median microseconds of one of the calls, replayed as a graph if it can be captured."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for call in calls:
                call()
        run = graph.replay
    except RuntimeError:
        torch.cuda.synchronize()

        def run():
            for call in calls:
                call()
    times = []
    for _ in range(REPLAYS + 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / len(calls))
    return statistics.median(times[3:])


def relative_error(got, want):
    return ((got.double() - want.double()).norm() / want.double().norm()).item()


class Grouped:
    """torch._grouped_mm: BF16."""
    name, bits = "torch._grouped_mm", 16

    def __init__(self, out, cols, experts):
        self.sets = [torch.randn(experts, cols, out, device="cuda", dtype=torch.bfloat16) * cols ** -0.5 for _ in range(SETS)]

    def call(self, i, x, ends):
        w = self.sets[i % SETS]
        return lambda: torch._grouped_mm(x, w, offs=ends)

    def weight(self, i, e):
        return self.sets[i % SETS][e].float()


class Scaled:
    """torch._scaled_grouped_mm: FP8 by row of weight and of input."""
    name, bits = "torch._scaled_grouped_mm", 8

    def __init__(self, out, cols, experts):
        self.sets = []
        for _ in range(SETS):
            w = torch.randn(experts, out, cols, device="cuda", dtype=torch.bfloat16) * cols ** -0.5
            s = w.float().abs().amax(2, keepdim=True) / 448
            self.sets.append(((w.float() / s).to(torch.float8_e4m3fn).transpose(1, 2), s.squeeze(2)))

    def call(self, i, x, ends):
        w, s = self.sets[i % SETS]
        xs = x.float().abs().amax(1) / 448
        q = (x.float() / xs[:, None]).to(torch.float8_e4m3fn)
        return lambda: torch._scaled_grouped_mm(q, w, xs, s, offs=ends, out_dtype=torch.bfloat16, use_fast_accum=True)

    def weight(self, i, e):
        w, s = self.sets[i % SETS]
        return w[e].float() * s[e][None, :]


class Loop(Grouped):
    """One matmul an expert that got a row: cuBLAS, in BF16.  The routing is known to the host."""
    name, bits = "cuBLAS, a call an expert", 16

    def call(self, i, x, ends):
        w, at, parts = self.sets[i % SETS], 0, []
        for e, end in enumerate(ends.tolist()):
            if end > at:
                parts.append((e, at, end))
            at = end
        y = torch.empty(x.shape[0], w.shape[2], device="cuda", dtype=torch.bfloat16)

        def run():
            for e, first, last in parts:
                torch.mm(x[first:last], w[e], out=y[first:last])
            return y
        return run


def check(peer, call, x, ends, i):
    """The last expert with rows against float32."""
    first = 0
    for e, end in enumerate(ends.tolist()):
        if end > first:
            found = (e, first, end)
        first = end
    e, a, b = found
    return relative_error(call()[a:b], x[a:b].float() @ peer.weight(i, e))


def measure(kind, shape, tokens, up, seed):
    hidden, inter, experts, top_k = shape
    out, cols = (2 * inter, hidden) if up else (hidden, inter)
    generator = torch.Generator(device="cuda").manual_seed(seed)
    peer, calls, error = kind(out, cols, experts), [], 0
    for i in range(SETS if tokens > 512 else 2 * SETS):
        ends, token = route(tokens, experts, top_k, generator)
        x = torch.randn(tokens * top_k, cols, device="cuda", dtype=torch.bfloat16)
        calls.append(peer.call(i, x, ends))
        if i == 0:
            error = check(peer, calls[0], x, ends, 0)
    us = timed(calls)
    del peer, calls
    torch.cuda.empty_cache()
    return us, error


def ours(program, model, tokens):
    """{(part, tokens): us} of one run of tombac bench gemm."""
    out = subprocess.run([program, "bench", "gemm", "--model", model, "--tokens", ",".join(map(str, tokens)), "--json"],
                         check=True, capture_output=True, text=True).stdout
    return {(r["part"], r["tokens"]): r["us"] for r in json.loads(out)["rows"]}


def main():
    arg = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arg.add_argument("--tombac", required=True)
    arg.add_argument("--model", default="qwen3-30b-a3b", choices=MODELS)
    arg.add_argument("--tokens", default="1,64,1024,4096")
    arg.add_argument("--rounds", type=int, default=3)
    args = arg.parse_args()
    tokens = [int(t) for t in args.tokens.split(",")]
    shape, kinds = MODELS[args.model], (Grouped, Scaled, Loop)
    times, errors = {}, {}
    for n in range(args.rounds):
        for key, us in ours(args.tombac, args.model, tokens).items():
            times.setdefault(("tombac",) + key, []).append(us)
        for kind in kinds:
            for up in (True, False):
                for t in tokens:
                    key = (kind.name, "up" if up else "down", t)
                    try:
                        us, errors[key] = measure(kind, shape, t, up, n)
                        times.setdefault(key, []).append(us)
                    except (RuntimeError, AttributeError, NotImplementedError) as e:
                        errors[key] = str(e).splitlines()[0][:60]
    print(f"{args.model} on {torch.cuda.get_device_name()}, torch {torch.__version__}, {args.rounds} rounds\n")
    print("| part | tokens | tombac nvfp4 us | peer | bits | us | error | peer / tombac |\n|---|--:|--:|---|--:|--:|--:|--:|")
    for part in ("up", "down"):
        for t in tokens:
            mine = statistics.median(times[("tombac", part, t)])
            for kind in kinds:
                key = (kind.name, part, t)
                if key in times:
                    us = statistics.median(times[key])
                    print(f"| {part} | {t} | {mine:.1f} | {kind.name} | {kind.bits} | {us:.1f} | {errors[key]:.1e} | {us / mine:.2f} |")
                else:
                    print(f"| {part} | {t} | {mine:.1f} | {kind.name} | {kind.bits} | - | {errors.get(key)} | - |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
