"""Stands in for rljob_trainer in tests of the local cluster: the same files, addresses and words, and no learning.

What a pod does is told by files in the job's storage, so that a test can change its mind while the pod runs:
`<hostname>.do` holds one word, see `obey`; a missing file means: go on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RUN: dict[str, Any] = json.loads(Path(os.environ["RLJOB_RUN_FILE"]).read_text())
STORAGE = Path(RUN["paths"]["storage"])
NAME = os.environ["POD_NAME"]
HOSTNAME = NAME.rpartition("-")[0]
ROLE = {"train": "trainer", "convert": "trainer", "rollout": "rollout"}[sys.argv[1]]
INDEX = int(os.environ.get("RLJOB_NODE_RANK") or os.environ.get("RLJOB_REPLICA") or 0)
STEP_FILE = STORAGE / "step"
told_to_go = threading.Event()
extra: dict[str, Any] = {}


def progress() -> dict[str, Any]:
    return {
        "attempt": RUN["attempt"],
        "step": step(),
        "totalSteps": RUN["spec"]["algorithm"]["grpo"]["maxSteps"],
        "phase": "Train",
        "heartbeat": time.time(),
        "metrics": {"reward": 0.5},
        **extra,
    }


def step() -> int:
    return int(STEP_FILE.read_text() or 0) if STEP_FILE.exists() else 0


def end(code: int, ending: str, message: str = "") -> None:
    words = {
        "ending": ending,
        "role": ROLE,
        "rank": INDEX,
        "attempt": RUN["attempt"],
        "exitCode": code,
        "message": message,
    }
    if ROLE == "trainer" and INDEX == 0:
        words["progress"] = progress()
    Path(os.environ["RLJOB_TERMINATION_LOG"]).write_text(json.dumps(words))
    os._exit(code)


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(progress()).encode() if self.path == "/progress" else b"ok"
        if self.path == "/health" and order() == "sick":
            self.send_error(500)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve(port: int) -> None:
    server = ThreadingHTTPServer((os.environ["POD_IP"], port), Answer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


def order() -> str:
    try:
        return (STORAGE / f"{HOSTNAME}.do").read_text().strip()
    except FileNotFoundError:
        return ""


def fork_a_hermit() -> None:
    """A grandchild that leaves its session and ignores SIGTERM."""
    lines = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    hermit = subprocess.Popen([sys.executable, "-I", "-S", "-c", lines], start_new_session=True)
    note("hermit", hermit.pid)


def note(kind: str, pid: int) -> None:
    path = STORAGE / f"{NAME}.{kind}"
    path.with_suffix(".tmp").write_text(str(pid))
    path.with_suffix(".tmp").rename(path)


def obey(word: str) -> None:
    match word:
        case "complete":
            end(0, "Complete")
        case "fail":
            (STORAGE / f"{HOSTNAME}.do").unlink()  # once
            end(1, "Failed", "it was told to fail")
        case "fail-always":
            end(1, "Failed", "it always fails")
        case "silent":
            print("the last line of the log", flush=True)
            os._exit(3)
        case "mistake":
            end(2, "Mistake", "no such model")
        case "full":
            end(5, "VolumeUnusable", "the volume is full")
        case "unmet":
            end(3, "Unmet", "torch was 1 and is 2")
        case "leave":  # as a preempted node's pod: SIGTERM that nobody in the cluster sent
            os.kill(os.getpid(), signal.SIGTERM)
            (STORAGE / f"{HOSTNAME}.do").unlink()
        case "wait":
            extra.update(phase="Wait", detail="0 of 1 rollout servers are up")
        case "broken":
            (STORAGE / f"{HOSTNAME}.do").unlink()
            since = datetime.now(UTC).isoformat()
            extra["brokenReplicas"] = [{"index": 0, "since": since, "reason": "it answers nonsense"}]
        case _:
            pass


def convert() -> None:
    """An init container that serves what it does, and ends when its order does not hold it."""
    signal.signal(signal.SIGTERM, lambda *_: end(143, "Preempted"))
    extra.update(phase="Convert", detail="1.0 GB of 2.0 GB")
    serve(RUN["progressPort"])
    print(f"{NAME} converts", flush=True)
    while order() == "hold-conversion":
        time.sleep(0.02)
    if order() == "fail-conversion":
        (STORAGE / f"{HOSTNAME}.do").unlink()  # once
        print("no such tensor", flush=True)
        os._exit(1)
    os._exit(0)


def main() -> None:
    def go(*_: object) -> None:
        if order() != "deaf":
            told_to_go.set()

    signal.signal(signal.SIGTERM, go)
    note("pid", os.getpid())
    if (STORAGE / "hermits").exists():
        fork_a_hermit()
    if ROLE == "rollout":
        serve(RUN["rolloutPort"])
    elif INDEX == 0:
        serve(RUN["progressPort"])
    print(f"{NAME} lives at {os.environ['POD_IP']}", flush=True)
    while not told_to_go.wait(0.02):
        obey(order())
        if ROLE == "trainer" and INDEX == 0 and (STORAGE / "tick").exists():
            (STORAGE / "tick").unlink()
            STEP_FILE.write_text(str(step() + 1))
    (STORAGE / f"{NAME}.saved").write_text("")
    end(143, "Preempted")


if __name__ == "__main__":
    convert() if sys.argv[1] == "convert" else main()
