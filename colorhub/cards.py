"""The model card: written from the run's own figures, prose kept when it is written again.

A card is README.md with blocks between `<!-- colorhub: NAME -->` and `<!-- /colorhub -->`. Blocks
and front matter are made anew each time from config.json, training.json and results.json in the
folder, and from the results of the variants that lie beside it; everything else is for people to
write and is left alone. What is not known is left out.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from colorhub import generators, tables
from colorhub.errors import VariantError
from colorhub.kinds import KINDS
from colorhub.provenance import write_text
from colorhub.tables import METHODS, METRICS
from colorhub.weights import WEIGHTS, kind_of, read_config

CHART = "samples/calibration.png"  # of the variant's uncertainty, if it was measured
# Licence ids of the Hub that data and weights of this kind carry; any other is named "other".
LICENSES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0"),
    *("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "openrail", "odc-by"),
)
_BLOCK = re.compile(r"<!-- colorhub: (\w+) -->\n.*?<!-- /colorhub -->", re.DOTALL)


def write(
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    origin: str | os.PathLike[str] | None = None,
) -> Path:
    """Write or bring up to date the card of the variant in folder; gives its path.

    `name` is what the variant is loaded by, by default the folder's name. `origin` is the folder
    of which this one is a copy: what lies beside that is compared.
    """
    folder = Path(folder)
    path = folder / "README.md"
    facts = _Facts(folder, name or folder.resolve().name)
    facts.place = Path(origin or folder).resolve().parent
    text = path.read_text(encoding="utf-8") if path.exists() else _skeleton(facts)
    body = re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL)
    blocks = {
        "use": _use,
        "training": _training,
        "results": _results,
        "beside": _beside,
        "groups": _groups,
        "robustness": _robustness,
    }
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
        if kind_of(config.parent) != "photo":
            continue
        facts = _Facts(config.parent, config.parent.name)
        link = f"[{facts.name}](model_cards/{facts.name}/README.md)"
        metrics = facts.results["metrics"]
        cells = [f"{metrics['variant'][metric]['mean']:.2f}" for metric in shown]
        network = facts.paper.network
        lines.append(f"| {link} | {network} | {facts.megabytes:.1f} | " + " | ".join(cells) + " |")
        for method in ("grey", "mean_ab"):
            baselines[method] = [f"{metrics[method][metric]['mean']:.2f}" for metric in shown]
        baselines["truth"] = ["", "", f"{facts.results['truth']['colorfulness']['mean']:.2f}"]
    for method, cells in baselines.items():
        label = METHODS.get(method, "the true photos")
        lines.append(f"| {label} | | | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


class _Facts:
    """What the folder's files say."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.place = folder.parent
        self.config = read_config(folder)
        self.architecture = generators.EVERY[self.config["architecture"]]
        self.kind = KINDS[kind_of(folder) or "photo"]
        network = self.architecture.Config(**self.config["network"])
        self.paper = getattr(network, "paper", self.architecture.PAPER)
        self.training = _read(folder / "training.json")
        self.results = _read(folder / "results.json")
        if self.results.get("weights_sha256") != self.config["weights_sha256"]:
            self.results = {}  # they are of other weights
        samples = folder.glob("samples/epoch-*.png")
        self.samples = sorted(samples, key=lambda path: (len(path.name), path))
        self.dataset = (self.training or {}).get("dataset", {})

    @property
    def megabytes(self) -> float:
        return (self.folder / WEIGHTS).stat().st_size / 1e6

    @property
    def measured_on(self) -> tuple[str, str, int, int | None]:
        """Data set, split, number of photos and their crop of the results."""
        dataset = self.results["dataset"]
        crop = self.results.get("crop")
        return dataset["name"], dataset["split"], self.results["images"], crop

    def others(self) -> Iterator["_Facts"]:
        """The other variants in the same place that were measured on the same photos."""
        for path in sorted(self.place.glob("*/results.json")):
            try:
                other = _Facts(path.parent, path.parent.name)
                same = other.config["weights_sha256"] == self.config["weights_sha256"]
                fits = not same and "metrics" in other.results
                fits = fits and other.measured_on == self.measured_on
            except (VariantError, LookupError, TypeError, ValueError, AttributeError):
                continue  # the place may be anyone's: what is no variant is passed over
            if fits:
                yield other


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _skeleton(facts: _Facts) -> str:
    """A new card's body; the prose in it is true of any variant."""
    paper = facts.paper
    parts = [
        f"\n# {facts.name.split('/')[-1]}\n",
        f"{facts.kind.does.format(network=paper.network)}, after *{paper.title}*.\n",
        "## How to use\n",
        _block("use", ""),
        "\n## Training\n",
        _block("training", ""),
        "\n## Results\n",
        "\n".join(_block(name, "") for name in ("results", "beside", "groups", "robustness")),
        "\n## Limits\n",
        facts.kind.limits,
        "## Citation\n",
        f"{paper.authors}: *{paper.title}*{f', {paper.year}' if paper.year else ''}.\n",
    ]
    return "\n".join(parts)


def _block(name: str, content: str) -> str:
    return f"<!-- colorhub: {name} -->\n{content}<!-- /colorhub -->"


def _front_matter(facts: _Facts) -> dict[str, Any]:
    license = (facts.training or {}).get("license") or facts.dataset.get("license")
    kind = facts.kind
    front: dict[str, Any] = {"library_name": "colorhub", "pipeline_tag": kind.pipeline}
    front["tags"] = [*kind.topics, kind.tag, "pytorch", *facts.architecture.TAGS]
    if license in LICENSES:
        front["license"] = license
    else:
        front |= {"license": "other", "license_name": license or "training-data-states-none"}
        front["license_link"] = "README.md"
    if facts.dataset.get("on_hub"):
        front["datasets"] = [facts.dataset["name"]]
    if "metrics" in facts.results:
        front["metrics"] = list(facts.results["metrics"]["variant"])
        front["model-index"] = [_model_index(facts)]
    return front


def _model_index(facts: _Facts) -> dict[str, Any]:
    dataset = facts.results["dataset"]
    return {
        "name": facts.name.split("/")[-1],
        "results": [
            {
                "task": {"type": facts.kind.pipeline, "name": facts.kind.task},
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
    return facts.kind.use.format(name=facts.name)


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


def _results(facts: _Facts) -> str:
    if not facts.results:
        return "This variant has not been measured.\n" + _sample(facts)
    if tables.is_free(facts.results):
        return tables.free_tables(facts.results) + _sample(facts)
    results, dataset = facts.results, facts.results["dataset"]
    where = f"`{dataset['name']}`, split `{dataset['split']}`, {results['images']} photos"
    skipped, crop = results["skipped"], results.get("crop")
    size = f"central squares of {crop} pixels" if crop else "at their own size"
    return (
        f"{tables.results_table(results)}\n\nMeans with 95 % bootstrap intervals over {where}"
        + (f" ({skipped} skipped: grey or broken)" if skipped else "")
        + f", {size}, seed {results['seed']}:\n\n```sh\n{results['command']}\n```\n"
        + _sample(facts)
    )


def _beside(facts: _Facts) -> str:
    others = list(facts.others()) if "metrics" in facts.results else []
    if not others:
        return ""
    known = {f"**{facts.name}**": facts} | {other.name: other for other in others}
    table = tables.beside_table(
        {name: each.results for name, each in known.items()},
        {name: each.megabytes for name, each in known.items()},
    )
    return f"\n### Beside other variants\n\n{table}\n\nOn the same photos.\n"


def _groups(facts: _Facts) -> str:
    if not (table := tables.groups_table(facts.results)):
        return ""
    return f"\n### By {facts.results['group_column']}\n\n{table}\n"


def _robustness(facts: _Facts) -> str:
    if not (text := tables.robustness_tables(facts.results)):
        return ""
    text = f"\n### Robustness\n\n{text}\n"
    if "calibration" in facts.results["robustness"] and (facts.folder / CHART).exists():
        text += f"\n![Predicted uncertainty and actual error]({CHART})\n"
    return text


def _sample(facts: _Facts) -> str:
    if not facts.samples:
        return ""
    name = facts.samples[-1].name
    photo = facts.kind is KINDS["photo"]
    shown = "Input, truth and output of the sample photographs" if photo else "Samples"
    return f"\n![{shown}](samples/{name})\n"
