"""`qwen-rerank serve`: the emulator until Ctrl-C. The flow is in `flow`."""
