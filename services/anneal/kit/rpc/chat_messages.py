"""Messages of rows as the contract's chat messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anneal.v1 import inference_service_pb2 as pb


def chat_message(message: Mapping[str, Any]) -> pb.ChatMessage:
    """A message `{role, content, name?, tool_calls?, tool_call_id?, reasoning?}` for serving; absent fields stay so."""
    calls = [
        pb.ToolCall(id=call.get("id") or "", name=call["name"], arguments=call.get("arguments") or "")
        for call in message.get("tool_calls") or ()
    ]
    given = {field: message.get(field) or "" for field in ("content", "name", "tool_call_id", "reasoning")}
    return pb.ChatMessage(role=message["role"], tool_calls=calls, **given)
