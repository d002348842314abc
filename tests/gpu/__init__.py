"""Checks that need a CUDA device and vLLM for it; `make gpu-check` runs them all.

They need torch, transformers, peft and vllm and nothing else of this repository's environment.
"""
