"""The figures of results.json as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

METRICS = {
    "psnr": ("PSNR, dB", "↑"),
    "ssim": ("SSIM", "↑"),
    "ab_rmse": ("ab RMSE", "↓"),
    "ciede2000": ("CIEDE2000", "↓"),
    "colorfulness": ("colorfulness", ""),
    "colorfulness_ratio": ("colorfulness ratio", ""),
}
METHODS = {
    "variant": "this variant",
    "grey": "grey (ab = 0)",
    "mean_ab": "mean ab of training data",
}
STABILITY = {
    "size": "at twice the size",
    "flip": "mirrored",
    "shift": "moved by 8 pixels",
    "noise": "under noise of 2 levels",
}
_JUDGED = ("ciede2000", "ab_rmse", "colorfulness")


def results_table(results: dict[str, Any]) -> str:
    """The variant, the baselines and the true photos: means with their intervals."""
    shown = [metric for metric in METRICS if metric in results["metrics"]["variant"]]
    methods = {METHODS[name]: each for name, each in results["metrics"].items()}
    methods["the true photos"] = results["truth"]
    rows = (
        [name, *(_interval(each[metric]) if metric in each else "" for metric in shown)]
        for name, each in methods.items()
    )
    return _table(["", *map(_head, shown)], rows)


def is_free(results: dict[str, Any]) -> bool:
    """Whether results.json brings tables of its own, as of other kinds than photo."""
    return "tables" in results


def free_tables(results: dict[str, Any]) -> str:
    """Tables as results.json gives them: each `about`, `heads` and `rows` of text; the command."""
    parts = [
        f"{each['about']}\n\n{_table(each['heads'], each['rows'])}" for each in results["tables"]
    ]
    return "\n\n".join([*parts, f"```sh\n{results['command']}\n```\n"])


def groups_table(results: dict[str, Any]) -> str:
    """The variant's means over the photos of each group; nothing if none were asked for."""
    if not (groups := results.get("groups")):
        return ""
    heads = [results["group_column"], "photos", *map(_head, _JUDGED), "of the true photos"]
    rows = (
        [name.replace("|", "\\|"), str(each["images"])]
        + [f"{each[metric]:.2f}" for metric in (*_JUDGED, "truth_colorfulness")]
        for name, each in groups.items()
    )
    return _table(heads, rows)


def robustness_tables(results: dict[str, Any]) -> str:
    """What `robustness` measured, each table under a sentence; nothing if it was not asked."""
    if not (figures := results.get("robustness")):
        return ""
    degradations = (
        [name.replace("_", " "), *(f"{each[metric]:.2f}" for metric in _JUDGED)]
        for name, each in figures["degradations"].items()
    )
    parts = [
        f"How far the colours move when the photo is shown otherwise (mean distance in ab, Lab "
        f"units, over {figures['images']} photos of 256 pixels):",
        _row({STABILITY[name]: value for name, value in figures["stability"].items()}),
        "Colours predicted from a degraded photo and painted on the clean one (the same photos):",
        _table(["what the network sees", *map(_head, _JUDGED)], degradations),
    ]
    if hues := figures.get("hues"):
        parts += [
            "By the true colour of a pixel, in Lab units; what is painted counts in its direction, "
            "below 0 it is the opposite colour:",
            _table(
                ["true colour", "share of pixels", "chroma", "painted", "error of ab"],
                (
                    [name, f"{each['share']:.0%}"]
                    + [f"{each[key]:.1f}" for key in ("chroma", "painted", "error")]
                    for name, each in hues.items()
                ),
            ),
        ]
    if chosen := figures.get("alternatives"):
        names = {
            "first": "CIEDE2000 of seed 0",
            "best_of_8": "of the best of 8 seeds",
            "mean_of_8": "mean of 8 seeds",
            "diversity": "ab distance between two",
        }
        parts += ["Other seeds:", _row({names[name]: chosen[name] for name in names})]
    if calibration := figures.get("calibration"):
        predicted, actual = zip(*calibration["groups"], strict=True)
        known = {name: calibration[name] for name in ("pixels", "photos")}
        ranks = [f"{value:.2f} over {name}" for name, value in known.items() if value is not None]
        parts += [
            "How sure the network is of pixels, in ten groups, and how far off it is (root mean "
            "square in ab, Lab units):",
            _table(
                ["", *map(str, range(1, len(predicted) + 1))],
                (
                    ["predicted", *(f"{value:.1f}" for value in predicted)],
                    ["actual", *(f"{value:.1f}" for value in actual)],
                ),
            ),
        ]
        if ranks:
            parts.append(f"Rank correlation of uncertainty and error: {', '.join(ranks)}.")
    return "\n\n".join(parts)


def beside_table(variants: dict[str, dict[str, Any]], megabytes: dict[str, float]) -> str:
    """Results of several variants on the same photos, a row each."""
    shown = ("psnr", "ab_rmse", "ciede2000", "colorfulness")
    known = [each["robustness"]["stability"] for each in variants.values() if "robustness" in each]
    moves = ("size", "flip", "shift") if known else ()
    heads = ["variant", "MB", *map(_head, shown), METRICS["colorfulness_ratio"][0]]
    rows = []
    for name, results in variants.items():
        means = [results["metrics"]["variant"][metric]["mean"] for metric in shown]
        # Of the means, as in `evaluate`: older results do not have it.
        means.append(means[-1] / results["truth"]["colorfulness"]["mean"])
        stability = results.get("robustness", {}).get("stability", {})
        cells = [f"{stability[move]:.2f}" if move in stability else "" for move in moves]
        rows.append([name, f"{megabytes[name]:.1f}", *(f"{mean:.2f}" for mean in means), *cells])
    return _table([*heads, *(f"{STABILITY[move]} ↓" for move in moves)], rows)


def _head(metric: str) -> str:
    return " ".join(METRICS[metric]).strip()


def _row(figures: dict[str, float]) -> str:
    return _table(list(figures), [[f"{value:.2f}" for value in figures.values()]])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|" for row in rows]
    head = "|" + "|".join(f" {cell} " if cell else " " for cell in heads) + "|"
    return "\n".join([head, "|---" * len(heads) + "|", *lines])


def _interval(value: dict[str, float]) -> str:
    digits = 3 if value["mean"] < 1 else 2
    return f"{value['mean']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"
