"""Stands where ComfyUI's main.py stands, and takes the options of the real one.

It answers at the port like ComfyUI: in a few lines that start at once, or, with --whole, as the
embedded engine. --broken ends it as a missing package would.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--listen", default="127.0.0.1")
parser.add_argument("--port", type=int, default=8188)
parser.add_argument("--disable-auto-launch", action="store_true")
parser.add_argument("--input-directory", type=Path)
parser.add_argument("--output-directory", type=Path)
parser.add_argument("--temp-directory", type=Path)
parser.add_argument("--user-directory", type=Path)
parser.add_argument("--cpu", action="store_true")
parser.add_argument("--whole", action="store_true")
parser.add_argument("--broken", type=Path, help="broken for as long as there is this file")
parser.add_argument("--hold-mb", type=int, default=0)
parser.add_argument("--stubborn", action="store_true", help="lives on after SIGTERM")
parser.add_argument("--child", type=Path, help="starts a process and writes its id there")
parser.add_argument("--queue", type=Path, help="what /queue answers with, while there is such")
args = parser.parse_args()
assert args.user_directory.is_dir()

print(f"Starting server on {args.listen}:{args.port}", flush=True)
print("device:", os.environ.get("CUDA_VISIBLE_DEVICES"), "secret:", os.environ.get("DB_PASSWORD"))
if args.broken and args.broken.exists():
    raise ModuleNotFoundError("No module named 'torch'")
if args.whole:
    from atelier.engine.command import main

    # As with the real one, the folders of a run stand beside each other.
    root = args.output_directory.parent
    sys.exit(main(["--port", str(args.port), "--root", str(root)]))
held = b"x" * (args.hold_mb * 1_000_000)
if args.stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if args.child:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    args.child.write_text(str(child.pid))


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        body = {"system": {"comfyui_version": "fake"}, "devices": []}
        if self.path == "/queue":
            body = {"queue_running": [], "queue_pending": []}
            if args.queue and args.queue.exists():
                body = json.loads(args.queue.read_text())
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *parts):
        pass


ThreadingHTTPServer((args.listen, args.port), Answers).serve_forever()
