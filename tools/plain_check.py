#!/usr/bin/env python3
"""Hold a quantized checkpoint against its source by a checker that knows plain sources only.

    plain_check.py CHECKER.py [--shared-scales] OUT --source SOURCE [the checker's options]
    plain_check.py CHECKER.py [--shared-scales] --all FOLDER --source FOLDER     OUTs NAME.*, sources NAME

CHECKER.py is load_check.py, or a script with the same functions: it compares each Linear by name with a
source of plain weights.  Two things it does not know are added here, and nothing else is changed:

  the source   is shown as its plain equivalent: quantized weights decoded to BF16 (DeepSeek's FP8 blocks,
               MXFP4, packed INT4), stacked experts one by one where OUT has them so.  The decoding is
               written here from the formats' documents, without the tool under test.
  --shared-scales   the bar of a Linear that engines fuse with others is the rounding by their joint
               largest value, which such engines demand; without it the bar is the Linear's own rounding,
               which is exact (infinitely many dB) for values that lie on the format's grid already.
"""
import contextlib
import importlib.util
import io
import json
import pathlib
import re
import sys

import torch

E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("w1", "w3"), ("wq_a", "wkv"),
         ("q_a_proj", "kv_a_proj_with_mqa"), ("in_proj_qkv", "in_proj_z"), ("wk", "weights_proj"),
         ("q_proj", "k_proj", "v_proj", "indexer.index_qk_proj"))
IN_OUT = ("gpt_oss", "llama4", "llama4_text", "qwen3_vl_moe")      # stacks lie [E, in, out]


# ---------------------------------------------------------------- a plain source

def powers(scale):
    """E8M0 as it is stored, or as bytes."""
    return torch.exp2(scale.view(torch.uint8).float() - 127)


def fp8_blocks(w, scale):
    scale = powers(scale) if scale.element_size() == 1 else scale.float()
    full = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)
    return w.float() * full[:w.shape[0], :w.shape[1]]


def fp4(codes, scale):
    b = codes.view(torch.uint8).long()
    values = E2M1[torch.stack((b & 15, b >> 4), -1).flatten(-2)]
    return values * powers(scale).repeat_interleave(32, -1)


def int4(packed, scale, shape):
    nibbles = (packed.unsqueeze(-1) >> (4 * torch.arange(8))) & 15
    rows, columns = shape.tolist()
    group = columns // scale.shape[1]
    return ((nibbles.flatten(1)[:, :columns] - 8) * scale.float().repeat_interleave(group, 1)).reshape(rows, columns)


def decoded(tensors):
    """{name: tensor} without anything quantized."""
    out, used = {}, set()
    for name, t in tensors.items():
        stem = re.sub(r"\.?(weight|weight_packed)$|_blocks$", "", name)
        if name.endswith("_blocks"):                           # gpt-oss: [E, rows, columns/32, 16]
            scales = tensors[stem + "_scales"]
            w = fp4(t.flatten(-2), scales)
            out[stem] = w.transpose(1, 2).bfloat16()           # as the BF16 release has it: [E, in, out]
            used |= {name, stem + "_scales"}
        elif name.endswith(".weight_packed"):
            parts = [stem + s for s in (".weight_packed", ".weight_scale", ".weight_shape")]
            out[stem + ".weight"] = int4(*(tensors[p] for p in parts)).bfloat16()
            used |= set(parts)
        elif stem + ".weight_scale_inv" in tensors:
            out[name] = fp8_blocks(t, tensors[stem + ".weight_scale_inv"]).bfloat16()
            used |= {name, stem + ".weight_scale_inv"}
        elif name.endswith(".weight") and stem + ".scale" in tensors:
            scale = tensors[stem + ".scale"]
            out[name] = (fp4 if t.dtype in (torch.int8, torch.uint8) else fp8_blocks)(t, scale).bfloat16()
            used |= {name, stem + ".scale"}
    return {**{k: t for k, t in tensors.items() if k not in used}, **out}


def spread(tensors, names, model_type):
    """Stacked experts one by one, where `names` (of the quantized checkpoint) has them so."""
    out, interleaved = {}, model_type == "gpt_oss"
    for name, t in tensors.items():
        # "….experts.gate_up_proj", with ".weight" or without
        stem = name[:-7] if name.endswith(".weight") else name
        parent, _, leaf = stem.rpartition(".")
        if t.ndim != 3 or not any(n.startswith(f"{parent}.0.") for n in names):
            out[name] = t
            continue
        for e in range(t.shape[0]):
            halves = {"gate_up_proj": ("gate_proj", "up_proj")}.get(leaf, (leaf,))
            shape = names[f"{parent}.{e}.{halves[0]}"]
            lies = (len(halves) * shape[0], shape[1])          # [out, in]; a square tensor goes by its model
            turned = tuple(t.shape[1:]) != lies or (lies[0] == lies[1] and model_type in IN_OUT)
            w = t[e].T if turned else t[e]
            for i, half in enumerate(halves):
                rows = w.shape[0] // len(halves)
                part = w[i::2] if interleaved and len(halves) == 2 else w[i * rows:(i + 1) * rows]
                out[f"{parent}.{e}.{half}.weight"] = part.contiguous()
    return out


def expert_shapes(quantized):
    """{module: [out, in]} of what the quantized checkpoint has one by one."""
    shapes = {}
    for name, t in quantized.items():
        m = re.match(r"(.*\.\d+\.\w+)\.(weight|weight_packed)$", name)
        if m and t.ndim == 2:
            times = {torch.uint8: 2, torch.int32: 8}.get(t.dtype, 1)
            shapes[m[1]] = (t.shape[0], t.shape[1] * times)
    return shapes


# ---------------------------------------------------------------- the checker, told

def load(path):
    spec = importlib.util.spec_from_file_location("checker", path)
    checker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checker)
    return checker


class Told:
    """The checker with a plain source, and with the bar of fused Linears when asked."""

    def __init__(self, checker, shared):
        self.checker, self.shared = checker, shared
        self.read, self.group, self.decode, self.round = (checker.read_folder, checker.group_modules,
                                                          checker.dequantize, checker.plain_rounding)
        checker.read_folder, checker.group_modules = self.read_folder, self.group_modules
        checker.dequantize, checker.plain_rounding = self.dequantize, self.plain_rounding

    def check(self, args, report):
        self.args, self.quantized, self.plain, self.names, self.source, self.current = args, None, None, {}, {}, None
        self.checker.check(args, report)

    def read_folder(self, path, report=None):
        tensors = self.read(path, report)
        if path == self.args.ckpt:
            self.quantized = tensors
            return tensors
        model_type = json.loads((path / "config.json").read_text()).get("model_type")
        self.plain = spread(decoded(tensors), expert_shapes(self.quantized), model_type)
        self.source = {k[:-7]: t for k, t in self.plain.items() if k.endswith(".weight")}
        return self.plain

    def group_modules(self, tensors):
        mods, rest = self.group(tensors)
        if tensors is self.quantized:
            self.names = {id(parts): name for name, parts in mods.items()}
        elif tensors is self.plain:                    # stacks that stay so have names without ".weight"
            for name in set(rest) & set(self.names.values()):
                mods[name] = {"weight": rest.pop(name)}
        return mods, rest

    def dequantize(self, scheme, mod, shape):
        self.current = self.names.get(id(mod))
        return self.decode(scheme, mod, shape)

    def joint(self, name):
        """The weights of the Linears that engines fuse with this one, itself among them."""
        best = []
        for group in FUSED:
            for leaf in group:
                if name.endswith("." + leaf):
                    parent = name[:-len(leaf)]
                    found = [parent + x for x in group if parent + x in self.source]
                    best = max(best, found, key=len)
        return [self.source[n] for n in best]

    def plain_rounding(self, scheme, w):
        fused = self.joint(self.current) if self.shared and self.current else []
        own = scheme.kind == "fp8-tensor" and re.search(r"\.experts\.\d+\.", self.current or "")
        if own or scheme.kind not in ("fp8-tensor", "nvfp4") or len(fused) < 2:
            return self.round(scheme, w)               # in FP8 engines take a scale for each half of an expert
        # one more row that holds the largest value of all: it sets the scale, then goes
        top = torch.zeros(1, w.shape[-1])
        top[0, 0] = max(float(f.abs().max()) for f in fused)
        return self.round(scheme, torch.cat((w, top)))[:-1]


def batch(told, folder, sources, arguments):
    """Every quantized checkpoint NAME.* of a folder against the source NAME."""
    bad = done = 0
    for out in sorted(p for p in folder.iterdir() if (p / "config.json").exists()):
        source = sources / out.name.split(".")[0]
        report, text = told.checker.Report(), io.StringIO()
        args = type("Args", (), {"ckpt": out, "source": source, "ids": None, "slack": 1.5, "logits_tol": 1e-2,
                                 "accept_renames": False, "no_forward": True, "json": None})
        with contextlib.redirect_stdout(text):
            told.check(args, report)
        done += 1
        bad += bool(report.fails)
        print("FAIL" if report.fails else "PASS", out.name, *report.fails[:3], sep="\n    " if report.fails else " ",
              flush=True)
    print(f"{done - bad} passed, {bad} failed, 0 skipped")
    return 1 if bad or not done else 0


def main():
    if len(sys.argv) < 3 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    path, rest = sys.argv[1], sys.argv[2:]
    shared = "--shared-scales" in rest
    rest = [a for a in rest if a != "--shared-scales"]
    torch.set_num_threads(1)
    told = Told(load(path), shared)
    if "--all" in rest:
        return batch(told, pathlib.Path(rest[rest.index("--all") + 1]), pathlib.Path(rest[rest.index("--source") + 1]), rest)
    run = told.checker.check                       # main() of the checker finds ours under its name
    told.checker.check = lambda args, report: (setattr(told.checker, "check", run), told.check(args, report))
    sys.argv = [path, *rest]
    return told.checker.main()


if __name__ == "__main__":
    sys.exit(main())
