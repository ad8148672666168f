"""`qwen-rerank evaluate`: runs against judgements. The flow is in `flow`."""
