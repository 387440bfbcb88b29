"""The package's shape: what may import what, and what is public."""

import ast
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import colorhub

FLOORS = [
    (
        "errors",
        "ranks",
        "papers",
        "tables",
        "exif",
        "icc",
        "files",
        "gpu",
        "progress",
        "together",
        "vocabulary",
    ),
    (
        "color",
        "encoders",
        "inception",
        "layers",
        "options",
        "runlog",
        "metrics",
        "objectives",
        "photos",
        "provenance",
        "metadata",
        "votes",
        "adjustment",
        "memory",
        "wordvectors",
        "painting",
        "flow",
        "containers",
        "motion",
        "footage",
    ),
    (
        "augmentation",
        "palette",
        "classifiers",
        "critics",
        "checkpoints",
        "data",
        "reports",
        "colornames",
    ),
    (
        "generators",
        "losses",
        "degradations",
        "captions",
        "conditioning",
        "digits",
        "flicker",
        "scenes",
        "smoothing",
    ),
    ("kinds", "picture_critics"),
    ("weights", "batches", "state", "originals", "channels", "journal", "strips"),
    ("strangers", "clips", "films", "parts", "frechet"),
    ("reels",),
    ("hub", "cards", "decoding", "jobs"),
    ("results",),
    ("colorizer", "export"),
    (
        "album",
        "samples",
        "evaluation",
        "robustness",
        "launch",
        "publisher",
        "teachers",
        "windows",
        "sampling",
        "words",
    ),
    ("filming",),
    ("tasks", "clip_colouring", "drawing", "sentences", "clusters"),
    ("exhibit",),
    ("training",),
    ("uploads",),
    ("regression", "studio", "look", "viewer"),
    ("booth", "cinema", "clicks", "invent", "learn", "several", "sentence"),
    ("blindtest", "comparison"),
    ("app", "colorizing"),
    ("cli",),
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
ONLY_IN = {
    "av": {"footage", "films", "containers", "reels", "filming"},
    "accelerate": {"launch", "exhibit", "teachers"},
    "cv2": {"flow", "motion"},
    "datasets": {"clips", "data", "digits", "batches", "launch"},
    "gradio": {
        "app",
        "blindtest",
        "cinema",
        "clicks",
        "comparison",
        "invent",
        "learn",
        "look",
        "sentence",
        "several",
        "studio",
        "uploads",
        "viewer",
    },
    "gensim": {"wordvectors"},
    "sklearn": {"clusters"},
    "matplotlib": {"robustness"},
    "onnxruntime": {"export"},
    "scipy": {"robustness"},  # it comes with scikit-image
    "skimage": {"metrics", "samples"},
}
MODULES = sorted(path for path in (ROOT / "colorhub").rglob("*.py") if path.stem[0] != "_")
MODULES += sorted((ROOT / "colorhub").glob("*/__init__.py"))


def module_of(path: Path) -> str:
    return path.relative_to(ROOT / "colorhub").parts[0].removesuffix(".py")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "colorhub":
                yield from ((f"colorhub.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield node.module, node.lineno


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_floors_below_its_own(path):
    module = module_of(path)
    for name, line in imports(path):
        package, *rest = name.split(".")
        if package == "colorhub" and rest and rest[0] != module and rest[0] in FLOOR:
            assert FLOOR[rest[0]] < FLOOR[module], f"{path}:{line} imports {name}"
        if package in ONLY_IN:
            assert module in ONLY_IN[package], f"{path}:{line} imports {package}"


def test_every_module_has_its_floor():
    assert {module_of(path) for path in MODULES} == set(FLOOR)


def test_the_public_names_are_listed_and_there():
    assert colorhub.__all__ == sorted(colorhub.__all__)
    for name in colorhub.__all__:
        assert getattr(colorhub, name).__doc__
    errors = [getattr(colorhub, name) for name in colorhub.__all__ if name.endswith("Error")]
    assert all(issubclass(error, colorhub.ColorhubError) for error in errors)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = colorhub.absent


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_space_installs_what_the_package_needs():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*project["dependencies"], *project["optional-dependencies"]["app"]}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert {line for line in lines if not line.startswith("#")} == wanted
    assert f"sdk_version: {pinned('gradio')}" in (ROOT / "README.md").read_text()
    assert project["version"] == colorhub.__version__


def pinned(package: str) -> str:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{package}=="))
