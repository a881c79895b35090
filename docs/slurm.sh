#!/bin/bash
# Train a world on several machines of a SLURM cluster, from the root of the repository:
#
#   LATENTS=data/breakout-latents RUN=runs/breakout/unet sbatch docs/slurm.sh --preset atari
#
# What follows the script's name goes to scripts/train_unet.py. One task a machine starts torchrun, which starts one
# process a GPU. A job that is killed, preempted or out of time is queued again and goes on from its newest whole
# checkpoint; so does the same command given again. RUN and LATENTS lie on a file system that all machines share.
#
#SBATCH --job-name=gamengen
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

set -euo pipefail

: "${LATENTS:?the folder of scripts/encode_latents.py}"
: "${RUN:?the output folder of the run}"
PYTHON=${PYTHON:-python}
GPUS=${GPUS:-${SLURM_GPUS_ON_NODE:-8}}
RANKS=$((SLURM_NNODES * GPUS))
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
HEAD=${HEAD%%$'\n'*} # the first; a pipe into head would end scontrol by a signal when it has more to say
PORT=${PORT:-$((20000 + SLURM_JOB_ID % 20000))}

# --num_processes: fewer ranks than these are an error and not a slow surprise.
# max_restarts 0: a rank that dies ends the job, which is queued again as a whole.
srun --kill-on-bad-exit=1 "$PYTHON" -m torch.distributed.run \
    --nnodes "$SLURM_NNODES" --nproc_per_node "$GPUS" --max_restarts 0 \
    --rdzv_backend c10d --rdzv_endpoint "$HEAD:$PORT" --rdzv_id "$SLURM_JOB_ID" \
    scripts/train_unet.py --latents "$LATENTS" --output_dir "$RUN" --num_processes "$RANKS" "$@"
