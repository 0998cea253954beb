#!/usr/bin/env python3
"""Run quantized checkpoints in transformers beside a library's own rounding, decision by decision.

    forward_check.py CHECKER.py OUT --source SOURCE
    forward_check.py CHECKER.py --all FOLDER --source FOLDER     OUTs NAME.*, sources NAME

CHECKER.py is load_check.py, whose forward part builds the model twice, with our weights and with the
library's, rounds activations by our formula and by the library's, and compares the logits.  On a small
random model that cannot be decided: a difference of 1e-6 moves one value over the edge between two FP4 codes
or one expert over the edge of the top-k, and from there on two legal runs differ by percents.  So here

  inputs    the second run is given what each Linear and expert of the first run saw, and the experts that were
            chosen there: what is left of a difference is the library's against ours, in each module alone.
            A rounded activation may differ where the value lies on the edge between both results; it is then
            taken from the first run.  Every module's output is compared, not the logits only (1e-2 of its
            largest value).
  tokens    the library takes a scale a token of three-dimensional inputs only: it is shown all others so.
  experts   transformers stacks experts in the order in which its threads read them; they are put in order again.
  names     missing and unexpected names fail when the source itself does not have the same ones.
  classes   the class that config.json names, so that models whose text part lies deeper run as well;
            experts that were written one by one are stacked again where the class wants a stack.

  KL        that of the source's own weights under the checker's plain rounding is the bar (twice it), instead of
            a share of what a model that knows nothing has.

Everything else is the checker with what plain_check.py tells it.
"""
import contextlib
import inspect
import io
import json
import pathlib
import sys
import tempfile
import types

import torch
import torch.nn.functional as F

import plain_check

TOLERANCE = 1e-2
ROUNDING = "library_quant_act"       # the checker's name for activations rounded by the library


class NoClass(Exception):
    """Nothing here can run this model."""


def transformers_class(config):
    """The class that config.json names, else the one registered for its model_type."""
    import transformers
    for name in config.get("architectures") or []:
        if hasattr(transformers, name):
            return getattr(transformers, name)
    if config["model_type"] not in transformers.CONFIG_MAPPING:
        raise NoClass(f"transformers does not know model_type {config['model_type']}")
    kind = transformers.CONFIG_MAPPING[config["model_type"]]
    for auto in (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText):
        if kind in auto._model_mapping:
            return auto
    raise NoClass(f"transformers has no class for model_type {config['model_type']}")


def stacked(weights, source, model_type):
    """Experts one by one, stacked as the source has them."""
    out = dict(weights)
    for name, t in source.items():
        stem = name[:-7] if name.endswith(".weight") else name
        parent, _, leaf = stem.rpartition(".")
        halves = {"gate_up_proj": ("gate_proj", "up_proj")}.get(leaf, (leaf,))
        first = f"{parent}.0.{halves[0]}.weight"
        if t.ndim != 3 or name in out or first not in out:
            continue
        rows = []
        for e in range(t.shape[0]):
            parts = [out.pop(f"{parent}.{e}.{h}.weight") for h in halves]
            if model_type == "gpt_oss" and len(parts) == 2:
                rows.append(torch.stack(parts, 1).flatten(0, 1))
            else:
                rows.append(torch.cat(parts))
        w = torch.stack(rows)
        out[name] = w.transpose(1, 2).contiguous() if tuple(w.shape) != tuple(t.shape) or model_type in plain_check.IN_OUT else w
    return out


def in_order(model, weights, disk_name):
    """Experts that were loaded one by one, each in its place."""
    with torch.no_grad():
        for name, m in model.named_modules():
            if getattr(getattr(m, "down_proj", None), "ndim", 0) != 3:
                continue
            disk = disk_name(name, {k[:-7] for k in weights if k.startswith(name.rsplit(".mlp.", 1)[0])})
            for gate, up, down in (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2")):
                for e in range(m.down_proj.shape[0] if f"{disk}.0.{down}.weight" in weights else 0):
                    w = weights[f"{disk}.{e}.{down}.weight"]
                    m.down_proj[e] = w
                    if hasattr(m, "gate_up_proj"):
                        m.gate_up_proj[e] = torch.cat([weights[f"{disk}.{e}.{p}.weight"] for p in (gate, up)])
                    else:
                        m.up_proj[e] = weights[f"{disk}.{e}.{up}.weight"]


class Run:
    """What modules saw and gave, in the order of their calls."""

    def __init__(self, forced=None):
        self.forced, self.seen, self.worst, self.at, self.strays = forced, {}, 0.0, "", 0

    def input(self, name, x):
        calls = self.seen.setdefault(name, [])
        calls.append([x.detach().clone(), None])      # some models add to it in place
        return x if self.forced is None else self.forced.seen[name][len(calls) - 1][0]

    def rounded(self, name, x, y):
        """y is x rounded; where it is unlike the first run's, x must lie on the edge between both."""
        first = self.input(f"{name} rounded", y)
        apart = (y - first).abs()
        far = (apart > 1e-5 * first.abs()) & ((x - (y + first) / 2).abs() > 1e-3 * apart)
        if bool(far.any()):
            self.strays += int(far.sum())
            self.at = name
        return first

    def output(self, name, y):
        y = y[0] if isinstance(y, tuple) else y
        calls = self.seen[name]
        calls[-1][1] = y.detach().clone()
        if self.forced is not None and y.numel():
            want = self.forced.seen[name][len(calls) - 1][1]
            error = float((y - want).abs().max() / want.abs().max().clamp(min=1e-30))
            if not error <= self.worst:
                self.worst, self.at = error, name


class Forward(plain_check.Told):
    def __init__(self, checker):
        super().__init__(checker, True)
        checker.build, checker.logits = self.build, self.logits
        checker.hook_activations = self.hook_activations
        self.kl, checker.kl = checker.kl, self.divergence
        self.theirs = getattr(checker, ROUNDING)
        setattr(checker, ROUNDING, self.round_input)
        checker.json = types.SimpleNamespace(loads=self.loads, dumps=json.dumps)

    def check(self, args, report):
        self.report, self.runs, self.control, self.nearest, self.unable = report, {}, None, {}, set()
        super().check(args, report)

    @staticmethod
    def loads(text):
        """A config whose text part lies deeper has its vocabulary there."""
        data = json.loads(text)
        if isinstance(data, dict) and "vocab_size" not in data and "vocab_size" in data.get("text_config", {}):
            data["vocab_size"] = data["text_config"]["vocab_size"]
        return data

    # ------------------------------------------------------------ models

    def load(self, config_dir, weights):
        config = json.loads((config_dir / "config.json").read_text())
        for c in (config, config.get("text_config", {})):
            c.pop("quantization_config", None)
        weights = stacked(weights, self.original, config.get("model_type"))
        with tempfile.TemporaryDirectory() as tmp, contextlib.redirect_stderr(io.StringIO()):
            tmp = pathlib.Path(tmp)
            (tmp / "config.json").write_text(json.dumps(config))
            self.checker.save_file({k: v.contiguous() for k, v in weights.items()}, tmp / "model.safetensors",
                                   metadata={"format": "pt"})
            model, info = transformers_class(config).from_pretrained(
                tmp, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True)
        in_order(model, weights, self.checker.disk_name)
        return model, info

    def names_of(self, info):
        return {(kind, str(k[0] if isinstance(k, tuple) else k)) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
                for k in info.get(kind) or []}

    def build(self, config_dir, weights, report=None):
        self.config_dir = config_dir
        if self.control is None:
            model, info = self.load(config_dir, self.original_plain())
            self.control = self.names_of(info)
        model, info = self.load(config_dir, weights)
        new = sorted(self.names_of(info) - self.control)
        if report and new:
            report.fail("names", f"{len(new)} unlike the source's, first {new[:2]}")
        model.eval()
        model.tmb_hooked = None
        return model

    def original_plain(self):
        return {k: t.float() if t.is_floating_point() else t for k, t in self.original.items()}

    def read_folder(self, path, report=None):
        tensors = self.read(path, report)
        if path == self.args.ckpt:
            self.quantized = tensors
            return tensors
        self.original = plain_check.decoded(tensors)
        return super().read_folder(path, report)

    # ------------------------------------------------------------ runs

    def group_modules(self, tensors):
        mods, rest = super().group_modules(tensors)
        if tensors is self.quantized:
            self.stacks = {name: parts for name, parts in mods.items()
                           if "weight" in parts and parts["weight"].ndim == 3}
        return mods, rest

    def dequantize(self, scheme, mod, shape):
        w = super().dequantize(scheme, mod, shape)
        if self.current is None:                             # a stack, which the checker has turned: find its name
            bits = mod["weight"].view(torch.uint8)
            self.current = next(n for n, parts in self.stacks.items() if parts["weight"].shape.numel() == bits.numel()
                                and torch.equal(parts["weight"].transpose(-1, -2).contiguous().view(torch.uint8), bits))
        return w

    def plain_rounding(self, scheme, w):
        near = super().plain_rounding(scheme, w)
        stack = w.ndim == 3                                  # the checker turned it to [E, out, in]
        self.nearest[self.current + ("" if stack else ".weight")] = near.transpose(-1, -2) if stack else near
        return near

    def divergence(self, base, other):
        """The first is that of the weights alone: beside it the one of plain rounding."""
        value = self.kl(base, other)
        if "kl_plain_rounding" not in self.report.facts:
            weights = {k: t.float() if t.is_floating_point() else t for k, t in {**self.plain, **self.nearest}.items()}
            plain = self.kl(base, self.logits(self.build(self.config_dir, weights), self.ids))
            self.report.facts["kl_plain_rounding"] = plain
            if not value <= 2 * plain + 0.01:
                self.report.fail("forward", f"KL {value:.3g} to the source, plain rounding has {plain:.3g}")
        return value

    def round_input(self, scheme, mod, x):
        try:
            return self.theirs(scheme, mod, x.reshape(1, -1, x.shape[-1])).view_as(x)
        except RuntimeError as e:                            # groups of 128 that do not divide the row
            text = f"the library cannot round activations of {x.shape[-1]} channels: {e}"
            if text not in self.unable:
                self.unable.add(text)
                self.report.warn("forward", text)
            return self.checker.quant_act(scheme, mod, x)

    def hook_activations(self, model, schemes, mods, fn, report=None):
        model.tmb_hooked = (schemes, mods, fn, report)

    def logits(self, model, ids):
        self.ids = ids
        if model.tmb_hooked is None or model.tmb_hooked[3] is not None:    # weights alone, or the full run
            run = Run()
            if model.tmb_hooked:
                self.attach(model, run)
        else:                                                # first ours in the library's width, then the library's
            run = Run(self.runs.get("ours"))
            self.attach(model, run)
            self.runs.setdefault("ours", run)
        with torch.no_grad():
            out = model(ids).logits.float()
        if run.forced is not None:
            self.report.facts["module_max_relative_error_against_library"] = run.worst
            self.report.facts["modules_compared"] = sum(len(c) for c in run.seen.values())
            if run.strays:
                self.report.fail("forward", f"{run.strays} values of {run.at} are rounded unlike the library's")
            if not run.worst <= TOLERANCE:
                self.report.fail("forward", f"{run.at} differs from the library's on the same input: "
                                            f"{run.worst:.3g} of the largest")
        return out

    def attach(self, model, run):
        schemes, mods, fn, report = model.tmb_hooked
        for name, m in model.named_modules():
            disk = self.checker.disk_name(name, mods)
            if isinstance(m, torch.nn.Linear):
                scheme, parts = schemes.get(disk), mods.get(disk)

                def before(_, a, scheme=scheme, parts=parts, name=name):
                    x = run.input(name, a[0])
                    quantized = scheme is not None and scheme.act
                    return (run.rounded(name, x, fn(scheme, parts, x)) if quantized else x, *a[1:])
                m.register_forward_pre_hook(before)
                m.register_forward_hook(lambda _, a, y, name=name: run.output(name, y))
            elif isinstance(getattr(m, "down_proj", None), torch.nn.Parameter) and m.down_proj.ndim == 3:
                self.attach_experts(name, m, disk, schemes, mods, fn, run, report)

    def attach_experts(self, name, m, disk, schemes, mods, fn, run, report):
        names = ("gate_proj", "up_proj", "down_proj") if f"{disk}.0.gate_proj" in schemes else ("w1", "w3", "w2")
        per = [[(schemes.get(f"{disk}.{e}.{p}"), mods.get(f"{disk}.{e}.{p}")) for p in names]
               for e in range(m.down_proj.shape[0])]
        plain = hasattr(m, "gate_up_proj") and hasattr(m, "act_fn") and not hasattr(m, "gate_up_proj_bias") \
            and len(inspect.signature(m.forward).parameters) == 3
        rounded = any(s is not None and s.act for row in per for s, _ in row)
        if rounded and plain and per[0][0][0] is not None:
            m.forward = self.expert_forward(name, m, per, fn, run)
            return
        if rounded and report:
            report.warn("forward", f"activations of {name} ({type(m).__name__}) are not rounded here")

        def before(_, args):                                 # the same tokens, experts and weights as before
            return tuple(run.input(f"{name}#{i}", a) if torch.is_tensor(a) else a for i, a in enumerate(args))
        m.register_forward_pre_hook(before)

        def after(_, args, y):
            run.input(f"{name}.out", args[0])
            run.output(f"{name}.out", y)
        m.register_forward_hook(after)

    @staticmethod
    def expert_forward(name, m, per, fn, run):
        def step(label, scheme, parts, x, w):
            x = run.input(label, x)
            if scheme is not None and scheme.act:
                x = run.rounded(label, x, fn(scheme, parts, x))
            y = F.linear(x, w)
            run.output(label, y)
            return y

        def forward(hidden, top_k_index, top_k_weights):
            shape = hidden.shape
            hidden = run.input(f"{name}.x", hidden).reshape(-1, shape[-1])
            index, weights = run.input(f"{name}.index", top_k_index), run.input(f"{name}.weights", top_k_weights)
            out = torch.zeros_like(hidden)
            for e, (gate, up, down) in enumerate(per):
                token, slot = torch.where(index == e)
                if len(token) == 0:
                    continue
                x, (wg, wu) = hidden[token], m.gate_up_proj[e].chunk(2)
                h = m.act_fn(step(f"{name}.{e}.gate", *gate, x, wg)) * step(f"{name}.{e}.up", *up, x, wu)
                out.index_add_(0, token, step(f"{name}.{e}.down", *down, h, m.down_proj[e]) * weights[token, slot, None])
            return out.view(shape)
        return forward


def one(forward, out, source):
    report, text = forward.checker.Report(), io.StringIO()
    args = types.SimpleNamespace(ckpt=out, source=source, ids=None, slack=1.5, logits_tol=float("inf"),
                                 accept_renames=False, no_forward=False, json=None)
    with contextlib.redirect_stdout(text):
        forward.check(args, report)
    report.fails = [f for f in report.fails if "a model that knows nothing" not in f]
    if not report.fails and "modules_compared" not in report.facts:
        report.fail("forward", "nothing was compared")
    return report


def main():
    if len(sys.argv) < 5 or "--source" not in sys.argv:
        raise SystemExit(__doc__)
    torch.set_num_threads(1)
    forward = Forward(plain_check.load(sys.argv[1]))
    source = pathlib.Path(sys.argv[sys.argv.index("--source") + 1])
    if sys.argv[2] == "--all":
        folder = pathlib.Path(sys.argv[3])
        outs = [(o, source / o.name.split(".")[0]) for o in sorted(folder.iterdir()) if (o / "config.json").exists()]
    else:
        outs = [(pathlib.Path(sys.argv[2]), source)]
    bad = skipped = 0
    for out, src in outs:
        try:
            report = one(forward, out, src)
        except NoClass as e:
            skipped += 1
            print("SKIP", out.name, e, flush=True)
            continue
        bad += bool(report.fails)
        facts = report.facts
        print("FAIL" if report.fails else "PASS", out.name,
              f"modules {facts.get('modules_compared', 0)}",
              f"worst {facts.get('module_max_relative_error_against_library', float('nan')):.2e}",
              f"KL {facts.get('kl_weights_only', float('nan')):.3g}, plain rounding "
              f"{facts.get('kl_plain_rounding', float('nan')):.3g}", flush=True)
        for line in report.fails[:3] + [w for w in report.warns if w.startswith("forward")][:1]:
            print("    ", line[:300], flush=True)
    print(f"{len(outs) - bad - skipped} passed, {bad} failed, {skipped} skipped")
    return 1 if bad or not outs else 0


if __name__ == "__main__":
    sys.exit(main())
