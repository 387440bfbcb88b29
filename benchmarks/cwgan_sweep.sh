# The questions that "Image Colorization with Conditional WGAN" leaves open, a command each, all from
# the same seed and data: bash benchmarks/cwgan_sweep.sh
set -e
train="accelerate launch --mixed_precision bf16 train/cwgan.py --dataset_name data/photos
    --validation_split validation --resolution 96 --width 12 --critic_width 12 --max_train_steps 400
    --logging_steps 100 --report_to none --resume_from_checkpoint latest"

$train --output_dir runs/sweep/relu-adam-noise
$train --output_dir runs/sweep/silu --activation silu
$train --output_dir runs/sweep/elu --activation elu
$train --output_dir runs/sweep/nadam --optimizer nadam
$train --output_dir runs/sweep/adamax --optimizer adamax
$train --output_dir runs/sweep/adadelta --optimizer adadelta --learning_rate 1
$train --output_dir runs/sweep/no-noise --noise_dim 0

grep -H "this variant" runs/sweep/*/README.md
