#!/usr/bin/env python3
"""check_diagnosis.py - the figures of a diagnosis, computed again from what every token did.

    check_diagnosis.py REPORT [--trace REF.safetensors OTHER.safetensors]

REPORT is the folder of `tombac diagnose --traces`: report.json and routing.h5.  From the tokens in
routing.h5 each metric of routing and load is computed with numpy alone, by the definitions of
doc/diagnose.md and not by tombac's code, and compared with report.json, layer by layer and overall;
intervals with a bootstrap of our own.  With two files of `tombac trace --what logits,router,hidden`
over the same tokens also hidden errors and the KL of the output, and whether the routing of the
diagnosis is that of a plain run.

Needs numpy and h5py.  Exit status: 0 when everything agrees, 1 otherwise."""

import argparse
import json
import struct
import sys

import h5py
import numpy as np

bad = 0
compared = 0


def tell(name, got, want, tolerance):
    """got: from report.json; want: computed here."""
    global bad, compared
    compared += 1
    if got is None or want is None or (np.isnan(got) and np.isnan(want)):
        same = (got is None or np.isnan(got)) and (want is None or np.isnan(want))
    else:
        same = abs(got - want) <= tolerance * max(1.0, abs(want))
    if not same:
        bad += 1
        print(f"DIFFERS {name}: report {got}, here {want}")


def bf16_step(x):
    """Distance of neighbours among BF16 values of the size of x: 8 significant bits."""
    x = np.abs(x)
    e = np.floor(np.log2(np.where(x > 0, x, 1)))
    return np.where(x > 0, np.exp2(e - 7), 0)


def softmax(x):
    x = x - x.max(1, keepdims=True)
    e = np.exp(x)
    return e / e.sum(1, keepdims=True)


def one_hot(chosen, experts, weight=None):
    out = np.zeros((len(chosen), experts))
    np.put_along_axis(out, chosen.astype(np.int64), 1.0 if weight is None else weight, 1)
    return out


def margins(compared_by, chosen):
    """Last chosen less best other; experts of groups that are closed (-inf) take no part."""
    x = compared_by.astype(np.float64)
    inside = one_hot(chosen, x.shape[1]) > 0
    last = np.where(inside, x, np.inf).min(1)
    best = np.where(inside, -np.inf, x).max(1)
    margin = np.where(np.isfinite(best), np.maximum(last - best, 0), np.nan)
    return margin, bf16_step(np.maximum(np.abs(last), np.abs(best)))


def load_figures(tokens, ranks):
    n, mean = len(tokens), tokens.mean()
    of_rank = np.bincount(np.arange(n) * ranks // n, weights=tokens, minlength=ranks)
    pairs = np.abs(tokens[:, None] - tokens[None, :]).sum() / (2 * n * n * mean)
    return {
        "load_cv": tokens.std() / mean,
        "gini": pairs,
        "maxvio": tokens.max() / mean - 1,
        "dead": float((tokens == 0).sum()),
        "overloaded": float((tokens > 2 * mean).sum()),
        "ep_imbalance": of_rank.max() / of_rank.mean(),
    }


def compared_by(h, space, logits):
    """What the router compares: logits, or score plus correction; closed groups are -inf."""
    if "ref_choice" not in h:
        return logits
    choice = np.asarray(h["ref_choice"], np.float64)
    return np.where(np.isinf(choice), -np.inf, logits) if space == "logit" else choice


def layer_figures(h, ranks, noise_margin, space):
    """Means over positions by name, and the positions themselves where a bootstrap wants them."""
    a, b = (np.asarray(h[f"{w}_logits"], np.float64) for w in ("ref", "other"))
    n, experts = a.shape  # a column of one number is stored as a row
    ca, cb = (np.asarray(h[f"{w}_chosen"]).reshape(n, -1) for w in ("ref", "other"))
    wa, wb = (np.asarray(h[f"{w}_weight"], np.float64).reshape(n, -1) for w in ("ref", "other"))
    k = ca.shape[1]
    sa, sb = one_hot(ca, experts) > 0, one_hot(cb, experts) > 0
    both, either = (sa & sb).sum(1), (sa | sb).sum(1)
    ga, gb = one_hot(ca, experts, wa), one_hot(cb, experts, wb)
    same = both == k
    top = lambda c, w: c[np.arange(n), w.argmax(1)]
    order = lambda w: np.argsort(-w, axis=1, kind="stable")
    p, q = softmax(a), softmax(b)
    d = b - a
    centred = lambda x: x - x.mean(1, keepdims=True)
    margin, step = margins(compared_by(h, space, a), ca)
    has = ~np.isnan(margin)
    tie = has & ((margin == 0) | (margin < step))
    noise = has & ~tie & (margin < noise_margin) if noise_margin is not None else None
    position = {
        "set_match": same.astype(float),
        "jaccard": both / either,
        "top1_match": (top(ca, wa) == top(cb, wb)).astype(float),
        "order_change": (same & (order(wa) != order(wb)).any(1)).astype(float),
        "experts_changed": (k - both).astype(float),
        "gate_tv": np.abs(ga - gb).sum(1) / (ga + gb).sum(1),
        "gate_lost": (ga * ~sb).sum(1) / ga.sum(1),
        "router_kl": (p * (np.log(p) - np.log(q))).sum(1),
        "router_cosine": (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1)),
        "topk_mse": np.take_along_axis(d * d, ca.astype(np.int64), 1).mean(1),
        "ties": tie.astype(float),
        "exact_ties": (margin == 0).astype(float),
        "tie_flips": (tie & ~same).astype(float),
    }
    out = {name: x.mean() for name, x in position.items()}
    if noise is not None:
        out["noise_flips"] = (noise & ~same).mean()
        out["real_flips"] = (~same & ~tie & ~noise).mean()
    out["margin_ref"] = margin[has].mean() if has.any() else np.nan
    if "ref_choice" not in h:
        other, _ = margins(b, cb)
        out["margin"] = np.nanmean(other)
    change, common = centred(d), d.mean(1, keepdims=True) * np.ones_like(d)
    out["logit_error"] = np.sqrt((change**2).sum() / (centred(a) ** 2).sum())
    total = (d * d).sum()
    out["common_mode"] = (common**2).sum() / total if total > 0 else 0.0
    ta, tb = sa.sum(0).astype(float), sb.sum(0).astype(float)
    pa, pb = (ta + 0.5) / (ta + 0.5).sum(), (tb + 0.5) / (tb + 0.5).sum()
    out["load_kl"] = (pa * np.log(pa / pb)).sum()
    out.update({name + "_ref": v for name, v in load_figures(ta, ranks).items()})
    out.update(load_figures(tb, ranks))
    return out, position


def value_of(figure):
    """report.json has numbers alone or with their interval; null: there is none."""
    v = figure.get("value") if isinstance(figure, dict) else figure
    return np.nan if v is None else v


def check_intervals(report, position_means, begin):
    """Ours need not draw the same sequences: ends may lie a fifth of the width away."""
    if len(begin) < 9:
        return
    lengths = np.diff(begin).astype(float)
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(lengths), (4000, len(lengths)))
    for name, layers in position_means.items():
        sums = np.mean([[x[i:j].sum() for i, j in zip(begin, begin[1:])] for x in layers], 0)
        means = sums[draws].sum(1) / lengths[draws].sum(1)
        lo, hi = np.percentile(means, [2.5, 97.5])
        figure = report["overall"][name]
        slack = 0.2 * (hi - lo) + 1e-9
        tell(f"overall {name} lo", figure["lo"], lo, slack)
        tell(f"overall {name} hi", figure["hi"], hi, slack)


def read_safetensors(path):
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(n))
    kind = {"F32": "<f4", "I64": "<i8"}
    return {
        name: np.memmap(path, kind[t["dtype"]], "r", 8 + n + t["data_offsets"][0], tuple(t["shape"]))
        for name, t in header.items()
        if name != "__metadata__"
    }


def check_traces(report, h5, ref_path, other_path):
    ref, other = read_safetensors(ref_path), read_safetensors(other_path)
    ids = np.asarray(h5["tokens/ids"])
    if not np.array_equal(np.asarray(ref["input_ids"]).ravel(), ids):
        sys.exit(f"{ref_path}: holds other tokens than routing.h5")
    flat = lambda x: np.asarray(x, np.float64).reshape(len(ids), -1)
    for l, layer in enumerate(report["layers"]):
        x, y = flat(ref[f"hidden.{l}"]), flat(other[f"hidden.{l}"])
        want = np.sqrt(((x - y) ** 2).sum() / (x**2).sum())
        tell(f"layer {l} hidden_error", value_of(layer["metrics"]["hidden_error"]), want, 1e-6)
        h = h5.get(f"tokens/layer_{l:03d}")
        for who, plain in (("ref", ref), ("other", other)) if h is not None else ():
            chosen, logits = (np.asarray(h[f"{who}_{x}"]) for x in ("chosen", "logits"))
            chosen = chosen.reshape(len(ids), -1)
            differ = (np.asarray(plain[f"router_topk.{l}"]) != chosen).any(1).sum()
            tell(f"layer {l} {who}: routes unlike a plain run's", float(differ), 0.0, 0)
            away = np.abs(np.asarray(plain[f"router_logits.{l}"]) - logits).max()
            tell(f"layer {l} {who}: logits unlike a plain run's", float(away), 0.0, 0)
    begin = np.asarray(h5["tokens/begin"])
    kl = np.empty(len(ids))
    same = np.empty(len(ids))
    a, b = flat(ref["logits"]), flat(other["logits"])
    for i in range(0, len(ids), 1024):
        p, q = softmax(a[i : i + 1024]), softmax(b[i : i + 1024])
        kl[i : i + 1024] = (p * (np.log(p) - np.log(q))).sum(1)
        same[i : i + 1024] = p.argmax(1) == q.argmax(1)
    scored = np.ones(len(ids), bool)
    scored[begin[1:] - 1] = False
    tell("overall kl", value_of(report["overall"]["kl"]), kl[scored].mean(), 1e-7)
    tell("overall same_top1", value_of(report["overall"]["same_top1"]), same[scored].mean(), 1e-9)
    far = np.abs(np.asarray(h5["tokens/kl"])[scored] - kl[scored]).max()
    tell("tokens/kl", float(far), 0.0, 1e-5)
    for who, x in (("_ref", a), ("", b)):
        nll = -np.log(softmax(x)[np.arange(len(ids) - 1), ids[1:]])[scored[:-1]].mean()
        tell("perplexity" + who, value_of(report["overall"]["perplexity" + who]), np.exp(nll), 1e-6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report")
    parser.add_argument("--trace", nargs=2, metavar=("REF", "OTHER"))
    args = parser.parse_args()
    with open(args.report + "/report.json") as f:
        report = json.load(f)
    h5 = h5py.File(args.report + "/routing.h5", "r")
    if "tokens" not in h5:
        sys.exit("routing.h5 has no tokens: run diagnose with --traces")
    ranks = report["manifest"]["ep_ranks"]
    sums, positions = {}, {}
    for l, layer in enumerate(report["layers"]):
        h = h5.get(f"tokens/layer_{l:03d}")
        if h is None:
            continue
        want, position = layer_figures(h, ranks, layer["noise_margin"], layer["margin_space"])
        for name, value in want.items():
            if name in layer["metrics"]:
                tell(f"layer {l} {name}", value_of(layer["metrics"][name]), value, 2e-6)
                sums.setdefault(name, []).append(value)
        for name in ("set_match", "jaccard", "gate_tv", "router_kl"):
            positions.setdefault(name, []).append(position[name])
    for name, values in sums.items():
        want = sum(values) if name.split("_ref")[0] in ("dead", "overloaded") else np.mean(values)
        tell(f"overall {name}", value_of(report["overall"][name]), want, 2e-6)
    begin = np.asarray(h5["tokens/begin"]).astype(np.int64)
    check_intervals(report, positions, begin)
    if args.trace:
        check_traces(report, h5, *args.trace)
    print(f"{compared} figures compared, {bad} differ")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
