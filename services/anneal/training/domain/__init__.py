"""The rules of training. Imports only torch, transformers, peft, safetensors and pyarrow."""
