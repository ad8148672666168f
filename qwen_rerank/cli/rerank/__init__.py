"""`qwen-rerank rerank`: a file of candidate lists, of any size. The flow is in `flow`."""
