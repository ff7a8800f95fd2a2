#!/bin/bash
# Diffusion training on several nodes: sbatch Training/slurm.sh
# One task a node; accelerate starts one process a GPU. batch_size of the configuration is over all of them.
# The experiment's folder must be on a disk that all nodes share. Sent again, the job goes on where it stopped.
#SBATCH --job-name=diffma
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# two minutes before the end: time to write a checkpoint
#SBATCH --signal=TERM@120

set -euo pipefail

CONFIG=${CONFIG:-Training/brain.yaml}
GPUS=4                                  # a node, as above
export MAIN=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / GPUS))

# data and embedder once, on one GPU; both say so and end at once where that is done
# diffma prepare /data/Task1/brain --config "$CONFIG"
# diffma train embedder --config "$CONFIG"

srun bash -c "accelerate launch --multi_gpu \
  --num_machines $SLURM_NNODES --num_processes $((SLURM_NNODES * GPUS)) --machine_rank \$SLURM_NODEID \
  --main_process_ip $MAIN --main_process_port 29500 \
  --mixed_precision no --dynamo_backend no \
  -m DiffMaCore train denoiser --config $CONFIG"
