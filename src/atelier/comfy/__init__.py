"""One ComfyUI instance: its messages, what it can run, and a client that doesn't lose track."""
