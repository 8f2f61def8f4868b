"""Claims jobs and runs them at ComfyUI instances."""
