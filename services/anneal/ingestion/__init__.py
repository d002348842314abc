"""Ingestion: files and sources become documents and conversations."""
