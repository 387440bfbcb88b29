"""The model card: written from the run's own figures, prose kept when it is written again.

A card is README.md with blocks between `<!-- colorhub: NAME -->` and `<!-- /colorhub -->`. Blocks
and front matter are made anew each time from config.json, training.json and results.json in the
folder; everything else is for people to write and is left alone. What is not known is left out.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import yaml

from colorhub import generators
from colorhub.provenance import write_text
from colorhub.weights import read_config

METRICS = {
    "psnr": ("PSNR, dB", "↑"),
    "ssim": ("SSIM", "↑"),
    "ab_rmse": ("ab RMSE", "↓"),
    "ciede2000": ("CIEDE2000", "↓"),
    "colorfulness": ("colorfulness", ""),
}
# Licence ids of the Hub that data and weights of this kind carry; any other is named "other".
LICENSES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0"),
    *("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "openrail", "odc-by"),
)
_ROWS = {"variant": "this variant", "grey": "grey (ab = 0)", "mean_ab": "mean ab of training data"}
_BLOCK = re.compile(r"<!-- colorhub: (\w+) -->\n.*?<!-- /colorhub -->", re.DOTALL)

_LIMITS = """\
Colours are inferred, not remembered: they are plausible at best, and never evidence of what a
scene looked like. Keep the grey original, and mark what you publish as colorized. Uncommon
objects, clothes and skin tones tend towards the average of the training data.
"""


def write(folder: str | os.PathLike[str], *, name: str | None = None) -> Path:
    """Write or bring up to date the card of the variant in folder; gives its path.

    `name` is what the variant is loaded by, by default the folder's name.
    """
    folder = Path(folder)
    path = folder / "README.md"
    facts = _Facts(folder, name or folder.resolve().name)
    text = path.read_text(encoding="utf-8") if path.exists() else _skeleton(facts)
    body = re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL)
    blocks = {"use": _use, "training": _training, "results": _results}
    body = _BLOCK.sub(lambda match: _block(match[1], blocks[match[1]](facts)), body)
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True)
    write_text(path, f"---\n{front}---\n{body}")
    return path


def front_matter(text: str) -> dict[str, Any]:
    """A card's metadata. Raises ValueError if it has none."""
    match = re.match(r"\A---\n(.*?)\n---\n", text, flags=re.DOTALL)
    if match is None:
        raise ValueError("the card has no front matter")
    return yaml.safe_load(match[1])


def update_table(readme: str | os.PathLike[str], variants: str | os.PathLike[str]) -> None:
    """Write the table of the variants in a folder between README's table marks."""
    path = Path(readme)
    text = path.read_text(encoding="utf-8")
    start, end = text.index("<!-- table -->\n") + 15, text.index("<!-- /table -->")
    write_text(path, text[:start] + _variants_table(Path(variants)) + text[end:])


def _variants_table(variants: Path) -> str:
    shown = ("ab_rmse", "ciede2000", "colorfulness")
    heads = ["variant", "network", "MB", *(f"{METRICS[m][0]} {METRICS[m][1]}" for m in shown)]
    lines = ["| " + " | ".join(map(str.strip, heads)) + " |", "|---" * len(heads) + "|"]
    baselines = {}
    for config in sorted(variants.glob("*/config.json")):
        facts = _Facts(config.parent, config.parent.name)
        size = (config.parent / "model.safetensors").stat().st_size / 1e6
        link = f"[{facts.name}](model_cards/{facts.name}/README.md)"
        metrics = facts.results["metrics"]
        cells = [f"{metrics['variant'][metric]['mean']:.2f}" for metric in shown]
        network = facts.architecture.PAPER.network
        lines.append(f"| {link} | {network} | {size:.1f} | " + " | ".join(cells) + " |")
        for method in ("grey", "mean_ab"):
            baselines[method] = [f"{metrics[method][metric]['mean']:.2f}" for metric in shown]
        baselines["truth"] = ["", "", f"{facts.results['truth']['colorfulness']['mean']:.2f}"]
    for method, cells in baselines.items():
        label = _ROWS.get(method, "the true photos")
        lines.append(f"| {label} | | | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


class _Facts:
    """What the folder's files say."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.config = read_config(folder)
        self.architecture = generators.ARCHITECTURES[self.config["architecture"]]
        self.training = _read(folder / "training.json")
        self.results = _read(folder / "results.json")
        if self.results.get("weights_sha256") != self.config["weights_sha256"]:
            self.results = {}  # they are of other weights
        self.samples = sorted(folder.glob("samples/*.png"), key=lambda path: (len(path.name), path))
        self.dataset = (self.training or {}).get("dataset", {})


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _skeleton(facts: _Facts) -> str:
    """A new card's body; the prose in it is true of any variant."""
    paper = facts.architecture.PAPER
    parts = [
        f"\n# {facts.name.split('/')[-1]}\n",
        f"Colours black-and-white photos with {paper.network}, after *{paper.title}*.\n",
        "## How to use\n",
        _block("use", ""),
        "\n## Training\n",
        _block("training", ""),
        "\n## Results\n",
        _block("results", ""),
        "\n## Limits\n",
        _LIMITS,
        "## Citation\n",
        f"{paper.authors}: *{paper.title}*{f', {paper.year}' if paper.year else ''}.\n",
    ]
    return "\n".join(parts)


def _block(name: str, content: str) -> str:
    return f"<!-- colorhub: {name} -->\n{content}<!-- /colorhub -->"


def _front_matter(facts: _Facts) -> dict[str, Any]:
    license = (facts.training or {}).get("license") or facts.dataset.get("license")
    front: dict[str, Any] = {"library_name": "colorhub", "pipeline_tag": "image-to-image"}
    front["tags"] = ["image-colorization", "colorhub-variant", "pytorch", *facts.architecture.TAGS]
    if license in LICENSES:
        front["license"] = license
    else:
        front |= {"license": "other", "license_name": license or "training-data-states-none"}
        front["license_link"] = "README.md"
    if facts.dataset.get("on_hub"):
        front["datasets"] = [facts.dataset["name"]]
    if facts.results:
        front["metrics"] = list(METRICS)
        front["model-index"] = [_model_index(facts)]
    return front


def _model_index(facts: _Facts) -> dict[str, Any]:
    dataset = facts.results["dataset"]
    return {
        "name": facts.name.split("/")[-1],
        "results": [
            {
                "task": {"type": "image-to-image", "name": "Image colorization"},
                "dataset": {
                    "type": dataset["name"],
                    "name": dataset["name"],
                    "split": dataset["split"],
                },
                "metrics": [
                    {"type": metric, "name": METRICS[metric][0], "value": value["mean"]}
                    for metric, value in facts.results["metrics"]["variant"].items()
                ],
            }
        ],
    }


def _use(facts: _Facts) -> str:
    name = facts.name
    return f"""```python
from colorhub import Colorizer

colorizer = Colorizer.from_pretrained("{name}")
colorizer.colorize("photo.jpg").save("photo-in-color.jpg")
```

or `colorhub colorize photo.jpg --variant {name} --output photo-in-color.jpg`
"""


def _training(facts: _Facts) -> str:
    run, data = facts.training, facts.dataset
    if not run:
        return "These weights were saved without the record of a training run.\n"
    source = f"`{data['name']}`, split `{data['split']}`"
    source += f", {data['photos']:,} photos" if data.get("photos") else ""
    source += f", revision `{data['revision']}`" if data.get("revision") else ""
    lines = [
        f"- Data: {source}",
        f"- Licence of the data: {data.get('license') or 'none stated; check before you use it'}",
        f"- Length: {run['epochs']} epochs, {run['steps']:,} steps of {run['batch_size']} photos, "
        f"{run['photos_seen']:,} photos seen, {run['hours']} hours",
        f"- Resolution: {run['resolution']} px, mixed precision {run['mixed_precision']}",
        f"- Seed: {run['seed']}",
        f"- Hardware: {run['hardware']}",
        "- Versions: " + ", ".join(f"{name} {value}" for name, value in run["versions"].items()),
    ]
    if initial := run.get("init_from"):
        lines.append(f"- Started from the weights of `{initial}`")
    if decay := run.get("ema_decay"):
        lines.append(f"- The weights are a running mean over the steps, decay {decay}")
    if rollbacks := run.get("rollbacks"):
        lines.append(f"- Went back {rollbacks} times after divergence, with half the learning rate")
    read, skipped, left_over = run.get("last_epoch") or (0, 0, 0)
    if skipped or left_over:
        lines.append(
            f"- Of an epoch's {read:,} photos {skipped:,} were broken or grey, and {left_over:,} "
            "filled no step"
        )
    return "\n".join(lines) + f"\n\n```sh\n{run['command']}\n```\n"


def results_table(results: dict[str, Any]) -> str:
    """The figures of results.json as a Markdown table."""
    heads = [f"{label} {arrow}".strip() for label, arrow in METRICS.values()]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for method, metrics in results["metrics"].items():
        cells = [_cell(metrics[metric]) for metric in METRICS]
        lines.append(f"| {_ROWS[method]} | " + " | ".join(cells) + " |")
    blanks = "| " * (len(METRICS) - 1)
    lines.append(f"| the true photos {blanks}| {_cell(results['truth']['colorfulness'])} |")
    return "\n".join(lines)


def _results(facts: _Facts) -> str:
    if not facts.results:
        return "This variant has not been measured.\n" + _sample(facts)
    results, dataset = facts.results, facts.results["dataset"]
    where = f"`{dataset['name']}`, split `{dataset['split']}`, {results['images']} photos"
    skipped = results["skipped"]
    return (
        f"{results_table(results)}\n\nMeans with 95 % bootstrap intervals over {where}"
        + (f" ({skipped} skipped: grey or broken)" if skipped else "")
        + f", at their own size, seed {results['seed']}:\n\n```sh\n{results['command']}\n```\n"
        + _sample(facts)
    )


def _sample(facts: _Facts) -> str:
    if not facts.samples:
        return ""
    name = facts.samples[-1].name
    return f"\n![Input, truth and output of the sample photographs](samples/{name})\n"


def _cell(value: dict[str, float]) -> str:
    digits = 3 if value["mean"] < 1 else 2
    return f"{value['mean']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"
