#!/bin/bash
# An ordinary batch script: it runs on a classical node beside the quantum computer.
echo "Hello from $(hostname), job $SLURM_JOB_ID in partition $SLURM_JOB_PARTITION"
