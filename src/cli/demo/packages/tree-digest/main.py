"""Prints how many files and bytes are under data/, and the SHA-256 of all of them in path order."""

import hashlib
import json
import os
import pathlib

digest = hashlib.sha256()
files = size = 0
for path in sorted(p for p in pathlib.Path("data").rglob("*") if p.is_file()):
    content = path.read_bytes()
    digest.update(path.as_posix().encode() + b"\0" + content)
    files += 1
    size += len(content)

report = {"files": files, "bytes": size, "sha256": digest.hexdigest()}
out = pathlib.Path(os.environ["CATALOG_SCRATCH"], "out")
out.mkdir()
(out / "report.json").write_text(json.dumps(report) + "\n")
print(json.dumps(report))
