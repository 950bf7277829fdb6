"""What the room publishes."""

from __future__ import annotations

import subprocess
import sys

import latentqa.audit as room


def test_the_room_says_what_it_publishes() -> None:
    assert {"audit_model", "load_audited", "load_battery", "write_audit", "METHODS"} <= set(room.__all__)


def test_the_texts_need_no_torch() -> None:
    probe = "import latentqa.cli.main, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
