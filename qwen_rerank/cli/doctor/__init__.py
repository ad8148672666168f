"""`qwen-rerank doctor`: does the key work, and what the service does. The flow is in `flow`."""
