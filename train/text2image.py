"""Sentences to pictures ("Research and Thesis Report", section 4).

    accelerate launch train/text2image.py --dataset_name data/flowers --output_dir runs/flowers

Any data set with a column of pictures and one of captions (--caption_column), one caption or a list
of them a picture. word2vec is trained on the captions, or on --corpus; a generator draws a picture
after each word; a critic judges those before the last, and the last is drawn to the sentence's own.
"""

from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from colorhub import hub, weights
from colorhub.captions import Captioned, all_captions
from colorhub.clusters import Features, backbone_features, one_cluster, thumbnail
from colorhub.data import Rows, rows_of
from colorhub.errors import OptionError
from colorhub.generators import KINDS, Text2Image
from colorhub.generators.noise import NoiseConfig
from colorhub.generators.text2image import VECTOR
from colorhub.launch import main
from colorhub.objectives import GAN
from colorhub.options import Options
from colorhub.picture_critics import DCGANCritic
from colorhub.ranks import draw_uniform
from colorhub.runlog import say
from colorhub.sentences import SAMPLES, Sentences
from colorhub.training import Run
from colorhub.vocabulary import WORDS, Vocabulary, tokens
from colorhub.wordvectors import read_corpus, word_vectors

WEIGHTS = {"original": 1.0, "penalty": 10.0, "mean": 1.0}


@dataclass(frozen=True)
class Config(Options):
    """Options of text2image."""

    network: Text2Image.Size = field(default_factory=Text2Image.Size)
    output_dir: Path = Path("runs/text2image")
    """Folder of the variant, with checkpoints/ beside it."""
    critic_width: int = 64
    """Filters of the critic's first convolution."""
    caption_column: str = "caption"
    """Column with a caption, or a list of captions, for each picture."""
    distance: Literal["original", "penalty", "mean"] = "original"
    """What is drawn to the sentence's picture: the last word's output; the same with more weight;
    or the mean of all its words' outputs."""
    lambda_distance: float = 0.0
    """Weight of that distance; 0 takes 1 of original and mean, 10 of penalty."""
    lambda_adv: float = 1.0
    """Weight of the critic's score in the generator's loss; at 0 no critic is trained."""
    critic_rate: float = 1.0
    """The critic's learning rate as a share of the generator's."""
    judged_words: int = WORDS - 1
    """How many of a sentence's outputs before the last are judged at a step, drawn at random."""
    corpus: Path | None = None
    """Text file, a sentence a line, to train word2vec on instead of the captions."""
    word2vec: Literal["cbow", "skip_gram"] = "cbow"
    """Guess a word from its neighbours, or its neighbours from a word."""
    max_words: int = 20_000
    """At most so many words are known, the most frequent ones; 65535 is the limit."""
    drop_words: float = 0.0
    """Share of a caption's words that are left out at random, for sentences of other lengths."""
    jitter: float = 0.0
    """Deviation of noise added to each number of a word's vector in training, where words' own
    deviate by 1: rare words then count for less beside frequent ones."""
    cluster: int = 0
    """For varied photos: group them into so many clusters by a Gaussian mixture; 0 takes all."""
    keep: int = 0
    """With --cluster: the cluster to learn from, 0 for the largest."""
    cluster_features: str | None = None
    """Backbone whose features are clustered: a .safetensors file, or a Hub repository of timm's
    such as timm/mobilenetv2_100.ra_in1k. By default the Lab values of thumbnails of 8 pixels."""
    cluster_network: Literal["mobilenet_v2_100", "mobilenet_edgetpu_075"] = "mobilenet_v2_100"
    """Which MobileNet that is."""
    adam_beta1: float = 0.5
    """Adam's decay of the first moment, in both optimisers."""
    lr_scheduler: Literal["constant", "cosine"] = "constant"
    """Keep both learning rates, or lower them to 0 over the whole run."""

    def __post_init__(self) -> None:
        if self.lambda_distance == 0:
            object.__setattr__(self, "lambda_distance", WEIGHTS[self.distance])
        super().__post_init__()
        if not 1 <= self.max_words < 2**16:
            raise OptionError(f"--max_words is {self.max_words}; give 1 to {2**16 - 1}.")
        if not 1 <= self.judged_words < WORDS:
            raise OptionError(f"--judged_words is {self.judged_words}; give 1 to {WORDS - 1}.")
        if not 0 <= self.drop_words < 1:
            raise OptionError(f"--drop_words is {self.drop_words}; give a share below 1.")
        if self.jitter < 0:
            raise OptionError(f"--jitter is {self.jitter}; it must be 0 or more.")
        if not self.critic_rate > 0:
            raise OptionError(f"--critic_rate is {self.critic_rate}; it must be above 0.")
        if self.cluster and not 0 <= self.keep < self.cluster:
            raise OptionError(
                f"--keep is {self.keep}; of --cluster {self.cluster} choose one from 0, the "
                f"largest, to {self.cluster - 1}."
            )
        if self.cluster < 0 or (not self.cluster and (self.keep or self.cluster_features)):
            raise OptionError("--keep and --cluster_features need --cluster, 1 or more.")
        if self.cluster and self.streaming:
            raise OptionError("--cluster must see all photos first: leave out --streaming.")


def known_words(config: Config, rows: Rows) -> tuple[list[str], Tensor]:
    """The words and their vectors: of --init_from, or learned from the corpus or the captions."""
    if config.init_from:
        source = weights.load(hub.resolve(config.init_from).folder, KINDS["text"])
        return source.config.vocabulary.split(), source.vectors[1:]
    captions = all_captions(rows, config.caption_column)
    sentences = read_corpus(config.corpus) if config.corpus else [*map(tokens, captions)]
    return word_vectors(
        sentences,
        skip_gram=config.word2vec == "skip_gram",
        size=VECTOR,
        most=config.max_words,
        seed=config.seed,
    )


def training_rows(config: Config) -> Rows:
    """What to learn from: photos with their captions, all or one cluster of them."""
    rows = rows_of(config, config.train_split, (config.caption_column,))
    if not config.cluster:
        return rows
    features: Features = thumbnail
    if config.cluster_features:
        features = backbone_features(config.cluster_features, config.cluster_network)
    rows, sizes = one_cluster(
        rows, clusters=config.cluster, keep=config.keep, seed=config.seed, features=features
    )
    listed = ", ".join(f"{size:,}" for size in sizes)
    say(f"Photos in the clusters: {listed}; number {config.keep} is kept.")
    return rows


def judged(pictures: Tensor, words: Tensor, count: int) -> Tensor:
    """`count` of each sentence's outputs before its last, drawn at random: (N * count, 3, R, R)."""
    blanks = (words == 0).sum(dim=1, keepdim=True)
    before = (WORDS - 1 - blanks).clamp_min(0)  # a single word is judged itself
    places = blanks + (draw_uniform(len(words), count, like=pictures) * before).long()
    return pictures[torch.arange(len(words))[:, None], places].flatten(0, 1)


def distance(config: Config, pictures: Tensor, words: Tensor, truth: Tensor) -> Tensor:
    """Euclidean distance to the true pictures (N, 3, R, R), its mean over the batch."""
    drawn = pictures[:, -1]
    if config.distance == "mean":
        here = (words > 0)[:, :, None, None, None].to(pictures.dtype)
        drawn = (pictures * here).sum(dim=1) / here.sum(dim=1)
    return (drawn.float() - truth).flatten(start_dim=1).norm(dim=1).mean()


def train(config: Config) -> None:
    rows = training_rows(config)
    known, vectors = known_words(config, rows)
    first = all_captions(rows, config.caption_column)
    heard = (each for each in islice(first, 100) if Vocabulary(known).known(each))
    examples = [*islice(dict.fromkeys(heard), SAMPLES)]
    network = Text2Image.Config(**asdict(config.network), vocabulary=" ".join(known))
    view = Captioned(Vocabulary(known), config.caption_column, config.drop_words)
    task = Sentences(config, config.caption_column, examples)
    run = Run(config, network=network, script=__file__, view=view, task=task, rows=rows)
    generator = run.start(Text2Image(network))
    generator.vectors[1:] = vectors
    generator.jitter = config.jitter
    # The critic bare of DDP, which would wait for gradients that the generator's turn never makes.
    critic = DCGANCritic(NoiseConfig(network.resolution), config.critic_width)
    betas = config.adam_beta1, 0.999
    rate, own_rate = config.learning_rate, config.learning_rate * config.critic_rate
    generator_optimizer = torch.optim.Adam(generator.parameters(), rate, betas, fused=True)
    critic_optimizer = torch.optim.Adam(critic.parameters(), own_rate, betas, fused=True)
    factor = run.schedule(config.lr_scheduler)
    (
        generator,
        critic,
        generator_optimizer,
        critic_optimizer,
        generator_scheduler,
        critic_scheduler,
    ) = run.prepare(
        generator=generator,
        critic=critic,
        generator_optimizer=generator_optimizer,
        critic_optimizer=critic_optimizer,
        generator_scheduler=LambdaLR(generator_optimizer, factor),
        critic_scheduler=LambdaLR(critic_optimizer, factor),
    )
    objective = GAN()

    for _ in run.epochs():
        for _, (words, truth) in run.batches():  # (N, 25), (N, 3, R, R) in [-1, 1]
            pictures = generator(words)  # (N, 25, 3, R, R)
            apart = distance(config, pictures, words, truth)
            generator_loss = config.lambda_distance * apart
            if config.lambda_adv:
                fakes = judged(pictures, words, config.judged_words)
                # The real ones are the batch as it was drawn; the critic sees no sentence, so
                # none of them is any output's own.
                critic.requires_grad_(True)
                scores = critic(truth), critic(fakes.detach())
                critic_loss = objective.critic(*scores)
                run.accelerator.backward(critic_loss)
                critic_optimizer.step()
                critic_optimizer.zero_grad()
                if run.steps_now:
                    critic_scheduler.step()
                critic.requires_grad_(False)
                adversarial = objective.generator(critic(fakes))
                generator_loss = generator_loss + config.lambda_adv * adversarial
                run.report(critic=critic_loss, adversarial=adversarial)
            run.accelerator.backward(generator_loss)
            generator_optimizer.step()
            generator_optimizer.zero_grad()
            if run.steps_now:
                generator_scheduler.step()
            run.report(generator=generator_loss, distance=apart)
    run.finish()


if __name__ == "__main__":
    main(Config, train)
