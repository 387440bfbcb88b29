"""The app: one photo, several variants side by side, in a browser and for `gradio_client`."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # likewise by torch, see cli.main

import gradio as gr

from colorhub import blindtest, cinema, comparison, invent, learn, sentence, several, studio
from colorhub.adjustment import Adjustment
from colorhub.clicks import COLUMNS, SCREEN, rows
from colorhub.errors import OptionError
from colorhub.hub import list_variants
from colorhub.look import CSS, polite, theme
from colorhub.memory import limit_of_machine
from colorhub.studio import AT_WORK, Result, compared, painted
from colorhub.uploads import refuse_addresses

HEAD = """# colorhub
Your photo in colour, by several models. Choose a photo and variants, then press Colour it."""


# The API: what `gradio_client` calls.


def variants() -> list[str]:
    """Names of the variants on this machine; those on the Hub are named owner/name[@revision]."""
    return list_variants()


@polite
def colorize(photo: str | None, variant: str, strength: float, seed: int) -> str:
    """Colour a photo: a file of its own size and format, with all that its file holds.

    Args:
        photo: JPEG, PNG, TIFF, WebP, AVIF, BMP or PNM, up to 100 MB.
        variant: a name that `variants` lists, or owner/name[@revision] on the Hub.
        strength: 0 gives grey, 1 what the network says, more is stronger.
        seed: 0 is the likeliest colouring, others are other plausible ones.
    """
    _, outcome = next(compared(photo, [variant] if variant else [], seed))
    if isinstance(outcome, str):
        raise OptionError(outcome)
    path, _ = studio.taken_home(str(photo), outcome, Adjustment(strength))
    return path


@polite
def compare(
    photo: str | None, variants: list[str], strength: float, seed: int
) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Colour a photo by several variants: pictures at screen size, and a row for each variant.

    Args:
        photo: as for `colorize`.
        variants: names as for `colorize`, 24 at the most.
        strength: as for `colorize`.
        seed: as for `colorize`.
    """
    outcomes = dict(compared(photo, variants, seed))
    results = [outcome for outcome in outcomes.values() if isinstance(outcome, Result)]
    if not results:
        raise OptionError(" ".join(map(str, outcomes.values())))
    how = Adjustment(strength)
    pictures = [(painted(str(photo), each, how, SCREEN), each.caption) for each in results]
    return pictures, rows(outcomes)


def build() -> gr.Blocks:
    """The page and the API, not yet served."""
    refuse_addresses()
    kept = (3600, 4 * 3600)  # look every hour for files older than four
    with gr.Blocks(title="colorhub", analytics_enabled=False, delete_cache=kept) as demo:
        gr.Markdown(HEAD)
        with gr.Tabs():
            with gr.Tab("Compare", id="compare"):
                comparison.tab(demo)
            with gr.Tab("Blind test", id="blindtest"):
                blindtest.tab()
            with gr.Tab("Several photos", id="several"):
                several.tab()
            with gr.Tab("Film", id="film"):
                cinema.tab()
            with gr.Tab("Words", id="words"):
                sentence.tab()
            with gr.Tab("Noise", id="noise"):
                invent.tab()
            with gr.Tab("Models", id="models") as models:
                learn.tab(models)
        _connect_api()
    return demo.queue(max_size=32)


def _connect_api() -> None:
    with gr.Group(visible=False):
        api, photo = gr.Button(), gr.File(label="photo")
        strength, seed = gr.Number(1.0, label="strength"), gr.Number(0, precision=0, label="seed")
        name, chosen = gr.Textbox(label="variant"), gr.JSON(label="variants")
        coloured, pictures = gr.File(label="coloured photo"), gr.Gallery(format="png")
        table = gr.Dataframe(headers=COLUMNS, datatype="str", label="table")
    one, many = [photo, name, strength, seed], [photo, chosen, strength, seed]
    api.click(colorize, one, coloured, api_name="colorize", **AT_WORK)
    api.click(compare, many, [pictures, table], api_name="compare", **AT_WORK)
    gr.api(variants, api_name="variants")


def launch(host: str = "127.0.0.1", port: int = 7860, demo: gr.Blocks | None = None) -> None:
    """Serve the app until it is interrupted. Raises OptionError if the port is taken."""
    limit_of_machine()  # a variable that is wrong is the host's to hear of, not a visitor's
    try:
        (demo or build()).launch(
            server_name=host,
            server_port=port,
            theme=theme(),
            css=CSS,
            max_file_size="100mb",
            footer_links=["api", "settings"],
            run_history=False,  # it would keep visitors' photos in their browsers
            enable_monitoring=False,
            ssr_mode=False,
        )
    except OSError as error:
        raise OptionError(f"{host}:{port} cannot be served: choose another port.") from error
