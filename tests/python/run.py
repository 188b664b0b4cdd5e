"""Runs a Python client, and what the README says of Python, against a real server.

Makes a virtual environment and stubs under .cache/python, starts `com serve` over an empty folder, and runs
client.py and the README's own lines in that environment. Ends with `N passed, N failed`; the exit status is 1 when anything failed.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOME = ROOT / ".cache" / "python"


def environment() -> pathlib.Path:
    """The environment's python, with the pinned requirements installed."""
    python = HOME / "env" / "bin" / "python"
    wanted = hashlib.sha256((HERE / "requirements.txt").read_bytes()).hexdigest()
    mark = HOME / "installed"
    if not python.exists() or not mark.exists() or mark.read_text() != wanted:
        venv.create(HOME / "env", with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"]
        subprocess.run(install, check=True)
        mark.write_text(wanted)
    return python


def generate_stubs(python: pathlib.Path) -> pathlib.Path:
    """The folder with stubs made from proto/, as the README says to make them."""
    stubs = HOME / "stubs"
    stubs.mkdir(parents=True, exist_ok=True)
    files = sorted(str(path) for path in (ROOT / "proto").rglob("*.proto"))
    protoc = [python, "-m", "grpc_tools.protoc", "-I", ROOT / "proto"]
    subprocess.run([*protoc, f"--python_out={stubs}", f"--grpc_python_out={stubs}", *files], check=True)
    return stubs


def run_readme(python: pathlib.Path, address: str) -> bool:
    """Runs the README's section on Python in an empty folder as it stands, but for installing and the address."""
    section = (ROOT / "README.md").read_text().split("## Call it from Python")[1].split("\n## ")[0]
    shell, program = (section.split(f"```{kind}\n")[1].split("```")[0] for kind in ("sh", "python"))
    steps = [line for line in shell.splitlines() if not line.startswith("pip install")]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "proto", pathlib.Path(folder) / "proto")
        path = f"{python.parent}:{os.environ['PATH']}"
        settings = {"cwd": folder, "env": {**os.environ, "PATH": path, "PYTHONPATH": "stubs"}}
        program = program.replace("localhost:8083", address)
        script = "\n".join(["set -e", *steps])
        made = subprocess.run(["sh", "-c", script], **settings)
        ran = subprocess.run([python, "-c", program], capture_output=True, text=True, **settings)
    good = made.returncode == 0 and ran.stdout.startswith("blake3:")
    print("the README's lines run" if good else f"the README's lines fail: {ran.stdout}{ran.stderr}")
    return good


def main() -> int:
    python = environment()
    stubs = generate_stubs(python)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    com = target / "debug" / "com"
    with tempfile.TemporaryDirectory() as folder:
        serve = [com, "serve", "--listen", "127.0.0.1:0", "--json", "--data-dir", folder]
        server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
        try:
            hello = json.loads(server.stdout.readline())
            client = [python, HERE / "client.py", hello["address"]]
            ran = subprocess.run(client, env={**os.environ, "PYTHONPATH": str(stubs)}).returncode
            return ran if run_readme(python, hello["address"]) else 1
        finally:
            server.terminate()
            server.wait(timeout=30)


if __name__ == "__main__":
    sys.exit(main())
