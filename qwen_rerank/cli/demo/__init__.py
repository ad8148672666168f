"""`qwen-rerank demo`: both frameworks before and after reranking. The flow is in `flow`."""
