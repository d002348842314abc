"""The contract, generated from `protos/anneal/v1`. Never edit: run `make protos`."""
