"""The ComfyUI instances that we serve: which are alive, what they can run."""
