"""Processes that run for us: the embedded engine, and one ComfyUI per GPU.

``process``: one process and its end. ``kept``: a process that is started again. ``embedded`` and
``comfyui``: what is kept. ``fleet``: all ComfyUI processes of a data folder. ``warden``: ends them
where atelier was killed and nobody came back.
"""
